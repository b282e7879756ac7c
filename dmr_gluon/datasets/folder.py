"""Any folder of images as a prepared data set."""

import hashlib
import os
import re
import stat
import unicodedata
from typing import Dict, List

from ..data.datasets import is_plain
from ..errors import DMRError
from ..standalone.predict_onnx import EXTENSIONS
from .encoder import Encoding, Source
from .registration import Registration, whole_number
from .writer import write_set


def prepare_folder(source, out, name=None, encoding=Encoding(), overwrite=False):
    """Prepare any tree of ``train/<class>/*`` and ``test/<class>/*`` images.

    JPEGs are kept unless they are CMYK or have to be turned or resized; other images become
    lossless PNGs.

    Parameters
    ----------
    source, out : str
        The tree, and the folder to write to.
    name : str, optional
        The data set's name in logs and results; default: the source folder's.
    encoding : Encoding
    overwrite : bool
        Replace another prepared set in ``out``.

    Returns
    -------
    RecordDataset

    Raises
    ------
    DMRError
        If the tree has another form, an image is unreadable, the name is no file name or reserved,
        or ``out`` holds something else.
    """
    from .registry import DATASETS  # which has this module's registration

    source = os.path.abspath(source)
    name = name or os.path.basename(source)
    if not is_plain(name):
        raise DMRError(f"{name!r} is not a file name; give another with --name")
    if name in DATASETS:
        raise DMRError(
            f"the name {name!r} is reserved for the official data set, so that results are never "
            f"mistaken for one another; give another with --name"
        )
    folders = {"train": "train", "test": "test"}
    classes, sources, fingerprint = folder_sources(source, folders, encoding)
    return write_set(name, fingerprint, lambda: (classes, sources, {}), out, encoding, overwrite)


def folder_sources(source, folders, encoding):
    """Find the images of a tree ``SPLIT/<class>/*``.

    Parameters
    ----------
    source : str
    folders : dict of str to str
        The folder of each split, ``train`` first.
    encoding : Encoding

    Returns
    -------
    list of str, dict of str to list of Source, str
        Classes in sorted order, their names in Unicode's NFC; images; and a hash of the encoding
        and all names, sizes and times.

    Raises
    ------
    DMRError
        If the tree has another form.
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
    """Return size and time of a file, to detect a change without reading it."""
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
    """Return folder names by class. macOS may write an accent as a separate character (NFD)."""
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
    """Return the entries of a folder except hidden ones; refuse if it cannot be read."""
    try:
        return [entry for entry in os.scandir(folder) if not entry.name.startswith(".")]
    except OSError as error:
        raise DMRError(
            f"{folder!r} cannot be read ({error.strerror}); images belong in "
            f"SRC/train/<class>/* and SRC/test/<class>/*"
        ) from None


def _images(folder):
    """Return the paths of a class's images; print how many other entries are ignored."""
    entries = _entries(folder)
    paths = [
        entry.path
        for entry in entries
        if entry.name.lower().endswith(EXTENSIONS) and not entry.is_dir()
    ]
    if len(paths) < len(entries):
        print(f"note: {len(entries) - len(paths)} entries of {folder!r} are no images; ignored")
    return sorted(paths)


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
    parser.add_argument("source", metavar="SRC", help="the tree")
    parser.add_argument("--name", help="the set's name in logs and results (default: SRC's)")
    parser.add_argument(
        "--resize",
        type=_size,
        metavar="SIZE",
        help="32x32: this width and height; 480: this shorter side (default: keep the size)",
    )
    parser.add_argument(
        "--encoding",
        choices=("auto", "png", "jpeg"),
        default="auto",
        help="auto: JPEG if the source is JPEG, else lossless PNG",
    )
    parser.add_argument(
        "--quality",
        type=whole_number("--quality", 1, 100),
        metavar="Q",
        help="encode all JPEGs again with this quality, 1 to 100 (default: keep them)",
    )
    parser.add_argument(
        "--ignore-orientation",
        action="store_true",
        help="do not turn photographs upright (default: upright, as EXIF says)",
    )


def _prepare(source, out, name, resize, encoding, quality, ignore_orientation, overwrite):
    if quality is not None and encoding == "png":
        raise DMRError("--quality is for JPEGs; leave it out with --encoding png")
    encoded = Encoding(resize, encoding, quality, not ignore_orientation)
    return prepare_folder(source, out, name, encoded, overwrite)


FOLDER = Registration(
    "folder", "any tree of train/<class>/* and test/<class>/* images", _prepare, _add_flags
)
