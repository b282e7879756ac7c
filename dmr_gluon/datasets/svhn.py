"""SVHN's cropped digits from their official files."""

import functools
import hashlib
import os

import numpy as np

from ..data.datasets import partial_name
from ..errors import DMRError
from ..paper.dataset_facts import PUBLISHED
from .archives import (
    ANOTHER,
    AS_PARTIAL,
    Archive,
    check_labels,
    describe_files,
    known_by,
    note_unpublished,
    read_mat,
    readable,
)
from .encoder import Encoding, Source
from .registration import Registration, add_jpeg_quality
from .writer import write_set

#: Far above the 531,131 images of the largest file.
_MOST_IMAGES = 1_000_000
#: Chooses the validation images; the paper does not say which ones it took.
_VALIDATION_SEED = 0
#: Images that the paper sets aside and the authors' code trains on.
_VALIDATION = 6_000


def prepare_svhn(
    source, out, svhn_split="paper", jpeg_quality=None, partial=False, overwrite=False
):
    """Prepare SVHN from its official files, as PNG.

    The set is identified by its number of images; the manifest says whether its files are the
    published ones by their MD5.

    Parameters
    ----------
    source : str
        As for :func:`read_svhn`.
    out : str
    svhn_split : str
        ``paper`` or ``authors``; see :func:`read_svhn`.
    jpeg_quality : int, optional
        Store JPEGs of this quality; the set is then called ``svhn-jpegQUALITY``.
    partial : bool
        Take what is there, under a name of its own: it is not the official set.
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
    encoding, called = Encoding(), "svhn"
    if jpeg_quality is not None:
        encoding, called = Encoding(None, "jpeg", jpeg_quality), f"svhn-jpeg{jpeg_quality}"
    called = partial_name(called) if partial else called
    paths = [_path(source, part) for part in ("train", "extra", "test")]
    files = describe_files({os.path.basename(path): path for path in paths}, _ARCHIVES)
    hashes = sorted((file, entry["sha256"]) for file, entry in files.items())
    made = repr((hashes, [], encoding, svhn_split, partial))
    fingerprint = hashlib.sha256(made.encode()).hexdigest()

    @readable(source)
    def read():
        classes, splits = read_svhn(source, svhn_split)
        more = {"partial": partial, "svhn_split": svhn_split, "sources": files}
        if not partial:
            facts = PUBLISHED["svhn"]
            _require_counts(source, splits, facts, svhn_split)
            more["official"] = {"known_by": known_by(files)}
            more["published"] = {"mean": facts.mean, "std": facts.std}
        note_unpublished(files)
        sources = {
            split: [
                Source(f"{split} image {i}", int(label), functools.partial(images.__getitem__, i))
                for i, label in enumerate(labels)
            ]
            for split, (images, labels) in splits.items()
        }
        return classes, sources, more

    return write_set(called, fingerprint, read, out, encoding, overwrite)


def _require_counts(source, splits, facts, svhn_split):
    expected = {"train": facts.train_images, "test": facts.test_images}
    expected["train"] += _VALIDATION * (svhn_split == "authors")
    for part, count in expected.items():
        images = len(splits[part][1])
        if images != count:
            raise DMRError(
                f"{source} has {images:,} images for {part}, svhn has {count:,}; {ANOTHER}, or "
                f"{AS_PARTIAL}"
            )


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
    list of str, dict of str to (sequence of numpy.ndarray, numpy.ndarray)
        Classes; images (32, 32, 3) of uint8, RGB, and labels of each split, ``train`` first.

    Raises
    ------
    DMRError
        If a file is missing, damaged or hostile.
    """
    parts = {part: _read_part(_path(source, part)) for part in ("train", "extra", "test")}
    random = np.random.RandomState(_VALIDATION_SEED)
    aside = {"train": 400, "extra": 200} if split == "paper" else {}
    kept, validation = [], []
    for part in ("train", "extra"):
        labels = parts[part][1]
        chosen = np.zeros(len(labels), bool)
        for digit in range(10 if aside else 0):
            positions = np.flatnonzero(labels == digit)
            if len(positions) < aside[part]:
                raise DMRError(
                    f"{source}: {part} has {len(positions)} images of a {digit}, fewer than the "
                    f"{aside[part]} that the paper sets aside; use --svhn-split authors"
                )
            chosen[random.permutation(positions)[: aside[part]]] = True
        kept.append(_picked(parts[part], ~chosen))
        validation.append(_picked(parts[part], chosen))
    splits = {"train": _joined(kept), "test": parts["test"]}
    if aside:
        splits["validation"] = _joined(validation)
    return [str(digit) for digit in range(10)], splits


def _path(source, part):
    path = os.path.join(source, f"{part}_32x32.mat")
    if not os.path.isfile(path):
        raise DMRError(f"{path} is missing; name the folder that holds it with --source")
    return path


def _picked(part, chosen):
    """Return some of the images as views: a copy of all would need gigabytes."""
    images, labels = part
    return [images[i] for i in np.flatnonzero(chosen)], labels[chosen]


def _joined(pairs):
    images, labels = zip(*pairs)
    return sum(images, []), np.concatenate(labels)


def _read_part(path):
    variables = read_mat(path, ("X", "y"), _MOST_IMAGES * 32 * 32 * 3)
    images, labels = variables.get("X"), variables.get("y")
    if type(images) is not np.ndarray or type(labels) is not np.ndarray:  # sparse ones are another
        raise DMRError(f"{path} has no arrays X and y; {ANOTHER}")
    count = images.shape[-1] if images.ndim == 4 else None
    fits = images.dtype == np.uint8 and images.shape == (32, 32, 3, count)
    if not fits or labels.shape != (count, 1) or labels.dtype.kind not in "uif":
        raise DMRError(f"{path}: X is not of the shape (32, 32, 3, N) or y not of (N, 1)")
    labels = labels[:, 0].astype(np.int64)
    if count and not (labels.min() >= 1 and labels.max() <= 10):
        raise DMRError(f"{path}: y has labels from {labels.min()} to {labels.max()}, not 1 to 10")
    # Digit 0 is stored as 10.
    return check_labels(images.transpose(3, 0, 1, 2), labels % 10, 10, path)


def _archive(file, md5, size):
    # The page has no hashes; torchvision's loader demands these.
    url = "http://ufldl.stanford.edu/housenumbers/" + file
    return Archive(file, url, md5, size, "torchvision/datasets/svhn.py")


_ARCHIVES = (
    _archive("train_32x32.mat", "e26dedcc434d2e4c54c9b2d4a06d8373", 182_040_794),
    _archive("extra_32x32.mat", "a93ce644f1a588dc4d68dda5feec44a7", 1_329_278_602),
    _archive("test_32x32.mat", "eb5a983be6a315427106f1b164d9cef3", 64_275_384),
)


def _add_flags(parser):
    parser.add_argument(
        "--svhn-split",
        choices=("paper", "authors"),
        default="paper",
        help="paper: 6,000 images set aside for validation; authors: train on all",
    )
    add_jpeg_quality(parser, "svhn")


SVHN = Registration(
    "svhn",
    "from the official train_32x32.mat, extra_32x32.mat and test_32x32.mat",
    prepare_svhn,
    _add_flags,
    _ARCHIVES,
    "folder with train_32x32.mat, extra_32x32.mat and test_32x32.mat",
)
