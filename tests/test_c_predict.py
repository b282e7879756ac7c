"""The C example, compiled against the wheel's header and library."""

import os
import shutil
import signal
import subprocess

import cv2
import numpy as np
import pytest
from conftest import REPOSITORY

from dmr_gluon.deploy.load import load_bundle
from dmr_gluon.runtime import mx
from dmr_gluon.system.cuda import library_folders


@pytest.fixture
def bundle(plain_bundle):
    return plain_bundle


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    compiler = shutil.which("gcc") or shutil.which("cc")
    wheel = os.path.dirname(mx.__file__)
    if not compiler or not os.path.exists(f"{wheel}/include/mxnet/c_predict_api.h"):
        pytest.skip("no C compiler, or a wheel without headers")
    program = str(tmp_path_factory.mktemp("c") / "predict")
    source = REPOSITORY / "examples" / "c_predict" / "predict.c"
    # As the example's own comment has it.
    subprocess.run(
        [compiler, "-O2", "-Wall", "-Werror", f"-I{wheel}/include", str(source), "-o", program]
        + [f"-L{wheel}", "-lmxnet", f"-Wl,-rpath,{wheel}"],
        check=True,
    )
    return program


@pytest.fixture
def run(program):
    def run(*arguments):
        folders = ":".join([*library_folders(), os.environ.get("LD_LIBRARY_PATH", "")])
        environment = {**os.environ, "LD_LIBRARY_PATH": folders}
        return subprocess.run(
            [program, *map(str, arguments)], env=environment, capture_output=True, text=True
        )

    return run


def test_c_gives_pythons_logits(run, bundle, tmp_path):
    network = load_bundle(bundle)
    cv2.imwrite(str(tmp_path / "image.ppm"), cv2.imread(os.path.join(bundle, "example.png")))
    done = run(bundle, tmp_path / "image.ppm")
    if done.returncode == -signal.SIGABRT and "bad_alloc" in done.stderr:
        # Seen once in some 500 starts, and not understood. The example is C and allocates with
        # malloc, which raises nothing: std::bad_alloc is of the library that it calls, or memory
        # had run out.
        done = run(bundle, tmp_path / "image.ppm")
    assert done.returncode == 0, done.stderr
    label, *logits = done.stdout.split()
    expected = np.float32(network.description["forms"]["plain"]["logits"])
    assert label == network.classes[expected.argmax()]
    np.testing.assert_allclose(np.float32(logits), expected, rtol=0, atol=1e-4)


def test_c_says_what_is_wrong(run, bundle, tmp_path):
    (tmp_path / "small.ppm").write_bytes(b"P6\n2 2\n255\n" + bytes(12))
    (tmp_path / "cut.ppm").write_bytes(b"P6\n32 32\n255\n" + bytes(12))
    for arguments, text in (
        ((bundle, tmp_path / "small.ppm"), "input's size"),
        ((bundle, tmp_path / "cut.ppm"), "cut off"),
        ((bundle, tmp_path / "nothing.ppm"), "cannot be opened"),
        ((tmp_path, tmp_path / "cut.ppm"), "bundle.json: cannot be opened"),
        ((bundle,), "usage"),
    ):
        done = run(*arguments)
        assert done.returncode == 2 and text in done.stderr, done


@pytest.mark.parametrize(
    "change",
    [
        lambda arrays: {**arrays, "arg:more_weight": mx.nd.zeros(3)},
        lambda arrays: {name: arrays[name] for name in arrays if name != "arg:head_fc_bias"},
        lambda arrays: {**arrays, "arg:stem_conv_weight": mx.nd.zeros((16, 3, 5, 5))},
    ],
)
def test_c_refuses_another_networks_parameters(run, bundle, tmp_path, change):
    shutil.copytree(bundle, tmp_path / "bundle")
    path = str(tmp_path / "bundle" / "model-0000.params")
    mx.nd.save(path, change(mx.nd.load(path)))
    (tmp_path / "image.ppm").write_bytes(b"P6\n32 32\n255\n" + bytes(3 * 32 * 32))
    done = run(tmp_path / "bundle", tmp_path / "image.ppm")
    assert done.returncode == 2 and "error: " in done.stderr, done
    assert "Stack trace" not in done.stderr
