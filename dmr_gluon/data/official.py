"""CIFAR-10, CIFAR-100 and SVHN from their official archives.

Each reader gives images and labels in the order of the archive; what follows is the one code
path of :mod:`dmr_gluon.data.prepare`.
"""

import hashlib
import io
import os
from dataclasses import dataclass
from typing import Dict, Tuple

import numpy as np

from ..errors import DMRError
from .archives import read_mat, read_members, unpickle

#: MD5 of the published files. CIFAR: the data sets' own page. SVHN's page has none; these are
#: what torchvision's loader demands.
PUBLISHED_MD5 = {
    "cifar-10-python.tar.gz": "c58f30108f718f92721af3b95e74349a",
    "cifar-10-binary.tar.gz": "c32a1d4ab5d03f1284b67883e8d87530",
    "cifar-100-python.tar.gz": "eb9058c3a382ffc7106e4002c42a8d85",
    "cifar-100-binary.tar.gz": "03b5dce01913d631647c71ecec9e9cb8",
    "train_32x32.mat": "e26dedcc434d2e4c54c9b2d4a06d8373",
    "test_32x32.mat": "eb5a983be6a315427106f1b164d9cef3",
    "extra_32x32.mat": "a93ce644f1a588dc4d68dda5feec44a7",
}

_PIXELS = 3 * 32 * 32
#: Far above the 531,131 images of SVHN's largest file.
_MOST_IMAGES = 1_000_000
#: Chooses SVHN's validation images; the paper does not say which ones it took.
_VALIDATION_SEED = 0


@dataclass(frozen=True)
class Official:
    """An official data set, read.

    Parameters
    ----------
    classes : tuple of str
    splits : dict of str to (numpy.ndarray, numpy.ndarray)
        Images (n, 32, 32, 3) of uint8, RGB, and labels (n,), ``train`` first.
    files : dict of str to dict
        By name, of each file that was read: ``bytes``, ``md5``, ``sha256`` and whether it is
        ``published``, by its MD5; None where the archive had been unpacked.
    """

    classes: Tuple[str, ...]
    splits: Dict[str, Tuple[np.ndarray, np.ndarray]]
    files: Dict[str, dict]


def read_cifar(name, source) -> Official:
    """CIFAR-10 or CIFAR-100 (fine labels), in the Python or the binary version.

    Parameters
    ----------
    name : str
        ``cifar10`` or ``cifar100``.
    source : str
        The ``.tar.gz``, the folder that it is in, or the folder that it was unpacked to.

    Raises
    ------
    DMRError
        Where there is no such archive, or it is damaged or hostile.
    """
    number = name[len("cifar") :]
    archives = {kind: f"cifar-{number}-{kind}.tar.gz" for kind in ("python", "binary")}
    if number == "10":
        folders = {"python": "cifar-10-batches-py", "binary": "cifar-10-batches-bin"}
        batches = [f"data_batch_{i}" for i in range(1, 6)]
        files = {"train": batches, "test": ["test_batch"]}
        metas = {"python": "batches.meta", "binary": "batches.meta.txt"}
    else:
        folders = {"python": "cifar-100-python", "binary": "cifar-100-binary"}
        files = {"train": ["train"], "test": ["test"]}
        metas = {"python": "meta", "binary": "fine_label_names.txt"}
    kind, path = _find(source, archives, folders, metas)
    ending = ".bin" if kind == "binary" else ""
    names = [file + ending for split in files.values() for file in split]
    members = read_members(path, folders[kind], [*names, metas[kind]])
    read = _read_pickled if kind == "python" else _read_binary
    classes = _class_names(members[metas[kind]], kind, number)
    splits = {}
    for split, parts in files.items():
        pairs = [read(members[part + ending], f"{path}: {part}", number) for part in parts]
        images, labels = (np.concatenate(arrays) for arrays in zip(*pairs))
        splits[split] = _checked(images, labels, len(classes), f"{path}: {split}")
    hashes = {os.path.basename(path): _hashes_of_file(path)} if os.path.isfile(path) else {}
    if not hashes:
        hashes = {file: _hashes(io.BytesIO(content)) for file, content in members.items()}
    return Official(tuple(classes), splits, hashes)


def _find(source, archives, folders, metas):
    """Which version there is, and where: the archive itself or a folder."""
    if os.path.isfile(source):
        for kind in archives:
            if kind in os.path.basename(source).lower():
                return kind, source
        return "python", source
    if not os.path.isdir(source):
        raise DMRError(f"{source} does not exist; name {archives['python']} with --source")
    for kind, archive in archives.items():
        if os.path.isfile(os.path.join(source, archive)):
            return kind, os.path.join(source, archive)
    for kind, folder in folders.items():
        for base in (os.path.join(source, folder), source):
            if os.path.isfile(os.path.join(base, metas[kind])):
                return kind, source
    raise DMRError(
        f"{source} has neither {archives['python']} nor {archives['binary']}, nor what they "
        f"unpack to; name one of them with --source"
    )


def _read_pickled(content, name, number):
    batch = unpickle(content, name)
    labels_key = b"labels" if number == "10" else b"fine_labels"
    if not isinstance(batch, dict) or not {b"data", labels_key} <= set(batch):
        raise DMRError(f"{name} has no data and labels; get the official archive again")
    data, labels = batch[b"data"], batch[labels_key]
    if not isinstance(data, np.ndarray) or data.ndim != 2 or data.shape[1] != _PIXELS:
        raise DMRError(f"{name}: data is not an array of {_PIXELS} bytes an image")
    if not isinstance(labels, list) or not all(type(label) is int for label in labels):
        raise DMRError(f"{name}: labels are not a list of whole numbers")
    return _channels_last(data), np.array(labels, dtype=np.int64)


def _read_binary(content, name, number):
    label_bytes = 1 if number == "10" else 2  # CIFAR-100: coarse label, fine label
    record = label_bytes + _PIXELS
    if not content or len(content) % record:
        raise DMRError(f"{name} has {len(content)} bytes, which are no records of {record}")
    records = np.frombuffer(content, np.uint8).reshape(-1, record)
    return _channels_last(records[:, label_bytes:]), records[:, label_bytes - 1].astype(np.int64)


def _channels_last(rows):
    """(n, 3072) as red, green and blue planes to (n, 32, 32, 3)."""
    return rows.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)


def _class_names(content, kind, number):
    if kind == "python":
        meta = unpickle(content, "the class names")
        key = b"label_names" if number == "10" else b"fine_label_names"
        names = meta.get(key) if isinstance(meta, dict) else None
        if not isinstance(names, list) or not all(isinstance(name, bytes) for name in names):
            raise DMRError(f"the archive has no {key.decode()}; get the official archive again")
        names = [name.decode("ascii", "replace") for name in names]
    else:
        names = content.decode("ascii", "replace").split()
    if len(names) != int(number) or len(set(names)) != len(names):
        raise DMRError(f"the archive names {len(names)} classes, not {number} different ones")
    return names


def read_svhn(source, split="paper") -> Official:
    """SVHN's cropped digits.

    Parameters
    ----------
    source : str
        The folder with ``train_32x32.mat``, ``extra_32x32.mat`` and ``test_32x32.mat``.
    split : str
        ``paper``: 400 images of each class of train and 200 of each class of extra are set
        aside as ``validation``, chosen by a fixed seed; the others are trained on (section
        4.1). ``authors``: all of train and extra are trained on (authors' code).

    Raises
    ------
    DMRError
        Where a file is missing, damaged or hostile.
    """
    if split not in ("paper", "authors"):
        raise DMRError(f"--svhn-split {split}: there are paper and authors")
    parts, files = {}, {}
    for part in ("train", "extra", "test"):
        path = os.path.join(source, f"{part}_32x32.mat")
        variables = read_mat(path, most=_MOST_IMAGES * _PIXELS)
        parts[part] = _from_mat(variables, path)
        files[os.path.basename(path)] = _hashes_of_file(path)
    random = np.random.RandomState(_VALIDATION_SEED)
    aside = {"train": 400, "extra": 200} if split == "paper" else {}
    kept, validation = [], []
    for part in ("train", "extra"):
        images, labels = parts[part]
        chosen = np.zeros(len(labels), bool)
        for digit in range(10 if aside else 0):
            positions = np.flatnonzero(labels == digit)
            if len(positions) < aside[part]:
                raise DMRError(
                    f"{source}: {part} has {len(positions)} images of a {digit}, fewer than the "
                    f"{aside[part]} that the paper sets aside; use --svhn-split authors"
                )
            chosen[random.permutation(positions)[: aside[part]]] = True
        kept.append((images[~chosen], labels[~chosen]))
        validation.append((images[chosen], labels[chosen]))
    splits = {"train": _joined(kept), "test": parts["test"]}
    if aside:
        splits["validation"] = _joined(validation)
    return Official(tuple(str(digit) for digit in range(10)), splits, files)


def _joined(pairs):
    return tuple(np.concatenate(arrays) for arrays in zip(*pairs))


def _from_mat(variables, path):
    images, labels = variables.get("X"), variables.get("y")
    if images is None or labels is None:
        raise DMRError(f"{path} has no X and y; get the official file again")
    count = images.shape[-1] if images.ndim == 4 else None
    fits = images.dtype == np.uint8 and images.shape == (32, 32, 3, count)
    if not fits or labels.shape != (count, 1) or labels.dtype.kind not in "uif":
        raise DMRError(f"{path}: X is not of the shape (32, 32, 3, N) or y not of (N, 1)")
    labels = labels[:, 0].astype(np.int64)
    if count and not (labels.min() >= 1 and labels.max() <= 10):
        raise DMRError(f"{path}: y has labels from {labels.min()} to {labels.max()}, not 1 to 10")
    # Digit 0 is stored as 10.
    return _checked(images.transpose(3, 0, 1, 2), labels % 10, 10, path)


def _checked(images, labels, classes, name):
    if len(images) != len(labels) or not len(labels):
        raise DMRError(f"{name} has {len(images)} images and {len(labels)} labels")
    if labels.min() < 0 or labels.max() >= classes:
        raise DMRError(
            f"{name} has labels from {labels.min()} to {labels.max()}, not 0 to {classes - 1}"
        )
    return images, labels


def _hashes(stream, name=None):
    """Of a file; without a name, of one that was unpacked, for which nothing is published."""
    md5, sha256, size = hashlib.md5(), hashlib.sha256(), 0
    for block in iter(lambda: stream.read(1 << 20), b""):
        md5.update(block)
        sha256.update(block)
        size += len(block)
    return {
        "bytes": size,
        "md5": md5.hexdigest(),
        "sha256": sha256.hexdigest(),
        "published": PUBLISHED_MD5.get(name) == md5.hexdigest() if name else None,
    }


def _hashes_of_file(path):
    with open(path, "rb") as file:
        return _hashes(file, os.path.basename(path))
