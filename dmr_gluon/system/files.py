"""Write files atomically, and hash them."""

import contextlib
import hashlib
import os

from tqdm import tqdm

from ..errors import DMRError

_BLOCK = 1 << 20


def write_result(path, content):
    """Write an output file named by the user.

    Parameters
    ----------
    path : str
    content : str or bytes
        As for :func:`write_atomically`.

    Raises
    ------
    DMRError
        If the file cannot be written.
    """
    try:
        # Keep a symbolic link, and replace its target.
        write_atomically(os.path.realpath(path) if os.path.islink(path) else path, content)
    except OSError as error:
        raise DMRError(f"{path} cannot be written ({error.strerror or error})") from error


def _sync_folder(folder):
    """Flush a new name to disk: after a power cut, no log may refer to a lost checkpoint."""
    with contextlib.suppress(OSError):  # not supported by some file systems
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def write_atomically(path, content):
    """Write a file completely or not at all.

    Parameters
    ----------
    path : str
        A device such as ``/dev/null`` is written to, not replaced.
    content : str or bytes
        A newline is appended to text.

    Raises
    ------
    OSError
        If the file cannot be written; it names ``path``, and no partial file is left.
    """
    if isinstance(content, str):
        content = (content + "\n").encode()
    if os.path.exists(path) and not os.path.isfile(path):  # /dev/null must not be replaced
        with open(path, "wb") as file:
            file.write(content)
        return
    try:
        with open(path + ".part", "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(path + ".part", path)
        _sync_folder(os.path.dirname(path) or ".")
    except OSError as error:
        # A partial file would keep a full disk full.
        with contextlib.suppress(OSError):
            os.remove(path + ".part")
        raise OSError(error.errno, error.strerror, path) from error


def digests_of(path, algorithms, length=None):
    """Hash a file, or its first bytes, in one pass.

    Parameters
    ----------
    path : str
    algorithms : collection of str
        Names of :mod:`hashlib`, such as ``md5``.
    length : int, optional
        Number of bytes to read. Default: the whole file.

    Returns
    -------
    dict of str to hash object
        By algorithm. They can be updated with further data.
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
    """Return the SHA-256 of the names, types, shapes and values of NumPy arrays.

    Parameters
    ----------
    arrays : dict of str to numpy.ndarray

    Returns
    -------
    str
        Hexadecimal.
    """
    found = hashlib.sha256()
    for name in sorted(arrays):
        found.update(f"{name} {arrays[name].dtype} {arrays[name].shape}\n".encode())
        found.update(arrays[name].tobytes())
    return found.hexdigest()
