"""Writing records: MXNet's bytes, and what a preparation that was stopped leaves."""

import fcntl
import os
import resource
import struct
import threading
from pathlib import Path

import numpy as np
import pytest

from dmr_gluon.cli import main as cli
from dmr_gluon.data import recordio as form
from dmr_gluon.data.check import check
from dmr_gluon.data.datasets import open_prepared, read_manifest
from dmr_gluon.datasets import encoder as encoding
from dmr_gluon.datasets import writer as writing
from dmr_gluon.datasets.encoder import Encoding, Source
from dmr_gluon.datasets.folder import prepare_folder
from dmr_gluon.datasets.registration import Registration
from dmr_gluon.datasets.registry import DATASETS
from dmr_gluon.datasets.writer import write_set
from dmr_gluon.errors import DMRError
from dmr_gluon.paper.experiments import select
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
            pieces = [form.read_at(file, *part) for part in parts]
            assert MAGIC.join(pieces)[24:] == content


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


@pytest.mark.parametrize("after, done", [(1, 0), (75, 0), (149, 0), (155, 150)])
def test_a_stopped_preparation_goes_on_with_the_unfinished_split(after, done, whole, tmp_path):
    out, images = tmp_path / "out", Images()
    images.stopped(out, after)
    assert read_manifest(out) is None
    images.write(out)
    assert manifest(out) == whole and len(images.read) == 170 - done
    assert check(out).ok
    assert set(os.listdir(out)) == FILES


def test_on_a_full_disk_nothing_unfinished_stays(whole, tmp_path):
    out, images = tmp_path / "out", Images()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))
    try:
        with pytest.raises(DMRError, match="cannot write to .*same command again"):
            images.write(out)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not out.exists()
    images.write(out)
    assert manifest(out) == whole and set(os.listdir(out)) == FILES


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
        monkeypatch.setattr(writing.HashedFile, "write", stop)
    with pytest.raises(Stopped) as stopped:
        images.write(out)
    assert len(read) < 100
    assert not [thread for thread in threading.enumerate() if "ThreadPool" in thread.name]
    del stopped  # as in a program, its traceback was there until now


@pytest.mark.parametrize("content", [b"", b"\xff", b"[]"])
def test_with_a_damaged_list_of_finished_splits_all_are_written_anew(content, whole, tmp_path):
    out, images = tmp_path / "out", Images()
    images.stopped(out, 155)
    (out / ".preparing" / "finished.json").write_bytes(content)
    images.write(out)
    assert len(images.read) == 170
    assert manifest(out) == whole


def test_splits_of_other_images_or_versions_are_written_anew(whole, tmp_path, monkeypatch):
    out, images = tmp_path / "out", Images()
    images.stopped(out, 155)
    other = Images()
    other.write(out, fingerprint="2")
    assert len(other.read) == 170
    out = tmp_path / "out2"
    images.stopped(out, 155)
    monkeypatch.setattr(writing.cv2, "__version__", "0")
    images.write(out)
    assert len(images.read) == 170
    assert manifest(out)["splits"] == whole["splits"]


def test_with_another_wheel_of_mxnet_the_work_goes_on(whole, tmp_path, monkeypatch):
    """It writes nothing here; and a machine with a GPU may go on with what one without began."""
    out, images = tmp_path / "out", Images()
    images.stopped(out, 155)
    monkeypatch.setattr(writing, "installed_wheels", lambda: {"mxnet-cu112": "1.9.1"})
    images.write(out)
    assert len(images.read) == 20
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
            if ".preparing" in str(source) and not str(source).endswith(".part"):
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

    def stop(source, target):
        if str(source).endswith("test.rec"):
            raise Stopped
        os.rename(source, target)

    with monkeypatch.context() as patch, pytest.raises(Stopped):
        patch.setattr(os, "replace", stop)
        Images().write(out, overwrite=True)
    assert read_manifest(out) is None
    Images().write(out)
    # Nothing is left of the set that was replaced.
    assert manifest(out) == whole and set(os.listdir(out)) == FILES


def test_finished_splits_that_are_given_up_do_not_stay(whole, tmp_path):
    out, other = tmp_path / "out", Images()
    other.sources = {"more": other.sources["test"], **other.sources}
    other.stopped(out, 100)
    Images().write(out, fingerprint="2", overwrite=True)
    assert manifest(out)["splits"] == whole["splits"] and set(os.listdir(out)) == FILES


def test_two_at_the_same_time_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(writing, "_PATIENCE", 0)
    out, images = tmp_path / "out", Images()
    images.stopped(out, 155)
    before = sorted(out.rglob("*"))
    handle = os.open(out, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    with pytest.raises(DMRError, match="another process is preparing"):
        images.write(out)
    os.close(handle)
    assert sorted(out.rglob("*")) == before
    images.write(out)


def test_one_that_is_still_dying_is_waited_for(tmp_path):
    out, images = tmp_path / "out", Images()
    images.stopped(out, 155)
    handle = os.open(out, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    threading.Timer(0.2, os.close, [handle]).start()
    images.write(out)
    assert len(images.read) == 20


def test_an_image_too_large_for_a_record_is_named(tmp_path, monkeypatch):
    from test_data import write_image

    for split in ("train", "test"):
        write_image(tmp_path / "images" / split / "cat" / "big", 1)
    monkeypatch.setattr(form, "LARGEST_IMAGE", 100)
    with pytest.raises(DMRError, match=r"cat/big.png' is too large to be"):
        prepare_folder(tmp_path / "images", tmp_path / "out", encoding=Encoding(format="jpeg"))


def test_preparing_needs_no_mxnet(command):
    code = (
        "import sys, dmr_gluon.datasets.registry; "
        "import dmr_gluon.data.check, dmr_gluon.datasets.download; print('mxnet' in sys.modules)"
    )
    assert command("-c", code).stdout == "False\n"


class TestRegistry:
    """A data set is one module and its registration."""

    @pytest.fixture
    def added(self, monkeypatch):
        def prepare(out, images, overwrite):
            made = Images(images)
            return write_set(
                "pets", "1", lambda: (["a", "b", "c"], made.sources, {}), out, Encoding(), overwrite
            )

        def add_flags(parser):
            parser.add_argument("--images", type=int, default=30)

        entry = Registration("pets", "three classes of noise", prepare, add_flags)
        monkeypatch.setitem(DATASETS, "pets", entry)

    def test_a_set_that_is_added_is_prepared_and_checked(self, added, tmp_path, capsys):
        out = str(tmp_path / "pets")
        cli._main(["prepare", "pets", "--out", out, "--images", "24"])
        assert "pets, 24 train, 20 test images" in capsys.readouterr().out
        cli._main(["check", out])
        cli._main(["prepare", "pets", "--out", out])
        assert "nothing to do" in capsys.readouterr().out
        with pytest.raises(SystemExit):
            cli._main(["prepare", "--help"])
        assert "three classes of noise" in capsys.readouterr().out
        with pytest.raises(DMRError, match="required: {.*, pets}"):
            cli._main(["prepare"])
        # Its name is now reserved.
        with pytest.raises(DMRError, match="'pets' is reserved"):
            prepare_folder(tmp_path, tmp_path / "out", name="pets")

    def test_published_facts_of_another_set_leave_the_papers_tables_alone(self, command):
        code = (
            "from dmr_gluon.paper import dataset_facts; "
            "dataset_facts.PUBLISHED['pets'] = dataset_facts.PUBLISHED['cifar10']; "
            "from dmr_gluon.paper.experiments import select; print(len(select()))"
        )
        assert command("-c", code).stdout == f"{len(select())}\n"


def test_the_digits_are_the_same_bytes_as_ever(digits):
    """Whatever changes in preparing: runs on sets of earlier versions stay comparable."""
    hashes = {name: split.sha256[:16] for name, split in open_prepared(digits).splits.items()}
    assert hashes == {"train": "25db6e384ae679ef", "test": "efe3405548bac2ed"}
