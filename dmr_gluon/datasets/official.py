"""CIFAR-10, CIFAR-100 and SVHN from their official archives; CIFAR also from a tree of images.

Each reader gives images and labels in the order of its source; what follows is the one code
path of :mod:`dmr_gluon.datasets.folder`.
"""

import glob
import os
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Dict, Sequence, Tuple

import cv2
import numpy as np

from ..data import recordio as form
from ..errors import DMRError
from ..standalone.predict_onnx import EXTENSIONS
from ..system.machine import usable_cores
from .archives import ANOTHER, read_mat, read_members, unpacked_paths
from .pickles import unpickle

_PIXELS = 3 * 32 * 32
_CIFAR10 = "airplane automobile bird cat deer dog frog horse ship truck"
_CIFAR100 = """
apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly
camel can castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile
cup dinosaur dolphin elephant flatfish forest fox girl hamster house kangaroo keyboard lamp
lawn_mower leopard lion lizard lobster man maple_tree motorcycle mountain mouse mushroom
oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree plain plate poppy porcupine
possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk skyscraper snail snake
spider squirrel streetcar sunflower sweet_pepper table tank telephone television tiger tractor
train trout tulip turtle wardrobe whale willow_tree wolf woman worm
"""
#: The official names, in the order of their numbers.
CIFAR_CLASSES = {"cifar10": tuple(_CIFAR10.split()), "cifar100": tuple(_CIFAR100.split())}
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
    splits : dict of str to (sequence of numpy.ndarray, numpy.ndarray)
        n images (32, 32, 3) of uint8, RGB, and labels (n,), ``train`` first.
    names : dict of str to list of str
        What each image of a split is called, where images have names.
    jpegs : int
        How many of them were JPEGs.
    """

    classes: Tuple[str, ...]
    splits: Dict[str, Tuple[Sequence[np.ndarray], np.ndarray]]
    names: Dict[str, Sequence[str]] = field(default_factory=dict)
    jpegs: int = 0

    def names_of(self, split):
        """What the images of a split are called in messages."""
        count = len(self.splits[split][1])
        return self.names.get(split) or [f"{split} image {i}" for i in range(count)]


def files_of(name, source):
    """The files that a data set is read from.

    Parameters
    ----------
    name : str
        ``cifar10``, ``cifar100`` or ``svhn``.
    source : str
        As for :func:`read_cifar` and :func:`read_svhn`.

    Returns
    -------
    dict of str to str, bool
        Paths by name, and whether they came out of an archive.

    Raises
    ------
    DMRError
        Where they are missing.
    """
    if name == "svhn":
        paths = [_svhn_path(source, part) for part in ("train", "extra", "test")]
        return {os.path.basename(path): path for path in paths}, False
    cifar = _Cifar(name, source)
    if os.path.isfile(cifar.path):
        return {os.path.basename(cifar.path): cifar.path}, False
    return unpacked_paths(cifar.path, cifar.folder, cifar.names), True


def read_cifar(name, source) -> Official:
    """CIFAR-10 or CIFAR-100 (fine labels), in the Python or the binary version, or as a tree.

    Parameters
    ----------
    name : str
        ``cifar10`` or ``cifar100``.
    source : str
        The ``.tar.gz``, the folder that it is in, the folder that it was unpacked to, or a tree
        of images, see :func:`tree_of`.

    Raises
    ------
    DMRError
        Where there is no such archive, or it is damaged or hostile.
    """
    tree = tree_of(source)
    if tree:
        return _read_tree(name, source, tree)
    cifar = _Cifar(name, source)
    members = read_members(cifar.path, cifar.folder, cifar.names)
    read = _read_pickled if cifar.kind == "python" else _read_binary
    classes = _class_names(members[cifar.meta], cifar.kind, cifar.number)
    splits = {}
    for split, files in cifar.files.items():
        pairs = [read(members[file], f"{cifar.path}: {file}", cifar.number) for file in files]
        images, labels = (np.concatenate(arrays) for arrays in zip(*pairs))
        splits[split] = _checked(images, labels, len(classes), f"{cifar.path}: {split}")
    return Official(tuple(classes), splits)


class _Cifar:
    """Which of an archive's versions there is, where, and what its files are called.

    Attributes
    ----------
    number : str
        10 or 100.
    kind : str
        python or binary.
    path : str
        Of the archive, or of a folder with what it unpacks to.
    folder : str
        The archive's one folder.
    files : dict of str to list of str
        By split.
    meta : str
        The file with the class names.
    names : list of str
        All files that are read.
    """

    def __init__(self, name, source):
        self.number = name[len("cifar") :]
        archives = {kind: f"cifar-{self.number}-{kind}.tar.gz" for kind in ("python", "binary")}
        if self.number == "10":
            folders = {"python": "cifar-10-batches-py", "binary": "cifar-10-batches-bin"}
            batches = [f"data_batch_{i}" for i in range(1, 6)]
            files = {"train": batches, "test": ["test_batch"]}
            metas = {"python": "batches.meta", "binary": "batches.meta.txt"}
        else:
            folders = {"python": "cifar-100-python", "binary": "cifar-100-binary"}
            files = {"train": ["train"], "test": ["test"]}
            metas = {"python": "meta", "binary": "fine_label_names.txt"}
        self.kind, self.path = _find(source, archives, folders, metas)
        ending = ".bin" if self.kind == "binary" else ""
        self.files = {split: [file + ending for file in part] for split, part in files.items()}
        self.folder, self.meta = folders[self.kind], metas[self.kind]
        self.names = [*sum(self.files.values(), []), self.meta]


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
        f"unpack to, nor train/ and test/ with a folder of images for each class; name one of "
        f"them with --source"
    )


#: Folders of the test images, as trees that can be downloaded call them.
_TEST_FOLDERS = ("test", "val", "valid", "validation")


def tree_of(source):
    """The folders of the splits, if a source is a tree of CIFAR's images and holds no archive.

    A tree has ``train/`` and ``test/`` (or ``val/``, ``valid/``), and in each a folder for each
    class by its official name, in one for each superclass or not, or no folders and files called
    ``NUMBER_CLASS.png``.

    Returns
    -------
    dict of str to str, or None
    """
    train = os.path.join(source, "train")
    tests = [os.path.join(source, name) for name in _TEST_FOLDERS]
    test = next(filter(os.path.isdir, tests), None)
    archive = any(glob.glob(os.path.join(glob.escape(source), "cifar-*.tar.gz")))
    return {"train": train, "test": test} if os.path.isdir(train) and test and not archive else None


def tree_images(folder):
    """Paths of all images in a folder, at any depth, in a fixed order."""
    found = []
    for path, folders, files in os.walk(folder, onerror=_refuse_folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        names = (name for name in sorted(files) if not name.startswith("."))
        found += [os.path.join(path, n) for n in names if n.lower().endswith(EXTENSIONS)]
    return found


def _refuse_folder(error):
    raise error


def _read_tree(name, source, tree):
    classes = CIFAR_CLASSES[name]
    labels_of = {class_name: label for label, class_name in enumerate(classes)}
    splits, names, jpegs = {}, {}, 0
    for split, folder in tree.items():
        paths = tree_images(folder)
        names[split] = [os.path.relpath(path, source) for path in paths]
        labels = [_label_in_tree(path, folder, labels_of, name) for path in paths]
        with ThreadPoolExecutor(usable_cores()) as pool:
            read = list(pool.map(_read_image, paths))
        jpegs += sum(is_jpeg for _, is_jpeg in read)
        splits[split] = [image for image, _ in read], np.array(labels, dtype=np.int64)
    return Official(classes, splits, names, jpegs)


def _label_in_tree(path, split_folder, labels, dataset):
    folder, file = os.path.split(path)
    texts = [os.path.splitext(file)[0].partition("_")[2]]
    if folder != split_folder:  # which may be called train, as a class of CIFAR-100 is
        texts.insert(0, os.path.basename(folder))
    for text in texts:
        label = labels.get(re.sub("[ -]", "_", text.lower()))
        if label is not None:
            return label
    raise DMRError(
        f"{path!r} is of no class of {dataset}: neither its folder nor its name has one; "
        f"remove it, or rename the folder"
    )


def _read_image(path):
    with open(path, "rb") as file:
        content = file.read()
    image = form.decode(content)
    if image is None:
        raise DMRError(f"{path!r} is not an image that can be read; remove or replace it")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB), content[:2] == b"\xff\xd8"


def _read_pickled(content, name, number):
    batch = unpickle(content, name)
    labels_key = b"labels" if number == "10" else b"fine_labels"
    if not isinstance(batch, dict) or not {b"data", labels_key} <= set(batch):
        raise DMRError(f"{name} has no data and labels; {ANOTHER}")
    data, labels = batch[b"data"], batch[labels_key]
    if not isinstance(data, np.ndarray) or data.ndim != 2 or data.shape[1] != _PIXELS:
        raise DMRError(f"{name}: data is not an array of {_PIXELS} bytes an image")
    # Those that NumPy's int64 would not hold are no labels either.
    if not isinstance(labels, list) or not all(
        type(label) is int and abs(label) < 1 << 31 for label in labels
    ):
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
            raise DMRError(f"the archive has no {key.decode()}; {ANOTHER}")
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
    parts = {}
    for part in ("train", "extra", "test"):
        path = _svhn_path(source, part)
        parts[part] = _from_mat(read_mat(path, ("X", "y"), _MOST_IMAGES * _PIXELS), path)
    random = np.random.RandomState(_VALIDATION_SEED)
    aside = {"train": 400, "extra": 200} if split == "paper" else {}
    kept, validation = [], []
    for part in ("train", "extra"):
        labels = parts[part][1]
        chosen = np.zeros(len(labels), bool)
        for digit in range(10 if aside else 0):
            positions = np.flatnonzero(labels == digit)
            if len(positions) < aside[part]:
                raise DMRError(
                    f"{source}: {part} has {len(positions)} images of a {digit}, fewer than the "
                    f"{aside[part]} that the paper sets aside; use --svhn-split authors"
                )
            chosen[random.permutation(positions)[: aside[part]]] = True
        kept.append(_picked(parts[part], ~chosen))
        validation.append(_picked(parts[part], chosen))
    splits = {"train": _joined(kept), "test": parts["test"]}
    if aside:
        splits["validation"] = _joined(validation)
    return Official(tuple(str(digit) for digit in range(10)), splits)


def _svhn_path(source, part):
    path = os.path.join(source, f"{part}_32x32.mat")
    if not os.path.isfile(path):
        raise DMRError(f"{path} is missing; name the folder that holds it with --source")
    return path


def _picked(part, chosen):
    """Some of the images, as views: a copy of all would need gigabytes."""
    images, labels = part
    return [images[i] for i in np.flatnonzero(chosen)], labels[chosen]


def _joined(pairs):
    images, labels = zip(*pairs)
    return sum(images, []), np.concatenate(labels)


def _from_mat(variables, path):
    images, labels = variables.get("X"), variables.get("y")
    if type(images) is not np.ndarray or type(labels) is not np.ndarray:  # sparse ones are none
        raise DMRError(f"{path} has no arrays X and y; {ANOTHER}")
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
