"""dmr predict: what a user sees for good images, wrong ones, and odd names."""

import csv
import io
import json
import os
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from wrong_images import photograph, write_wrong_images

from dmr_gluon.cli.main import _main
from dmr_gluon.data.datasets import open_prepared
from dmr_gluon.data.loader import evaluation_batches
from dmr_gluon.data.reader import RecordFile
from dmr_gluon.data.transforms import CentreCrop, Normalise
from dmr_gluon.datasets.encoder import Encoding, Source, encode_all
from dmr_gluon.errors import DMRError
from dmr_gluon.runs.trained_network import load_run
from dmr_gluon.runtime import mx
from dmr_gluon.standalone.predict_onnx import (
    Problem,
    check_arguments,
    crop,
    find_images,
    read_image,
    to_batch,
)

MEAN, STD = (125.3, 122.9, 113.9), (63.0, 62.1, 66.7)


@pytest.fixture
def bundle(plain_bundle):
    return plain_bundle


@pytest.fixture
def predict(bundle, capfd):
    """Run the command; return its exit status, stdout and stderr's lines."""

    def run(*arguments):
        status = 0
        try:
            _main(["predict", bundle, *map(str, arguments)])
        except SystemExit as leaving:
            status = leaving.code
        out, err = capfd.readouterr()
        return status, out, err.splitlines()

    return run


@pytest.fixture
def photographs(tmp_path):
    folder = tmp_path / "photographs"
    folder.mkdir()
    for seed in range(5):
        cv2.imwrite(str(folder / f"{seed}.png"), photograph(seed=seed))
    return folder


def test_predictions_are_those_of_the_evaluation(
    predict, short_run, short_recipe, digits, tmp_path
):
    prepared = open_prepared(digits)
    with RecordFile(prepared.split("test")) as records:
        for number in range(8):
            image = cv2.cvtColor(records.images([number])[0][0], cv2.COLOR_RGB2BGR)
            cv2.imwrite(str(tmp_path / f"{number}.png"), image)
    status, out, _ = predict(tmp_path, "--json", "--top", "11")
    lines = [json.loads(line) for line in out.splitlines()]
    batch = next(evaluation_batches(prepared, short_recipe)).data[:8]
    expected = mx.nd.softmax(load_run(short_run)(mx.nd.array(batch))).asnumpy()
    assert status == 0 and len(lines) == 8
    for number, line in enumerate(lines):
        assert line["file"] == str(tmp_path / f"{number}.png")
        found = [one["probability"] for one in line["top"]]
        assert found == sorted(found, reverse=True)
        by_label = {one["label"]: one["probability"] for one in line["top"]}
        for label, probability in enumerate(expected[number]):
            assert by_label[str(label)] == pytest.approx(probability, abs=2e-5)


@pytest.mark.parametrize(
    "size, short_side, cut, scaled, corner",
    [
        ((32, 32), 32, (0, 0), (32, 32), (0, 0)),
        ((40, 40), 32, (0, 0), (32, 32), (0, 0)),
        ((40, 40), 40, (0, 0), (40, 40), (4, 4)),
        ((48, 64), 40, (0, 0), (40, 53), (4, 10)),
        ((500, 375), 40, (0, 0), (53, 40), (10, 4)),
        ((20, 33), 32, (0, 0), (32, 53), (0, 10)),
        ((40, 41), 32, (0, 0), (32, 33), (0, 0)),
        # Of what is longer than eight times its shorter side, the middle.
        ((1000, 90), 40, (140, 0), (320, 40), (144, 4)),
        ((300, 2), 32, (142, 0), (256, 32), (112, 0)),
        ((9, 100), 40, (0, 14), (40, 320), (4, 144)),
    ],
)
def test_pixels_are_those_of_the_evaluation(size, short_side, cut, scaled, corner):
    image = photograph(*size)
    prepared = SimpleNamespace(mean=MEAN, std=STD)
    evaluated = np.empty((1, 3, 32, 32), np.float32)
    recipe = SimpleNamespace(eval_short_side=short_side, image_size=32)
    CentreCrop(prepared, recipe)([image], 0, slice(0, 1), evaluated)
    about = {"values": "normalised", "layout": "NCHW", "mean": MEAN, "std": STD}
    found = to_batch([crop(image, 32, short_side)], about)
    np.testing.assert_array_equal(found, evaluated)
    if size == (32, 32):
        Normalise(prepared)(image[None], 0, slice(0, 1), evaluated)
        np.testing.assert_array_equal(to_batch([crop(image, 32)], about), evaluated)
    # The same, step by step.
    image = image[cut[0] : size[0] - cut[0], cut[1] : size[1] - cut[1]]
    method = cv2.INTER_AREA if min(image.shape[:2]) > short_side else cv2.INTER_CUBIC
    image = cv2.resize(image, scaled[::-1], interpolation=method)
    image = image[corner[0] : corner[0] + 32, corner[1] : corner[1] + 32]
    expected = (image - np.array(MEAN)) / np.array(STD)
    np.testing.assert_allclose(found[0], expected.transpose(2, 0, 1), atol=1e-5)


def test_graphs_that_normalise_get_pixels():
    image = photograph(32, 32)
    about = {"values": "pixels", "layout": "NHWC", "mean": MEAN, "std": STD}
    np.testing.assert_array_equal(to_batch([image], about)[0], image.astype(np.float32))


def test_wrong_images_get_a_line_each_and_the_others_are_predicted(predict, photographs):
    wrong = write_wrong_images(photographs)
    names = sorted(os.listdir(photographs))
    status, out, err = predict(*(photographs / name for name in names), "--json")
    found = {os.path.basename(one["file"]): one for one in map(json.loads, out.splitlines())}
    assert status == 1 and list(found) == names
    assert err.pop() == f"{len(wrong)} of {len(names)} images could not be predicted"
    for name, reason in wrong.items():
        (line,) = (line for line in err if line.startswith(f"{photographs / name}: "))
        assert reason in line and reason in found[name]["error"]
    for name in set(names) - set(wrong):
        assert len(found[name]["top"]) == 5


@pytest.mark.parametrize("batch_size", [1, 3])
def test_batches_change_nothing(predict, photographs, batch_size):
    (photographs / "3.png").write_text("not an image")
    expected = predict(photographs, "--csv")
    assert predict(photographs, "--csv", "--batch-size", batch_size)[::2] == expected[::2]
    assert len(expected[1].splitlines()) == 1 + 4 * 5


def test_text_is_a_block_for_each_image(predict, photographs):
    _, out, err = predict(photographs / "1.png", photographs / "0.png", "--top", "2")
    lines = out.splitlines()
    assert lines[0] == str(photographs / "1.png") and lines[3] == str(photographs / "0.png")
    assert len(lines) == 6 and lines[1].lstrip()[0].isdigit() and "%  " in lines[1]
    assert err == []


def test_grey_palette_and_alpha_are_taken(predict, tmp_path):
    from PIL import Image

    image = Image.fromarray(photograph())
    for mode in ("L", "P", "1", "LA", "RGBA"):
        image.convert(mode).save(tmp_path / f"{mode}.png")
    status, out, err = predict(tmp_path, "--json")
    assert (status, err, len(out.splitlines())) == (0, [], 5)
    # Alpha is dropped, not laid over a background.
    clear = image.convert("RGBA")
    clear.putalpha(0)
    clear.save(tmp_path / "clear.png")
    np.testing.assert_array_equal(read_image(tmp_path / "clear.png"), np.asarray(image))


def test_photographs_are_turned_upright_unless_that_is_not_wanted(predict, tmp_path):
    from PIL import Image

    exif, path = Image.Exif(), tmp_path / "turned.png"
    exif[0x0112] = 6
    Image.fromarray(photograph(48, 64)).save(path, exif=exif)
    np.testing.assert_array_equal(read_image(path), np.rot90(photograph(48, 64), -1))
    np.testing.assert_array_equal(read_image(path, upright=False), photograph(48, 64))
    Image.fromarray(photograph(48, 64)).save(tmp_path / "lying.png")
    Image.fromarray(np.rot90(photograph(48, 64), -1)).save(tmp_path / "upright.png")

    def probabilities(*arguments):
        status, out, _ = predict(*arguments, "--json")
        assert status == 0
        return json.loads(out)["top"]

    assert probabilities(path) == probabilities(tmp_path / "upright.png")
    assert probabilities(path, "--ignore-orientation") == probabilities(tmp_path / "lying.png")
    assert probabilities(path) != probabilities(tmp_path / "lying.png")


@pytest.mark.parametrize("kind", ["png", "bmp", "webp", "ppm", "pgm", "tif", "jpg"])
def test_pixels_are_those_that_are_prepared(tmp_path, kind):
    path = tmp_path / f"a.{kind}"
    image = photograph(48, 64)
    cv2.imwrite(str(path), image[:, :, 0] if kind == "pgm" else image)
    source = Source(path.name, 0, path.read_bytes)
    (encoded,) = encode_all([source], Encoding(), "train")
    (tmp_path / "stored.png").write_bytes(encoded.data)
    np.testing.assert_array_equal(read_image(path), read_image(tmp_path / "stored.png"))
    if kind not in ("jpg", "webp", "pgm"):
        np.testing.assert_array_equal(read_image(path), image[:, :, ::-1])


def test_odd_names_do_not_break_the_output(predict, tmp_path):
    names = ['a,"b".png', "two\nlines.png", "carriage\rreturn.png", "späť.png", b"\xff.png"]
    content = cv2.imencode(".png", photograph())[1].tobytes()
    for name in names:
        with open(os.path.join(os.fsencode(tmp_path), os.fsencode(name)), "wb") as file:
            file.write(content)
    paths = sorted(os.path.join(str(tmp_path), os.fsdecode(name)) for name in names)
    _, out, _ = predict(tmp_path, "--json")
    assert [json.loads(line)["file"] for line in out.splitlines()] == paths
    _, out, _ = predict(tmp_path, "--csv", "--top", "1")
    rows = list(csv.reader(io.StringIO(out, newline="")))
    assert [row[0] for row in rows[1:]] == [path.replace("\udcff", "\\udcff") for path in paths]
    _, out, _ = predict(tmp_path, "--top", "1")
    assert len(out.splitlines()) == 2 * len(names) and "two\\nlines.png" in out


def test_files_and_folders(tmp_path, monkeypatch):
    for name in ("b/2.PNG", "b/c/3.jpg", "a.jpg", "b/.hidden.jpg", "b/.git/4.jpg", "b/read.me"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    monkeypatch.chdir(tmp_path)
    assert find_images(["b"]) == ["b/2.PNG", "b/c/3.jpg"]
    assert find_images(["b/read.me", "a.jpg"]) == ["b/read.me", "a.jpg"]
    assert find_images(["b", "b/c", "a.jpg", "b/c/3.jpg"]) == ["b/2.PNG", "b/c/3.jpg", "a.jpg"]


def test_a_folder_that_may_not_be_listed_gets_a_line(predict, photographs, monkeypatch):
    (photographs / "closed").mkdir()
    scandir = os.scandir

    def refuse(path):
        if str(path).endswith("closed"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)  # root may read everything
    status, out, err = predict(photographs, "--csv", "--top", "1")
    assert status == 1 and len(out.splitlines()) == 1 + 5
    assert [line.split(": ")[0] for line in err[:-1]] == [str(photographs / "closed")]


def test_what_cannot_be_done_is_refused_in_one_line(predict, photographs, tmp_path):
    (tmp_path / "empty").mkdir()
    for arguments, text in (
        ([tmp_path / "nothing.png"], "nothing.png: no such file"),
        ([photographs, tmp_path / "empty"], "empty: no such file, or no images in it"),
        ([photographs, "--top", "0"], "--top must be at least 1, not 0"),
        ([photographs, "--batch-size", "0"], "--batch-size must be at least 1"),
        ([photographs, "--form", "other"], "no form 'other'"),
        ([photographs, "--gpu", "0,1"], "invalid int value"),
        ([photographs, "--csv", "--json"], "not allowed with"),
        ([], "required: IMAGE"),
    ):
        with pytest.raises(DMRError, match=text.replace("'", ".")):
            predict(*arguments)


def test_an_unknown_data_set_is_refused():
    options = SimpleNamespace(top=5, batch_size=1)
    with pytest.raises(Problem, match="training data of this network are unknown"):
        check_arguments(options, {"classes": ["a"], "input": {"mean": None}})
