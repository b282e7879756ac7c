"""Read official archives, which may not be what they claim.

Nothing of an archive is executed or written to disk.
"""

import contextlib
import os
import tarfile
from dataclasses import dataclass
from typing import Optional

import numpy as np

from ..errors import DMRError
from ..paper.dataset_facts import PUBLISHED
from ..standalone.predict_onnx import shown
from ..system.files import digests_of

#: Bytes of all files in an archive that is read into memory. CIFAR's unpack to 186 MB.
_LARGEST = 1 << 30

ANOTHER = "get the official archive again"
#: Advice for images that are not those of the official set.
AS_PARTIAL = "accept a partial set with --partial"


@dataclass(frozen=True)
class Archive:
    """One published file of an official data set.

    Parameters
    ----------
    file : str
    url : str, optional
        None if only registered users get it.
    md5 : str
        As published: by CIFAR's page, and for the others by torchvision's loaders.
    """

    file: str
    url: Optional[str]
    md5: str


def describe_files(paths, archives):
    """Return a manifest's entries for the files that a set is made from.

    Parameters
    ----------
    paths : sequence of str
    archives : sequence of Archive
        The published files.

    Returns
    -------
    dict of str to dict
        By file name: ``bytes``, ``md5``, ``sha256``, and whether it is the ``published`` file.
    """
    known = {archive.file: archive.md5 for archive in archives}
    entries = {}
    for path in paths:
        name = os.path.basename(path)
        with readable(path):
            size, (md5, sha256) = os.path.getsize(path), digests_of(path, "md5", "sha256")
        published = known.get(name) == md5
        entries[name] = {"bytes": size, "md5": md5, "sha256": sha256, "published": published}
        if not published:
            print(f"note: {name} is not the published file; its MD5 is {md5}")
    return entries


def official(source, name, sources, more=0, **identified):
    """Return a manifest's entries for an official set, after counting its images.

    Parameters
    ----------
    source, name : str
    sources : dict of str to list
        Images by split.
    more : int
        Training images that the paper does not count.
    **identified
        How the set was identified: ``known_by`` and, if by content, ``digests``.

    Returns
    -------
    dict

    Raises
    ------
    DMRError
        If a split has another number of images than the official set.
    """
    facts = PUBLISHED[name]
    for split, count in (("train", facts.train_images + more), ("test", facts.test_images)):
        if len(sources[split]) != count:
            raise DMRError(
                f"{source} has {len(sources[split]):,} images for {split}, {name} has {count:,}; "
                f"{ANOTHER}, or {AS_PARTIAL}"
            )
    return {"official": identified, "published": {"mean": facts.mean, "std": facts.std}}


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
        raise DMRError(
            f"{error.filename or source} cannot be read ({error.strerror or error}); check its "
            f"permissions and its disk, or name another source"
        ) from error


@contextlib.contextmanager
def undamaged(name):
    """Turn whatever damaged bytes raise while an archive is read into a refusal."""
    try:
        yield
    except DMRError:
        raise
    except Exception as error:
        cause = shown(f"{type(error).__name__}: {error}")[:100]
        raise DMRError(f"{name} is damaged or not the official file ({cause}); {ANOTHER}") from None


def tar_files(archive):
    """Yield the regular files of an open tar archive."""
    for member in archive:
        if member.size < 0:  # tarfile would find the same one again and again
            raise ValueError("a file of negative size")
        if member.isreg():
            yield member


def read_members(path, names):
    """Read files of a tar archive.

    Parameters
    ----------
    path : str
        A ``.tar`` or ``.tar.gz``.
    names : collection of str
        The files to read.

    Returns
    -------
    dict of str to bytes

    Raises
    ------
    DMRError
        If the archive is damaged, lacks a file, or is larger than the set can be.
    """
    found, total = {}, 0
    with open(path, "rb") as file, undamaged(path), tarfile.open(fileobj=file) as archive:
        for member in tar_files(archive):
            total += member.size
            if total > _LARGEST:
                raise ValueError(f"it unpacks to over {_LARGEST:,} bytes")
            if member.name in names:
                found[member.name] = archive.extractfile(member).read()
        return {name: found[name] for name in names}


def read_mat(file, variables, most):
    """Read variables of a MATLAB file (version 5) after checking their declared sizes.

    Parameters
    ----------
    file : file
    variables : collection of str
    most : int
        Elements that a variable may have.

    Returns
    -------
    list of numpy.ndarray

    Raises
    ------
    Exception
        If the file is damaged. See :func:`undamaged`.
    """
    from scipy.io import loadmat, whosmat  # slow to import, and few sets need it

    for variable, shape, _ in whosmat(file):
        if variable in variables and np.prod(shape, dtype=object) > most:
            raise ValueError(f"{variable} has over {most:,} elements")
    file.seek(0)
    found = loadmat(file, variable_names=list(variables))
    return [found[variable] for variable in variables]


def check_images(images, labels, classes):
    """Raise ValueError unless images are (n, 32, 32, 3) of uint8, and labels fit them."""
    if images.dtype != np.uint8 or images.shape != (len(labels), 32, 32, 3):
        raise ValueError(f"{images.dtype} images of shape {images.shape}, {len(labels)} labels")
    if not len(labels) or labels.min() < 0 or labels.max() >= classes:
        raise ValueError(f"labels that are not from 0 to {classes - 1}")
