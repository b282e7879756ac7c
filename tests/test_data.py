"""Preparing, reading and augmenting: every pixel, every image once."""

import io
import json
import os
import re
import struct
import sys
import zlib
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps
from wrong_images import write_other_depths

from dmr_gluon.cli.main import _main as main
from dmr_gluon.data import reader
from dmr_gluon.data.check import check
from dmr_gluon.data.datasets import open_prepared, read_manifest
from dmr_gluon.data.loader import evaluation_batches, training_batches
from dmr_gluon.datasets.digits import prepare_digits
from dmr_gluon.datasets.encoder import Encoding, Source, encode_all
from dmr_gluon.datasets.folder import prepare_folder
from dmr_gluon.errors import DMRError
from dmr_gluon.paper.recipes import DIGITS, IMAGENET
from dmr_gluon.runtime import mx


def write_image(path, seed, size=(32, 32), extension=".png", channels=3):
    os.makedirs(path.parent, exist_ok=True)
    random = np.random.RandomState(seed)
    image = random.randint(0, 256, (*size, channels)).astype(np.uint8)
    assert cv2.imwrite(str(path.with_suffix(extension)), image)
    return image[:, :, ::-1] if channels == 3 else image


@pytest.fixture
def folder(tmp_path):
    """Two classes; 5 training and 3 test images each, PNG; returns it and its RGB pixels."""
    pixels = {}
    for split, count in (("train", 5), ("test", 3)):
        for label, name in enumerate(("cat", "dog")):
            for i in range(count):
                path = tmp_path / "images" / split / name / f"{i}"
                seed = 100 + sum(map(len, pixels.values()))  # no two alike
                pixels.setdefault(split, []).append((label, write_image(path, seed)))
    return tmp_path / "images", pixels


def read_all(prepared, split):
    """Labels and encoded images of every record, in the order of the file."""
    entry = prepared.split(split)
    reader = mx.recordio.MXIndexedRecordIO(entry.index, entry.records, "r")
    records = [mx.recordio.unpack(reader.read_idx(i)) for i in range(entry.count)]
    reader.close()
    return [(int(header.label), data) for header, data in records]


def decode(data):
    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)[:, :, ::-1]


#: Of the prepared digits; the split must be the same wherever it is made.
EXPECTED_FIRST_TEST_LABELS = [2, 6, 1, 2, 1, 2, 6, 4, 7, 7, 8, 4, 2, 4, 3, 5, 8, 2, 6, 2]


class TestDigits:
    def test_counts(self, digits):
        prepared = open_prepared(digits)
        assert prepared.name == "digits" and prepared.image_size == (32, 32)
        assert {name: split.count for name, split in prepared.splits.items()} == {
            "train": 1437, "test": 360,
        }  # fmt: skip
        whole = np.array(prepared.split("train").per_class) + prepared.split("test").per_class
        shares = np.array(prepared.split("test").per_class) / whole
        assert np.abs(shares - 360 / 1797).max() < 0.01

    def test_published_statistics_are_those_of_official_sets_alone(self, digits):
        manifest = json.loads((Path(digits) / "manifest.json").read_text())
        assert manifest["published"] is None and len(manifest["mean"]) == 3

    def test_the_split_is_fixed(self, digits):
        labels = [label for label, _ in read_all(open_prepared(digits), "test")]
        assert labels[:20] == EXPECTED_FIRST_TEST_LABELS

    def test_pixels_are_the_enlarged_digits(self, digits):
        from sklearn.datasets import load_digits

        greys = [np.rint(image * 255 / 16).astype(np.uint8) for image in load_digits().images]
        cubic = {"dsize": (32, 32), "interpolation": cv2.INTER_CUBIC}
        originals = {cv2.resize(grey, **cubic).tobytes() for grey in greys}
        seen = set()
        for split in ("train", "test"):
            for _, data in read_all(open_prepared(digits), split):
                image = decode(data)
                assert (image == image[:, :, :1]).all()
                seen.add(image[:, :, 0].tobytes())
        assert seen == originals and len(seen) == 1797

    def test_a_second_time_does_nothing(self, digits, capsys):
        before = os.path.getmtime(os.path.join(digits, "train.rec"))
        prepare_digits(digits)
        assert "nothing to do" in capsys.readouterr().out
        assert os.path.getmtime(os.path.join(digits, "train.rec")) == before


class TestFolder:
    def test_the_manifest_has_the_command_that_made_it(self, folder, tmp_path, monkeypatch):
        monkeypatch.setattr(sys, "argv", ["/bin/dmr", "prepare", "folder", "my pets", "--out", "o"])
        prepare_folder(folder[0], tmp_path / "out", name="pets")
        command = read_manifest(tmp_path / "out")["command"]
        assert command == "dmr prepare folder 'my pets' --out o"

    def test_png_round_trip_is_lossless(self, folder, tmp_path):
        source, pixels = folder
        prepared = prepare_folder(source, tmp_path / "out", name="pets")
        assert prepared.classes == ("cat", "dog") and prepared.image_size == (32, 32)
        for split in ("train", "test"):
            found = sorted(
                (label, decode(data).tobytes()) for label, data in read_all(prepared, split)
            )
            assert found == sorted((label, image.tobytes()) for label, image in pixels[split])

    def test_statistics_are_those_of_the_training_images(self, folder, tmp_path):
        source, pixels = folder
        prepared = prepare_folder(source, tmp_path / "out", name="pets")
        images = np.stack([image for _, image in pixels["train"]]).reshape(-1, 3)
        np.testing.assert_allclose(prepared.mean, images.mean(axis=0), atol=1e-3)
        np.testing.assert_allclose(prepared.std, images.std(axis=0), atol=1e-3)

    def test_jpeg_is_kept_to_the_byte_unless_resized(self, folder, tmp_path):
        source, _ = folder
        write_image(source / "train" / "cat" / "photo", 1, extension=".jpg")
        original = (source / "train" / "cat" / "photo.jpg").read_bytes()
        kept = read_all(prepare_folder(source, tmp_path / "a", name="pets"), "train")
        assert original in [data for _, data in kept]
        resized = prepare_folder(source, tmp_path / "b", name="pets", encoding=Encoding((16, 16)))
        formats = [data[:2] for _, data in read_all(resized, "train")]
        # Small images in an exact size are lossless.
        assert formats.count(b"\xff\xd8") == 0 and resized.image_size == (16, 16)
        larger = prepare_folder(source, tmp_path / "c", name="pets", encoding=Encoding(40))
        formats = [data[:2] for _, data in read_all(larger, "train")]
        assert formats.count(b"\xff\xd8") == 1

    def test_resize_to_a_shorter_side_keeps_the_shape(self, folder, tmp_path):
        source, _ = folder
        write_image(source / "train" / "dog" / "wide", 1, size=(20, 60))
        prepared = prepare_folder(source, tmp_path / "out", name="pets", encoding=Encoding(40))
        sizes = {decode(data).shape[:2] for _, data in read_all(prepared, "train")}
        assert sizes == {(40, 40), (40, 120)} and prepared.image_size is None

    @pytest.mark.parametrize("channels", [1, 4])
    def test_grey_and_transparent_images_become_rgb(self, folder, tmp_path, channels):
        source, _ = folder
        write_image(source / "train" / "cat" / "odd", 1, channels=channels)
        prepared = prepare_folder(source, tmp_path / "out", name="pets")
        assert {decode(data).shape for _, data in read_all(prepared, "train")} == {(32, 32, 3)}

    def test_a_cmyk_jpeg_becomes_rgb_and_is_counted(self, folder, tmp_path, capsys):
        source, _ = folder
        cmyk = Image.new("CMYK", (32, 32), (0, 255, 255, 0))  # no cyan: red
        cmyk.save(source / "train" / "cat" / "ink.jpg", quality=95)
        cmyk.save(source / "test" / "cat" / "ink.jpg", quality=95)
        prepared = prepare_folder(source, tmp_path / "out", name="pets")
        original = (source / "train" / "cat" / "ink.jpg").read_bytes()
        for split in ("train", "test"):
            records = [data for _, data in read_all(prepared, split) if data[:2] == b"\xff\xd8"]
            stored = Image.open(io.BytesIO(*records))
            assert original not in records and stored.mode == "RGB"
            assert np.abs(np.array(stored).astype(int) - (255, 0, 0)).max() < 8
        manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
        assert manifest["oddities"] == {"CMYK, encoded anew as RGB": 2}
        assert "2 images: CMYK" in capsys.readouterr().out

    def test_what_is_lost_or_missing_is_counted(self, folder, tmp_path):
        source, _ = folder
        write_image(source / "train" / "cat" / "cut", 1, extension=".jpg")
        cut = (source / "train" / "cat" / "cut.jpg").read_bytes()
        # A thumbnail's end is not the image's.
        thumbnail = b"\xff\xe1\x00\x04\xff\xd9"
        cut = cut[:2] + thumbnail + cut[2 : len(cut) // 2]
        (source / "train" / "cat" / "cut.jpg").write_bytes(cut)
        prepared = prepare_folder(source, tmp_path / "out", name="pets")
        assert cut in [data for _, data in read_all(prepared, "train")]
        assert read_manifest(tmp_path / "out")["oddities"] == {"a JPEG without its end": 1}

    def test_what_has_not_8_bits_a_colour_is_refused_by_name(self, folder, tmp_path):
        wrong = write_other_depths(folder[0] / "train" / "dog")
        with pytest.raises(DMRError, match="is not 8-bit") as refused:
            prepare_folder(folder[0], tmp_path / "out", name="pets")
        assert all(f"train/dog/{name}'" in str(refused.value) for name in wrong)
        for name, reason in wrong.items():
            source = Source(name, 0, (folder[0] / "train" / "dog" / name).read_bytes)
            with pytest.raises(DMRError, match=re.escape(name)) as refused:
                list(encode_all([source], Encoding(), "train"))
            # What cannot be decoded at all has a message of its own.
            expected = reason.replace("not an image that", "is not a readable image")
            assert expected in str(refused.value)

    @pytest.mark.parametrize("kind", ["jpg", "png"])
    @pytest.mark.parametrize("value", range(1, 9))
    def test_photographs_are_turned_upright_and_counted(self, folder, tmp_path, kind, value):
        image = Image.fromarray(write_image(tmp_path / "photo", 1, size=(20, 30)))
        exif = image.getexif()
        exif[0x0112] = value
        path = folder[0] / "train" / "cat" / f"turned.{kind}"
        image.save(path, exif=exif, quality=95)
        prepared = prepare_folder(folder[0], tmp_path / "out", name="pets")
        expected = np.array(ImageOps.exif_transpose(Image.open(path)))
        (found,) = (
            image
            for image in (decode(data) for _, data in read_all(prepared, "train"))
            if image.shape != (32, 32, 3)
        )
        assert found.shape == expected.shape
        # A JPEG that is turned is encoded once more.
        assert np.abs(found.astype(int) - expected).mean() < (8 if kind == "jpg" else 1e-9)
        oddities = {} if value == 1 else {"turned upright, as EXIF says": 1}
        assert read_manifest(tmp_path / "out")["oddities"] == oddities

    @pytest.mark.parametrize("resize", [None, 16])
    def test_the_exif_rotation_can_be_ignored(self, folder, tmp_path, resize):
        """As by the reference pipelines; the file itself stays as it is, with its EXIF."""
        source, _ = folder
        image = Image.new("RGB", (64, 32), (0, 0, 0))
        image.paste((255, 255, 255), (0, 0, 32, 32))  # white on the left
        exif = image.getexif()
        exif[0x0112] = 6  # shown, it would stand upright, with the white half above
        path = source / "train" / "cat" / "turned.jpg"
        image.save(path, exif=exif, quality=95)
        assert ImageOps.exif_transpose(Image.open(path)).size == (32, 64)
        out, resized = tmp_path / "out", ["--resize", str(resize)] if resize else []
        main(
            ["prepare", "folder", str(source), "--out", str(out), "--ignore-orientation", *resized]
        )
        prepared, oddities = open_prepared(out), read_manifest(out)["oddities"]
        assert oddities == {"to be shown turned, says EXIF, which is ignored": 1}
        records = [data for _, data in read_all(prepared, "train") if data[:2] == b"\xff\xd8"]
        stored = Image.open(io.BytesIO(*records))
        assert (records == [path.read_bytes()]) == (resize is None)
        width, height = (64, 32) if resize is None else (32, 16)
        assert stored.size == (width, height)
        pixels = np.array(stored.convert("L"))
        assert pixels[:, : width // 2 - 4].min() > 200 and pixels[:, width // 2 + 4 :].max() < 50
        assert check(tmp_path / "out").ok

    def test_an_image_that_holds_recordios_magic_word_is_kept(self, folder, tmp_path):
        """RecordIO cuts it into two records there, and puts them together again."""
        jpeg = cv2.imencode(".jpg", np.zeros((32, 32, 3), np.uint8))[1].tobytes()
        # In a comment of the JPEG: 24 bytes of header and 4 come before it.
        words = struct.pack("<I", 0xCED7230A) * 3
        marked = (
            jpeg[:2] + b"\xff\xfe" + struct.pack(">H", 4 + len(words)) + b"zz" + words + jpeg[2:]
        )
        (folder[0] / "train" / "cat" / "marked.jpg").write_bytes(marked)
        prepared = prepare_folder(folder[0], tmp_path / "out", name="pets")
        assert marked in [data for _, data in read_all(prepared, "train")]
        assert check(tmp_path / "out").ok
        recipe = replace(DIGITS, pad=0, mirror=False, batch_size=4)
        data, _ = collect(training_batches(prepared, recipe, seed=1, epoch=1))
        assert len(data) == 11

    def test_an_image_full_of_recordios_magic_word_is_kept(self, folder, tmp_path):
        write_image(folder[0] / "train" / "cat" / "marked", 1, extension=".jpg")
        path = folder[0] / "train" / "cat" / "marked.jpg"
        words = struct.pack("<I", 0xCED7230A) * 1000
        comment = b"\xff\xfe" + struct.pack(">H", 4 + len(words)) + b"zz" + words
        path.write_bytes(path.read_bytes()[:2] + comment + path.read_bytes()[2:])
        prepared = prepare_folder(folder[0], tmp_path / "out", name="pets")
        assert path.read_bytes() in [data for _, data in read_all(prepared, "train")]
        assert check(tmp_path / "out").ok

    def test_preparing_twice_gives_the_same_bytes(self, folder, tmp_path):
        source, _ = folder
        hashes = []
        for out in ("a", "b"):
            prepare_folder(source, tmp_path / out, name="pets")
            manifest = json.loads((tmp_path / out / "manifest.json").read_text())
            hashes.append([manifest["splits"][s]["records"]["sha256"] for s in ("train", "test")])
        assert hashes[0] == hashes[1]

    def test_another_set_is_never_overwritten_unasked(self, folder, tmp_path):
        source, _ = folder
        prepare_folder(source, tmp_path / "out", name="pets")
        write_image(source / "train" / "cat" / "new", 1)
        with pytest.raises(DMRError, match="--overwrite"):
            prepare_folder(source, tmp_path / "out", name="pets")
        prepared = prepare_folder(source, tmp_path / "out", name="pets", overwrite=True)
        assert prepared.split("train").count == 11

    def test_a_change_that_leaves_sizes_alone_is_noticed(self, folder, tmp_path):
        source, _ = folder
        write_image(source / "train" / "cat" / "flat", 1, extension=".bmp")
        prepare_folder(source, tmp_path / "out", name="pets")
        write_image(source / "train" / "cat" / "flat", 2, extension=".bmp")
        with pytest.raises(DMRError, match="--overwrite"):
            prepare_folder(source, tmp_path / "out", name="pets")

    def test_a_set_that_lost_a_file_is_replaced_when_asked(self, folder, tmp_path):
        source, _ = folder
        prepare_folder(source, tmp_path / "out", name="pets")
        os.remove(tmp_path / "out" / "train.idx")
        with pytest.raises(DMRError, match="train.idx is missing, .* with --overwrite"):
            prepare_folder(source, tmp_path / "out", name="pets")
        prepared = prepare_folder(source, tmp_path / "out", name="pets", overwrite=True)
        assert prepared.split("train").count == 10

    def test_a_refused_replacement_leaves_the_old_set_whole(self, folder, tmp_path):
        source, _ = folder
        prepare_folder(source, tmp_path / "out", name="pets")
        (source / "test" / "dog" / "bad.png").write_bytes(b"not an image")
        with pytest.raises(DMRError, match=r"bad\.png"):
            prepare_folder(source, tmp_path / "out", name="pets", overwrite=True)
        assert open_prepared(tmp_path / "out").split("train").count == 10
        assert len(os.listdir(tmp_path / "out")) == 5

    def test_records_of_someone_else_are_not_overwritten(self, folder, tmp_path):
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "train.rec").write_text("mine")
        with pytest.raises(DMRError, match="holds another data set.* --overwrite"):
            prepare_folder(folder[0], tmp_path / "out", name="pets")
        assert (tmp_path / "out" / "train.rec").read_text() == "mine"

    def test_hidden_files_are_left_alone(self, folder, tmp_path):
        source, _ = folder
        (source / "train" / ".ipynb_checkpoints").mkdir()
        (source / "train" / "cat" / "._0.png").write_bytes(b"not an image")
        prepared = prepare_folder(source, tmp_path / "out", name="pets")
        assert prepared.classes == ("cat", "dog") and prepared.split("train").count == 10

    def test_what_is_no_image_is_counted(self, folder, tmp_path, capsys):
        source, _ = folder
        (source / "train" / "cat" / "notes.txt").write_text("")
        (source / "train" / "cat" / "folder.png").mkdir()
        prepare_folder(source, tmp_path / "out", name="pets")
        assert "2 entries of" in capsys.readouterr().out

    def test_an_image_too_thin_to_be_resized_is_named(self, folder, tmp_path):
        write_image(folder[0] / "train" / "cat" / "thin", 1, size=(1, 2000), extension=".jpg")
        with pytest.raises(DMRError, match=r"thin\.jpg' is too large to be .* remove or repl"):
            prepare_folder(folder[0], tmp_path / "out", name="pets", encoding=Encoding(60))

    @pytest.mark.parametrize("kind", ["broken link", "too large", "empty", "name"])
    def test_odd_files_give_one_line(self, folder, tmp_path, kind):
        source, _ = folder
        path = source / "train" / "cat" / "odd.png"
        if kind == "broken link":
            path.symlink_to("nowhere.png")
        elif kind == "empty":
            path.write_bytes(b"")
        elif kind == "name":
            (path.parent / "a\n\x1b[odd.png").write_bytes(b"")
        else:
            # A PNG that declares 40,000 x 40,000 pixels.
            content = bytearray((source / "train" / "cat" / "0.png").read_bytes())
            content[16:24] = (40_000).to_bytes(4, "big") * 2
            content[29:33] = zlib.crc32(content[12:29]).to_bytes(4, "big")
            path.write_bytes(content)
        with pytest.raises(DMRError, match=r"odd\.png") as refused:
            prepare_folder(source, tmp_path / "out", name="pets")
        assert str(refused.value).isprintable()

    def test_a_class_without_training_images_is_refused(self, folder, tmp_path):
        (folder[0] / "train" / "emu").mkdir()
        with pytest.raises(DMRError, match="emu' has no images"):
            prepare_folder(folder[0], tmp_path / "out", name="pets")

    @pytest.mark.parametrize(
        "change, words",
        [
            (lambda source: (source / "test").rename(source / "validation"), "test"),
            (lambda source: (source / "test" / "cow").mkdir(), "cow"),
            (lambda source: [p.unlink() for p in (source / "test").rglob("*.png")], "no images"),
        ],
    )
    def test_a_tree_of_another_form_is_refused(self, folder, tmp_path, change, words):
        source, _ = folder
        change(source)
        with pytest.raises(DMRError, match=words):
            prepare_folder(source, tmp_path / "out", name="pets")

    def test_all_images_that_are_wrong_are_named_at_once(self, folder, tmp_path, capsys):
        wrong = [folder[0] / path for path in ("train/cat/a.png", "train/dog/b.jpg")]
        for path in wrong:
            path.write_bytes(b"not an image")
        with pytest.raises(DMRError, match="; '") as refused:
            prepare_folder(folder[0], tmp_path / "out", name="pets")
        assert all(path.name in str(refused.value) for path in wrong)
        assert str(refused.value).isprintable() and not (tmp_path / "out").exists()
        assert "note: 'train/" in capsys.readouterr().out  # at once, for those who wait
        for number in range(30):
            (folder[0] / f"train/cat/{number}.jpg").write_bytes(b"not an image")
        with pytest.raises(DMRError, match="; '") as refused:
            prepare_folder(folder[0], tmp_path / "out", name="pets")
        assert str(refused.value).count("'train/") == 20

    def test_names_that_are_no_text_or_no_line_are_shown(self, folder, tmp_path, capsys):
        odd = os.fsencode(tmp_path) + b"/odd\xff\n"
        os.rename(folder[0], odd)
        os.rename(odd + b"/train/cat", odd + b"/train/c\xff\nt")
        os.rename(odd + b"/test/cat", odd + b"/test/c\xff\nt")
        with open(odd + b"/train/c\xff\nt/read.me", "wb"):
            pass
        out = os.fsdecode(odd + b"-out")
        main(["prepare", "folder", os.fsdecode(odd), "--out", out, "--name", "pets"])
        lines = capsys.readouterr().out.splitlines()
        assert len(lines) == 2 and "c\\udcff\\nt' are not images" in lines[0]
        assert r"odd\udcff\n-out: pets, 10 train, 6 test" in lines[1]
        main(["show", out, "--out", str(tmp_path / "images.png")])
        with open(os.path.join(out, "test.rec"), "r+b") as file:
            file.write(b"x")
        with pytest.raises(SystemExit):
            main(["check", out])
        assert r"odd\udcff\n-out --overwrite" in capsys.readouterr().out.splitlines()[-1]
        os.mkdir(odd + b"/train/empty\n")
        with pytest.raises(DMRError, match="has no images") as refused:
            prepare_folder(os.fsdecode(odd), out, name="pets")
        assert str(refused.value).isprintable()

    @pytest.mark.parametrize("name", ["a/b", "../x", "..", "two\nlines", "\udcff"])
    def test_names_that_would_lead_elsewhere_are_refused(self, folder, tmp_path, name):
        with pytest.raises(DMRError, match="is not a file name; .* --name"):
            prepare_folder(folder[0], tmp_path / "out", name=name)
        assert not (tmp_path / "out").exists()

    def test_the_names_of_official_sets_are_kept_for_them(self, folder, tmp_path):
        with pytest.raises(DMRError, match="official"):
            prepare_folder(folder[0], tmp_path / "out", name="cifar10")


class TestQuickCheck:
    @pytest.fixture
    def prepared(self, folder, tmp_path):
        return prepare_folder(folder[0], tmp_path / "out", name="pets")

    def test_a_missing_folder(self, tmp_path):
        with pytest.raises(DMRError, match="has no manifest.json.*dmr prepare"):
            open_prepared(tmp_path / "nowhere")

    def test_a_folder_without_a_manifest(self, tmp_path):
        with pytest.raises(DMRError, match=r"no manifest\.json"):
            open_prepared(tmp_path)

    def test_a_record_file_without_its_index(self, prepared):
        os.remove(prepared.split("train").index)
        with pytest.raises(DMRError, match=r"train\.idx is missing"):
            open_prepared(prepared.directory)

    def test_a_truncated_record_file(self, prepared):
        with open(prepared.split("test").records, "r+b") as file:
            file.truncate(1000)
        with pytest.raises(DMRError, match=r"test\.rec has 1000 bytes"):
            open_prepared(prepared.directory)

    def test_a_damaged_manifest(self, prepared):
        path = os.path.join(prepared.directory, "manifest.json")
        for text in ("{", "[]", '{"format": 1}', '{"format": 99}'):
            with open(path, "w") as file:
                file.write(text)
            with pytest.raises(DMRError, match=r"manifest\.json.* with --overwrite"):
                open_prepared(prepared.directory)


def collect(batches):
    data, labels = [], []
    for batch in batches:
        data.append(batch.data)
        labels.append(batch.label)
    return np.concatenate(data), np.concatenate(labels)


def plain(prepared, split):
    """Every image of a split as it must come out without augmentation: NCHW, normalised."""
    labels, images = zip(*[(label, decode(data)) for label, data in read_all(prepared, split)])
    images = np.stack(images).transpose(0, 3, 1, 2).astype(np.float64)
    mean, std = (np.reshape(v, (1, 3, 1, 1)) for v in (prepared.mean, prepared.std))
    return (images - mean) / std, np.array(labels)


class TestReading:
    @pytest.mark.parametrize("batch_size", [1, 7, 64, 360, 500])
    def test_evaluation_sees_each_image_once_in_order(self, digits, batch_size):
        prepared = open_prepared(digits)
        recipe = replace(DIGITS, batch_size=batch_size)
        data, labels = collect(evaluation_batches(prepared, recipe))
        expected, expected_labels = plain(prepared, "test")
        assert (labels == expected_labels).all()
        np.testing.assert_allclose(data, expected, atol=1e-5)

    def test_training_without_augmentation_sees_each_image_once_shuffled(self, folder, tmp_path):
        # Colour images, so that swapped channels would be seen.
        prepared = prepare_folder(folder[0], tmp_path / "out", name="pets")
        recipe = replace(DIGITS, pad=0, mirror=False, batch_size=4)
        expected, expected_labels = plain(prepared, "train")
        orders = []
        for epoch in (1, 2, 3):
            data, labels = collect(training_batches(prepared, recipe, seed=1, epoch=epoch))
            distance = np.abs(data[:, None] - expected[None]).max(axis=(2, 3, 4))
            order = distance.argmin(axis=1)
            assert sorted(order) == list(range(10))
            assert distance.min(axis=1).max() < 1e-5
            assert (labels == expected_labels[order]).all()
            orders.append(tuple(order))
        assert len(set(orders)) == 3

    def test_augmentation_is_a_padded_crop_and_half_the_time_a_mirror(self, folder, tmp_path):
        prepared = prepare_folder(folder[0], tmp_path / "out", name="pets")
        recipe = replace(DIGITS, pad=2, mirror=True, batch_size=4)
        originals, _ = plain(prepared, "train")
        padded = np.pad(originals, ((0, 0), (0, 0), (2, 2), (2, 2)))
        # Every crop of every image, mirrored or not.
        candidates = {}
        for image in range(10):
            for top in range(5):
                for left in range(5):
                    crop = padded[image, :, top : top + 32, left : left + 32]
                    for mirrored, view in ((0, crop), (1, crop[:, :, ::-1])):
                        key = np.round(view, 2).astype(np.float32) + 0.0
                        candidates[key.tobytes()] = (image, top, left, mirrored)
        found = []
        for epoch in range(1, 41):
            data, _ = collect(training_batches(prepared, recipe, seed=1, epoch=epoch))
            for image in data:
                key = (np.round(image.astype(np.float64), 2).astype(np.float32) + 0.0).tobytes()
                found.append(candidates[key])
        images, tops, lefts, mirrors = map(np.array, zip(*found))
        assert (np.bincount(images) == 40).all()
        assert set(tops) == set(lefts) == set(range(5))
        assert 0.4 < mirrors.mean() < 0.6

    def test_one_seed_gives_the_same_epoch_and_another_seed_another(self, digits):
        prepared = open_prepared(digits)
        first, again, other = (
            collect(training_batches(prepared, DIGITS, seed=seed, epoch=2))[0] for seed in (1, 1, 2)
        )
        assert (first == again).all() and not (first == other).all()

    def test_images_of_another_size_are_refused_with_what_to_do(self, digits):
        with pytest.raises(DMRError, match="give --image-size 32"):
            next(training_batches(open_prepared(digits), replace(DIGITS, image_size=28), 1, 1))

    def test_damaged_records_give_one_line(self, digits, tmp_path):
        prepared = open_prepared(digits)
        entry = prepared.split("test")
        broken = tmp_path / "broken.rec"
        content = bytearray(Path(entry.records).read_bytes())
        content[len(content) // 2 :] = os.urandom(len(content) - len(content) // 2)
        broken.write_bytes(content)
        damaged = replace(prepared, splits={"test": replace(entry, records=str(broken))})
        with pytest.raises(DMRError, match="damaged"):
            collect(evaluation_batches(damaged, DIGITS))

    @pytest.mark.parametrize("damage", [np.inf, np.nan, 1e30, -1, "offset"])
    def test_labels_and_offsets_beyond_all_bounds_give_one_line(self, digits, tmp_path, damage):
        prepared = open_prepared(digits)
        entry = prepared.split("test")
        files = {kind: Path(getattr(entry, kind)).read_bytes() for kind in ("records", "index")}
        if damage != "offset":
            whole = files["records"]
            files["records"] = whole[:12] + struct.pack("<f", damage) + whole[16:]
        else:
            lines = files["index"].split(b"\n")
            lines[1] = b"1\t99999999999999"
            files["index"] = b"\n".join(lines)
        for kind, content in files.items():
            (tmp_path / kind).write_bytes(content)
        changed = replace(entry, **{kind: str(tmp_path / kind) for kind in files})
        with pytest.raises(DMRError, match="is damaged(: record 0 cannot be read|; prepare)"):
            collect(evaluation_batches(replace(prepared, splits={"test": changed}), DIGITS))

    def test_the_exif_rotation_is_ignored_as_it_is_in_preparing(self):
        image = Image.new("RGB", (64, 32))
        exif = image.getexif()
        exif[0x0112] = 6
        for kind in ("JPEG", "PNG"):
            content = io.BytesIO()
            image.save(content, kind, exif=exif)
            assert reader._decode(content.getvalue()).shape == (32, 64, 3)


class TestScaledImages:
    """ImageNet's way: scale, crop, mirror, colour; evaluation on the centre."""

    RECIPE = replace(
        IMAGENET, image_size=32, train_short_side=(40, 60), eval_short_side=40, batch_size=4
    )

    @pytest.fixture
    def prepared(self, folder, tmp_path):
        source, _ = folder
        write_image(source / "train" / "dog" / "wide", 1, size=(50, 90))
        write_image(source / "test" / "dog" / "wide", 2, size=(90, 50))
        return prepare_folder(source, tmp_path / "out", name="pets")

    def test_each_image_once(self, prepared):
        data, labels = collect(training_batches(prepared, self.RECIPE, seed=1, epoch=1))
        assert data.shape == (11, 3, 32, 32) and sorted(labels) == [0] * 5 + [1] * 6
        data, labels = collect(evaluation_batches(prepared, self.RECIPE))
        assert data.shape == (7, 3, 32, 32) and np.isfinite(data).all()

    def test_evaluation_is_the_centre_crop_of_the_scaled_image(self, prepared):
        data, labels = collect(evaluation_batches(prepared, self.RECIPE))
        records = read_all(prepared, "test")
        assert [label for label, _ in records] == labels.tolist()
        for (_, encoded), found in zip(records, data):
            image = decode(encoded)
            scale = 40 / min(image.shape[:2])
            size = (round(image.shape[1] * scale), round(image.shape[0] * scale))
            shrink = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
            image = cv2.resize(image, size, interpolation=shrink).astype(np.float64)
            top, left = (image.shape[0] - 32) // 2, (image.shape[1] - 32) // 2
            crop = image[top : top + 32, left : left + 32].transpose(2, 0, 1)
            mean, std = (np.reshape(v, (3, 1, 1)) for v in (prepared.mean, prepared.std))
            np.testing.assert_allclose(found, (crop - mean) / std, atol=1e-5)
