"""The digits, and any folder of images, as prepared data sets."""

import hashlib
import os
import stat
import unicodedata
from typing import Dict, List

import cv2
import numpy as np

from ..data.datasets import is_plain
from ..errors import DMRError
from ..paper.dataset_facts import PUBLISHED
from ..standalone.predict_onnx import EXTENSIONS
from .encoder import Encoding, Source
from .writer import write_set


def prepare_digits(out, overwrite=False):
    """The 1,797 handwritten digits that scikit-learn carries, as 32x32 RGB.

    They are 8x8 grey values from 0 to 16, enlarged four times with cubic interpolation.
    1,437 are for training and 360 for testing, in equal shares of each digit.

    Returns
    -------
    PreparedSet
    """
    return write_set("digits", "1", _read_digits, out, Encoding(), overwrite)


def _read_digits():
    try:
        from sklearn.datasets import load_digits
        from sklearn.model_selection import train_test_split
    except ImportError as error:
        raise DMRError(
            "the digits come with scikit-learn, which is not installed; "
            "pip install 'scikit-learn<1.6' 'scipy<1.13' (later ones need another NumPy)"
        ) from error
    digits = load_digits()
    split = dict(
        zip(
            ("train", "test"),
            train_test_split(
                range(len(digits.target)), test_size=360, stratify=digits.target, random_state=0
            ),
        )
    )

    def enlarge(position):
        grey = np.rint(digits.images[position] * (255 / 16)).astype(np.uint8)
        large = cv2.resize(grey, (32, 32), interpolation=cv2.INTER_CUBIC)
        return np.repeat(large[:, :, None], 3, axis=2)

    sources = {
        name: [
            Source(f"digit {i}", int(digits.target[i]), lambda i=i: enlarge(i)) for i in positions
        ]
        for name, positions in split.items()
    }
    return [str(digit) for digit in range(10)], sources, {}


def prepare_folder(source, out, name=None, encoding=Encoding(), overwrite=False):
    """Any tree of ``train/<class>/*`` and ``test/<class>/*`` images.

    Images that are JPEG already are taken as they are unless they are CMYK, to be turned or to be
    resized; others become lossless PNG.

    Parameters
    ----------
    source, out : str
        The tree, and the folder to write to.
    name : str, optional
        The data set's name in logs and results; the source folder's by default.
    encoding : Encoding
    overwrite : bool
        Replace another prepared set that is in ``out``.

    Returns
    -------
    PreparedSet

    Raises
    ------
    DMRError
        For a tree of another form, an unreadable image, a name that would not do as a file's, or
        an ``out`` that holds something else.
    """
    source = os.path.abspath(source)
    name = name or os.path.basename(source)
    if not is_plain(name):
        raise DMRError(
            f"the name {name!r} would not do as that of a file; give another with --name"
        )
    if name in PUBLISHED or name == "digits":
        raise DMRError(
            f"the name {name!r} is kept for the official data set, so that results are never "
            f"mistaken for one another; give another with --name"
        )
    folders = {"train": "train", "test": "test"}
    classes, sources, fingerprint = folder_sources(source, folders, encoding)
    return write_set(name, fingerprint, lambda: (classes, sources, {}), out, encoding, overwrite)


def folder_sources(source, folders, encoding):
    """The images of a tree ``SPLIT/<class>/*``.

    Parameters
    ----------
    source : str
    folders : dict of str to str
        The folder of each split, ``train`` first.
    encoding : Encoding

    Returns
    -------
    list of str, dict of str to list of Source, str
        Classes in sorted order, with names in Unicode's NFC however folders are written; images;
        and a hash of the encoding and all names, sizes and times.

    Raises
    ------
    DMRError
        For a tree of another form.
    """
    found = {name: _class_folders(os.path.join(source, name)) for name in folders.values()}
    classes = sorted(found[folders["train"]])
    endings = ", ".join(EXTENSIONS)
    fingerprint = hashlib.sha256(repr((encoding, classes)).encode(errors="replace"))
    sources: Dict[str, List[Source]] = {}
    for split, folder_name in folders.items():
        folder = os.path.join(source, folder_name)
        unknown = sorted(set(found[folder_name]) - set(classes))
        if unknown:
            path = os.path.join(folder, found[folder_name][unknown[0]])
            raise DMRError(f"{path!r} is a class that train/ does not have; remove it")
        sources[split] = []
        for label, class_name in enumerate(classes):
            class_folder = os.path.join(folder, found[folder_name].get(class_name, class_name))
            for path in _images(class_folder) if class_name in found[folder_name] else ():
                relative = os.path.relpath(path, source)
                fingerprint.update(os.fsencode(relative) + stamp(path))
                sources[split].append(Source(relative, label, lambda path=path: _read(path)))
            if split == "train" and (not sources[split] or sources[split][-1].label != label):
                raise DMRError(
                    f"{class_folder!r} has no images ({endings}); remove it or put some there"
                )
        if not sources[split]:
            raise DMRError(f"{folder!r} has no images ({endings}) in its folders")
    return classes, sources, fingerprint.hexdigest()


def stamp(path):
    """Size and time of a file, to notice that it changed without reading it."""
    try:
        status = os.stat(path)
    except OSError as error:
        reason = f"cannot be read ({error.strerror})"
    else:
        if stat.S_ISREG(status.st_mode):
            return f"\0{status.st_size} {status.st_mtime_ns}\0".encode()
        reason = "is not a file"
    raise DMRError(f"{path!r} {reason}; remove or replace it")


def _class_folders(folder):
    """Names of folders by class. macOS may write an accent as a character of its own (NFD)."""
    names = sorted(entry.name for entry in _entries(folder) if entry.is_dir())
    if not names:
        raise DMRError(f"{folder!r} has no folders; images belong in its <class>/*")
    found = {}
    for name in names:
        other = found.setdefault(unicodedata.normalize("NFC", name), name)
        if other != name:
            raise DMRError(
                f"{folder!r} has two folders for {name!r}, {ascii(other)} and {ascii(name)}, which "
                f"differ only in how Unicode writes the name; put all images into one"
            )
    return found


def _entries(folder):
    """What is in a folder, but for hidden files; a refusal where it cannot be read."""
    try:
        return [entry for entry in os.scandir(folder) if not entry.name.startswith(".")]
    except OSError as error:
        raise DMRError(
            f"{folder!r} cannot be read ({error.strerror}); images belong in "
            f"SRC/train/<class>/* and SRC/test/<class>/*"
        ) from None


def _images(folder):
    """Paths of a class's images; says what else is there and left out."""
    entries = _entries(folder)
    paths = [
        entry.path
        for entry in entries
        if entry.name.lower().endswith(EXTENSIONS) and not entry.is_dir()
    ]
    if len(paths) < len(entries):
        print(f"note: {len(entries) - len(paths)} entries of {folder!r} are no images; left out")
    return sorted(paths)


def _read(path):
    with open(path, "rb") as file:
        return file.read()
