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
from dmr_gluon.datasets.archives import read_mat, read_members, unpickle
from dmr_gluon.datasets.cifar import prepare_cifar, read_cifar
from dmr_gluon.datasets.svhn import prepare_svhn, read_svhn
from dmr_gluon.errors import DMRError
from dmr_gluon.system import files as system_files

CIFAR10 = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
CIFAR100 = [f"class_{i}" for i in range(100)]


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


def cifar(number, kind, per_batch=4):
    """Files of an archive, and the (pixels, labels) of its two splits."""
    names = CIFAR10 if number == 10 else CIFAR100
    batches = [f"data_batch_{i}" for i in range(1, 6)] + ["test_batch"]
    batches = batches if number == 10 else ["train", "test"]
    files, truth = {}, {"train": [], "test": []}
    for seed, batch in enumerate(batches):
        pixels = images(per_batch, seed)
        labels = np.random.RandomState(seed).randint(0, number, per_batch)
        truth["test" if batch.startswith("test") else "train"].append((pixels, labels))
        if kind == "python":
            key = b"labels" if number == 10 else b"fine_labels"
            files[batch] = python2_pickle(rows(pixels), labels, key)
        else:
            coarse = [np.zeros((per_batch, 1), np.uint8)] * (number == 100)
            records = [*coarse, labels[:, None].astype(np.uint8), rows(pixels)]
            files[batch + ".bin"] = np.concatenate(records, axis=1).tobytes()
    if kind == "python":
        key = b"label_names" if number == 10 else b"fine_label_names"
        meta = {key: [name.encode() for name in names], b"num_vis": 3072}
        files["batches.meta" if number == 10 else "meta"] = pickle.dumps(meta, protocol=2)
    else:
        text = ("\n".join(names) + "\n\n").encode()  # with an empty line at the end, as there
        files["batches.meta.txt" if number == 10 else "fine_label_names.txt"] = text
    folder = {
        (10, "python"): "cifar-10-batches-py",
        (10, "binary"): "cifar-10-batches-bin",
        (100, "python"): "cifar-100-python",
        (100, "binary"): "cifar-100-binary",
    }[number, kind]
    files["readme.html"] = b"<html>"
    joined = {k: tuple(map(np.concatenate, zip(*v))) for k, v in truth.items()}
    return {f"{folder}/{name}": content for name, content in files.items()}, joined


def assert_same(prepared, truth):
    """The same pixels with the same labels, each once, in whatever order."""
    for split, (pixels, labels) in truth.items():
        expected = sorted((int(y), x.tobytes()) for x, y in zip(pixels, labels))
        found = sorted((y, decode(data).tobytes()) for y, data in read_all(prepared, split))
        assert found == expected, split


@pytest.mark.parametrize("number", [10, 100])
@pytest.mark.parametrize("kind", ["python", "binary"])
def test_cifar_round_trips_from_archive_and_folder(number, kind, tmp_path):
    files, truth = cifar(number, kind)
    path = tar_of(tmp_path / f"cifar-{number}-{kind}.tar.gz", files)
    name = f"cifar{number}"
    prepared = prepare_cifar(name, path, tmp_path / "out", partial=True)
    assert_same(prepared, truth)
    assert prepared.classes == tuple(CIFAR10 if number == 10 else CIFAR100)
    manifest = read_manifest(tmp_path / "out")
    assert prepared.name == f"partial-{name}" and manifest["partial"]
    # It is not normalised as the official set, whose numbers are published.
    assert manifest["published"] is None and list(prepared.mean) == manifest["mean"]
    # The folder that the archive is in, and the one that it is unpacked to.
    unpacked = tmp_path / "unpacked"
    for file, content in files.items():
        (unpacked / file).parent.mkdir(parents=True, exist_ok=True)
        (unpacked / file).write_bytes(content)
    inner = unpacked / next(iter(files)).split("/")[0]
    for source in (tmp_path, unpacked, inner):
        found = read_cifar(name, str(source))
        for split, (pixels, labels) in truth.items():
            assert (found.splits[split][0] == pixels).all()
            assert (found.splits[split][1] == labels).all()


@pytest.mark.parametrize("form", ["archive", "folder"])
def test_a_source_that_may_not_be_read_is_one_line(tmp_path, monkeypatch, form):
    files, _ = cifar(10, "binary")
    source = tmp_path / "cifar-10-binary.tar.gz"
    tar_of(source, files)
    if form == "folder":
        source = tmp_path / "unpacked"
        source.mkdir()
        for file, content in files.items():
            (source / os.path.basename(file)).write_bytes(content)

    def refuse(path, *_):
        raise PermissionError(13, "Permission denied", str(path))  # root may read everything

    monkeypatch.setattr(system_files, "open", refuse, raising=False)
    with pytest.raises(DMRError, match="cannot be read.*Permission denied") as refused:
        prepare_cifar("cifar10", str(source), tmp_path / "out", partial=True)
    assert "\n" not in str(refused.value) and str(source) in str(refused.value)


def test_a_second_time_the_archive_is_not_unpacked(tmp_path, capsys, monkeypatch):
    files, _ = cifar(100, "python")
    path = tar_of(tmp_path / "cifar-100-python.tar.gz", files)
    first = prepare_cifar("cifar100", path, tmp_path / "out", partial=True)
    monkeypatch.setattr(cifar_sets, "read_cifar", None)
    assert prepare_cifar("cifar100", path, tmp_path / "out", partial=True) == first
    assert "nothing to do" in capsys.readouterr().out
    # A partial set is not taken for the whole one.
    with pytest.raises(DMRError, match="made from other images or in another way"):
        prepare_cifar("cifar100", path, tmp_path / "out")


def test_the_pickles_here_are_as_python_2_wrote_them():
    """What the real unpickler makes of them is what ours does."""
    pixels = images(3, 0)
    content = python2_pickle(rows(pixels), [1, 2, 3], b"labels")
    theirs, ours = pickle.loads(content, encoding="bytes"), unpickle(content, "x")
    assert set(theirs) == set(ours) == {b"data", b"labels", b"batch_label"}
    assert (theirs[b"data"] == rows(pixels)).all() and (ours[b"data"] == rows(pixels)).all()
    assert ours[b"labels"] == theirs[b"labels"] == [1, 2, 3]
    # As today's Python and NumPy write the same.
    again = unpickle(pickle.dumps({b"data": rows(pixels), b"labels": [1]}, protocol=2), "x")
    assert (again[b"data"] == rows(pixels)).all() and again[b"labels"] == [1]


def test_an_archive_that_is_not_whole_is_refused(tmp_path):
    files, _ = cifar(10, "binary")
    path = tar_of(tmp_path / "cifar-10-binary.tar.gz", files)
    with pytest.raises(DMRError, match="train has 20 images instead of 50,000"):
        prepare_cifar("cifar10", path, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    del files["cifar-10-batches-bin/data_batch_3.bin"]
    path = tar_of(tmp_path / "cifar-10-binary.tar.gz", files)
    with pytest.raises(DMRError, match="no cifar-10-batches-bin/data_batch_3.bin"):
        prepare_cifar("cifar10", path, tmp_path / "out", partial=True)
    content = (tmp_path / "cifar-10-binary.tar.gz").read_bytes()
    (tmp_path / "cifar-10-binary.tar.gz").write_bytes(content[: len(content) // 2])
    with pytest.raises(DMRError, match="cannot be read as a tar archive"):
        prepare_cifar("cifar10", path, tmp_path / "out", partial=True)
    with pytest.raises(DMRError, match="neither cifar-10-python"):
        read_cifar("cifar10", str(tmp_path / ".."))


@pytest.mark.parametrize(
    "file, content, words",
    [
        ("data_batch_2.bin", b"\x0b" + bytes(3072), "labels from"),
        ("data_batch_2.bin", bytes(100), "no records of 3073"),
        ("test_batch.bin", b"", "no records"),
        ("batches.meta.txt", b"one two", "names 2 classes"),
    ],
)
def test_damaged_binary_files_are_refused(file, content, words, tmp_path):
    files, _ = cifar(10, "binary")
    files[f"cifar-10-batches-bin/{file}"] = content
    with pytest.raises(DMRError, match=words):
        read_cifar("cifar10", tar_of(tmp_path / "cifar-10-binary.tar.gz", files))


class Code:
    """Would make a file where it is unpickled."""

    def __reduce__(self):
        return (os.system, ("touch hacked",))


def batch(**changes):
    good = {b"data": None, b"labels": [1]}
    return pickle.dumps({**good, **changes}, protocol=2)


@pytest.mark.parametrize(
    "content, words",
    [
        (pickle.dumps(Code()), "posix.system"),
        (b"cbuiltins\neval\n(S'1'\ntR.", "builtins.eval"),
        (b"cnumpy.core.multiarray\nscalar\n.", "multiarray.scalar"),
        (b"cnumpy\nload\n.", "numpy.load"),
        (b"P0\n.", "not a pickle"),
        (b"", "not a pickle"),
        (b"garbage", "not a pickle"),
        (pickle.dumps([1, 2], protocol=2), "no data and labels"),
        (batch(), "not an array"),
        (batch(data=np.zeros((1, 3072))), "not an array"),
        (python2_pickle(np.zeros((1, 3072), np.uint8), [1], b"other"), "no data and labels"),
        (
            pickle.dumps({b"data": rows(images(1, 0)), b"labels": [1 << 70]}, 2),
            "not a list of whole",
        ),
    ],
)
def test_pickles_that_are_no_data_are_refused_and_run_nothing(
    content, words, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    files, _ = cifar(10, "python")
    files["cifar-10-batches-py/data_batch_1"] = content
    with pytest.raises(DMRError, match=words):
        read_cifar("cifar10", tar_of(tmp_path / "cifar-10-python.tar.gz", files))
    assert os.listdir(tmp_path) == ["cifar-10-python.tar.gz"]


def test_pickles_are_read_whatever_protocol_they_are_of():
    plain = {"a": [1, -2, 1 << 70, 0.5, None, True, b"\xff\0"], 7: {"b": ("x", "y")}, b"c": []}
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        assert unpickle(pickle.dumps(plain, protocol=protocol), "x") == plain


def header(size):
    """A tar entry's header alone, whatever it says; negative sizes as GNU's tar has them."""
    info = tarfile.TarInfo("cifar-10-batches-bin/x")
    info.size = max(size, 0)
    content = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    if size < 0:
        content[124:136] = (256**12 + size).to_bytes(12, "big")
        content[148:156] = b" " * 8
        content[148:156] = b"%06o\0 " % sum(content)
    return bytes(content)


@pytest.mark.parametrize("name", ["../outside", "/etc/passwd", "cifar-10-batches-bin/link"])
def test_nothing_of_an_archive_reaches_the_disk(name, tmp_path):
    """Other files, links and paths that lead out of the archive are ignored."""

    def add(archive):
        info = tarfile.TarInfo(name)
        if name.endswith("link"):
            info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(info)

    files, truth = cifar(10, "binary")
    path = tar_of(tmp_path / "cifar-10-binary.tar.gz", files, add)
    found = read_cifar("cifar10", path)
    assert (found.splits["test"][0] == truth["test"][0]).all()
    assert os.listdir(tmp_path) == ["cifar-10-binary.tar.gz"]


def test_a_link_is_not_read(tmp_path):
    files, _ = cifar(10, "binary")
    content = files.pop("cifar-10-batches-bin/test_batch.bin")
    (tmp_path / "secret").write_bytes(content)

    def add(archive):
        info = tarfile.TarInfo("cifar-10-batches-bin/test_batch.bin")
        info.type, info.linkname = tarfile.SYMTYPE, str(tmp_path / "secret")
        archive.addfile(info)

    path = tar_of(tmp_path / "cifar-10-binary.tar.gz", files, add)
    with pytest.raises(DMRError, match="no cifar-10-batches-bin/test_batch.bin"):
        read_cifar("cifar10", path)


@pytest.mark.parametrize("size", [-512, 2 << 30])
def test_sizes_beyond_all_bounds_are_refused(size, tmp_path):
    path = tmp_path / "cifar-10-binary.tar.gz"
    path.write_bytes(gzip.compress(header(size) + bytes(10_240)))
    with pytest.raises(DMRError, match="unpacks to over 1,073,741,824 bytes"):
        read_members(str(path), "cifar-10-batches-bin", ["other"])
    with open(tmp_path / "x", "wb") as file:
        file.truncate(2 << 30)
    with pytest.raises(DMRError, match="unpacks to over 1,073,741,824 bytes"):
        read_members(str(tmp_path), "cifar-10-batches-bin", ["x"])


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
    _, splits = read_svhn(str(tmp_path))
    sizes = {split: np.bincount(labels).tolist() for split, (_, labels) in splits.items()}
    assert sizes == {"train": [2 + 3] * 10, "validation": [400 + 200] * 10, "test": [1] * 10}
    # Each image is in one of the two, with its own label.
    parts = [zip(*splits[split]) for split in ("train", "validation")]
    both = sorted((int(label), image.tobytes()) for part in parts for image, label in part)
    originals = [zip(*truth[part]) for part in ("train", "extra")]
    assert both == sorted((int(label), x.tobytes()) for part in originals for x, label in part)
    # Always the same ones.
    chosen = b"".join(image[0].tobytes() for image in splits["validation"][0])
    assert hashlib.sha256(chosen).hexdigest()[:16] == "525bc6f0e36256e0"
    with pytest.raises(DMRError, match="598,388"):
        prepare_svhn(str(tmp_path), tmp_path / "out")
    write_svhn(tmp_path, {"train": 402, "extra": 3, "test": 1})
    with pytest.raises(DMRError, match="fewer than the 200"):
        read_svhn(str(tmp_path))


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
    "variables, words",
    [
        ({"X": np.zeros((32, 32, 3, 2), np.uint8)}, "no arrays X and y"),
        (
            {"X": np.zeros((32, 32, 3, 2), np.uint8), "y": csc_matrix(np.ones((2, 1)))},
            "no arrays X and y",
        ),
        ({"X": np.zeros((32, 32, 2), np.uint8), "y": np.ones((2, 1))}, "shape"),
        ({"X": np.zeros((32, 32, 3, 2)), "y": np.ones((2, 1))}, "shape"),
        ({"X": np.zeros((32, 32, 3, 2), np.uint8), "y": np.ones((3, 1))}, "shape"),
        ({"X": np.zeros((32, 32, 3, 2), np.uint8), "y": np.full((2, 1), 11)}, "labels from 11"),
    ],
)
def test_mat_files_of_another_form_are_refused(variables, words, tmp_path):
    from scipy.io import savemat

    savemat(tmp_path / "train_32x32.mat", variables, do_compression=True)
    with pytest.raises(DMRError, match=words):
        read_svhn(str(tmp_path))


def test_mat_files_that_are_missing_damaged_or_endless_are_refused(tmp_path, monkeypatch):
    with pytest.raises(DMRError, match="train_32x32.mat is missing"):
        read_svhn(str(tmp_path))
    write_svhn(tmp_path, {"train": 1, "extra": 1, "test": 1})
    path = tmp_path / "train_32x32.mat"
    content = path.read_bytes()
    for damaged, words in (
        (b"", "train_32x32.mat is not a MATLAB file"),
        (content[:100], "train_32x32.mat is not a MATLAB file"),
        (content[:-50], "train_32x32.mat is not a MATLAB file"),
        (content[:200] + b"x" * 50 + content[250:], "train_32x32.mat is not a MATLAB file"),
    ):
        path.write_bytes(damaged)
        with pytest.raises(DMRError, match=words):
            read_svhn(str(tmp_path))
    path.write_bytes(content)
    monkeypatch.setattr("dmr_gluon.datasets.svhn._MOST_IMAGES", 0)
    with pytest.raises(DMRError, match="train_32x32.mat: X has over 0 elements"):
        read_svhn(str(tmp_path))


def test_only_the_variables_that_are_wanted_are_loaded(tmp_path):
    from scipy.io import savemat

    others = {f"Z{i}": np.zeros(1 << 20, np.uint8) for i in range(9)}
    savemat(tmp_path / "x.mat", {**others, "y": np.ones((1, 1))}, do_compression=True)
    tracemalloc.start()
    try:
        assert set(read_mat(str(tmp_path / "x.mat"), ("X", "y"), 2 << 20)) == {"y"}
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()
