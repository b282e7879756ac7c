"""SVHN's cropped digits from their official files."""

import hashlib
import os

import numpy as np

from . import archives
from .encoder import Encoding, Source
from .registration import Registration
from .writer import write_set

#: Far above the 531,131 images of the largest file.
_MOST_IMAGES = 1_000_000
#: Chooses the validation images; the paper does not say which ones it took.
_VALIDATION_SEED = 0
#: Images of each class that the paper sets aside and the authors' code trains on (section 4.1).
_VALIDATION = {"train": 400, "extra": 200}


def prepare_svhn(source, out, svhn_split="paper", partial=False, overwrite=False):
    """Prepare SVHN from its official files, as PNG.

    The set is identified by its number of images. The manifest says whether its files are the
    published ones by their MD5.

    Parameters
    ----------
    source : str
        As for :func:`read_svhn`.
    out : str
    svhn_split : str
        ``paper`` or ``authors``; see :func:`read_svhn`.
    partial : bool
        Accept whatever images are there, and call the set ``partial-svhn``.
    overwrite : bool
        Replace another prepared set in ``out``.

    Returns
    -------
    RecordDataset

    Raises
    ------
    DMRError
        If a file is missing, damaged, hostile or not the official one, or ``out`` holds something
        else.
    """
    encoding = Encoding()
    paths = [os.path.join(source, archive.file) for archive in _ARCHIVES]
    files = archives.describe_files(paths, _ARCHIVES)
    hashes = sorted((file, entry["sha256"]) for file, entry in files.items())
    made = repr((hashes, [], encoding, svhn_split, partial))
    fingerprint = hashlib.sha256(made.encode()).hexdigest()

    def read():
        splits = read_svhn(source, svhn_split)
        more = {"partial": partial, "svhn_split": svhn_split, "sources": files}
        if not partial:
            aside = 10 * sum(_VALIDATION.values()) if svhn_split == "authors" else 0
            published = all(entry["published"] for entry in files.values())
            known_by = "archives" if published else "counts"
            more.update(archives.official(source, "svhn", splits, aside, known_by=known_by))
        sources = {
            split: [
                Source(f"{split} image {i}", int(label), lambda image=image: image)
                for i, (image, label) in enumerate(images)
            ]
            for split, images in splits.items()
        }
        return [str(digit) for digit in range(10)], sources, more

    called = "partial-svhn" if partial else "svhn"
    return write_set(called, fingerprint, read, out, encoding, overwrite)


def read_svhn(source, split="paper"):
    """Read SVHN's cropped digits.

    Parameters
    ----------
    source : str
        The folder with ``train_32x32.mat``, ``extra_32x32.mat`` and ``test_32x32.mat``.
    split : str
        ``paper``: set aside 400 images of each class of train and 200 of each class of extra as
        ``validation``, chosen by a fixed seed, and train on the others (section 4.1).
        ``authors``: train on all of train and extra (authors' code).

    Returns
    -------
    dict of str to list of (image, label)
        By split, ``train`` first: images (32, 32, 3) of uint8, RGB, and their digits.

    Raises
    ------
    DMRError
        If a file is damaged or hostile.
    """
    random = np.random.RandomState(_VALIDATION_SEED)
    splits = {"train": [], "test": _read_part(source, "test")}
    if split == "paper":
        splits["validation"] = []
    for part, count in _VALIDATION.items():
        images = _read_part(source, part)
        aside = np.zeros(len(images), bool)
        if split == "paper":
            labels = np.array([label for _, label in images])
            for digit in range(10):
                aside[random.permutation(np.flatnonzero(labels == digit))[:count]] = True
        for image, is_aside in zip(images, aside):
            splits["validation" if is_aside else "train"].append(image)
    return splits


def _read_part(source, part):
    """Return the images of a file, as views, with their digits."""
    path = os.path.join(source, f"{part}_32x32.mat")
    with open(path, "rb") as file, archives.undamaged(path):
        images, labels = archives.read_mat(file, ("X", "y"), _MOST_IMAGES * 32 * 32 * 3)
        images, labels = images.transpose(3, 0, 1, 2), labels.ravel().astype(np.int64)
        labels[labels == 10] = 0  # as which they store the digit 0
        archives.check_images(images, labels, 10)
    return list(zip(images, labels))


_ARCHIVES = tuple(
    archives.Archive(file, "http://ufldl.stanford.edu/housenumbers/" + file, md5)
    for file, md5 in (
        ("train_32x32.mat", "e26dedcc434d2e4c54c9b2d4a06d8373"),
        ("extra_32x32.mat", "a93ce644f1a588dc4d68dda5feec44a7"),
        ("test_32x32.mat", "eb5a983be6a315427106f1b164d9cef3"),
    )
)


def _add_flags(parser):
    text = "paper: hold out 6,000 images for validation; authors: train on all"
    parser.add_argument("--svhn-split", choices=("paper", "authors"), default="paper", help=text)


SVHN = Registration(
    "svhn",
    "from the official train_32x32.mat, extra_32x32.mat and test_32x32.mat",
    prepare_svhn,
    _add_flags,
    _ARCHIVES,
    "folder with train_32x32.mat, extra_32x32.mat and test_32x32.mat",
)
