"""CIFAR-10 and CIFAR-100 from their official archives or from a tree of images.

Both are identified by the digest of all their images and labels, whatever they come in.
"""

import functools
import hashlib
import os
from dataclasses import dataclass, field
from typing import Dict, Sequence, Tuple

import numpy as np

from ..data.content import DIGESTS, image_digest, require_official
from ..data.datasets import partial_name
from ..errors import DMRError
from ..paper.dataset_facts import CIFAR_CLASSES, PUBLISHED
from .archives import (
    ANOTHER,
    AS_PARTIAL,
    Archive,
    check_labels,
    describe_files,
    note_unpublished,
    read_members,
    readable,
    unpacked_paths,
    unpickle,
)
from .cifar_tree import read_tree, tree_images, tree_of
from .encoder import Encoding, Source
from .folder import stamp
from .registration import Registration, add_jpeg_quality
from .writer import write_set

_PIXELS = 3 * 32 * 32


@dataclass(frozen=True)
class Cifar:
    """CIFAR as read from its source.

    Parameters
    ----------
    classes : tuple of str
    splits : dict of str to (sequence of numpy.ndarray, numpy.ndarray)
        n images (32, 32, 3) of uint8, RGB, and labels (n,), ``train`` first.
    names : dict of str to sequence of str
        Names of the images of a split, if they have any.
    jpegs : int
        Number of images that were JPEGs.
    """

    classes: Tuple[str, ...]
    splits: Dict[str, Tuple[Sequence[np.ndarray], np.ndarray]]
    names: Dict[str, Sequence[str]] = field(default_factory=dict)
    jpegs: int = 0

    def names_of(self, split):
        """Return the names of a split's images, for messages."""
        count = len(self.splits[split][1])
        return self.names.get(split) or [f"{split} image {i}" for i in range(count)]


def prepare_cifar(name, source, out, jpeg_quality=None, partial=False, overwrite=False):
    """Prepare CIFAR-10 or CIFAR-100 (fine labels), as PNG.

    Parameters
    ----------
    name : str
        ``cifar10`` or ``cifar100``.
    source : str
        As for :func:`read_cifar`.
    out : str
    jpeg_quality : int, optional
        Store JPEGs of this quality, with halved chroma, as MXNet's ``im2rec`` makes them; the set
        is then called ``NAME-jpegQUALITY``.
    partial : bool
        Take what is there, under a name of its own: it is not the official set.
    overwrite : bool
        Replace another prepared set in ``out``.

    Returns
    -------
    RecordDataset

    Raises
    ------
    DMRError
        If the source is missing, damaged, or not the official set, or ``out`` holds something else.
    """
    encoding, called = Encoding(), name
    if jpeg_quality is not None:
        encoding, called = Encoding(None, "jpeg", jpeg_quality), f"{name}-jpeg{jpeg_quality}"
    files = {}
    if not partial:  # whatever the images come in, they are these or refused
        made = repr((DIGESTS[name], encoding))
    else:
        called = partial_name(called)
        with readable(source):
            tree = tree_of(source)
            if not tree:
                files = _describe(name, source)
            images = [path for folder in (tree or {}).values() for path in tree_images(folder)]
            images = [(os.path.relpath(path, source), stamp(path)) for path in images]
        hashes = sorted((file, entry["sha256"]) for file, entry in files.items())
        made = repr((hashes, images, encoding, None, partial))
    fingerprint = hashlib.sha256(made.encode(errors="surrogateescape")).hexdigest()

    @readable(source)
    def read():
        found = read_cifar(name, source)
        digests = {
            split: list(map(image_digest, images, labels))
            for split, (images, labels) in found.splits.items()
        }
        if not partial:
            _require_content(name, source, found, digests)
        note_unpublished(files)
        sources = {
            # By content, so that the set is the same whatever its images come in.
            split: [
                Source(names[i], int(labels[i]), functools.partial(images.__getitem__, i))
                for i in sorted(range(len(labels)), key=digests[split].__getitem__)
            ]
            for split, (images, labels) in found.splits.items()
            for names in [found.names_of(split)]
        }
        more = {"partial": partial}
        if files:
            more["sources"] = files
        if not partial:
            more["official"] = {"known_by": "content", "digests": DIGESTS[name]}
            more["published"] = {"mean": PUBLISHED[name].mean, "std": PUBLISHED[name].std}
        return list(found.classes), sources, more

    return write_set(called, fingerprint, read, out, encoding, overwrite)


def _require_content(name, source, found, digests):
    remedy = f"get the official archive, or {AS_PARTIAL}"
    if found.jpegs:
        remedy = f"{found.jpegs:,} are JPEGs, which are not lossless: {remedy}"
    require_official(name, source, digests, remedy)
    if tuple(found.classes) != CIFAR_CLASSES[name]:
        raise DMRError(f"{source} has other names of classes than {name}; {remedy}")


def read_cifar(name, source) -> Cifar:
    """Read CIFAR-10 or CIFAR-100 (fine labels): the Python or the binary version, or a tree.

    Parameters
    ----------
    name : str
        ``cifar10`` or ``cifar100``.
    source : str
        The ``.tar.gz``, the folder that contains it, the folder that it was unpacked to, or a tree
        of images, see :func:`tree_of`.

    Returns
    -------
    Cifar

    Raises
    ------
    DMRError
        If there is no such archive, or it is damaged or hostile.
    """
    tree = tree_of(source)
    if tree:
        return Cifar(CIFAR_CLASSES[name], *read_tree(name, source, tree))
    version, path = _find(name, source)
    members = read_members(path, version.folder, version.files)
    read = _read_binary if version.binary else _read_pickled
    classes = _class_names(members[version.meta], version, len(CIFAR_CLASSES[name]))
    splits = {}
    for split, files in version.splits.items():
        pairs = [read(members[file], f"{path}: {file}", name) for file in files]
        images, labels = (np.concatenate(arrays) for arrays in zip(*pairs))
        splits[split] = check_labels(images, labels, len(classes), f"{path}: {split}")
    return Cifar(tuple(classes), splits)


@dataclass(frozen=True)
class _Version:
    """An archive, its folder, the files of its splits, and the file with the class names."""

    archive: str
    folder: str
    splits: Dict[str, Sequence[str]]
    meta: str
    binary: bool = False

    @property
    def files(self):
        return [*sum(self.splits.values(), []), self.meta]


_VERSIONS = {
    "cifar10": (
        _Version(
            "cifar-10-python.tar.gz",
            "cifar-10-batches-py",
            {"train": [f"data_batch_{i}" for i in range(1, 6)], "test": ["test_batch"]},
            "batches.meta",
        ),
        _Version(
            "cifar-10-binary.tar.gz",
            "cifar-10-batches-bin",
            {"train": [f"data_batch_{i}.bin" for i in range(1, 6)], "test": ["test_batch.bin"]},
            "batches.meta.txt",
            binary=True,
        ),
    ),
    "cifar100": (
        _Version(
            "cifar-100-python.tar.gz",
            "cifar-100-python",
            {"train": ["train"], "test": ["test"]},
            "meta",
        ),
        _Version(
            "cifar-100-binary.tar.gz",
            "cifar-100-binary",
            {"train": ["train.bin"], "test": ["test.bin"]},
            "fine_label_names.txt",
            binary=True,
        ),
    ),
}


def _find(name, source):
    """Return the version that a source is, and the path of its archive or folder."""
    versions = _VERSIONS[name]
    if os.path.isfile(source):
        binary = "binary" in os.path.basename(source).lower()
        return versions[binary], source
    if not os.path.isdir(source):
        raise DMRError(f"{source} does not exist; name {versions[0].archive} with --source")
    for version in versions:
        if os.path.isfile(os.path.join(source, version.archive)):
            return version, os.path.join(source, version.archive)
    for version in versions:
        if unpacked_paths(source, version.folder, [version.meta]):
            return version, source
    raise DMRError(
        f"{source} has neither {versions[0].archive} nor {versions[1].archive}, nor what they "
        f"unpack to, nor train/ and test/ with a folder of images for each class; name one of "
        f"them with --source"
    )


def _describe(name, source):
    """Return the manifest's entries for the files of an archive or its folder."""
    version, path = _find(name, source)
    if os.path.isfile(path):
        return describe_files({os.path.basename(path): path}, _ARCHIVES[name])
    paths = unpacked_paths(path, version.folder, version.files)
    return describe_files(paths, _ARCHIVES[name], unpacked=True)


def _read_pickled(content, path, name):
    batch = unpickle(content, path)
    key = b"labels" if name == "cifar10" else b"fine_labels"
    if not isinstance(batch, dict) or not {b"data", key} <= set(batch):
        raise DMRError(f"{path} has no data and labels; {ANOTHER}")
    data, labels = batch[b"data"], batch[key]
    if not isinstance(data, np.ndarray) or data.dtype != np.uint8 or data.shape[1:] != (_PIXELS,):
        raise DMRError(f"{path}: data is not an array of {_PIXELS} bytes an image; {ANOTHER}")
    # Numbers beyond NumPy's int64 are no labels either.
    if not isinstance(labels, list) or not all(
        type(label) is int and abs(label) < 1 << 31 for label in labels
    ):
        raise DMRError(f"{path}: labels are not a list of whole numbers; {ANOTHER}")
    return _channels_last(data), np.array(labels, dtype=np.int64)


def _read_binary(content, path, name):
    label_bytes = 1 if name == "cifar10" else 2  # CIFAR-100: coarse label, fine label
    record = label_bytes + _PIXELS
    if not content or len(content) % record:
        raise DMRError(f"{path} has {len(content)} bytes, which are no records of {record}")
    records = np.frombuffer(content, np.uint8).reshape(-1, record)
    return _channels_last(records[:, label_bytes:]), records[:, label_bytes - 1].astype(np.int64)


def _channels_last(rows):
    """Turn (n, 3072), red, green and blue planes, into (n, 32, 32, 3)."""
    return rows.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)


def _class_names(content, version, count):
    if version.binary:
        names = content.decode("ascii", "replace").split()
    else:
        meta = unpickle(content, version.meta)
        key = b"label_names" if count == 10 else b"fine_label_names"
        names = meta.get(key) if isinstance(meta, dict) else None
        if not isinstance(names, list) or not all(isinstance(name, bytes) for name in names):
            raise DMRError(f"the archive has no {key.decode()}; {ANOTHER}")
        names = [name.decode("ascii", "replace") for name in names]
    if len(names) != count or len(set(names)) != len(names):
        raise DMRError(f"the archive names {len(names)} classes, not {count} different ones")
    return names


def _archive(file, md5, size, alternative=False):
    page = "https://www.cs.toronto.edu/~kriz/"
    return Archive(file, page + file, md5, size, page + "cifar.html", alternative)


_ARCHIVES = {
    "cifar10": (
        _archive("cifar-10-python.tar.gz", "c58f30108f718f92721af3b95e74349a", 170_498_071),
        _archive("cifar-10-binary.tar.gz", "c32a1d4ab5d03f1284b67883e8d87530", 170_052_171, True),
    ),
    "cifar100": (
        _archive("cifar-100-python.tar.gz", "eb9058c3a382ffc7106e4002c42a8d85", 169_001_437),
        _archive("cifar-100-binary.tar.gz", "03b5dce01913d631647c71ecec9e9cb8", 168_513_733, True),
    ),
}


def _register(name):
    files = " or ".join(archive.file for archive in _ARCHIVES[name])
    return Registration(
        name,
        f"from the official {files}",
        functools.partial(prepare_cifar, name),
        functools.partial(add_jpeg_quality, name=name),
        _ARCHIVES[name],
        f"{files}, its folder, or a tree of train/<class>/* and test/<class>/* of lossless images",
    )


CIFAR10, CIFAR100 = _register("cifar10"), _register("cifar100")
