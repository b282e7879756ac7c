"""RecordIO made by MXNet's own im2rec: trained on where it is, and told if it is damaged."""

import io
import json
import os
import runpy
import shutil
import struct
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from test_check import png_with_magic
from test_data import collect

from dmr_gluon.cli.main import _main
from dmr_gluon.data import png
from dmr_gluon.data import recordio as form
from dmr_gluon.data.check import check, check_quickly
from dmr_gluon.data.datasets import open_prepared, read_manifest
from dmr_gluon.data.loader import training_batches
from dmr_gluon.data.reader import RecordFile
from dmr_gluon.datasets.digits import prepare_digits
from dmr_gluon.datasets.recordio import prepare_recordio
from dmr_gluon.errors import DMRError
from dmr_gluon.paper.recipes import CIFAR
from dmr_gluon.runs import log as runlog
from dmr_gluon.runtime import mx

REPOSITORY = Path(__file__).resolve().parent.parent
IM2REC = os.path.join(os.path.dirname(mx.__file__), "tools", "im2rec.py")
CLASSES = ("cat", "dog", "owl")


def im2rec(folder, prefix, root, *flags):
    """Run MXNet's im2rec in a folder, as its users do."""
    command = [sys.executable, IM2REC, prefix, root, *flags]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)
    said = done.stdout + done.stderr
    assert done.returncode == 0 and "rror" not in said and "Did not find" not in said, said


def picture(seed, height, width):
    random = np.random.RandomState(seed)
    image = random.uniform(0, 255, (4, 4, 3)).astype(np.float32)
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR).astype(np.uint8)


def jpeg(seed, height, width, orientation):
    file, image = io.BytesIO(), Image.fromarray(picture(seed, height, width))
    exif = image.getexif()
    exif[0x0112] = orientation
    image.save(file, "JPEG", exif=exif)
    return file.getvalue()


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder of im2rec's files.

    ``small_0.rec`` and ``small_1.rec``: 12 and 12 images 32x32, shuffled, as PNG. ``held.rec``: 6
    more, as JPEG. ``photos.rec``: of many sizes and kinds, unchanged. ``resized.rec``: the same,
    but with a shorter side of 20. ``listed.rec``: with two labels each.
    """
    folder = tmp_path_factory.mktemp("im2rec")
    for number in range(30):
        root = folder / "images" / ("small" if number < 24 else "held") / CLASSES[number % 3]
        root.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(root / f"{number}.png"), picture(number, 32, 32))
    im2rec(folder, "small", "images/small", "--list", "--recursive", "--chunks", "2")
    im2rec(folder, "small", "images/small", "--encoding", ".png", "--quality", "9")
    # Another list than im2rec's own: any numbers, in any order.
    names = [f"{CLASSES[number % 3]}/{number}.png" for number in range(24, 30)]
    lines = [f"{7**i % 101}\t{i % 3}.0\t{name}\n" for i, name in enumerate(names)]
    (folder / "held.lst").write_text("".join(lines))
    im2rec(folder, "held", "images/held", "--quality", "90", "--num-thread", "2")

    photos = folder / "images" / "photos"
    photos.mkdir()
    for number in range(8):
        image = jpeg(number, 40 + 5 * number, 30 + 9 * (number % 4), 6 if number == 3 else 1)
        (photos / f"{number}.jpg").write_bytes(image)
    grey = cv2.cvtColor(picture(8, 50, 60), cv2.COLOR_RGB2GRAY)
    cv2.imwrite(str(photos / "8.png"), grey)
    (photos / "9.png").write_bytes(png_with_magic(5))  # whose record im2rec writes in parts
    lines = [f"{n}\t{n % 2}\t{path.name}\n" for n, path in enumerate(sorted(photos.iterdir()))]
    (folder / "photos.lst").write_text("".join(lines))
    im2rec(folder, "photos", "images/photos", "--pass-through")
    shutil.copy(folder / "photos.lst", folder / "resized.lst")
    im2rec(folder, "resized", "images/photos", "--resize", "20")
    (folder / "listed.lst").write_text("0\t1\t0.5\t1.jpg\n1\t0\t0.5\t2.jpg\n")
    im2rec(folder, "listed", "images/photos", "--pass-through", "--pack-label")
    return folder


@pytest.fixture
def files(made, tmp_path, monkeypatch):
    """Copies of them, in the current folder."""
    for path in made.glob("*.*"):
        shutil.copy(path, tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def mxnets(*paths):
    """(number, label, image as RGB) of each record, as MXNet reads the files one by one."""
    for path in paths:
        reader = mx.recordio.MXRecordIO(str(path), "r")
        for content in iter(reader.read, None):
            header, image = mx.recordio.unpack_img(content, cv2.IMREAD_COLOR)
            yield header.id, header.label, image[:, :, ::-1]


def images_of(split):
    with RecordFile(split) as records:
        images, labels = records.images(range(split.count))
    return list(images), labels


class TestPreparing:
    def test_only_a_manifest_and_indexes_are_written(self, files, capsys):
        before = {path.name: path.read_bytes() for path in files.iterdir()}
        line = "prepare recordio --train small_0.rec --train small_1.rec --test held.rec --out set"
        _main(line.split())
        assert "set: set, 24 train, 6 test images 32x32, 3 classes" in capsys.readouterr().out
        names = {"manifest.json", "train-1.idx", "train-2.idx", "test.idx"}
        assert set(os.listdir("set")) == names
        assert {name: (files / name).read_bytes() for name in before} == before
        assert check("set").ok
        _main(line.split())
        assert "holds this data set already" in capsys.readouterr().out

    def test_images_labels_and_order_are_those_that_mxnet_reads(self, files):
        prepared = prepare_recordio(["small_1.rec", "small_0.rec"], "set", ["held.rec"])
        for name, paths in (("train", ("small_1.rec", "small_0.rec")), ("test", ("held.rec",))):
            expected = list(mxnets(*paths))
            split, (images, labels) = prepared.split(name), images_of(prepared.split(name))
            assert labels == [label for _, label, _ in expected]
            assert split.count == len(expected) == sum(split.per_class)
            assert split.per_class == tuple(np.bincount(labels))
            for ours, (*_, theirs) in zip(images, expected):
                assert (ours == theirs).all()
            for part in split.files:  # which MXNet can use in the place of its own
                reader = mx.recordio.MXIndexedRecordIO(part.index, part.records, "r")
                for number, label, _ in mxnets(part.records):
                    assert mx.recordio.unpack(reader.read_idx(number))[0].label == label
        pixels = np.concatenate([image for *_, image in mxnets("small_0.rec", "small_1.rec")])
        assert np.allclose(prepared.mean, pixels.mean((0, 1)), atol=1e-3)
        assert np.allclose(prepared.std, pixels.std((0, 1)), atol=1e-3)

    def test_photographs_of_any_kind(self, files, capsys):
        prepared = prepare_recordio(["photos.rec"], "set")
        assert "1 images: turned upright, as EXIF says" in capsys.readouterr().out
        assert prepared.image_size is None and check("set").ok
        images, _ = images_of(prepared.split("train"))
        assert images[3].shape == (57, 55, 3)
        for ours, (*_, theirs) in zip(images, mxnets("photos.rec")):
            assert ours.shape == theirs.shape and (ours == theirs).all()
        pack("turned.rec", (0, jpeg(0, 40, 30, 6)))
        assert prepare_recordio(["turned.rec"], "turned").image_size == (30, 40)
        resized = prepare_recordio(["resized.rec"], "other")
        assert {min(image.shape[:2]) for image in images_of(resized.split("train"))[0]} == {20}

    def test_an_epoch_does_not_depend_on_the_parts(self, files):
        whole = Path("small_0.rec").read_bytes() + Path("small_1.rec").read_bytes()
        Path("whole.rec").write_bytes(whole)
        recipe = replace(CIFAR, batch_size=5)
        one, two = (
            collect(training_batches(prepare_recordio(paths, out), recipe, seed=3, epoch=2))
            for paths, out in ((["whole.rec"], "one"), (["small_0.rec", "small_1.rec"], "two"))
        )
        assert (one[0] == two[0]).all() and (one[1] == two[1]).all()

    def test_names_of_classes(self, files):
        Path("names.txt").write_text("cat\ndog\ngrumpy owl\n\n", encoding="utf-8")
        prepared = prepare_recordio(["small_0.rec"], "set", classes="names.txt", name="pets")
        assert prepared.classes == ("cat", "dog", "grumpy owl") and prepared.name == "pets"
        assert prepare_recordio(["small_0.rec"], "cifar10", name="mine").classes == ("0", "1", "2")

    def test_their_index_may_be_missing_or_in_any_order(self, files):
        os.remove("held.idx")
        lines = Path("small_0.idx").read_text().splitlines(True)
        Path("small_0.idx").write_text("".join(reversed(lines)))
        prepared = prepare_recordio(["small_0.rec"], "set", ["held.rec"])
        assert prepared.split("train").count == 12 and check("set").ok

    def test_another_set_in_its_place_leaves_their_files(self, files):
        shutil.copy("held.rec", "elsewhere.rec")
        prepare_recordio(["small_0.rec"], "set", ["elsewhere.rec"])
        prepare_recordio(["small_1.rec", "small_0.rec"], "set", overwrite=True)
        assert set(os.listdir("set")) == {"manifest.json", "train-1.idx", "train-2.idx"}
        prepare_digits("set", overwrite=True)
        assert "train-1.idx" not in os.listdir("set") and check("set").ok
        assert all(os.path.exists(name) for name in ("small_0.rec", "elsewhere.rec"))


def flip(path, byte, mask):
    content = bytearray(Path(path).read_bytes())
    content[byte] ^= mask
    Path(path).write_bytes(content)


def pack(path, *records):
    """Write (label, image) as im2rec does."""
    writer = mx.recordio.MXRecordIO(str(path), "w")
    for number, (label, image) in enumerate(records):
        writer.write(mx.recordio.pack(mx.recordio.IRHeader(0, label, number, 0), image))
    writer.close()


PNG, RECORD = png.encode(picture(0, 32, 32)), 3204  # an image, and the bytes of its record

#: How files are damaged, and what is said of it.
DAMAGES = {
    "cut off": (lambda: os.truncate("a.rec", RECORD + 100), "record 1 at byte 3204: its head is"),
    "cut off between records": (
        lambda: os.truncate("small_0.rec", form.read_index("small_0.idx")[1][11]),
        "small_0.idx does not list the 11 records of",
    ),
    "magic word": (lambda: flip("a.rec", RECORD, 1), "record 1 at byte 3204: its head is damaged"),
    "length": (lambda: flip("a.rec", 4, 4), "its head is damaged, or it is cut off"),
    "flag": (lambda: flip("a.rec", 11, 1), "record 0 at byte 0: its header is damaged"),
    "label": (lambda: flip("a.rec", 14, 0x80), "its label 1.175494e-38 is not a whole"),
    "number": (lambda: flip("a.rec", 23, 0x80), "record 0 at byte 0: its header is damaged"),
    "index of another file": (
        lambda: shutil.copy("small_0.idx", "a.idx"),
        "a.idx does not list the 3 records of",
    ),
    "index that is none": (
        lambda: Path("a.idx").write_bytes(b"\xff\x00"),
        "a.idx does not list the 3 records of",
    ),
    "empty": (lambda: os.truncate("a.rec", 0), "a.rec is not RecordIO; name a .rec"),
    "missing": (lambda: os.remove("a.rec"), "a.rec cannot be read (No such file"),
    "folder": (lambda: (os.remove("a.rec"), os.mkdir("a.rec")), "cannot be read (Is a directory)"),
    "list": (lambda: shutil.copy("small_0.lst", "a.rec"), "a.rec is not RecordIO; name a .rec"),
    "photograph": (lambda: Path("a.rec").write_bytes(jpeg(0, 9, 9, 1)), "a.rec is not RecordIO"),
    "no image": (
        lambda: pack("a.rec", (0, PNG), (1, b""), (2, PNG)),
        "record 1 at byte 3204: its image cannot be decoded; make the file again",
    ),
    "no readable image": (
        lambda: pack("a.rec", (0, PNG), (1, b"GIF89a"), (2, PNG[:60]), (0, PNG)),
        "a.rec: record 1 at byte 3204: its image cannot be decoded; record 2 ",
    ),
    "16 bits": (
        lambda: pack("a.rec", (0, cv2.imencode(".png", np.zeros((4, 4), np.uint16))[1].tobytes())),
        "a.rec: record 0 at byte 0: its image is not 8-bit",
    ),
    "several labels": (
        lambda: shutil.copy("listed.rec", "a.rec"),
        "it has a list of labels (--pack-label of im2rec) instead of one; make the file again",
    ),
    "list of one label": (
        lambda: pack("a.rec", (np.array([1.0]), PNG)),
        "it has a list of labels",
    ),
    "half a class": (lambda: pack("a.rec", (0, PNG), (0.5, PNG)), "its label 0.5 is not a whole"),
    "not a number": (lambda: pack("a.rec", (float("nan"), PNG)), "its label nan is not a whole"),
    "classes from 1": (lambda: pack("a.rec", (1, PNG), (2, PNG)), "no training image has the labe"),
    "more classes in the test": (
        lambda: pack("a.rec", (0, PNG), (1, PNG)),
        "held.rec, record 2: its label is 2, but the training images have 2 classes, 0 to 1; name",
    ),
}


class TestRefusals:
    @pytest.mark.parametrize("damage", DAMAGES)
    def test_damage_is_told_in_one_line_and_nothing_is_written(self, damage, files):
        pack("a.rec", *((label, PNG) for label in range(3)))
        do, words = DAMAGES[damage]
        train = ["small_0.rec"] if damage == "cut off between records" else ["a.rec"]
        do()
        with pytest.raises(DMRError) as refusal:
            prepare_recordio(train, "set", ["held.rec"] if "the test" in damage else [])
        assert words in str(refusal.value) and "\n" not in str(refusal.value)
        assert not os.path.exists("set")

    @pytest.mark.parametrize(
        "flags, words",
        [
            ("--train held.rec --test held.rec", "held.rec is given twice; give it only once"),
            ("--train held.rec ./held.rec", "held.rec is given twice"),
            ("--train held.rec --test linked.rec", "linked.rec is given twice"),
            ("--train set/inside.rec", "inside.rec is in set and could be replaced"),
            ("--train held.rec --name cifar10", "'cifar10' is reserved"),
            ("--train held.rec --classes two.txt", "but 2 classes are named, 0 to 1; name all"),
            ("--train held.rec --classes four.txt", "no training image has the label 3, but 4 cl"),
            ("--train held.rec --classes twice.txt", "line 3 of twice.txt is empty, repeated"),
            ("--train held.rec --classes held.rec", "line 1 of held.rec is empty, repeated"),
            ("--train held.rec --classes latin.txt", "line 2 of latin.txt is empty, repeated"),
            ("--train held.rec --classes none.txt", "none.txt cannot be read"),
        ],
    )
    def test_wrong_flags(self, flags, words, files):
        os.mkdir("set")
        shutil.copy("held.rec", "set/inside.rec")
        os.symlink("held.rec", "linked.rec")
        texts = {"two": b"a\nb", "four": b"a\nb\nc\nd", "twice": b"a\nb\na", "latin": b"a\n\xe9"}
        for name, text in texts.items():
            Path(f"{name}.txt").write_bytes(text)
        with pytest.raises(DMRError) as refusal:
            _main(["prepare", "recordio", *flags.split(), "--out", "set"])
        assert words in str(refusal.value)
        assert os.listdir("set") == ["inside.rec"]


class TestChangedAfterwards:
    @pytest.fixture
    def prepared(self, files):
        pack("a.rec", *((label, PNG) for label in (0, 1, 0)))
        return prepare_recordio(["small_0.rec", "a.rec"], "set", ["held.rec"])

    def refusal(self):
        with pytest.raises(DMRError) as refusal:
            check_quickly(open_prepared("set"))
        assert "with --overwrite" in str(refusal.value)
        return str(refusal.value)

    def test_files_that_are_gone_or_of_another_length(self, prepared):
        os.rename("a.rec", "b.rec")
        assert "a.rec is missing, the manifest says 9612 bytes; put it back, or " in self.refusal()
        os.rename("b.rec", "a.rec")
        with open("held.rec", "ab") as file:
            file.write(b"1234")
        assert "held.rec has " in self.refusal()

    @pytest.mark.parametrize(
        "records, words",
        [
            ([(1, PNG), (1, PNG), (0, PNG)], "a.rec: the classes have other counts"),
            ([(0, PNG), (3, PNG), (0, PNG)], "its label 3 is not one of 0 to 2"),
        ],
    )
    def test_files_with_other_labels(self, prepared, records, words):
        pack("a.rec", *records)
        assert words in self.refusal()

    def test_records_in_another_order(self, prepared):
        one, two, three = (Path("a.rec").read_bytes()[i * RECORD :][:RECORD] for i in range(3))
        Path("a.rec").write_bytes(three + two + one)
        assert "record 0 at byte 0: its header is damaged, or that of record 2" in self.refusal()

    def test_an_image_that_is_another(self, prepared):
        flip("a.rec", RECORD + 32 + 45, 1)  # within the compressed pixels
        check_quickly(open_prepared("set"))
        report = check("set")
        assert list(report.problems) == ["train"] and "record 1 at byte" in report.text()

    def test_the_set_may_be_moved(self, prepared):
        os.makedirs("away")
        os.rename("set", "away/set")
        assert check("away/set").ok


def run(line):
    """Run a command line as a shell would, but in this process."""
    program, *arguments = line.split()
    if program == "dmr":
        return _main(arguments)
    sys.argv = [program, *arguments]
    return runpy.run_path(str(REPOSITORY / program), run_name="script")["main"]()


SMALL = "train_cifar.py --data-dir set --model cifar_dmrnet8 --batch-size 8 --run-dir run"
CROPS = (
    "train_imagenet.py --data-dir set --model cifar_dmrnet8 --batch-size 4 --image-size 32 "
    "--train-short-side 32,40 --eval-short-side 32 --run-dir run"
)


class TestTraining:
    @pytest.mark.parametrize(
        "train, test, script",
        [("small_0.rec small_1.rec", "held.rec", SMALL), ("photos.rec", "resized.rec", CROPS)],
    )
    def test_from_their_files_to_a_prediction(
        self, train, test, script, files, monkeypatch, capsys
    ):
        monkeypatch.setattr(sys, "argv", sys.argv)
        before = {path.name: path.read_bytes() for path in files.glob("*.*")}
        run(f"dmr prepare recordio --train {train} --test {test} --out set")
        run(f"{script} --steps 2")
        capsys.readouterr()
        run("dmr eval run")
        assert "note: " not in capsys.readouterr().out  # the error is the one that was logged
        run("dmr export run --out bundle")
        cv2.imwrite("image.png", picture(0, 32, 40))
        run("dmr predict bundle image.png")
        assert "%" in capsys.readouterr().out
        assert {name: (files / name).read_bytes() for name in before} == before

    def test_without_test_images(self, files, monkeypatch, capsys):
        monkeypatch.setattr(sys, "argv", sys.argv)
        run("dmr prepare recordio --train small_0.rec small_1.rec --out set --name mine")
        run("dmr prepare recordio --train held.rec --test small_1.rec --out other")
        run("dmr show set")
        with pytest.raises(DMRError, match="--patience needs test images, and set has none"):
            run(f"{SMALL} --patience 2")
        run(f"{SMALL.replace('--run-dir run', '--estimate')} --epochs 2")
        run(f"{SMALL} --epochs 2 --tensorboard")
        said = capsys.readouterr().out
        assert "24 training and 0 test images" in said and "done: training error" in said
        records = runlog.epochs("run/log.jsonl")
        assert [record.test_error for record in records] == [None, None]
        end = runlog.read("run/log.jsonl")[-1]
        assert end["best"] == {"epoch": 2, "test_error": None} and end["test_error"] is None
        with pytest.raises(DMRError, match="set has no split 'test'; name one of train"):
            run("dmr eval run")
        run("dmr eval run --split train")
        run("dmr eval run --data-dir other")
        run("dmr status run")
        run(f"dmr compare run {copied('run', 'again', seed=2)} --html page.html")
        said = capsys.readouterr().out
        assert "trained without test images" in said
        run("dmr export run --out bundle")
        with open("bundle/bundle.json") as file:
            bundle = json.load(file)
        assert bundle["example"]["from"] == "the first training image of mine"
        assert bundle["forms"]["plain"]["compared"]["images"] == 24

    def test_without_test_images_a_run_is_continued(self, files, monkeypatch):
        monkeypatch.setattr(sys, "argv", sys.argv)
        run("dmr prepare recordio --train small_0.rec --out set")
        run(f"{SMALL} --epochs 2 --log-steps 1")
        expected = [record.parameters_sha256 for record in runlog.epochs("run/log.jsonl")]
        for name in ("checkpoints/epoch-0002.npz", "model-0002.params"):
            os.remove(f"run/{name}")
        events = runlog.read("run/log.jsonl")
        runlog.write("run/log.jsonl", [e for e in events[:-1] if e.get("epoch") != 2])
        run("train_cifar.py --run-dir run --resume")
        found = [record.parameters_sha256 for record in runlog.epochs("run/log.jsonl")]
        assert found == expected

    def test_what_has_changed_is_told_before_training(self, files, monkeypatch):
        monkeypatch.setattr(sys, "argv", sys.argv)
        run("dmr prepare recordio --train small_0.rec --out set")
        os.truncate("small_0.rec", 1000)
        with pytest.raises(DMRError, match=r"small_0\.rec has 1000 bytes.* with --overwrite"):
            run(SMALL)
        assert not os.path.exists("run/config.json")


def copied(run_dir, name, **changes):
    """A copy of a run with another configuration, in the log as well."""
    shutil.copytree(run_dir, name)
    events = runlog.read(f"{name}/log.jsonl")
    events[0].update(changes)
    runlog.write(f"{name}/log.jsonl", events)
    return name


def test_manifests_of_one_file_are_as_before(files):
    prepare_recordio(["small_0.rec"], "set")
    entry = read_manifest("set")["splits"]["train"]
    assert "parts" not in entry and os.path.isabs(entry["records"]["file"])
    assert entry["index"]["file"] == "train.idx"
    with open(entry["records"]["file"], "rb") as file:
        assert form.read_header(file, 0) == (form.read_index("set/train.idx")[0][0], 1)
    assert struct.calcsize("<IfQQ") == 24
