"""Own photographs of any shape: split, and seen alike by evaluation, bundle and script."""

import json
import subprocess
import sys
from dataclasses import replace

import cv2
import numpy as np
import pytest

from dmr_gluon.cli.main import _main
from dmr_gluon.data.datasets import open_prepared
from dmr_gluon.data.loader import evaluation_batches
from dmr_gluon.data.reader import RecordFile
from dmr_gluon.datasets.folder import prepare_folder
from dmr_gluon.deploy.bundle_writer import ExportOptions
from dmr_gluon.deploy.export import export
from dmr_gluon.deploy.load import load_bundle
from dmr_gluon.errors import DMRError
from dmr_gluon.paper.recipes import CIFAR
from dmr_gluon.runs.trained_network import load_run
from dmr_gluon.runtime import mx
from dmr_gluon.standalone.predict_onnx import fitted
from dmr_gluon.training.fit import fit
from dmr_gluon.training.options import RunOptions

#: Heights and widths, most of them far from square.
SHAPES = [(30, 240), (240, 30), (50, 70), (64, 64), (500, 20), (33, 100)]


@pytest.fixture
def photos(tmp_path):
    """Two classes of six photographs, <class>/*."""
    random = np.random.RandomState(0)
    for name in ("cat", "dog"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number, (height, width) in enumerate(SHAPES):
            image = random.uniform(0, 255, (6, 6, 3)).astype(np.float32)
            image = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
            kind = "jpg" if number % 2 else "png"
            cv2.imwrite(str(tmp_path / "photos" / name / f"{number}.{kind}"), image)
    return tmp_path / "photos"


def prepare(photos, *flags):
    _main(["prepare", "folder", str(photos), "--out", str(photos.parent / "set"), *flags])
    return open_prepared(photos.parent / "set")


def pixels_of(prepared, split):
    with RecordFile(prepared.split(split)) as records:
        images, labels = records.images(range(len(prepared.split(split).per_class) * 3))
    return images, labels


def test_a_share_of_each_class_is_drawn(photos, capsys):
    prepared = prepare(photos, "--test-share", "0.5")
    assert prepared.split("train").per_class == prepared.split("test").per_class == (3, 3)
    seen = [pixels_of(prepared, split)[0] for split in ("train", "test")]
    originals = {cv2.imread(str(path))[:, :, ::-1].tobytes() for path in photos.rglob("*.*")}
    assert {image.tobytes() for images in seen for image in images} == originals
    before = prepared.split("test").sha256
    prepare(photos, "--test-share", "0.5")
    assert "nothing to do" in capsys.readouterr().out
    other = prepare(photos, "--test-share", "0.5", "--seed", "2", "--overwrite")
    assert other.split("test").sha256 != before
    assert prepare(photos, "--test-share", "0.01", "--overwrite").split("test").count == 2


@pytest.mark.parametrize(
    "flags, words",
    [
        ([], "has no images in <class>/*; add some, or, for a tree that is not split"),
        (["--test-share", "1.5"], "--test-share must be between 0 and 1"),
        (["--test-share", "0.95"], "leaves no image of 'cat' for training"),
        (["--test-share", "0.5", "--fit", "pad"], "needs an exact size; add --resize 32x32"),
        (["--test-share", "0.5", "--fit", "crop", "--resize", "40"], "needs an exact size"),
        (["--test-share", "0.5", "--resize", "48x32"], "add --fit stretch"),
        (["--seed", "2"], "--seed does nothing without --test-share; leave it out"),
        (["--test-share", "0.5", "--seed", "-1"], "--seed: must be from 0 to 4294967295, not -1"),
    ],
)
def test_what_cannot_be_done_is_refused_in_one_line(photos, flags, words):
    with pytest.raises(DMRError) as refused:
        prepare(photos, *flags)
    assert words in str(refused.value) and "\n" not in str(refused.value)
    assert not (photos.parent / "set").exists()


def test_a_tree_that_is_split_is_not_split_again(photos):
    (photos / "train").mkdir()
    with pytest.raises(DMRError, match="is split; leave out --test-share"):
        prepare(photos, "--test-share", "0.5")


def test_a_class_of_one_photograph_cannot_be_split(photos):
    (photos / "bird").mkdir()
    (photos / "cat" / "0.png").rename(photos / "bird" / "only.png")
    with pytest.raises(DMRError, match="leaves no image of 'bird' for training"):
        prepare(photos, "--test-share", "0.5")


def test_padding_adds_black_and_nothing_else():
    image = np.full((20, 80, 3), 200, np.uint8)
    padded = fitted(image, 40, fit="pad")
    assert padded.shape == (40, 40, 3)
    assert (padded[15:25] == 200).all() and not padded[:14].any() and not padded[26:].any()
    assert (fitted(image, 40, fit="stretch") == 200).all()


@pytest.mark.parametrize(
    "how", ["pad", *(pytest.param(name, marks=pytest.mark.slow) for name in ("crop", "stretch"))]
)
def test_evaluation_bundle_and_script_see_the_same(photos, how, tmp_path):
    prepared = prepare(photos, "--test-share", "0.5", "--resize", "32x32", "--fit", how)
    assert (prepared.image_size, prepared.fit) == ((32, 32), how)
    recipe = replace(CIFAR, model="cifar_dmrnet8", steps=1, batch_size=6)
    run = fit(recipe, RunOptions(str(prepared.directory), str(tmp_path / "run")))
    forms = ExportOptions(("onnx",) if how == "pad" else (), check_images=6)
    export(run, tmp_path / "bundle", options=forms)
    (batch,) = evaluation_batches(prepared, recipe)
    evaluated = mx.nd.softmax(load_run(run)(mx.nd.array(batch.data))).asnumpy()

    tested = {image.tobytes() for image in pixels_of(prepared, "test")[0]}
    paths = [
        str(path)
        for path in sorted(photos.rglob("*.*"))
        if fitted(cv2.imread(str(path))[:, :, ::-1].copy(), 32, fit=how).tobytes() in tested
    ]
    assert len(paths) == 6
    program = [sys.executable, "-m", "dmr_gluon.cli.main", "predict", str(tmp_path / "bundle")]
    programs = [program]
    if how == "pad":
        programs.append([sys.executable, str(tmp_path / "bundle" / "predict_onnx.py")])
    bundle = load_bundle(tmp_path / "bundle")
    by_path = sorted(dict(bundle.predict(path))["cat"] for path in paths)
    np.testing.assert_allclose(by_path, sorted(evaluated[:, 0].tolist()), atol=2e-5)
    for program in programs:
        done = subprocess.run([*program, "--json", *paths], capture_output=True, text=True)
        lines = [json.loads(line) for line in done.stdout.splitlines()]
        found = [{one["label"]: one["probability"] for one in line["top"]} for line in lines]
        found = sorted(one["cat"] for one in found)
        np.testing.assert_allclose(found, sorted(evaluated[:, 0].tolist()), atol=2e-5)


def test_sets_of_python_have_the_same_share(photos, tmp_path):
    first = prepare_folder(photos, tmp_path / "a", test_share=0.5, seed=3)
    second = prepare(photos, "--test-share", "0.5", "--seed", "3")
    assert first.split("test").sha256 == second.split("test").sha256
