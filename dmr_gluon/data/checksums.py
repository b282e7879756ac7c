"""Hashes of files, with progress, and of arrays."""

import hashlib
import os

from tqdm import tqdm

from .datasets import ARCHIVES

_BLOCK = 1 << 20
_PUBLISHED_MD5 = {entry.file: entry.md5 for entries in ARCHIVES.values() for entry in entries}


def digests_of(path, algorithms, length=None):
    """Hash a file, or its beginning, reading it once.

    Parameters
    ----------
    path : str
    algorithms : collection of str
        Such as ``md5``.
    length : int, optional
        Bytes to read; default: all.

    Returns
    -------
    dict of str to hashlib's objects
        By algorithm; they can be updated with what follows.
    """
    digests = {name: hashlib.new(name) for name in algorithms}
    left = os.path.getsize(path) if length is None else length
    bar = tqdm(
        total=left, desc=f"hash of {os.path.basename(path)}", unit="B", unit_scale=True,
        disable=None, leave=False, delay=1,
    )  # fmt: skip
    with bar, open(path, "rb") as file:
        while left > 0:
            block = file.read(min(left, _BLOCK))
            if not block:
                break
            for digest in digests.values():
                digest.update(block)
            left -= len(block)
            bar.update(len(block))
    return digests


def digest(arrays):
    """SHA-256 of the names, types, shapes and values of NumPy arrays.

    Parameters
    ----------
    arrays : dict of str to numpy.ndarray

    Returns
    -------
    str
    """
    found = hashlib.sha256()
    for name in sorted(arrays):
        found.update(f"{name} {arrays[name].dtype} {arrays[name].shape}\n".encode())
        found.update(arrays[name].tobytes())
    return found.hexdigest()


def describe_archive(path, unpacked=False):
    """What a manifest says of a file that a set was made from.

    Parameters
    ----------
    path : str
    unpacked : bool
        It came out of an archive, so that nothing is published about it.

    Returns
    -------
    dict
        ``bytes``, ``md5``, ``sha256`` and whether it is the ``published`` file by its MD5; None
        for one that was unpacked.
    """
    found = digests_of(path, ("md5", "sha256"))
    digests = {name: digest.hexdigest() for name, digest in found.items()}
    published = _PUBLISHED_MD5.get(os.path.basename(path)) == digests["md5"]
    return {
        "bytes": os.path.getsize(path),
        **digests,
        "published": None if unpacked else published,
    }
