"""Reading archives that may not be what they say: nothing is run, unpacked or unbounded."""

import contextlib
import gzip
import io
import os
import pickle
import tarfile
import zlib

import numpy as np

from ..errors import DMRError

#: Of one file in an archive. The largest in CIFAR's has 154 MB.
_LARGEST_MEMBER = 256 << 20
#: Of all of an archive. CIFAR's unpack to 186 MB.
_LARGEST_ARCHIVE = 1 << 30

_ANOTHER = "get the official archive again"


def read_members(source, folder, names):
    """Files of a tar archive, or of the folder that it was unpacked to.

    Parameters
    ----------
    source : str
        A ``.tar`` or ``.tar.gz``; or a folder that holds ``folder`` or its files.
    folder : str
        The archive's one folder, such as ``cifar-10-batches-py``.
    names : collection of str
        The files that are wanted, without the folder.

    Returns
    -------
    dict of str to bytes

    Raises
    ------
    DMRError
        For a source that cannot be read or lacks a file, and for archives with names that
        lead out of their folder, with links, or with sizes beyond all bounds.
    """
    if os.path.isdir(source):
        found = _read_folder(source, folder, names)
    else:
        try:
            with _open_bounded(source) as stream, tarfile.open(
                fileobj=stream, mode="r|"
            ) as archive:
                found = _read_tar(source, archive, folder, names)
        except (tarfile.TarError, zlib.error, EOFError, OSError) as error:
            reason = getattr(error, "strerror", None) or error or "it ends early"
            raise DMRError(f"{source} cannot be read as a tar archive: {reason}") from error
    missing = sorted(set(names) - set(found))
    if missing:
        raise DMRError(f"{source} has no {folder}/{missing[0]}; {_ANOTHER}")
    return found


class _Bounded:
    """A stream that refuses to give more than a bounded number of bytes."""

    def __init__(self, stream, name):
        self.stream, self.name, self.left = stream, name, _LARGEST_ARCHIVE

    def read(self, size=-1):
        wanted = self.left + 1 if size < 0 else min(size, self.left + 1)
        content = self.stream.read(wanted)
        self.left -= len(content)
        if self.left < 0:
            raise DMRError(f"{self.name} unpacks to over {_LARGEST_ARCHIVE:,} bytes; {_ANOTHER}")
        return content


@contextlib.contextmanager
def _open_bounded(path):
    """A tar archive's bytes, decompressed if it is a .tar.gz."""
    with open(path, "rb") as file:
        compressed = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        with gzip.GzipFile(fileobj=file) if compressed else contextlib.nullcontext(file) as stream:
            yield _Bounded(stream, path)


def unpacked_paths(source, folder, names):
    """Where the files of an archive are that was unpacked; those that are there, by name."""
    inner = os.path.join(source, folder)
    base = inner if os.path.isdir(inner) else source
    paths = {name: os.path.join(base, name) for name in names}
    return {name: path for name, path in paths.items() if os.path.isfile(path)}


def _read_folder(source, folder, names):
    found = {}
    for name, path in unpacked_paths(source, folder, names).items():
        if os.path.getsize(path) > _LARGEST_MEMBER:
            raise DMRError(f"{path} is larger than any file of this data set; {_ANOTHER}")
        with open(path, "rb") as file:
            found[name] = file.read()
    return found


def _read_tar(source, archive, folder, names):
    found = {}
    for member in archive:
        where = f"{source}: {member.name!r}"
        parts = member.name.split("/")
        if os.path.isabs(member.name) or ".." in parts:
            raise DMRError(f"{where} leads out of the archive's folder; {_ANOTHER}")
        if not (member.isfile() or member.isdir()):
            raise DMRError(f"{where} is a link or a device, which has no place there; {_ANOTHER}")
        if member.size > _LARGEST_MEMBER:
            raise DMRError(f"{where} says that it has {member.size:,} bytes; {_ANOTHER}")
        name = "/".join(parts[1:])
        if member.isfile() and parts[0] == folder and name in names:
            content = archive.extractfile(member).read()
            if len(content) != member.size:
                raise DMRError(f"{where} ends early; {_ANOTHER}")
            found[name] = content
    return found


class _Array:
    """Stands for a NumPy array in a pickle, and does nothing but keep what it is given."""

    def __init__(self, *_):
        self.shape = self.dtype = self.data = None

    def __setstate__(self, state):
        _, self.shape, self.dtype, self.fortran, self.data = state


class _Dtype:
    """Stands for a NumPy dtype in a pickle."""

    def __init__(self, name=None, *_):
        self.name = name

    def __setstate__(self, state):
        pass


def _latin1(text, encoding="latin1"):
    """How Python 3 writes bytes in a pickle for Python 2."""
    if not isinstance(text, str) or encoding != "latin1":
        raise pickle.UnpicklingError("it has text in an unknown encoding")
    return text.encode("latin1")


class _DataUnpickler(pickle._Unpickler):
    """Reads dictionaries, lists, numbers, bytes and arrays. Nothing else is looked up or called.

    The one in plain Python: the other takes memory for positions that a pickle names.
    """

    def find_class(self, module, name):
        if (module, name) == ("_codecs", "encode"):
            return _latin1
        if module in ("numpy.core.multiarray", "numpy._core.multiarray", "numpy"):
            stand_in = {"_reconstruct": _Array, "ndarray": _Array, "dtype": _Dtype}.get(name)
            if stand_in:
                return stand_in
        raise pickle.UnpicklingError(f"it wants to use {module}.{name}")

    def persistent_load(self, _):
        raise pickle.UnpicklingError("it refers to something outside")


def unpickle(content, name):
    """A pickle of plain data, without running anything that it asks for.

    Parameters
    ----------
    content : bytes
    name : str
        For refusals.

    Returns
    -------
    object
        Text of Python 2 as bytes; arrays of uint8 as NumPy arrays in dictionaries.

    Raises
    ------
    DMRError
        For a pickle that is damaged or wants anything but plain data.
    """
    try:
        loaded = _DataUnpickler(io.BytesIO(content), encoding="bytes").load()
    except Exception as error:  # whatever damaged bytes make of the unpickler
        raise DMRError(f"{name} is not a pickle of plain data: {error}; {_ANOTHER}") from None
    if isinstance(loaded, dict):
        return {key: _to_numpy(value, name) for key, value in loaded.items()}
    return loaded


def _to_numpy(value, name):
    if not isinstance(value, _Array):
        return value
    shape, dtype = value.shape, getattr(value.dtype, "name", None)
    plain = (
        isinstance(shape, tuple)
        and all(isinstance(size, int) and size >= 0 for size in shape)
        and dtype in (b"u1", "u1")
        and isinstance(value.data, bytes)
        and not value.fortran
    )
    if not plain or np.prod(shape, dtype=object) != len(value.data):
        raise DMRError(f"{name} has an array that is not of bytes; {_ANOTHER}")
    return np.frombuffer(value.data, np.uint8).reshape(shape)


def read_mat(path, most):
    """The variables of a MATLAB file (version 5), after a look at how large they get.

    Parameters
    ----------
    path : str
    most : int
        Bytes that a variable may have.

    Returns
    -------
    dict of str to numpy.ndarray

    Raises
    ------
    DMRError
        For a file that is missing, damaged or too large, or without SciPy.
    """
    try:
        from scipy.io import loadmat
    except ImportError as error:
        raise DMRError(
            "MATLAB files are read with SciPy, which is not installed; pip install 'scipy<1.13'"
        ) from error
    try:
        _check_mat_sizes(path, most)
        return {k: v for k, v in loadmat(path).items() if not k.startswith("__")}
    except DMRError:
        raise
    except FileNotFoundError:
        raise DMRError(f"{path} is missing; name the folder that holds it with --source") from None
    except Exception as error:  # SciPy raises whatever damaged bytes lead to
        raise DMRError(f"{path} is not a MATLAB file that can be read: {error}") from None


def _check_mat_sizes(path, most):
    """Decompress each variable without keeping it: its compressed size says nothing."""
    with open(path, "rb") as file:
        header = file.read(128)
        if len(header) < 128 or header[126:128] not in (b"IM", b"MI"):
            raise DMRError(f"{path} is not a MATLAB file of version 5")
        order = "<u4" if header[126:128] == b"IM" else ">u4"
        while True:
            tag = file.read(8)
            if len(tag) < 8:
                return
            kind, length = (int(number) for number in np.frombuffer(tag, order))
            if kind != 15:  # not compressed: as long as it says, or the file ends
                if length > most:
                    raise DMRError(f"{path} has a variable of {length:,} bytes; {_ANOTHER}")
                file.seek(length, os.SEEK_CUR)
                continue
            stream, total = zlib.decompressobj(), 0
            while length > 0:
                block = file.read(min(length, 1 << 20))
                if not block:
                    raise DMRError(f"{path} ends early; {_ANOTHER}")
                length -= len(block)
                while block:
                    total += len(stream.decompress(block, 1 << 24))
                    block = stream.unconsumed_tail
                    if total > most:
                        raise DMRError(f"{path} has a variable of over {most:,} bytes; {_ANOTHER}")
