"""Read archives that may not be what they claim: nothing is executed or written to disk."""

import codecs
import contextlib
import io
import os
import pickle
import tarfile
import zlib
from dataclasses import dataclass
from typing import Any, Dict, Optional, Tuple

import numpy as np

from ..errors import DMRError
from ..system.files import digests_of

#: Bytes of all files in an archive. CIFAR's unpack to 186 MB.
_LARGEST = 1 << 30
#: Exceptions that damaged bytes cause in tarfile.
TAR_ERRORS = (tarfile.TarError, EOFError, OSError, ValueError, RecursionError, zlib.error)

ANOTHER = "get the official archive again"
#: Advice for images that are not an official set's.
AS_PARTIAL = "take what is there, under a name of its own, with --partial"


@dataclass(frozen=True)
class Archive:
    """One published file of an official data set.

    Parameters
    ----------
    file : str
    url : str, optional
        None if only registered users get it.
    md5 : str
    bytes : int, optional
    origin : str
        Where the MD5 is published.
    alternative : bool
        The same images in another form: accepted as a source, never downloaded.
    """

    file: str
    url: Optional[str]
    md5: str
    bytes: Optional[int]
    origin: str
    alternative: bool = False


def describe_files(paths, archives, unpacked=False):
    """Return a manifest's entries for the files that a set is made from.

    Parameters
    ----------
    paths : dict of str to str
        Paths by name.
    archives : sequence of Archive
        The published files.
    unpacked : bool
        The files came out of an archive, so nothing is published about them.

    Returns
    -------
    dict of str to dict
        ``bytes``, ``md5``, ``sha256``, and whether it is the ``published`` file; None if unpacked.
    """
    entries: Dict[str, Dict[str, Any]] = {}
    for name, path in paths.items():
        with readable(path):
            md5, sha256 = digests_of(path, "md5", "sha256")
            entries[name] = {"bytes": os.path.getsize(path), "md5": md5, "sha256": sha256}
        known = any((one.file, one.md5) == (name, md5) for one in archives)
        entries[name]["published"] = None if unpacked else known
    return entries


def note_unpublished(files):
    """Print a note about each file that is not the published one."""
    for name, entry in files.items():
        if entry.get("published") is False:
            print(f"note: {name} is not the published file; its MD5 is {entry['md5']}")


def known_by(files):
    """Return how a set is identified whose content has no published digest."""
    return "archives" if all(entry["published"] for entry in files.values()) else "counts"


@contextlib.contextmanager
def readable(source):
    """Turn the system's errors while a source is read into a refusal.

    Parameters
    ----------
    source : str
        Named if the error names no file.

    Raises
    ------
    DMRError
    """
    try:
        yield
    except OSError as error:
        path = error.filename or source
        raise DMRError(
            f"{path} cannot be read ({error.strerror or error}); see to its rights and its disk, "
            f"or name another source"
        ) from error


def unpacked_paths(source, folder, names):
    """Return the paths of an unpacked archive's files, by name; only those that exist."""
    inner = os.path.join(source, folder)
    base = inner if os.path.isdir(inner) else source
    paths = {name: os.path.join(base, name) for name in names}
    return {name: path for name, path in paths.items() if os.path.isfile(path)}


def read_members(source, folder, names):
    """Read files of a tar archive, or of the folder that it was unpacked to.

    Parameters
    ----------
    source : str
        A ``.tar`` or ``.tar.gz``; or a folder that contains ``folder`` or its files.
    folder : str
        The archive's one folder, such as ``cifar-10-batches-py``.
    names : collection of str
        The files to read, without the folder.

    Returns
    -------
    dict of str to bytes

    Raises
    ------
    DMRError
        If the source cannot be read, lacks a file, or is larger than the set can be.
    """
    found, total = {}, 0

    def count(size):
        nonlocal total
        total += size
        if size < 0 or total > _LARGEST:
            raise DMRError(f"{source} unpacks to over {_LARGEST:,} bytes; {ANOTHER}")

    if os.path.isdir(source):
        for name, path in unpacked_paths(source, folder, names).items():
            count(os.path.getsize(path))
            with open(path, "rb") as file:
                found[name] = file.read()
    else:
        try:
            with tarfile.open(source) as archive:
                for member in archive:
                    count(member.size)
                    top, _, name = member.name.partition("/")
                    if member.isreg() and top == folder and name in names:
                        found[name] = archive.extractfile(member).read()
        except TAR_ERRORS as error:
            reason = getattr(error, "strerror", None) or error or "it ends early"
            raise DMRError(f"{source} cannot be read as a tar archive: {reason}") from error
    missing = sorted(set(names) - set(found))
    if missing:
        raise DMRError(f"{source} has no {folder}/{missing[0]}; {ANOTHER}")
    return found


_RECONSTRUCT = np.core.multiarray._reconstruct  # type: ignore[attr-defined]


class _DataUnpickler(pickle.Unpickler):
    """Unpickle plain data and NumPy arrays; no other class or function is looked up."""

    _ALLOWED: Dict[Tuple[str, str], Any] = {
        ("_codecs", "encode"): codecs.encode,  # how Python 3 pickles bytes for Python 2
        ("numpy", "ndarray"): np.ndarray,
        ("numpy", "dtype"): np.dtype,
        ("numpy.core.multiarray", "_reconstruct"): _RECONSTRUCT,
        ("numpy._core.multiarray", "_reconstruct"): _RECONSTRUCT,
    }

    def find_class(self, module, name):
        if (module, name) not in self._ALLOWED:
            raise pickle.UnpicklingError(f"it wants to use {f'{module}.{name}'[:80]!r}")
        return self._ALLOWED[module, name]


def unpickle(content, name):
    """Unpickle plain data without executing anything.

    Parameters
    ----------
    content : bytes
    name : str
        Names the pickle in a refusal.

    Returns
    -------
    object
        Text of Python 2 as bytes.

    Raises
    ------
    DMRError
        If the pickle is damaged or contains anything else.
    """
    try:
        return _DataUnpickler(io.BytesIO(content), encoding="bytes").load()
    except Exception as error:  # damaged bytes raise anything
        reason = str(error)[:200]
        raise DMRError(f"{name} is not a pickle of plain data: {reason}; {ANOTHER}") from None


def read_mat(name, variables, most, content=None):
    """Read variables of a MATLAB file (version 5) after checking their declared sizes.

    Parameters
    ----------
    name : str
        The file's path.
    variables : collection of str
    most : int
        Elements that a variable may have.
    content : bytes, optional
        Content of a file inside an archive; ``name`` then only names it in refusals.

    Returns
    -------
    dict of str to numpy.ndarray
        The variables that exist.

    Raises
    ------
    DMRError
        If the file is missing, damaged or too large.
    """
    from scipy.io import loadmat, whosmat  # slow to import, and few sets need it

    try:
        with open(name, "rb") if content is None else io.BytesIO(content) as file:
            for variable, shape, _ in whosmat(file):
                if variable in variables and np.prod(shape, dtype=object) > most:
                    raise DMRError(f"{name}: {variable} has over {most:,} elements; {ANOTHER}")
            file.seek(0)
            found = loadmat(file, variable_names=list(variables))
        return {key: found[key] for key in variables if key in found}
    except (DMRError, PermissionError):
        raise
    except Exception as error:  # damaged bytes raise anything
        raise DMRError(f"{name} is not a MATLAB file that can be read: {error}") from None


def check_labels(images, labels, classes, name):
    """Return images and labels, after checking that they fit each other and the classes."""
    if len(images) != len(labels) or not len(labels):
        raise DMRError(f"{name} has {len(images)} images and {len(labels)} labels; {ANOTHER}")
    if labels.min() < 0 or labels.max() >= classes:
        raise DMRError(
            f"{name} has labels from {labels.min()} to {labels.max()}, not 0 to {classes - 1}; "
            f"{ANOTHER}"
        )
    return images, labels
