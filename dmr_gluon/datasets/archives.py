"""Reading archives that may not be what they say: nothing is run, unpacked or unbounded."""

import contextlib
import gzip
import io
import os
import tarfile
import zlib

import numpy as np

from ..errors import DMRError

#: Of one file in an archive. The largest in CIFAR's has 154 MB.
_LARGEST_MEMBER = 256 << 20
#: Of all of an archive. CIFAR's unpack to 186 MB.
_LARGEST_ARCHIVE = 1 << 30

#: Of a name or a comment that stands before a file.
_LARGEST_HEADER = 64 << 10
_HEADERS = (
    *(tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE),
    *(tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK),
)

ANOTHER = "get the official archive again"


@contextlib.contextmanager
def readable(source):
    """What the system says while a source is read, as a refusal.

    Parameters
    ----------
    source : str
        Named where the system names no file.

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


#: What tarfile makes of damaged and hostile bytes.
TAR_ERRORS = (tarfile.TarError, EOFError, OSError, ValueError, RecursionError)


class PlainMember(tarfile.TarInfo):
    """An entry of a tar archive, without what tarfile would take unbounded memory for."""

    @classmethod
    def frombuf(cls, buf, encoding, errors):
        member = super().frombuf(buf, encoding, errors)
        if member.type == tarfile.GNUTYPE_SPARSE:
            cls._refuse_sparse()
        if member.type in _HEADERS and not 0 <= member.size <= _LARGEST_HEADER:
            raise tarfile.ReadError(f"a header says that it has {member.size:,} bytes")
        return member

    def _proc_gnusparse_10(self, *_):  # its map is in the file's content, of any length
        self._refuse_sparse()

    @staticmethod
    def _refuse_sparse():
        raise tarfile.ReadError("it has a file with holes")


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
                fileobj=stream, mode="r|", tarinfo=PlainMember
            ) as archive:
                found = _read_tar(source, archive, folder, names)
        except (*TAR_ERRORS, zlib.error) as error:
            reason = getattr(error, "strerror", None) or error or "it ends early"
            raise DMRError(f"{source} cannot be read as a tar archive: {reason}") from error
    missing = sorted(set(names) - set(found))
    if missing:
        raise DMRError(f"{source} has no {folder}/{missing[0]}; {ANOTHER}")
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
            raise DMRError(f"{self.name} unpacks to over {_LARGEST_ARCHIVE:,} bytes; {ANOTHER}")
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
            raise DMRError(f"{path} is larger than any file of this data set; {ANOTHER}")
        with open(path, "rb") as file:
            found[name] = file.read()
    return found


def _read_tar(source, archive, folder, names):
    found = {}
    while True:
        member = archive.next()
        if member is None:
            break
        archive.members = []  # or it keeps all of them
        where = f"{source}: {member.name!r}"
        check_member(member, where)
        parts = member.name.split("/")
        if not 0 <= member.size <= _LARGEST_MEMBER:
            raise DMRError(f"{where} says that it has {member.size:,} bytes; {ANOTHER}")
        name = "/".join(parts[1:])
        if member.isfile() and parts[0] == folder and name in names:
            content = archive.extractfile(member).read()
            if len(content) != member.size:
                raise DMRError(f"{where} ends early; {ANOTHER}")
            found[name] = content
    return found


def check_member(member, where):
    """Refuse an entry of a tar archive that leads out of it, or is neither a file nor a folder.

    Parameters
    ----------
    member : tarfile.TarInfo
    where : str
        Archive and entry, for the refusal.

    Raises
    ------
    DMRError
    """
    if os.path.isabs(member.name) or ".." in member.name.split("/"):
        raise DMRError(f"{where} leads out of the archive's folder; {ANOTHER}")
    if not (member.isreg() and not member.issparse() or member.isdir()):
        raise DMRError(f"{where} is a link or a device, which has no place there; {ANOTHER}")


def read_mat(name, variables, most, content=None):
    """Some variables of a MATLAB file (version 5), after a look at how large they get.

    Parameters
    ----------
    name : str
        The file's path.
    variables : collection of str
    most : int
        Bytes that a variable may have.
    content : bytes, optional
        What is in the file where it stands in an archive; the name is then for refusals.

    Returns
    -------
    dict of str to numpy.ndarray
        Those that are there.

    Raises
    ------
    DMRError
        For a file that is missing, damaged or too large.
    """
    from scipy.io import loadmat  # which takes a while, and only some sets need

    try:
        with open(name, "rb") if content is None else io.BytesIO(content) as file:
            _check_mat_sizes(file, name, most)
            file.seek(0)
            found = loadmat(file, variable_names=list(variables))
        return {key: found[key] for key in variables if key in found}
    except DMRError:
        raise
    except FileNotFoundError:
        raise DMRError(f"{name} is missing; name the folder that holds it with --source") from None
    except Exception as error:  # SciPy raises whatever damaged bytes lead to
        raise DMRError(f"{name} is not a MATLAB file that can be read: {error}") from None


def _check_mat_sizes(file, name, most):
    """Decompress each variable without keeping it: its compressed size says nothing."""
    header = file.read(128)
    if len(header) < 128 or header[126:128] not in (b"IM", b"MI"):
        raise DMRError(f"{name} is not a MATLAB file of version 5")
    order = "<u4" if header[126:128] == b"IM" else ">u4"
    while True:
        tag = file.read(8)
        if len(tag) < 8:
            return
        kind, length = (int(number) for number in np.frombuffer(tag, order))
        if kind != 15:  # not compressed: as long as it says, or the file ends
            if length > most:
                raise DMRError(f"{name} has a variable of {length:,} bytes; {ANOTHER}")
            file.seek(length, os.SEEK_CUR)
            continue
        stream, total = zlib.decompressobj(), 0
        while length > 0:
            block = file.read(min(length, 1 << 20))
            if not block:
                raise DMRError(f"{name} ends early; {ANOTHER}")
            length -= len(block)
            while block:
                total += len(stream.decompress(block, 1 << 24))
                block = stream.unconsumed_tail
                if total > most:
                    raise DMRError(f"{name} has a variable of over {most:,} bytes; {ANOTHER}")
