"""CIFAR and SVHN: archives in exactly the official formats, whole, damaged and hostile."""

import gzip
import hashlib
import io
import os
import pickle
import re
import struct
import tarfile
import tracemalloc

import numpy as np
import pytest
from scipy.sparse import csc_matrix
from test_data import decode, read_all

from dmr_gluon.data.datasets import open_prepared, read_manifest
from dmr_gluon.datasets import cifar as cifar_sets
from dmr_gluon.datasets.archives import read_mat, read_members
from dmr_gluon.datasets.cifar import CIFAR_CLASSES, prepare_cifar, read_cifar
from dmr_gluon.datasets.svhn import prepare_svhn, read_svhn
from dmr_gluon.errors import DMRError
from dmr_gluon.system import files as system_files

CIFAR10 = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]


def images(count, seed):
    return np.random.RandomState(seed).randint(0, 256, (count, 32, 32, 3)).astype(np.uint8)


def rows(pixels):
    """(n, 32, 32, 3) to the archive's (n, 3072): all red, all green, all blue."""
    return np.ascontiguousarray(pixels.transpose(0, 3, 1, 2).reshape(len(pixels), -1))


def python2_pickle(data, labels, labels_key):
    """A batch as Python 2 and its NumPy wrote it: protocol 2, str as byte strings."""
    array = b"\x80\x02}q\x01("

    def text(value):
        return b"U" + bytes([len(value)]) + value if len(value) < 256 else None

    out = array + text(b"data") + b"cnumpy.core.multiarray\n_reconstruct\nq\x02"
    out += b"cnumpy\nndarray\nq\x03K\x00\x85" + text(b"b") + b"\x87R("
    out += b"K\x01J" + struct.pack("<i", len(data)) + b"M" + struct.pack("<H", 3072) + b"\x86"
    out += b"cnumpy\ndtype\n" + text(b"u1") + b"K\x00K\x01\x87R(K\x03" + text(b"|")
    out += b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89"
    out += b"T" + struct.pack("<i", data.nbytes) + data.tobytes() + b"tb"
    out += text(labels_key) + b"](" + b"".join(b"K" + bytes([label]) for label in labels) + b"e"
    out += text(b"batch_label") + text(b"training batch 1 of 5")
    return out + b"u."


def tar_of(path, files, change=None):
    with tarfile.open(path, "w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
        if change:
            change(archive)
    return str(path)


def cifar(number, per_batch=4):
    """Files of an archive, and the (pixels, labels) of its two splits."""
    batches = [f"data_batch_{i}" for i in range(1, 6)] + ["test_batch"]
    batches = batches if number == 10 else ["train", "test"]
    folder = "cifar-10-batches-py" if number == 10 else "cifar-100-python"
    files, truth = {f"{folder}/readme.html": b"<html>"}, {"train": [], "test": []}
    for seed, batch in enumerate(batches):
        pixels = images(per_batch, seed)
        labels = np.random.RandomState(seed).randint(0, number, per_batch)
        truth["test" if batch.startswith("test") else "train"].append((pixels, labels))
        key = b"labels" if number == 10 else b"fine_labels"
        files[f"{folder}/{batch}"] = python2_pickle(rows(pixels), labels, key)
    return files, {k: tuple(map(np.concatenate, zip(*v))) for k, v in truth.items()}


def assert_same(prepared, truth):
    """The same pixels with the same labels, each once, in whatever order."""
    for split, (pixels, labels) in truth.items():
        expected = sorted((int(y), x.tobytes()) for x, y in zip(pixels, labels))
        found = sorted((y, decode(data).tobytes()) for y, data in read_all(prepared, split))
        assert found == expected, split


@pytest.mark.parametrize("number", [10, 100])
def test_cifar_round_trips_from_its_archive_and_its_folder(number, tmp_path):
    files, truth = cifar(number)
    path = tar_of(tmp_path / f"cifar-{number}-python.tar.gz", files)
    name = f"cifar{number}"
    prepared = prepare_cifar(name, path, tmp_path / "out", partial=True)
    assert_same(prepared, truth)
    assert prepared.classes == CIFAR_CLASSES[name]
    manifest = read_manifest(tmp_path / "out")
    assert prepared.name == f"partial-{name}" and manifest["partial"]
    # It is not normalised as the official set, whose numbers are published.
    assert manifest["published"] is None and list(prepared.mean) == manifest["mean"]
    found = read_cifar(name, str(tmp_path))
    for split, (pixels, labels) in truth.items():
        assert (found[split][0] == pixels).all() and (found[split][1] == labels).all()


def test_a_source_that_may_not_be_read_is_one_line(tmp_path, monkeypatch):
    source = tar_of(tmp_path / "cifar-10-python.tar.gz", cifar(10)[0])

    def refuse(path, *_):
        raise PermissionError(13, "Permission denied", str(path))  # root may read everything

    monkeypatch.setattr(system_files, "open", refuse, raising=False)
    with pytest.raises(DMRError, match="cannot be read.*Permission denied") as refused:
        prepare_cifar("cifar10", source, tmp_path / "out", partial=True)
    assert "\n" not in str(refused.value) and source in str(refused.value)


def test_a_second_time_the_archive_is_not_unpacked(tmp_path, capsys, monkeypatch):
    path = tar_of(tmp_path / "cifar-100-python.tar.gz", cifar(100)[0])
    first = prepare_cifar("cifar100", path, tmp_path / "out", partial=True)
    monkeypatch.setattr(cifar_sets, "read_cifar", None)
    assert prepare_cifar("cifar100", path, tmp_path / "out", partial=True) == first
    assert "nothing to do" in capsys.readouterr().out
    # A partial set is not taken for the whole one.
    with pytest.raises(DMRError, match="made from other images or in another way"):
        prepare_cifar("cifar100", path, tmp_path / "out")


def unpickle(content):
    return cifar_sets._DataUnpickler(io.BytesIO(content), encoding="bytes").load()


def test_the_pickles_here_are_as_python_2_wrote_them():
    """What the real unpickler makes of them is what ours does."""
    pixels = images(3, 0)
    content = python2_pickle(rows(pixels), [1, 2, 3], b"labels")
    theirs, ours = pickle.loads(content, encoding="bytes"), unpickle(content)
    assert set(theirs) == set(ours) == {b"data", b"labels", b"batch_label"}
    assert (theirs[b"data"] == rows(pixels)).all() and (ours[b"data"] == rows(pixels)).all()
    assert ours[b"labels"] == theirs[b"labels"] == [1, 2, 3]
    # As today's Python and NumPy write the same.
    again = unpickle(pickle.dumps({b"data": rows(pixels), b"labels": [1]}, protocol=2))
    assert (again[b"data"] == rows(pixels)).all() and again[b"labels"] == [1]


def test_an_archive_that_is_not_whole_is_refused(tmp_path):
    files, _ = cifar(10)
    path = tar_of(tmp_path / "cifar-10-python.tar.gz", files)
    with pytest.raises(DMRError, match="has 20 images for train, cifar10 has 50,000"):
        prepare_cifar("cifar10", path, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    del files["cifar-10-batches-py/data_batch_3"]
    path = tar_of(tmp_path / "cifar-10-python.tar.gz", files)
    with pytest.raises(DMRError, match="is damaged or not the official file .*data_batch_3"):
        prepare_cifar("cifar10", path, tmp_path / "out", partial=True)
    content = (tmp_path / "cifar-10-python.tar.gz").read_bytes()
    (tmp_path / "cifar-10-python.tar.gz").write_bytes(content[: len(content) // 2])
    with pytest.raises(DMRError, match="is damaged or not the official file"):
        prepare_cifar("cifar10", path, tmp_path / "out", partial=True)
    (tmp_path / "cifar-10-python.tar.gz").write_bytes(b"no archive")
    with pytest.raises(DMRError, match="is damaged or not the official file") as refused:
        prepare_cifar("cifar10", path, tmp_path / "out", partial=True)
    assert str(refused.value).isprintable()
    with pytest.raises(DMRError, match="is neither cifar-10-python"):
        read_cifar("cifar10", str(tmp_path / ".."))


class Code:
    """Would make a file where it is unpickled."""

    def __reduce__(self):
        return (os.system, ("touch hacked",))


def batch(**changes):
    content = {b"labels": [1], **{key.encode(): value for key, value in changes.items()}}
    return pickle.dumps(content, protocol=2)


@pytest.mark.parametrize(
    "content, words",
    [
        (pickle.dumps(Code()), "posix.system"),
        (b"cbuiltins\neval\n(S'1'\ntR.", "builtins.eval"),
        (b"cnumpy\nload\n.", "numpy.load"),
        (b"c\x1b[1m\nload\n.", r"x1b\[1m.load"),
        (b"", "Ran out of input"),
        (b"garbage", ""),
        (pickle.dumps([1, 2], protocol=2), ""),
        (batch(), ""),
        (batch(data=np.zeros((1, 3072))), "float64 images"),
        (batch(data=rows(images(2, 0))), "5 labels"),
        (batch(data=rows(images(1, 0)), labels=[1 << 70]), ""),
        (batch(data=rows(images(1, 0)), labels=[10]), "labels that are not from 0 to 9"),
        (python2_pickle(np.zeros((1, 3072), np.uint8), [1], b"other"), "labels"),
    ],
)
def test_pickles_that_are_no_data_are_refused_and_run_nothing(
    content, words, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    files = dict.fromkeys(cifar(10)[0], content)
    path = tar_of(tmp_path / "cifar-10-python.tar.gz", files)
    with pytest.raises(DMRError, match=f"train is damaged.*{words}") as refused:
        read_cifar("cifar10", path)
    assert str(refused.value).isprintable()
    assert os.listdir(tmp_path) == ["cifar-10-python.tar.gz"]


def test_pickles_are_read_whatever_protocol_they_are_of():
    plain = {"a": [1, -2, 1 << 70, 0.5, None, True, b"\xff\0"], 7: {"b": ("x", "y")}, b"c": []}
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        assert unpickle(pickle.dumps(plain, protocol=protocol)) == plain


def header(size):
    """A tar entry's header alone, whatever it says; negative sizes as GNU's tar has them."""
    info = tarfile.TarInfo("cifar-10-batches-py/x")
    info.size = max(size, 0)
    content = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    if size < 0:
        content[124:136] = (256**12 + size).to_bytes(12, "big")
        content[148:156] = b" " * 8
        content[148:156] = b"%06o\0 " % sum(content)
    return bytes(content)


@pytest.mark.parametrize("name", ["../outside", "/etc/passwd", "cifar-10-batches-py/link"])
def test_nothing_of_an_archive_reaches_the_disk(name, tmp_path):
    """Other files, links and paths that lead out of the archive are ignored."""

    def add(archive):
        info = tarfile.TarInfo(name)
        if name.endswith("link"):
            info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(info)

    files, truth = cifar(10)
    path = tar_of(tmp_path / "cifar-10-python.tar.gz", files, add)
    found = read_cifar("cifar10", path)
    assert (found["test"][0] == truth["test"][0]).all()
    assert os.listdir(tmp_path) == ["cifar-10-python.tar.gz"]


def test_a_link_is_not_read(tmp_path):
    files, _ = cifar(10)
    content = files.pop("cifar-10-batches-py/test_batch")
    (tmp_path / "secret").write_bytes(content)

    def add(archive):
        info = tarfile.TarInfo("cifar-10-batches-py/test_batch")
        info.type, info.linkname = tarfile.SYMTYPE, str(tmp_path / "secret")
        archive.addfile(info)

    path = tar_of(tmp_path / "cifar-10-python.tar.gz", files, add)
    with pytest.raises(DMRError, match="is damaged or not the official file .*test_batch"):
        read_cifar("cifar10", path)


@pytest.mark.parametrize("size", [-512, 2 << 30])
def test_sizes_beyond_all_bounds_are_refused(size, tmp_path):
    path = tmp_path / "cifar-10-python.tar.gz"
    path.write_bytes(gzip.compress(header(size) + bytes(10_240)))
    with pytest.raises(DMRError, match=r"unpacks to over 1,073,741,824 bytes|negative size"):
        read_members(str(path), ["other"])


def write_svhn(folder, counts):
    """The three files, with (part: images of each digit); returns pixels and digits."""
    from scipy.io import savemat

    truth = {}
    for seed, (part, each) in enumerate(counts.items()):
        digits = np.random.RandomState(seed).permutation(np.repeat(np.arange(10), each))
        pixels = images(len(digits), 100 + seed)
        stored = np.where(digits == 0, 10, digits).astype(np.uint8)[:, None]
        content = {"X": pixels.transpose(1, 2, 3, 0), "y": stored}
        savemat(folder / f"{part}_32x32.mat", content, do_compression=True)
        truth[part] = (pixels, digits)
    return truth


def test_svhn_round_trips_with_the_authors_split(tmp_path):
    truth = write_svhn(tmp_path, {"train": 3, "extra": 2, "test": 1})
    prepared = prepare_svhn(str(tmp_path), tmp_path / "out", svhn_split="authors", partial=True)
    joined = tuple(np.concatenate(pair) for pair in zip(truth["train"], truth["extra"]))
    assert_same(prepared, {"train": joined, "test": truth["test"]})
    assert prepared.classes == tuple("0123456789")
    assert read_manifest(tmp_path / "out")["svhn_split"] == "authors"
    assert "validation" not in open_prepared(tmp_path / "out").splits


def test_svhns_validation_set_is_the_papers(tmp_path):
    truth = write_svhn(tmp_path, {"train": 402, "extra": 203, "test": 1})
    splits = read_svhn(str(tmp_path))
    sizes = {
        split: np.bincount([label for _, label in pairs]).tolist()
        for split, pairs in splits.items()
    }
    assert sizes == {"train": [2 + 3] * 10, "validation": [400 + 200] * 10, "test": [1] * 10}
    # Each image is in one of the two, with its own label.
    parts = (splits["train"], splits["validation"])
    both = sorted((int(label), image.tobytes()) for part in parts for image, label in part)
    originals = [zip(*truth[part]) for part in ("train", "extra")]
    assert both == sorted((int(label), x.tobytes()) for part in originals for x, label in part)
    # Always the same ones.
    chosen = b"".join(image[0].tobytes() for image, _ in splits["validation"])
    assert hashlib.sha256(chosen).hexdigest()[:16] == "525bc6f0e36256e0"
    with pytest.raises(DMRError, match="598,388"):
        prepare_svhn(str(tmp_path), tmp_path / "out")


@pytest.mark.slow  # an evaluation like any other
def test_svhns_validation_set_is_evaluated(tmp_path, short_run, capsys):
    from dmr_gluon.cli import main as cli

    write_svhn(tmp_path, {"train": 401, "extra": 201, "test": 1})
    out = tmp_path / "out"
    prepare_svhn(str(tmp_path), out, partial=True)
    arguments = ["eval", short_run, "--data-dir", str(out), "--split"]  # digits, too
    cli._main([*arguments, "validation"])
    assert re.search(r"validation error [\d.]+% \(\d+ of 6000 images\)", capsys.readouterr().out)
    with pytest.raises(DMRError, match="no split 'extra'; name one of train, test, validation"):
        cli._main([*arguments, "extra"])


@pytest.mark.parametrize(
    "variables",
    [
        {"X": np.zeros((32, 32, 3, 2), np.uint8)},
        {"X": np.zeros((32, 32, 3, 2), np.uint8), "y": csc_matrix(np.ones((2, 1)))},
        {"X": np.zeros((32, 32, 2), np.uint8), "y": np.ones((2, 1))},
        {"X": np.zeros((32, 32, 3, 2)), "y": np.ones((2, 1))},
        {"X": np.zeros((32, 32, 3, 2), np.uint8), "y": np.ones((3, 1))},
        {"X": np.zeros((32, 32, 3, 2), np.uint8), "y": np.full((2, 1), 11)},
    ],
)
def test_mat_files_of_another_form_are_refused(variables, tmp_path):
    from scipy.io import savemat

    savemat(tmp_path / "test_32x32.mat", variables, do_compression=True)
    with pytest.raises(DMRError, match="test_32x32.mat is damaged or not the official file"):
        read_svhn(str(tmp_path))


def test_mat_files_that_are_missing_damaged_or_endless_are_refused(tmp_path, monkeypatch):
    with pytest.raises(DMRError, match="train_32x32.mat cannot be read .No such file"):
        prepare_svhn(str(tmp_path), tmp_path / "out")
    write_svhn(tmp_path, {"train": 1, "extra": 1, "test": 1})
    path = tmp_path / "train_32x32.mat"
    content = path.read_bytes()
    for damaged in (b"", content[:100], content[:-50], content[:200] + b"x" * 50 + content[250:]):
        path.write_bytes(damaged)
        with pytest.raises(DMRError, match="train_32x32.mat is damaged or not the official file"):
            read_svhn(str(tmp_path))
    path.write_bytes(content)
    monkeypatch.setattr("dmr_gluon.datasets.svhn._MOST_IMAGES", 0)
    with pytest.raises(DMRError, match="test_32x32.mat .*X has over 0 elements"):
        read_svhn(str(tmp_path))


def test_only_the_variables_that_are_wanted_are_loaded(tmp_path):
    from scipy.io import savemat

    others = {f"Z{i}": np.zeros(1 << 20, np.uint8) for i in range(9)}
    savemat(tmp_path / "x.mat", {**others, "y": np.ones((1, 1))}, do_compression=True)
    tracemalloc.start()
    try:
        with open(tmp_path / "x.mat", "rb") as file:
            assert read_mat(file, ["y"], 2 << 20) == [[[1]]]
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()
