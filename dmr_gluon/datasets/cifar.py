"""CIFAR-10 and CIFAR-100 from their official archives or from a tree of images.

Both are identified by a digest of all images and labels, whatever their container.
"""

import functools
import glob
import hashlib
import io
import os
import pickle
import re
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from ..data.content import DIGESTS, image_digest, split_digest
from ..errors import DMRError
from ..paper.dataset_facts import CIFAR_CLASSES
from ..standalone.predict_onnx import EXTENSIONS, Problem, read_image
from ..system.machine import usable_cores
from ..system.settings import number
from . import archives
from .encoder import Encoding, Source
from .folder import stamp
from .registration import Registration
from .writer import write_set

_PAGE = "https://www.cs.toronto.edu/~kriz/"
_ARCHIVES = {
    name: archives.Archive(file, _PAGE + file, md5)
    for name, file, md5 in (
        ("cifar10", "cifar-10-python.tar.gz", "c58f30108f718f92721af3b95e74349a"),
        ("cifar100", "cifar-100-python.tar.gz", "eb9058c3a382ffc7106e4002c42a8d85"),
    )
}
#: Files inside the archives, by split.
_FILES = {
    "cifar10": {
        "train": [f"cifar-10-batches-py/data_batch_{i}" for i in range(1, 6)],
        "test": ["cifar-10-batches-py/test_batch"],
    },
    "cifar100": {"train": ["cifar-100-python/train"], "test": ["cifar-100-python/test"]},
}
#: Folders of the test images in trees that can be downloaded.
_TEST_FOLDERS = ("test", "val", "valid", "validation")


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
        Accept whatever images are there, and call the set ``partial-NAME``.
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
    # The official set is the same whatever its container; a partial one depends on the files.
    files, made = {}, repr((DIGESTS[name], encoding))
    if partial:
        called = f"partial-{called}"
        with archives.readable(source):
            archive, folders = _find(name, source)
            files = archives.describe_files([archive], [_ARCHIVES[name]]) if archive else {}
            images = [path for folder in folders for path in _tree_images(folder)]
            images = [(os.path.relpath(path, source), stamp(path)) for path in images]
        hashes = sorted((file, entry["sha256"]) for file, entry in files.items())
        made = repr((hashes, images, encoding, None, partial))
    fingerprint = hashlib.sha256(made.encode(errors="surrogateescape")).hexdigest()

    def read():
        splits = read_cifar(name, source)
        classes = list(CIFAR_CLASSES[name])
        digests = {
            split: list(map(image_digest, images, labels))
            for split, (images, labels, _) in splits.items()
        }
        more = {"partial": partial}
        if files:
            more["sources"] = files
        if not partial:
            known = {"known_by": "content", "digests": DIGESTS[name]}
            more.update(archives.official(source, name, digests, **known))
            for split, found in digests.items():
                if split_digest(found) != DIGESTS[name][split]:
                    raise DMRError(
                        f"{source} is not {name}: some images or labels of {split} are not the "
                        f"official ones; get the official archive or lossless images, or "
                        f"{archives.AS_PARTIAL}"
                    )
        sources = {
            # Sorted by content, so that the records are the same whatever the container.
            split: [
                Source(names[i], int(labels[i]), functools.partial(images.__getitem__, i))
                for i in sorted(range(len(labels)), key=digests[split].__getitem__)
            ]
            for split, (images, labels, names) in splits.items()
        }
        return classes, sources, more

    return write_set(called, fingerprint, read, out, encoding, overwrite)


def read_cifar(name, source):
    """Read CIFAR-10 or CIFAR-100 (fine labels).

    Parameters
    ----------
    name : str
        ``cifar10`` or ``cifar100``.
    source : str
        The archive (Python version), or the folder that contains it; or a tree: ``train/`` and
        ``test/`` (or ``val/``, ``valid/``), which contain folders with the official names of the
        classes, directly or inside folders of superclasses, or images called
        ``NUMBER_CLASS.png``.

    Returns
    -------
    dict of str to (images, labels, names)
        By split, ``train`` first: a sequence of n images (32, 32, 3) of uint8, RGB; labels (n,);
        and the images' names, for messages. Images of a tree may have any size.

    Raises
    ------
    DMRError
        If there is no such archive, or it is damaged or hostile.
    """
    archive, folders = _find(name, source)
    if folders:
        train, test = (_read_tree(name, source, folder) for folder in folders)
        return {"train": train, "test": test}
    splits, members = {}, archives.read_members(archive, sum(_FILES[name].values(), []))
    for split, files in _FILES[name].items():
        with archives.undamaged(f"{archive}: {split}"):
            batches = [_read_batch(members[file], name) for file in files]
            images, labels = map(np.concatenate, zip(*batches))
            archives.check_images(images, labels, len(CIFAR_CLASSES[name]))
        splits[split] = images, labels, [f"{split} image {i}" for i in range(len(labels))]
    return splits


def _find(name, source):
    """Return the archive's path and no folders, or None and the two folders of a tree."""
    file = _ARCHIVES[name].file
    archive = os.path.join(source, file) if os.path.isdir(source) else source
    if os.path.isfile(archive):
        return archive, []
    tests = (os.path.join(source, folder) for folder in _TEST_FOLDERS)
    folders = [os.path.join(source, "train"), next(filter(os.path.isdir, tests), "")]
    if all(map(os.path.isdir, folders)):
        return None, folders
    raise DMRError(
        f"{source} is neither {file}, nor a folder that has it, nor one with train/ and test/ and "
        f"in them a folder of images for each class; name one of them with --source"
    )


class _DataUnpickler(pickle.Unpickler):
    """Unpickle plain data and NumPy arrays; no other class or function is looked up."""

    _ALLOWED = {
        "_codecs.encode",  # how Python 3 pickles bytes for Python 2
        "numpy.core.multiarray._reconstruct",
        "numpy.dtype",
        "numpy.ndarray",
    }

    def find_class(self, module, name):
        module = module.replace("numpy._core", "numpy.core")  # as NumPy 2 calls it
        if f"{module}.{name}" not in self._ALLOWED:
            raise pickle.UnpicklingError(f"it needs {module}.{name}")
        return super().find_class(module, name)


def _read_batch(content, name):
    """Return images (n, 32, 32, 3) and labels (n,) of one file; raise anything if damaged."""
    batch = _DataUnpickler(io.BytesIO(content), encoding="bytes").load()
    labels = np.array(batch[b"labels" if name == "cifar10" else b"fine_labels"], np.int64)
    # A row is all red values, then all green, then all blue.
    return batch[b"data"].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1), labels


def _read_tree(name, source, folder):
    paths = _tree_images(folder)
    classes = {class_name: label for label, class_name in enumerate(CIFAR_CLASSES[name])}
    labels = [_label_in_tree(path, folder, classes, name) for path in paths]
    with ThreadPoolExecutor(usable_cores()) as pool:
        images = list(pool.map(_read_image, paths))
    return images, np.array(labels, np.int64), [os.path.relpath(path, source) for path in paths]


def _tree_images(folder):
    found = glob.glob(os.path.join(glob.escape(folder), "**", "*"), recursive=True)
    return sorted(path for path in found if path.lower().endswith(EXTENSIONS))


def _label_in_tree(path, split_folder, classes, dataset):
    folder, file = os.path.split(path)
    text = os.path.basename(folder)
    if folder == split_folder:  # which may be called train, as a class of CIFAR-100 is
        text = os.path.splitext(file)[0].partition("_")[2]
    label = classes.get(re.sub("[ -]", "_", text.lower()))
    if label is None:
        raise DMRError(f"{path!r} belongs to no class of {dataset}; remove it or rename its folder")
    return label


def _read_image(path):
    try:
        return read_image(path, upright=False)
    except Problem as problem:
        raise DMRError(f"{path!r} {problem}") from None


def _add_flags(parser, name):
    text = f"store JPEGs of this quality as im2rec does, and call the set {name}-jpegQ (1 to 100)"
    quality = number(int, 1, 100)
    parser.add_argument("--jpeg-quality", type=quality, metavar="Q", help=text)


def _register(name):
    archive = _ARCHIVES[name]
    return Registration(
        name,
        f"from the official {archive.file}",
        functools.partial(prepare_cifar, name),
        functools.partial(_add_flags, name=name),
        (archive,),
        f"{archive.file}, its folder, or a tree of train/<class>/* and test/<class>/* of lossless "
        "images",
    )


CIFAR10, CIFAR100 = _register("cifar10"), _register("cifar100")
