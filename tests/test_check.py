"""Checking prepared sets: whole ones pass, every damage is found and named, none crashes."""

import json
import random
import re
import shutil
import struct
import zlib
from hashlib import sha256

import cv2
import numpy as np
import pytest

from dmr_gluon.data.check import check, check_quickly
from dmr_gluon.data.datasets import open_prepared
from dmr_gluon.errors import DMRError
from dmr_gluon.runtime import mx

MAGIC = struct.pack("<I", 0xCED7230A)
CLASSES = ["cat", "dog", "owl"]
COUNTS = {"train": 24, "test": 6}


def encoded(seed, extension, size=(8, 6)):
    pixels = np.random.RandomState(seed).randint(0, 256, (*size, 3)).astype(np.uint8)
    pixels[: seed % 5] = 0  # for several lengths
    return cv2.imencode(extension, pixels)[1].tobytes()


def png_with_magic(seed):
    """A PNG with the magic word in a chunk of its own, four times: twice at a multiple of 4."""
    png = encoded(seed, ".png")
    # The chunk's content begins at 24 (header) + 33 (up to the IHDR's end) + 8 = 65 = 4 * 16 + 1.
    content = b"zzz" + MAGIC + MAGIC + b"zz" + MAGIC + b"zz" + MAGIC[:3] + MAGIC
    chunk = b"prVt" + content
    chunk = struct.pack(">I", len(content)) + chunk + struct.pack(">I", zlib.crc32(chunk))
    return png[:33] + chunk + png[33:]


def write_set(folder, extensions=(".png",), special=()):
    """A prepared set of small images; ``special``: {record of train: its image}."""
    folder.mkdir()
    special, splits = dict(special), {}
    for split, count in COUNTS.items():
        names = {kind: folder / f"{split}.{kind}" for kind in ("idx", "rec")}
        writer = mx.recordio.MXIndexedRecordIO(str(names["idx"]), str(names["rec"]), "w")
        for key in range(count):
            image = encoded(key + 100 * len(splits), extensions[key % len(extensions)])
            image = special.get(key, image) if split == "train" else image
            header = mx.recordio.IRHeader(0, float(key % 3), key, 0)
            writer.write_idx(key, mx.recordio.pack(header, image))
        writer.close()
        splits[split] = {"count": count, "per_class": [count // 3] * 3}
        for kind, extension in (("records", "rec"), ("index", "idx")):
            splits[split][kind] = described(names[extension])
    manifest = {
        "format": 1, "dataset": "tiny", "classes": CLASSES, "image_size": [8, 6],
        "mean": [120.0] * 3, "std": [60.0] * 3, "splits": splits,
        "command": "dmr prepare folder images --out tiny",
    }  # fmt: skip
    write_manifest(folder, manifest)
    return folder


def described(path):
    content = path.read_bytes()
    return {"file": path.name, "bytes": len(content), "sha256": sha256(content).hexdigest()}


def write_manifest(folder, manifest):
    (folder / "manifest.json").write_text(json.dumps(manifest))


@pytest.fixture(scope="module")
def originals(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sets")
    return {
        "png": write_set(folder / "png"),
        "both": write_set(folder / "both", (".png", ".jpg")),
        "parts": write_set(folder / "parts", special={5: png_with_magic(5), 23: png_with_magic(6)}),
    }


class Tiny:
    """A copy of a set, and how to damage it."""

    def __init__(self, original, folder):
        shutil.copytree(original, folder)
        self.folder = folder
        lines = self.path("idx").read_text().splitlines()
        self.offsets = [int(line.split("\t")[1]) for line in lines] + [len(self.read("rec"))]

    def path(self, kind, split="train"):
        return self.folder / f"{split}.{kind}"

    def read(self, kind):
        return bytearray(self.path(kind).read_bytes())

    def write(self, kind, content, adopt=False):
        """Write a file; ``adopt``: let the manifest say of it what is true."""
        self.path(kind).write_bytes(content)
        if adopt:
            with self.manifest() as manifest:
                entry = "records" if kind == "rec" else "index"
                manifest["splits"]["train"][entry] = described(self.path(kind))

    def flip(self, kind, position, mask=0xFF):
        content = self.read(kind)
        content[position] ^= mask
        self.write(kind, content)

    def record(self, key):
        return self.read("rec")[self.offsets[key] : self.offsets[key + 1]]

    def rebuild(self, records):
        """Write these records and an index of them, as if they had been prepared so."""
        self.write("rec", b"".join(records), adopt=True)
        ends = np.cumsum([0, *map(len, records)])
        self.write("idx", b"".join(b"%d\t%d\n" % pair for pair in enumerate(ends[:-1])), adopt=True)

    def manifest(self):
        return Edited(self.folder)

    def problems(self):
        """The problems of train, or what keeps the set from being opened."""
        try:
            report = check(self.folder)
        except DMRError as refusal:
            return (str(refusal),)
        (found,) = report.problems.values()
        return found

    def only(self):
        (problem,) = self.problems()
        return problem

    def refused(self, pattern):
        with pytest.raises(DMRError, match=pattern) as refusal:
            check_quickly(open_prepared(self.folder))
        assert "prepare the data set again" in str(refusal.value)
        assert "\n" not in str(refusal.value)


class Edited:
    """A manifest to change, written back at the end."""

    def __init__(self, folder):
        self.folder = folder

    def __enter__(self):
        self.content = json.loads((self.folder / "manifest.json").read_text())
        return self.content

    def __exit__(self, *_):
        write_manifest(self.folder, self.content)


@pytest.fixture
def tiny(originals, tmp_path):
    return Tiny(originals["png"], tmp_path / "tiny")


class TestWhole:
    def test_the_digits(self, digits):
        report = check(digits)
        assert report.ok
        assert report.text().splitlines() == [
            "train: 1437 records, 10 classes, all decoded, hashes equal",
            "test: 360 records, 10 classes, all decoded, hashes equal",
        ]
        check_quickly(open_prepared(digits))

    @pytest.mark.parametrize("name", ["both", "parts"])
    def test_other_forms(self, originals, name):
        assert check(originals[name]).ok
        check_quickly(open_prepared(originals[name]))

    def test_a_record_in_parts_is_put_together_as_mxnet_does(self, originals):
        folder = originals["parts"]
        reader = mx.recordio.MXIndexedRecordIO(
            str(folder / "train.idx"), str(folder / "train.rec"), "r"
        )
        assert mx.recordio.unpack(reader.read_idx(5))[1] == png_with_magic(5)
        reader.close()
        content = (folder / "train.rec").read_bytes()
        # 24 of their own, 3 parts more for each of two, and what is not at a multiple of 4
        aligned = [i for i in range(0, len(content), 4) if content[i : i + 4] == MAGIC]
        kinds = [content[i + 7] >> 5 for i in aligned]
        assert kinds.count(0) == 22 and kinds.count(1) == 2 and kinds.count(3) == 2
        assert kinds.count(2) >= 2

    def test_images_of_several_sizes(self, tiny):
        with tiny.manifest() as manifest:
            manifest["image_size"] = None
        assert check(tiny.folder).ok

    def test_needs_no_mxnet(self, digits, command):
        done = command(
            "-c",
            "import sys; from dmr_gluon.data.check import check; "
            f"print(check({digits!r}).ok, 'mxnet' in sys.modules)",
        )
        assert done.stdout.split() == ["True", "False"], done.stderr
        assert done.stderr == ""


class TestRecords:
    def test_a_byte_of_an_image(self, tiny):
        tiny.flip("rec", tiny.offsets[7] + 80)
        where = f"record 7 at byte {tiny.offsets[7]}: "
        assert tiny.only() == where + "its image cannot be decoded"

    def test_a_byte_of_a_jpeg_shows_in_the_hash(self, originals, tmp_path):
        tiny = Tiny(originals["both"], tmp_path / "tiny")
        assert tiny.record(7)[32:34] == b"\xff\xd8"
        # The second number of its 16 quantisers: another picture, but a picture.
        tiny.flip("rec", tiny.offsets[7] + 32 + tiny.record(7)[32:].index(b"\xff\xdb") + 10, 1)
        assert "train.rec differs from what was prepared" in tiny.only()

    def test_what_is_no_image(self, tiny):
        header = bytes(tiny.record(3)[8:32])
        huge = bytearray(encoded(1, ".jpg"))
        size = huge.index(b"\xff\xc0") + 5
        huge[size : size + 4] = b"\xff\xf0\xff\xf0"  # beyond OpenCV's limit
        for number, (image, what) in enumerate(
            (
                (b"", "cannot be decoded"),
                (b"GIF89a__", "cannot be decoded"),
                (b"\xff\xd8\xff\xd9", "cannot be decoded"),
                (b"\x89PNG\r\n\x1a\n", "cannot be decoded"),
                (bytes(huge), "cannot be decoded"),
                (encoded(1, ".jpg", (9, 6)), "6x9 instead of 6x8"),
            )
        ):
            length = struct.pack("<I", len(header + image))
            record = MAGIC + length + header + image + bytes(-len(image) % 4)
            records = [tiny.record(key) for key in range(24)]
            damaged = Tiny(tiny.folder, tiny.folder.parent / str(number))
            damaged.rebuild(records[:3] + [record] + records[4:])
            assert damaged.only().startswith("record 3 at byte ") and what in damaged.only()

    @pytest.mark.parametrize("key", [0, 11, 23])
    @pytest.mark.parametrize("mask", [1, 16, 128])
    @pytest.mark.parametrize("byte", range(8))
    def test_magic_and_length(self, originals, tmp_path, byte, mask, key):
        tiny = Tiny(originals["png"], tmp_path / "tiny")
        tiny.flip("rec", tiny.offsets[key] + byte, mask)
        report = check(tiny.folder)
        assert f"record {key} at byte {tiny.offsets[key]}: " in report.text()
        length = struct.unpack_from("<I", tiny.record(key), 4)[0]
        if byte >= 4 and length + 8 + -length % 4 == len(tiny.record(key)):
            return  # as long as before, once it is padded: only the image shows it
        tiny.refused(rf"train\.rec, record {key} at byte {tiny.offsets[key]}: ")

    def test_labels(self, tiny):
        at = tiny.offsets[9] + 12
        whole = "a whole number from 0 on"
        for label, shown, what in (
            (3.0, "3", "one of 0 to 2"),
            (-1.0, "-1", whole),
            (0.5, "0.5", whole),
            (float("nan"), "nan", whole),
        ):
            content = tiny.read("rec")
            content[at : at + 4] = struct.pack("<f", label)
            tiny.write("rec", content)
            assert tiny.only().endswith(f": its label {shown} is not {what}")
            tiny.refused(rf"record 9 at byte \d+: its label {shown} ")

    def test_another_label_shows_in_the_counts(self, tiny):
        content = tiny.read("rec")
        content[tiny.offsets[9] + 12 : tiny.offsets[9] + 16] = struct.pack("<f", 1.0)
        tiny.write("rec", content)
        assert tiny.only().endswith("the classes have other counts than in the manifest")
        tiny.refused("the classes have other counts than in the manifest")

    def test_the_rest_of_a_header(self, tiny):
        for byte in (8, 16, 24):  # flag, number, second number
            content = tiny.read("rec")
            tiny.flip("rec", tiny.offsets[9] + byte, 1)
            words = "a list of labels" if byte == 8 else "its header is damaged"
            assert "record 9 at byte" in tiny.only() and words in tiny.only()
            tiny.refused(f"record 9 at byte .*{words}")
            tiny.write("rec", content)

    def test_swapped_doubled_and_removed_records(self, tiny):
        records = [tiny.record(key) for key in range(24)]
        tiny.rebuild([*records[:4], records[10], *records[5:10], records[4], *records[11:]])
        tiny.refused("record 4 at byte .*that of record 10")
        tiny.rebuild(records[:8] + records[7:])
        tiny.refused("has 25 records, the manifest says 24")
        tiny.rebuild(records[:8] + records[9:])
        tiny.refused("has 23 records, the manifest says 24")

    @pytest.mark.parametrize("left", [0, 1, 8, 31, 40, -1, -2])
    def test_truncation(self, tiny, left):
        end = tiny.offsets[13 if left >= 0 else 14] + left
        tiny.write("rec", tiny.read("rec")[:end])
        assert f"train.rec has {end} bytes, the manifest says {tiny.offsets[-1]}" in tiny.only()
        with pytest.raises(DMRError, match="prepare the data set again"):
            open_prepared(tiny.folder)
        # Also if the manifest agreed, as after a crash of the file system.
        tiny.write("rec", tiny.read("rec")[:end], adopt=True)
        tiny.refused("record 1[23] at byte")

    def test_surplus_bytes(self, tiny):
        tiny.write("rec", tiny.read("rec") + b"1234", adopt=True)
        assert "record 23 at byte" in tiny.only()
        tiny.refused("record 23 at byte .* the next one begins at")

    def test_padding_shows_in_the_hash(self, tiny):
        key = next(k for k in range(24) if struct.unpack_from("<I", tiny.record(k), 4)[0] % 4)
        tiny.flip("rec", tiny.offsets[key + 1] - 1)
        assert "train.rec differs from what was prepared" in tiny.only()

    @pytest.mark.parametrize("part", [1, 2, 3])
    def test_records_in_parts(self, originals, tmp_path, part):
        tiny = Tiny(originals["parts"], tmp_path / "tiny")
        begins = [m.start() for m in re.finditer(re.escape(MAGIC), tiny.record(5))]
        begins = [b for b in begins if b % 4 == 0]
        for byte in (0, 4, 7):
            content = tiny.read("rec")
            tiny.flip("rec", tiny.offsets[5] + begins[min(part, len(begins) - 1)] + byte, 0x40)
            assert "record 5 at byte" in tiny.only()
            tiny.refused("record 5 at byte")
            tiny.write("rec", content)


class TestIndex:
    def test_a_wrong_offset(self, tiny):
        lines = tiny.read("idx").splitlines(True)
        lines[5] = b"5\t%d\n" % (tiny.offsets[5] + 4)
        tiny.write("idx", b"".join(lines), adopt=True)
        tiny.refused("record 4 at byte .* the next one begins at")

    def test_lines_that_are_not_right(self, tiny):
        lines = tiny.read("idx").splitlines(True)
        wrong = [b"5 x\n", b"\n", b"5\t-9\n", lines[3], b"5\t7\t1\n"]
        wrong += [b"7" * 18 + b"\t1\n", b"5\t" + b"9" * 18 + b"\n", b"5\t" + b"9" * 30 + b"\n"]
        for line in wrong:
            tiny.write("idx", b"".join([*lines[:5], line, *lines[6:]]), adopt=True)
            assert "train.idx is damaged" in tiny.only()
            tiny.refused("train.idx is damaged")

    def test_an_index_of_other_records(self, tiny):
        lines = tiny.read("idx").splitlines(True)
        tiny.write("idx", b"".join([*lines[:5], *lines[6:]]), adopt=True)
        tiny.refused("has 23 records, the manifest says 24")
        tiny.write("idx", b"".join([*lines[:5], b"4" + lines[5][1:], *lines[6:]]), adopt=True)
        tiny.refused("record 5 at byte .*its header is damaged, or that of record 5")
        tiny.write("idx", b"".join(lines[:20]), adopt=True)
        tiny.refused("has 20 records, the manifest says 24")
        tiny.write("idx", b"".join([*lines, b"24\t99999\n"]), adopt=True)
        tiny.refused("has 25 records")


class TestFilesAndManifest:
    def test_empty_and_missing_files(self, tiny):
        for kind in ("idx", "rec"):
            content = tiny.read(kind)
            tiny.write(kind, b"")
            assert f"train.{kind} has 0 bytes" in tiny.only()
            with pytest.raises(DMRError, match="has 0 bytes"):
                open_prepared(tiny.folder)
            tiny.write(kind, b"", adopt=True)
            tiny.refused("0 records|record 0 at byte 0")
            tiny.path(kind).unlink()
            assert f"train.{kind} is missing" in tiny.only()
            tiny.path(kind).mkdir()
            assert f"train.{kind} is missing" in tiny.only()
            tiny.path(kind).rmdir()
            tiny.write(kind, content, adopt=True)
        assert check(tiny.folder).ok

    @pytest.mark.parametrize(
        "path, value, what",
        [
            (["count"], 25, "has 24 records, the manifest says 25"),
            (["per_class"], [7, 8, 9], "the classes have other counts"),
            (["records", "sha256"], "0" * 64, "train.rec differs from what was prepared"),
            (["index", "sha256"], "0" * 64, "train.idx differs from what was prepared"),
            (["index", "sha256"], 5, "train.idx differs from what was prepared"),
        ],
    )
    def test_entries_that_say_something_else(self, tiny, path, value, what):
        with tiny.manifest() as manifest:
            entry = manifest["splits"]["train"]
            for key in path[:-1]:
                entry = entry[key]
            entry[path[-1]] = value
        report = check(tiny.folder)
        assert what in report.text() and not report.ok
        assert "test: 6 records, 3 classes, all decoded, hashes equal" in report.text()

    @pytest.mark.parametrize(
        "path, value",
        [
            (["splits", "train", "count"], "many"),
            (["splits", "train", "per_class"], [12, 12]),
            (["splits", "train", "per_class"], None),
            (["splits", "train", "records", "bytes"], "7"),
            (["splits", "train", "records", "file"], 5),
            (["splits", "train", "records", "file"], "a\0b"),
            (["splits", "train", "records"], []),
            (["splits", "train"], 5),
            (["splits"], [5]),
            (["classes"], []),
            (["classes"], 5),
            (["image_size"], [8]),
            (["image_size"], 32),
            (["mean"], [10**400, 1, 1]),
            (["mean"], ["a", "b", "c"]),
            (["std"], None),
            (["dataset"], ["tiny"]),
            (["format"], 2),
        ],
    )
    def test_a_manifest_that_is_none_is_refused(self, tiny, path, value):
        with tiny.manifest() as manifest:
            entry = manifest
            for key in path[:-1]:
                entry = entry[key]
            entry[path[-1]] = value
        tiny.refused(r"manifest.json is |\.rec|a\0b")
        with pytest.raises(DMRError, match="prepare the data set again"):
            check(tiny.folder)

    def test_images_of_another_size_than_the_manifest_says(self, tiny):
        with tiny.manifest() as manifest:
            manifest["image_size"] = [7, 6]
        assert "6x8 instead of 6x7" in check(tiny.folder).text()

    def test_manifests_that_are_none(self, tiny):
        for content in (b"", b"\xff\xfe", b"[]", b"[" * 100_000, b"{" * 10):
            (tiny.folder / "manifest.json").write_bytes(content)
            with pytest.raises(DMRError, match="manifest.json (cannot be read|is not a manifest)"):
                check(tiny.folder)

    def test_what_is_no_set_is_refused(self, tiny, tmp_path):
        for folder in (tmp_path, tmp_path / "nothing"):
            with pytest.raises(DMRError, match="no prepared data set"):
                check(folder)
        with pytest.raises(DMRError, match="cannot be read"):
            check(tiny.path("rec"))


class TestText:
    def test_each_problem_is_a_line_and_the_last_says_what_to_do(self, tiny):
        tiny.flip("rec", tiny.offsets[7] + 80)
        assert check(tiny.folder).text().splitlines() == [
            f"train: record 7 at byte {tiny.offsets[7]}: its image cannot be decoded",
            "test: 6 records, 3 classes, all decoded, hashes equal",
            "to repair, prepare the set again: dmr prepare folder images --out tiny --overwrite",
        ]

    def test_without_a_command(self, tiny):
        tiny.flip("rec", 80)
        for command in (None, 5, "dmr -q tests"):
            with tiny.manifest() as manifest:
                manifest["command"] = command
            last = check(tiny.folder).text().splitlines()[-1]
            assert last.endswith(f": dmr prepare ... --out {tiny.folder} --overwrite")

    def test_many_damaged_images_are_counted(self, tiny):
        content = tiny.read("rec")
        for key in range(24):
            content[tiny.offsets[key] + 80] ^= 1
        tiny.write("rec", content)
        assert len(tiny.problems()) == 21 and tiny.problems()[-1] == "4 more damaged images"


def damage(content, dice):
    """Bytes flipped, cut, removed, doubled or put in."""
    content, size = bytearray(content), len(content)
    begin = dice.randrange(size)
    length = min(dice.choice([1, 2, 3, 4, 8, 30, 100, 181, 1000]), size - begin)
    kind = dice.choice(["flip", "flip", "bits", "cut", "remove", "double", "noise", "copy"])
    if kind == "flip":
        for _ in range(dice.choice([1, 1, 2, 5])):
            content[dice.randrange(size)] ^= dice.randrange(1, 256)
    elif kind == "bits":
        content[begin] ^= 1 << dice.randrange(8)
    elif kind == "cut":
        del content[begin:]
    elif kind == "remove":
        del content[begin : begin + length]
    elif kind == "double":
        content[begin:begin] = content[begin : begin + length]
    elif kind == "noise":
        content[begin:begin] = dice.getrandbits(8 * length).to_bytes(length, "little")
    else:
        other = dice.randrange(size - length + 1)
        content[begin : begin + length] = content[other : other + length]
    return bytes(content)


def fuzz(originals, folder, times, seed):
    """Damage sets at random: every damage is found."""
    tinies = [Tiny(path, folder / name) for name, path in originals.items()]
    dice = random.Random(seed)
    for turn in range(times):
        tiny = tinies[turn % len(tinies)]
        kind = dice.choice(["rec", "rec", "idx"])
        content = tiny.read(kind)
        damaged = damage(content, dice)
        tiny.write(kind, damaged)
        try:
            report = check(tiny.folder)
            found, said = not report.ok, report.text()
        except DMRError as refusal:
            found, said = True, str(refusal)
        assert found == (damaged != content), (seed, turn, said)
        assert "\0" not in said
        if damaged != content:
            try:
                tiny.write(kind, damaged, adopt=True)
                check_quickly(open_prepared(tiny.folder))
            except DMRError as refusal:
                assert "prepare the data set again" in str(refusal)
        tiny.write(kind, content, adopt=True)


def test_no_damage_is_overlooked(originals, tmp_path):
    fuzz(originals, tmp_path, 300, seed=1)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_no_damage_of_10000_is_overlooked(originals, tmp_path, seed):
    fuzz(originals, tmp_path, 2500, seed=10 + seed)
