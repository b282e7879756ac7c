"""Writing records: MXNet's bytes, and going on where a preparation was stopped."""

import contextlib
import fcntl
import json
import os
import resource
import struct
import threading
from pathlib import Path

import numpy as np
import pytest

from dmr_gluon.data import recordio as form
from dmr_gluon.data.check import check
from dmr_gluon.data.datasets import read_manifest
from dmr_gluon.datasets import encoder as encoding
from dmr_gluon.datasets import records
from dmr_gluon.datasets import writer as writing
from dmr_gluon.datasets.encoder import Encoding, Source, Statistics
from dmr_gluon.datasets.folder import prepare_folder
from dmr_gluon.datasets.writer import write_set
from dmr_gluon.errors import DMRError
from dmr_gluon.runtime import mx

FILES = {"manifest.json", "train.rec", "train.idx", "test.rec", "test.idx"}
MAGIC = struct.pack("<I", 0xCED7230A)
CONTENTS = [
    *(b"x" * length for length in range(6)),
    MAGIC,
    MAGIC * 3,
    MAGIC[:3],
    b"ab" + MAGIC,  # not at a multiple of 4
    b"abcd" + MAGIC + b"efg",
    b"abcd" + MAGIC + MAGIC + b"e" * 8 + MAGIC,
    b"a" + MAGIC + b"bcd" + MAGIC + b"e",  # one that is not, one that is
    MAGIC[:2] + MAGIC * 2,
    b"\x0a" + MAGIC[1:] + MAGIC[:1] * 5 + MAGIC,
]


def random_contents():
    """Of bytes that are the magic word's, so that it comes up whole, in halves and shifted."""
    random = np.random.RandomState(0)
    pieces = [MAGIC, MAGIC[:1], MAGIC[1:], MAGIC[:2], b"\0", b"wxyz"]
    return [b"".join(pieces[i] for i in random.randint(0, 6, 30)) for _ in range(200)]


def test_records_and_index_are_mxnets_to_the_byte(tmp_path):
    contents = [*CONTENTS, *random_contents()]
    paths = [str(tmp_path / name) for name in ("a.idx", "a.rec")]
    writer = mx.recordio.MXIndexedRecordIO(*paths, "w")
    ours, index = b"", b""
    for number, content in enumerate(contents):
        header = mx.recordio.IRHeader(0, float(number % 1000), number, 0)
        writer.write_idx(number, mx.recordio.pack(header, content))
        index += form.index_line(number, len(ours))
        ours += form.record(number % 1000, number, content)
    writer.close()
    assert [Path(path).read_bytes() for path in paths] == [index, ours]
    # And what finds them again agrees.
    with open(paths[1], "rb") as file:
        position = 0
        for content in contents:
            position, parts = form.find_record(file, position, len(ours))
            assert form.image_of(form.read_content(file, parts)[0]) == content


@contextlib.contextmanager
def stopped_before_the_records(monkeypatch):
    """What is written within is stopped when the first records would get their name."""
    replace = os.replace

    def replacing(source, target):
        if str(source).endswith("rec.part"):
            raise Stopped
        replace(source, target)

    with monkeypatch.context() as patch, pytest.raises(Stopped):
        patch.setattr(os, "replace", replacing)
        yield


class Stopped(BaseException):
    """As Ctrl-C: what was written is kept."""


class Images:
    """Images that are made when they are read, which is counted, until one stops the work."""

    def __init__(self, count=150, classes=3):
        self.read, self.stop_at = [], None
        self.sources = {
            "train": [Source(f"{i}", i % classes, lambda i=i: self._make(i)) for i in range(count)],
            "test": [Source(f"t{i}", 0, lambda i=i: self._make(1000 + i)) for i in range(20)],
        }

    def _make(self, i):
        if self.stop_at is not None and len(self.read) >= self.stop_at:
            raise Stopped
        self.read.append(i)
        return np.random.RandomState(i).randint(0, 256, (8, 8 + i % 2, 3)).astype(np.uint8)

    def write(self, out, fingerprint="1", overwrite=False):
        classes = ["a", "b", "c"]
        return write_set(
            "mine", fingerprint, lambda: (classes, self.sources, {}), out, Encoding(), overwrite
        )

    def stopped(self, out, after):
        self.stop_at = after
        with pytest.raises(Stopped):
            self.write(out)
        read, self.read, self.stop_at = self.read, [], None
        return read


@pytest.fixture
def whole(tmp_path):
    Images().write(tmp_path / "whole")
    return manifest(tmp_path / "whole")


def manifest(out):
    found = read_manifest(out)
    del found["command"]
    return found


@pytest.fixture
def every_image(monkeypatch):
    """Note after every image how far the work is; a power cut is not what is tested here."""
    monkeypatch.setattr(records, "SECONDS_BETWEEN_STATES", 0)
    monkeypatch.setattr(os, "fsync", lambda _: None)


def count_done(out, split="train"):
    return json.loads((out / f"{split}.state.part").read_text().split("\n")[1])["count"]


@pytest.mark.parametrize("after", [1, 75, 149, 155])
def test_a_stopped_preparation_goes_on_and_ends_the_same(
    after, whole, every_image, tmp_path, capsys
):
    out, images = tmp_path / "out", Images()
    images.stopped(out, after)
    assert read_manifest(out) is None
    done = count_done(out)
    assert done == min(after, 150)
    images.write(out)
    assert manifest(out) == whole
    assert f"train: going on after {done} of 150 images" in capsys.readouterr().out
    # Nothing of what was done has been read or decoded again.
    of_train = [i for i in images.read if i < 1000]
    assert len(of_train) == len(set(of_train)) == 150 - done
    assert check(out).ok
    assert set(os.listdir(out)) == FILES


def test_stopped_again_and_again(whole, every_image, tmp_path):
    out, images, done = tmp_path / "out", Images(), [0]
    for _ in range(4):
        images.stopped(out, 30)
        done.append(count_done(out))
    assert done == [0, 30, 60, 90, 120]
    images.write(out)
    assert manifest(out) == whole


@pytest.mark.parametrize("after", [100, 155])
def test_bytes_after_the_last_state_are_cut_off(after, whole, every_image, tmp_path):
    """What was written after it may be there in part; the rest of a record is never kept."""
    out, images = tmp_path / "out", Images()
    images.stopped(out, after)
    for kind in ("rec", "idx"):
        with open(out / f"train.{kind}.part", "ab") as file:
            file.write(b"half a record")
    images.write(out)
    assert manifest(out) == whole and len(images.read) == 170 - after


def test_on_a_full_disk_the_work_up_to_then_is_kept(whole, every_image, tmp_path):
    out, images = tmp_path / "out", Images()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))
    try:
        with pytest.raises(DMRError, match="cannot write to .*same command again"):
            images.write(out)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert read_manifest(out) is None
    done, images.read = count_done(out), []
    assert 10 < done < 100
    images.write(out)
    assert len(images.read) == 170 - done and manifest(out) == whole
    assert set(os.listdir(out)) == FILES


def test_when_a_source_cannot_be_read_the_work_up_to_then_is_kept(whole, every_image, tmp_path):
    out, images = tmp_path / "out", Images()
    make = images._make

    def fail_once(i):
        if len(images.read) == 60:
            raise OSError(5, "Input/output error")
        return make(i)

    images._make = fail_once
    with pytest.raises(DMRError, match="cannot be read .Input/output error.; remove or replace it"):
        images.write(out)
    done, images.read, images._make = count_done(out), [], make
    assert 10 < done <= 60
    images.write(out)
    assert len(images.read) == 170 - done and manifest(out) == whole


@pytest.mark.parametrize("where", ["reading", "writing"])
def test_when_it_is_stopped_what_waits_is_not_worked_off(where, tmp_path, monkeypatch):
    """With 256 images waiting that could be minutes."""
    monkeypatch.setattr(encoding, "usable_cores", lambda: 1)
    out, images = tmp_path / "out", Images(300)
    make = images._make

    def slowly(i):
        if images.read:
            threading.Event().wait(0.05)
            if where == "reading":
                raise Stopped
        return make(i)

    def stop(*_):
        raise Stopped

    images._make, read = slowly, images.read
    if where == "writing":
        monkeypatch.setattr(records.RecordWriter, "write", stop)
    with pytest.raises(Stopped) as stopped:
        images.write(out)
    assert len(read) < 100
    assert not [thread for thread in threading.enumerate() if "ThreadPool" in thread.name]
    del stopped  # as in a program, its traceback was there until now


def test_a_set_that_came_while_another_was_read_is_left_whole(whole, tmp_path):
    out, quick, slow = tmp_path / "out", Images(), Images()

    def read():
        quick.write(out)
        return ["a", "b", "c"], slow.sources, {}

    with pytest.raises(DMRError, match="made from other images or in another way"):
        write_set("mine", "2", read, out, Encoding(), False)
    assert manifest(out) == whole and slow.read == []
    # The same set is taken as it is.
    assert write_set("mine", "1", read, out, Encoding(), False).split("train").count == 150
    assert slow.read == []


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    "change",
    [
        lambda out: flip(out / "train.rec.part"),
        lambda out: flip(out / "train.idx.part"),
        lambda out: flip(out / "train.state.part"),
        lambda out: (out / "train.state.part").write_text(""),
        lambda out: (out / "train.state.part").write_text("[]\n[]"),
        lambda out: (out / "train.state.part").write_bytes(b"\xff"),
        lambda out: (out / "train.rec.part").write_bytes(b""),
        lambda out: os.remove(out / "train.idx.part"),
    ],
)
def test_parts_that_do_not_fit_their_state_are_written_anew(change, whole, every_image, tmp_path):
    out, images = tmp_path / "out", Images()
    images.stopped(out, 100)
    change(out)
    images.write(out)
    assert len(images.read) == 170
    assert manifest(out) == whole


def test_parts_of_other_images_or_versions_are_written_anew(
    whole, every_image, tmp_path, monkeypatch, capsys
):
    out, images = tmp_path / "out", Images()
    images.stopped(out, 100)
    before = {path: path.read_bytes() for path in out.iterdir()}
    other = Images()
    with pytest.raises(DMRError, match="the beginning of a data set 'mine' .* --overwrite"):
        other.write(out, fingerprint="2")
    assert {path: path.read_bytes() for path in out.iterdir()} == before
    other.write(out, fingerprint="2", overwrite=True)
    assert len(other.read) == 170
    out = tmp_path / "out2"
    images.stopped(out, 100)
    monkeypatch.setattr(writing.cv2, "__version__", "0")
    capsys.readouterr()
    images.write(out)
    assert "note: train is begun anew" in capsys.readouterr().out
    assert len(images.read) == 170
    assert manifest(out)["splits"] == whole["splits"]


def test_with_another_wheel_of_mxnet_the_work_goes_on(whole, every_image, tmp_path, monkeypatch):
    """It writes nothing here; and a machine with a GPU may go on with what one without began."""
    out, images = tmp_path / "out", Images()
    images.stopped(out, 100)
    monkeypatch.setattr(writing, "installed_wheels", lambda: {"mxnet-cu112": "1.9.1"})
    images.write(out)
    assert len(images.read) == 70
    found = manifest(out)
    assert found["splits"] == whole["splits"] and "mxnet-cu112" in found["versions"]


@pytest.mark.parametrize("split", ["train", "test"])
def test_a_split_without_images_is_refused(tmp_path, split):
    images = Images()
    images.sources[split] = []
    with pytest.raises(DMRError, match=f"the source of mine has no images for {split}"):
        images.write(tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_killed_while_files_get_their_names_it_is_finished_by_the_next_run(
    whole, tmp_path, monkeypatch
):
    replace, calls = os.replace, []

    def stop_at(number):
        def replacing(source, target):
            if str(source).endswith(("c.part", "x.part", ".ready")):
                calls.append(source)
                if len(calls) == number:
                    raise Stopped
            replace(source, target)

        return replacing

    for number in range(1, 6):
        out = tmp_path / f"out{number}"
        calls.clear()
        monkeypatch.setattr(os, "replace", stop_at(number))
        with pytest.raises(Stopped):
            Images().write(out)
        assert read_manifest(out) is None
        monkeypatch.setattr(os, "replace", replace)
        images = Images()
        images.write(out)
        assert images.read == [] and manifest(out) == whole
        assert set(os.listdir(out)) == FILES


def test_stopped_while_another_set_is_replaced_there_is_none(whole, tmp_path, monkeypatch):
    out = tmp_path / "out"
    other = Images()
    other.sources["validation"] = Images(5).sources["train"]
    other.write(out, fingerprint="2")
    assert {"validation.rec", "validation.idx"} <= set(os.listdir(out))

    with stopped_before_the_records(monkeypatch):
        Images().write(out, overwrite=True)
    assert read_manifest(out) is None
    Images().write(out)
    # Nothing is left of the set that was replaced.
    assert manifest(out) == whole and set(os.listdir(out)) == FILES


def test_parts_that_are_given_up_do_not_stay(whole, every_image, tmp_path):
    out, other = tmp_path / "out", Images()
    other.sources = {"more": other.sources["train"], **other.sources}
    other.stopped(out, 100)
    Images().write(out, fingerprint="1", overwrite=True)
    assert manifest(out) == whole and set(os.listdir(out)) == FILES


@pytest.mark.parametrize("content", ["", "[]", '{"splits": 3}'])
def test_a_damaged_note_that_all_is_ready_is_made_again(content, whole, tmp_path, monkeypatch):
    out = tmp_path / "out"

    with stopped_before_the_records(monkeypatch):
        Images().write(out)
    (out / "manifest.json.ready").write_text(content)
    Images().write(out)
    assert manifest(out) == whole


def test_two_at_the_same_time_are_refused(tmp_path, every_image, monkeypatch):
    monkeypatch.setattr(writing, "_PATIENCE", 0)
    out, images = tmp_path / "out", Images()
    images.stopped(out, 100)
    before = {path: path.read_bytes() for path in out.iterdir()}
    handle = os.open(out, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    with pytest.raises(DMRError, match="another process is preparing"):
        images.write(out)
    os.close(handle)
    assert {path: path.read_bytes() for path in out.iterdir()} == before
    images.write(out)


def test_one_that_is_still_dying_is_waited_for(tmp_path, every_image):
    out, images = tmp_path / "out", Images()
    images.stopped(out, 100)
    handle = os.open(out, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    threading.Timer(0.2, os.close, [handle]).start()
    images.write(out)
    assert len(images.read) == 70


def test_statistics_come_back_to_the_bit():
    statistics = Statistics()
    random = np.random.RandomState(0)
    for values in random.rand(100, 2, 3) * 1e9:
        statistics.total += values[0] / 3
        statistics.squares += values[1] / 7
    back = Statistics.from_json(json.loads(json.dumps(statistics.to_json())))
    assert (back.total == statistics.total).all() and (back.squares == statistics.squares).all()


def test_an_image_too_large_for_a_record_is_named(tmp_path, monkeypatch):
    from test_data import write_image

    for split in ("train", "test"):
        write_image(tmp_path / "images" / split / "cat" / "big", 1)
    monkeypatch.setattr(form, "LARGEST_IMAGE", 1000)
    with pytest.raises(DMRError, match=r"cat/big.png' has 3,\d+ bytes, too many"):
        prepare_folder(tmp_path / "images", tmp_path / "out")


def test_preparing_needs_no_mxnet(command):
    code = (
        "import sys, dmr_gluon.datasets.prepare_official, dmr_gluon.datasets.folder; "
        "import dmr_gluon.data.check, dmr_gluon.datasets.download; print('mxnet' in sys.modules)"
    )
    assert command("-c", code).stdout == "False\n"


@pytest.mark.parametrize("digest", ["0" * 64, "f" * 64, ""])
def test_a_state_is_believed_only_with_its_digest(tmp_path, digest):
    path, text = tmp_path / "train.state", '{"count": 3}'
    path.write_text(f"{digest}\n{text}\n")
    assert records.read_state(path) is None
    path.write_text(f"{records._sha256(text)}\n{text}\n")
    assert records.read_state(path) == {"count": 3}
