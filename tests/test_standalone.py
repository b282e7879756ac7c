"""predict_onnx.py, the program in a bundle, on its own."""

import argparse
import importlib.util
import json
import os
import random
import shutil
import subprocess
import sys
import time

import cv2
import numpy as np
import pytest
from wrong_images import photograph, write_wrong_images

from dmr_gluon.deploy.bundle import read_bundle, write_description
from dmr_gluon.deploy.bundle_writer import ExportOptions
from dmr_gluon.deploy.export import export
from dmr_gluon.deploy.load import load_bundle
from dmr_gluon.errors import DMRError

TRIALS = 200
#: Runs the script and says what it has imported.
_WATCHED = (
    "import json, runpy, sys\n"
    "sys.argv = sys.argv[1:]\n"
    "try:\n"
    "    runpy.run_path(sys.argv[0], run_name='__main__')\n"
    "finally:\n"
    "    loaded = sorted({name.split('.')[0] for name, one in sys.modules.items() if one})\n"
    "    print(json.dumps(loaded), file=sys.stderr)\n"
)


@pytest.fixture(scope="module")
def bundle(short_run, tmp_path_factory):
    """With an ONNX model."""
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    folder = str(tmp_path_factory.mktemp("standalone") / "bundle")
    export(short_run, folder, options=ExportOptions(("onnx",)))
    return folder


@pytest.fixture(scope="module")
def sealed(short_run, tmp_path_factory):
    """Like it, but made without onnx: for what happens before the model is looked at."""
    folder = tmp_path_factory.mktemp("standalone") / "sealed"
    description = export(short_run, str(folder))
    (folder / "model.onnx").write_bytes(
        random.Random(0).getrandbits(8 * 10_000).to_bytes(10_000, "big")
    )
    shutil.copy(script_of_the_package(), folder)
    rewrite(folder, description)
    return str(folder)


def script_of_the_package():
    from dmr_gluon.standalone import predict_onnx

    return predict_onnx.__file__


def rewrite(folder, content):
    """Seal a bundle anew."""
    names = set(os.listdir(folder)) - {"bundle.json", "__pycache__"}
    rest = {key: content[key] for key in content if key not in ("format", "files", "sha256")}
    write_description(str(folder), rest, names)


@pytest.fixture
def photographs(tmp_path):
    folder = tmp_path / "photographs"
    folder.mkdir()
    for seed in range(4):
        cv2.imwrite(str(folder / f"{seed}.png"), photograph(40 + 20 * seed, 60, seed))
    return folder


@pytest.fixture
def run(tmp_path):
    """Run a bundle's script in a process without this repository, modules hidden from it."""

    def run(bundle, *arguments, hidden=(), watched=False):
        folder = tmp_path / "hiding"
        folder.mkdir(exist_ok=True)
        for name in hidden:
            (folder / f"{name}.py").write_text(f'raise ImportError("No module named {name}")')
        command = ["-c", _WATCHED] if watched else []
        return subprocess.run(
            [sys.executable, *command, os.path.join(bundle, "predict_onnx.py")]
            + [str(argument) for argument in arguments],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(folder)},
            capture_output=True,
            text=True,
            timeout=120,
        )

    return run


def probabilities(out):
    return [
        {one["label"]: one["probability"] for one in json.loads(line)["top"]}
        for line in out.splitlines()
    ]


def test_it_needs_neither_mxnet_nor_this_package(run, bundle, photographs, capfd):
    from dmr_gluon.cli.main import _main

    hidden = ["mxnet", "dmr_gluon", "PIL"]
    arguments = [photographs, "--json", "--top", "10"]
    done = run(bundle, *arguments, hidden=hidden, watched=True)
    assert done.returncode == 0, done.stderr
    loaded = json.loads(done.stderr)  # and nothing else stands there
    assert "cv2" in loaded and not set(hidden) & set(loaded)
    capfd.readouterr()
    _main(["predict", bundle, *map(str, arguments)])
    expected = probabilities(capfd.readouterr().out)
    for ours, theirs in zip(expected, probabilities(done.stdout)):
        assert max(abs(ours[label] - theirs[label]) for label in ours) < 2e-4


def test_graphs_that_normalise_work_too(run, bundle, short_run, photographs, tmp_path):
    folder = str(tmp_path / "pixels")
    export(short_run, folder, options=ExportOptions(("onnx",), preprocess=True))
    expected, found = (run(one, photographs, "--json") for one in (bundle, folder))
    for ours, theirs in zip(probabilities(expected.stdout), probabilities(found.stdout)):
        assert theirs == pytest.approx(ours, abs=1e-4)
    assert len(found.stdout.splitlines()) == 4


def test_wrong_images_get_a_line_each(run, bundle, photographs):
    wrong = write_wrong_images(photographs)
    names = sorted(os.listdir(photographs))
    done = run(bundle, *(photographs / name for name in names), "--csv", "--top", 1)
    err = done.stderr.splitlines()
    assert done.returncode == 1 and len(done.stdout.splitlines()) == 1 + 4
    assert err.pop() == f"{len(wrong)} of {len(names)} images could not be predicted"
    for name, reason in wrong.items():
        (line,) = (line for line in err if line.startswith(f"{photographs / name}: "))
        assert reason in line


@pytest.mark.parametrize("missing", [["onnxruntime"], ["cv2"]])
def test_what_is_not_installed_is_named(run, bundle, photographs, missing):
    done = run(bundle, photographs, hidden=missing)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ") and "pip install" in line and missing[-1] in line


def test_a_model_that_gives_other_outputs_is_refused(run, bundle, photographs, tmp_path):
    folder = tmp_path / "other"
    shutil.copytree(bundle, folder)
    content = json.loads((folder / "bundle.json").read_text())
    content["forms"]["onnx"]["logits"][3] += 0.5
    rewrite(folder, content)
    done = run(folder, photographs)
    assert (done.returncode, done.stdout) == (2, "")
    assert "model.onnx (the form onnx) gives other logits for example.png" in done.stderr


def test_refusals_are_one_line(run, bundle, photographs):
    for arguments, text in (
        ([photographs, "--top", "0"], "--top must be"),
        ([photographs, "--nonsense"], "--nonsense"),
        (["nothing.png"], "nothing.png: no such file"),
    ):
        done = run(bundle, *arguments)
        assert done.returncode == 2 and done.stdout == ""
        assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
        assert text in done.stderr


def test_a_reader_that_leaves_early_is_no_error(bundle, photographs):
    script = os.path.join(bundle, "predict_onnx.py")
    command = f"{sys.executable} {script} {photographs} --batch-size 1 | head -n 1"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True)
    assert done.stdout.startswith(str(photographs)) and done.stderr == ""


def flips(bundle, count):
    """Flip bits of one byte of one file, and back, so many times; yield the file's name."""
    draw = random.Random(20161122)
    names = sorted(set(os.listdir(bundle)) - {"__pycache__"})
    for _ in range(count):
        name = draw.choice(names)
        path = os.path.join(bundle, name)
        with open(path, "rb") as file:
            content = file.read()
        at, mask = draw.randrange(len(content)), draw.randrange(1, 256)
        try:
            with open(path, "wb") as file:
                file.write(content[:at] + bytes([content[at] ^ mask]) + content[at + 1 :])
            yield name
        finally:  # or a test that fails leaves a damaged bundle to the others
            with open(path, "wb") as file:
                file.write(content)


def test_who_reads_no_further_does_not_wait_for_the_next_batch(bundle, tmp_path, monkeypatch):
    from dmr_gluon.standalone import predict_onnx as script

    read, begun = script.read_image, []

    def slow(path, upright):
        begun.append(path)
        time.sleep(0.05)
        return read(path, upright)

    monkeypatch.setattr(script, "read_image", slow)
    about = read_bundle(bundle)["input"]
    options = argparse.Namespace(batch_size=50, ignore_orientation=False)
    paths = [os.path.join(bundle, "example.png")] * 150
    found = script.predictions(paths, about, lambda images: np.zeros((len(images), 10)), options)
    assert next(found)[2] is None
    found.close()
    assert len(begun) < 50 + 30  # of the second batch, those that had begun


def load(bundle, name):
    """Load the form that needs a file; a file that no form needs is read with all others."""
    if name == "predict_onnx.py":
        read_bundle(bundle)
    else:
        load_bundle(bundle, "onnx" if name == "model.onnx" else "plain")


def test_any_flipped_byte_is_refused_with_the_files_name(sealed):
    path = os.path.join(sealed, "predict_onnx.py")
    specification = importlib.util.spec_from_file_location("predict_onnx", path)
    script = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(script)
    script.read_bundle(sealed)
    seen = set()
    for name in flips(sealed, TRIALS):
        path = os.path.join(sealed, name)
        with pytest.raises(script.Problem) as refused:
            script.read_bundle(sealed)
        assert str(refused.value).startswith(path)
        with pytest.raises(DMRError) as refused:
            load(sealed, name)
        assert str(refused.value).startswith(path)
        seen.add(name)
    assert len(seen) == 6
    script.read_bundle(sealed)


def test_a_file_that_is_not_there_is_named(sealed, tmp_path):
    folder = tmp_path / "copy"
    for name in os.listdir(sealed):
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(sealed, folder)
        if name == "__pycache__":
            continue
        os.remove(folder / name)
        with pytest.raises(DMRError, match=name):
            load(str(folder), name)


def test_a_model_that_onnxruntime_cannot_load_is_one_line(run, bundle, photographs, tmp_path):
    folder = tmp_path / "newer"
    shutil.copytree(bundle, folder)
    (folder / "model.onnx").write_bytes(b"\x08\x63" + (folder / "model.onnx").read_bytes()[2:])
    content = read_bundle(bundle)
    names = content.pop("files")
    write_description(folder, {k: v for k, v in content.items() if k != "sha256"}, names)
    done = run(folder, photographs)
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert "onnxruntime cannot load" in done.stderr and "model.onnx" in done.stderr
    with pytest.raises(DMRError, match="onnxruntime cannot load"):
        load_bundle(folder, "onnx")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")
def test_a_full_disk_is_one_line(bundle, photographs):
    script = os.path.join(bundle, "predict_onnx.py")
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, script, photographs], stdout=full, stderr=subprocess.PIPE, text=True
        )
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and "No space left" in done.stderr
