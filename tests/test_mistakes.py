"""dmr eval: errors by class, confusions and mistakes of runs and bundles."""

import csv
import re

import numpy as np
import pytest
from run_folders import epoch_values

from dmr_gluon.cli.main import _main
from dmr_gluon.data.datasets import open_prepared
from dmr_gluon.data.loader import evaluation_batches
from dmr_gluon.deploy.bundle_writer import ExportOptions
from dmr_gluon.deploy.export import export
from dmr_gluon.deploy.load import load_bundle
from dmr_gluon.errors import DMRError
from dmr_gluon.runs import log as runlog
from dmr_gluon.runs.directory import RunDirectory
from dmr_gluon.runs.trained_network import load_run
from dmr_gluon.runtime import mx
from dmr_gluon.training.evaluate import Evaluation, check_with_log


def evaluate(capsys, *arguments):
    _main(["eval", *map(str, arguments)])
    return capsys.readouterr().out


def rows_of(path):
    with open(path, newline="") as file:
        return list(csv.reader(file))


@pytest.fixture
def truth(short_run, short_recipe, digits):
    """The labels and the predicted classes of the test images."""
    net, labels, logits = load_run(short_run), [], []
    for batch in evaluation_batches(open_prepared(digits), short_recipe):
        labels += list(batch.label)
        logits.append(net(mx.nd.array(batch.data)).asnumpy())
    return np.array(labels), np.concatenate(logits)


def test_the_matrix_is_scikit_learns(short_run, truth, tmp_path, capsys):
    from sklearn.metrics import confusion_matrix

    labels, logits = truth
    out = evaluate(capsys, short_run, "--confusion", tmp_path / "matrix.png")
    header, *rows = rows_of(tmp_path / "matrix.csv")
    assert header[1:] == [row[0] for row in rows] == [str(digit) for digit in range(10)]
    found = np.array([row[1:] for row in rows], int)
    np.testing.assert_array_equal(found, confusion_matrix(labels, logits.argmax(axis=1)))
    assert (tmp_path / "matrix.png").read_bytes().startswith(b"\x89PNG")
    assert int(re.search(r"\((\d+) of 360", out)[1]) == found.sum() - np.trace(found)


def test_errors_by_class_and_mistakes(short_run, truth, tmp_path, capsys):
    labels, logits = truth
    wrong = labels != logits.argmax(axis=1)
    out = evaluate(capsys, short_run, "--per-class", "--wrong", tmp_path / "wrong")
    lines = [line.split() for line in out.split("---\n")[1].splitlines()[:10]]
    assert {int(line[0]): int(line[2]) for line in lines} == {
        digit: int((wrong & (labels == digit)).sum()) for digit in range(10)
    }
    shares = [float(line[3]) for line in lines]
    assert shares == sorted(shares, reverse=True)
    _, *rows = rows_of(tmp_path / "wrong" / "mistakes.csv")
    assert sorted(int(row[0]) for row in rows) == np.flatnonzero(wrong).tolist()
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    for number, true, predicted, probability in rows:
        assert labels[int(number)] == int(true)
        assert logits[int(number)].argmax() == int(predicted)
        assert float(probability) == pytest.approx(probabilities[int(number)].max(), abs=1e-4)
    assert [float(row[3]) for row in rows] == sorted((float(r[3]) for r in rows), reverse=True)
    assert (tmp_path / "wrong" / "mistakes.png").exists()


@pytest.mark.parametrize("preprocess", [pytest.param(False, marks=pytest.mark.slow), True])
def test_a_bundle_makes_the_same_errors(short_run, digits, tmp_path, capsys, preprocess):
    options = ExportOptions(("folded",), preprocess=preprocess, check_images=8)
    export(short_run, tmp_path / "bundle", options=options)
    expected = evaluate(capsys, short_run, "--per-class")
    flags = ("--data-dir", digits, "--per-class", "--form", "folded")
    assert evaluate(capsys, tmp_path / "bundle", *flags) == expected


@pytest.mark.parametrize(
    "what, flags, words",
    [
        ("run", ["--form", "folded"], "--form is for bundles"),
        ("bundle", [], "a bundle does not name its data; add --data-dir"),
        ("bundle", ["--epoch", "1"], "--epoch is for runs"),
        ("bundle", ["--data-dir", "OTHER"], "has other classes than the bundle"),
        ("run", ["--confusion", "/no-such-folder/x.png"], "cannot be written"),
        ("run", ["--confusion", "x.csv"], "x.csv"),
        ("run", ["--wrong", "/proc/no-such"], "/proc/no-such cannot be written"),
    ],
)
def test_what_does_not_fit_is_refused(
    short_run, plain_bundle, tmp_path, capsys, what, flags, words
):
    if "OTHER" in flags:
        import cv2

        for split in ("train", "test"):
            for name in ("a", "b"):
                (tmp_path / "tree" / split / name).mkdir(parents=True)
                image = np.zeros((32, 32, 3), np.uint8)
                cv2.imwrite(str(tmp_path / "tree" / split / name / "1.png"), image)
        _main(["prepare", "folder", str(tmp_path / "tree"), "--out", str(tmp_path / "set")])
        flags = ["--data-dir", str(tmp_path / "set")]
    with pytest.raises(DMRError) as refused:
        evaluate(capsys, short_run if what == "run" else plain_bundle, *flags)
    assert words in str(refused.value) and "\n" not in str(refused.value)


def test_a_file_that_is_no_image_is_refused(plain_bundle, tmp_path):
    (tmp_path / "notes.txt").write_text("no image")
    with pytest.raises(DMRError, match=r"notes.txt is damaged, or not an image"):
        load_bundle(plain_bundle).predict(tmp_path / "notes.txt")


@pytest.mark.parametrize(
    "wrong, words",
    [
        (109, None),
        (110, "records 109 wrong of 360 images for epoch 2; other devices"),
        (108, "round differently"),
        (112, None),
    ],
)
def test_the_error_is_compared_with_the_log(tmp_path, wrong, words):
    run = RunDirectory(str(tmp_path))
    runlog.append(run.log, "start", recipe={})
    runlog.append(run.log, "epoch", **{**epoch_values(2, 2, 30, 1), "test_error": 100 * 109 / 360})
    result = Evaluation(360, wrong, 0, 1.0)
    if wrong == 112:
        with pytest.raises(DMRError, match="not 112: these are other parameters"):
            check_with_log(result, run, 2)
        return
    note = check_with_log(result, run, 2)
    assert (note is None) == (words is None) and (words is None or words in note)
    assert "nothing to compare with" in check_with_log(result, run, 3)
