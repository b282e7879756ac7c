"""Paths that are not valid UTF-8 work like any others."""

import os
import shutil
import warnings
from dataclasses import replace

import numpy as np
import pytest
from test_authors import stand_in, write

from dmr_gluon import get_model
from dmr_gluon.cli import main as cli
from dmr_gluon.data.datasets import open_prepared
from dmr_gluon.datasets.folder import prepare_folder
from dmr_gluon.deploy.export import export
from dmr_gluon.deploy.import_authors import import_checkpoint
from dmr_gluon.deploy.load import load_bundle
from dmr_gluon.deploy.store import publish
from dmr_gluon.runs.learning_curve import learning_curve, write_picture
from dmr_gluon.runs.status import read_status
from dmr_gluon.runs.trained_network import load_run
from dmr_gluon.runtime import mx
from dmr_gluon.training.fit import fit
from dmr_gluon.training.options import RunOptions

#: Such as a file name in Latin-1.
ODD = os.fsdecode(b"odd-\xff")


@pytest.fixture
def odd(tmp_path):
    folder = tmp_path / ODD
    try:
        folder.mkdir()
    except OSError:
        pytest.skip("this file system takes no such names")
    return folder


def test_training_from_its_beginning_to_its_end(odd, digits, command):
    shutil.copytree(digits, odd / "digits")
    strict = {"PYTHONIOENCODING": "utf-8:strict"}
    done = command(
        *("train_cifar.py", "--data-dir", odd / "digits", "--run-dir", odd / ODD),
        *("--model", "cifar_dmrnet8", "--steps", "1", "--batch-size", "16"),
        **strict,
    )
    assert done.returncode == 0, done.stderr
    assert "learning curve: " in done.stdout and r"odd-\udcff" in done.stdout
    assert "Warning" not in done.stderr
    assert read_status(str(odd / ODD)).state == "finished"
    load_run(odd / ODD)


def test_training_from_python(odd, digits, short_recipe, capsys):
    """Standard output may accept nothing but UTF-8, like pytest's."""
    fit(replace(short_recipe, steps=1), RunOptions(data_dir=digits, run_dir=odd / ODD))
    assert r"odd-\udcff" in capsys.readouterr().out


def test_a_run_is_evaluated_exported_and_published(odd, short_run, capsys):
    shutil.copytree(short_run, odd / "run")
    cli._main(["eval", str(odd / "run")])
    assert "test error" in capsys.readouterr().out
    export(odd / "run", odd / "bundle")
    load_bundle(odd / "bundle")
    publish(odd / "bundle", odd / "store")
    net = get_model("cifar_dmrnet8", pretrained=True, root=str(odd / "store"))
    images = mx.nd.ones((1, 3, 32, 32))
    np.testing.assert_allclose(net(images).asnumpy(), load_run(short_run)(images).asnumpy(), 1e-4)


def test_bundles_and_images(odd, bundle, command):
    shutil.copytree(bundle, odd / "bundle")
    shutil.copy(os.path.join(bundle, "example.png"), odd / (ODD + ".png"))
    load_bundle(odd / "bundle", "onnx")
    done = command(odd / "bundle" / "predict_onnx.py", odd / (ODD + ".png"), "--json")
    assert done.returncode == 0, done.stderr
    assert r"odd-\udcff.png" in done.stdout


def test_a_checkpoint_of_the_authors(odd, tmp_path):
    write(str(tmp_path / "theirs"), stand_in("dmrnet", (1, 1, 1)))
    for name in ("theirs-symbol.json", "theirs-0400.params"):
        os.replace(tmp_path / name, odd / name)
    *_, difference = import_checkpoint(str(odd / "theirs"), 400, str(odd / "ours"))
    assert difference is not None
    load_bundle(odd / "ours")


def test_classes_and_images_of_a_folder(odd, plain_bundle, capsys):
    for split in ("train", "test"):
        for name in ("a", ODD):
            (odd / split / name).mkdir(parents=True)
            image = odd / split / name / (ODD + ".png")
            shutil.copy(os.path.join(plain_bundle, "example.png"), image)
    prepare_folder(odd, odd / "out", name="mine")
    assert open_prepared(odd / "out").classes == ("a", ODD)
    cli._main(["check", str(odd / "out")])
    assert "hashes equal" in capsys.readouterr().out


def test_a_curve_has_a_name_that_fonts_have(odd, short_run):
    shutil.copytree(short_run, odd / ODD)
    with warnings.catch_warnings(record=True) as found:
        write_picture(lambda: learning_curve([str(odd / ODD)]), str(odd / "curve.png"))
    assert not [warning for warning in found if "Glyph" in str(warning.message)]


def test_what_is_printed(command):
    program = r"from dmr_gluon.cli.program import run; run(lambda: print('odd-\udcff ±'))"
    for encoding, expected in (("utf-8:strict", r"odd-\udcff ±"), ("ascii", r"odd-\udcff \xb1")):
        done = command("-c", program, PYTHONIOENCODING=encoding)
        assert (done.returncode, done.stdout) == (0, expected + "\n"), done.stderr
