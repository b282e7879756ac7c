"""Any folder of images as a prepared data set."""

import functools
import hashlib
import os
import re

import numpy as np

from ..errors import DMRError
from ..standalone.predict_onnx import EXTENSIONS, FITS
from ..system.settings import number
from .archives import readable
from .encoder import Encoding, Source
from .registration import Registration
from .writer import write_set


def prepare_folder(
    source, out, name=None, encoding=Encoding(), overwrite=False, test_share=None, seed=None
):
    """Prepare any tree of ``train/<class>/*`` and ``test/<class>/*`` images, or of ``<class>/*``.

    JPEGs are kept unless they are CMYK or have to be rotated or resized. Other images become
    lossless PNGs.

    Parameters
    ----------
    source, out : str
        The tree, and the folder to write to.
    name : str, optional
        The data set's name in logs and results. Default: the name of the source folder.
    encoding : Encoding
    overwrite : bool
        Replace another prepared set in ``out``.
    test_share : float, optional
        Share of each class, at least one image, that is drawn for testing from a tree
        ``<class>/*``. Default: the tree is split already.
    seed : int, optional
        Decides which ones. Default: 1.

    Returns
    -------
    RecordDataset

    Raises
    ------
    DMRError
        If the tree has another form, an image is unreadable, the name is no file name or reserved,
        or ``out`` holds something else.
    """
    source = os.path.abspath(source)
    name = own_name(name or os.path.basename(source))
    if test_share is not None:
        found = _split_sources(source, encoding, test_share, 1 if seed is None else seed)
    elif seed is not None:
        raise DMRError("--seed does nothing without --test-share; leave it out")
    else:
        found = folder_sources(source, encoding)
    classes, sources, fingerprint = found
    more = {"fit": encoding.fit} if encoding.exact else {}
    return write_set(name, fingerprint, lambda: (classes, sources, more), out, encoding, overwrite)


def own_name(name):
    """Return the name of a user's own set; refuse an official set's, and what is no file name."""
    from .registry import DATASETS  # imports this module

    if name in DATASETS or not name.isprintable() or re.search(r"^\.*$|/", name):
        raise DMRError(
            f"{name!r} is reserved for an official data set or is not a file name; give another "
            f"with --name"
        )
    return name


def folder_sources(source, encoding, test="test"):
    """Find the images of a tree ``SPLIT/<class>/*``.

    Parameters
    ----------
    source : str
    encoding : Encoding
    test : str
        The folder of the test images; the other one is ``train``.

    Returns
    -------
    list of str, dict of str to list of Source, str
        Classes in sorted order; images; and a hash of the encoding and of all names, sizes and
        times.

    Raises
    ------
    DMRError
        If the tree has another form or cannot be read.
    """
    with readable(source):
        folders = {"train": "train", "test": test}
        found = {split: _find_images(source, folder) for split, folder in folders.items()}
        wrong = sorted(set(found["test"]) - set(found["train"]))
        if wrong:
            path = os.path.join(source, test, wrong[0])
            raise DMRError(f"{path!r} is a class that train/ does not have; remove it")
        return _labelled(source, found, encoding)


def _split_sources(source, encoding, share, seed):
    """Find the images of a tree ``<class>/*``, and draw a share of each class for testing."""
    if not 0 < share < 1:
        raise DMRError(f"--test-share must be between 0 and 1, such as 0.2, not {share:g}")
    with readable(source):
        if os.path.isdir(os.path.join(source, "train")):
            raise DMRError(f"{source!r} has a folder train/ and is split; leave out --test-share")
        random, found = np.random.RandomState(seed), {"train": {}, "test": {}}
        for name, paths in sorted(_find_images(source, "").items()):
            drawn = set(random.permutation(len(paths))[: max(1, round(share * len(paths)))])
            found["test"][name] = [path for i, path in enumerate(paths) if i in drawn]
            found["train"][name] = [path for i, path in enumerate(paths) if i not in drawn]
            if not found["train"][name]:
                raise DMRError(
                    f"--test-share {share:g} leaves no image of {name!r} for training; add images"
                )
        return _labelled(source, found, encoding, share, seed)


def _labelled(source, found, encoding, *more):
    """Return what :func:`folder_sources` does, from paths by split and class."""
    classes = sorted(found["train"])
    if encoding.exact:
        more = (*more, encoding.fit)
    key = repr((encoding, classes, *more))
    fingerprint, sources = hashlib.sha256(key.encode(errors="replace")), {}
    for split, paths in found.items():
        sources[split] = []
        for label, class_name in enumerate(classes):
            for path in paths.get(class_name, ()):
                relative = os.path.relpath(path, source)
                fingerprint.update(os.fsencode(relative) + stamp(path))
                read = functools.partial(_read, path)
                sources[split].append(Source(relative, label, read))
    return classes, sources, fingerprint.hexdigest()


def _find_images(source, folder):
    """Return the sorted paths of a split's images by class; print how many files are ignored."""
    folder = os.path.join(source, folder)
    found = {}
    for class_folder in _entries(folder) if os.path.isdir(folder) else ():
        if class_folder.is_dir():
            entries = _entries(class_folder.path)
            paths = [
                entry.path
                for entry in entries
                if entry.name.lower().endswith(EXTENSIONS) and not entry.is_dir()
            ]
            ignored = len(entries) - len(paths)
            if ignored:
                print(f"note: {ignored} entries of {class_folder.path!r} are not images; ignored")
            if not paths:
                raise DMRError(f"{class_folder.path!r} has no images; remove it or put some there")
            found[class_folder.name] = sorted(paths)
    if not found:
        raise DMRError(
            f"{folder!r} has no images in <class>/*; add some, or, for a tree that is not split "
            f"into train/ and test/, --test-share 0.2"
        )
    return found


def _entries(folder):
    return [entry for entry in os.scandir(folder) if not entry.name.startswith(".")]


def stamp(path):
    """Return size and time of a file as bytes, to detect a change without reading it."""
    status = os.stat(path)
    return f"\0{status.st_size} {status.st_mtime_ns}\0".encode()


def _read(path):
    with open(path, "rb") as file:
        return file.read()


def _size(text):
    match = re.fullmatch(r"(\d+)(?:x(\d+))?", text)
    numbers = [int(n) for n in match.groups() if n] if match else [0]
    if not all(1 <= n <= 10_000 for n in numbers):
        raise DMRError(f"--resize {text}: write 32x32 (width x height) or 480 (shorter side)")
    return numbers[0] if len(numbers) == 1 else (numbers[1], numbers[0])


def _add_flags(parser):
    parser.add_argument("source", metavar="SRC", help="tree of train/<class>/* and test/<class>/*")
    parser.add_argument("--name", help="the set's name in logs and results (default: SRC's)")
    text = "32x32: this height and width; 480: this shorter side (default: keep the size)"
    parser.add_argument("--resize", type=_size, metavar="SIZE", help=text)
    text = "how images get the size 32x32: crop the centre (default), pad with black, or stretch"
    parser.add_argument("--fit", choices=FITS, help=text)
    text = "draw this share of each class for testing, such as 0.2, from a tree <class>/*"
    parser.add_argument("--test-share", type=float, metavar="SHARE", help=text)
    seed = number(int, 0, 2**32 - 1)
    parser.add_argument("--seed", type=seed, help="decides which ones (default: 1)")
    text = "do not rotate images according to EXIF"
    parser.add_argument("--ignore-orientation", action="store_true", help=text)


def _prepare(source, out, name, resize, fit, ignore_orientation, overwrite, test_share, seed):
    encoding = Encoding(resize, upright=not ignore_orientation, fit=fit or "crop")
    if fit and not encoding.exact:
        raise DMRError(f"--fit {fit} needs an exact size; add --resize 32x32")
    return prepare_folder(source, out, name, encoding, overwrite, test_share, seed)


FOLDER = Registration(
    "folder", "any tree of train/<class>/* and test/<class>/* images", _prepare, _add_flags
)
