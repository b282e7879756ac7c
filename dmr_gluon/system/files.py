"""Write files atomically, and hash them."""

import contextlib
import hashlib
import os

from tqdm import tqdm

from ..errors import DMRError

_BLOCK = 1 << 20


def write_result(path, content):
    """Write an output file named by the user, as :func:`write_atomically` does.

    Raises
    ------
    DMRError
        If the file cannot be written.
    """
    try:
        write_atomically(path, content)
    except OSError as error:
        raise DMRError(f"{path} cannot be written ({error.strerror or error})") from error


def write_atomically(path, content):
    """Write a file completely or not at all.

    Parameters
    ----------
    path : str
        The target of a symbolic link is replaced. A device such as ``/dev/null`` is written to.
    content : str or bytes
        A newline is appended to text.

    Raises
    ------
    OSError
        If the file cannot be written; it names ``path``, and no partial file is left.
    """
    content = (content + "\n").encode() if isinstance(content, str) else content
    if os.path.exists(path) and not os.path.isfile(path):
        with open(path, "wb") as file:
            file.write(content)
        return
    target = os.path.realpath(path)
    try:
        with open(target + ".part", "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(target + ".part", target)
    except OSError as error:
        # A partial file would keep a full disk full.
        with contextlib.suppress(OSError):
            os.remove(target + ".part")
        raise OSError(error.errno, error.strerror, path) from error
    # After a power cut, no log may refer to a lost checkpoint.
    with contextlib.suppress(OSError):  # not supported by some file systems
        folder = os.open(os.path.dirname(target), os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def digests_of(path, *algorithms):
    """Hash a file in one pass.

    Parameters
    ----------
    path : str
    *algorithms : str
        Names of :mod:`hashlib`, such as ``md5``.

    Returns
    -------
    list of str
        Hexadecimal, in the order of the algorithms.
    """
    digests = [hashlib.new(name) for name in algorithms]
    options = {"desc": f"hash of {os.path.basename(path)}", "disable": None, "leave": False}
    with open(path, "rb") as file:
        total = os.fstat(file.fileno()).st_size
        with tqdm.wrapattr(file, "read", total=total, delay=1, **options) as wrapped:
            for block in iter(lambda: wrapped.read(_BLOCK), b""):
                for digest in digests:
                    digest.update(block)
    return [digest.hexdigest() for digest in digests]


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
