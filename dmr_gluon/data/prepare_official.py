"""The paper's data sets from their official archives to RecordIO."""

import hashlib
import os

from ..errors import DMRError
from .datasets import PUBLISHED
from .encoding import Encoding, Source
from .imagenet import DEVKIT, TRAIN, VALIDATION, is_official, read_archives
from .official import read_cifar, read_svhn
from .prepare import folder_sources, stamp, write_set


def prepare_official(
    name, source, out, svhn_split="paper", encoding=Encoding(), partial=False, overwrite=False
):
    """CIFAR-10, CIFAR-100 or SVHN from the official archives, losslessly.

    Parameters
    ----------
    name : str
        ``cifar10``, ``cifar100`` or ``svhn``.
    source, out : str
        The archive or the folder that holds it, see :mod:`dmr_gluon.data.official`, and the
        folder to write to.
    svhn_split : str
        ``paper`` or ``authors``, see :func:`dmr_gluon.data.official.read_svhn`.
    encoding : Encoding
        PNG unless another is asked for.
    partial : bool
        Take an archive that has fewer images than the official one; the manifest says so.
    overwrite : bool
        Replace another prepared set that is in ``out``.

    Returns
    -------
    PreparedSet

    Raises
    ------
    DMRError
        For an archive that is missing, damaged, hostile or not whole, or an ``out`` that
        holds something else.
    """
    found = read_svhn(source, svhn_split) if name == "svhn" else read_cifar(name, source)
    facts = PUBLISHED[name]
    expected = {"train": facts.train_images, "test": facts.test_images}
    if name == "svhn":
        expected["train"] += 6_000 * (svhn_split == "authors")
    for split, count in expected.items():
        images = len(found.splits[split][1])
        if images != count and not partial:
            raise DMRError(
                f"{source} has {images:,} images for {split}, {name} has {count:,}; get the "
                f"official archive again, or take what is there with --partial"
            )
    for file, hashes in found.files.items():
        if hashes["published"] is False:
            print(f"note: {file} is not the published file; its MD5 is {hashes['md5']}")
    sources = {
        split: [
            Source(f"{split} image {i}", int(label), lambda images=images, i=i: images[i])
            for i, label in enumerate(labels)
        ]
        for split, (images, labels) in found.splits.items()
    }
    hashes = sorted((file, entry["sha256"]) for file, entry in found.files.items())
    made = repr((hashes, encoding, svhn_split if name == "svhn" else None))
    fingerprint = hashlib.sha256(made.encode()).hexdigest()
    more = {"sources": found.files, "partial": partial}
    if name == "svhn":
        more["svhn_split"] = svhn_split
    return write_set(
        name, list(found.classes), sources, out, encoding, fingerprint, overwrite, more
    )


def prepare_imagenet(source, out, short_side=None, quality=None, partial=False, overwrite=False):
    """ImageNet (ILSVRC 2012), as JPEG.

    Parameters
    ----------
    source, out : str
        The folder with the three official archives, see :mod:`dmr_gluon.data.imagenet`, or
        with ``train/<class>/*`` and ``val/<class>/*``; and the folder to write to.
    short_side : int, optional
        Resize to that shorter side: 480 in the authors' code, 256 for evaluation alone; None:
        as they are.
    quality : int, optional
        Encode all images anew with it; None: keep those that are not resized.
    partial : bool
        Take fewer images than the official set has; the manifest says so.
    overwrite : bool
        Replace another prepared set that is in ``out``.

    Returns
    -------
    PreparedSet

    Raises
    ------
    DMRError
        For archives that are missing, damaged, hostile or not whole, an unreadable image, or
        an ``out`` that holds something else.
    """
    encoding = Encoding(short_side, "jpeg", quality)
    if is_official(source):
        classes, sources = read_archives(source)
        made = hashlib.sha256(repr(encoding).encode())
        for name in (TRAIN, VALIDATION, DEVKIT):
            # Not of the content: that would be to read 150 GB once more.
            made.update(name.encode() + stamp(os.path.join(source, name)))
        fingerprint = made.hexdigest()
    elif not os.path.isdir(os.path.join(source, "train")):
        raise DMRError(f"{source} has neither {TRAIN} nor train/<class>/* and val/<class>/*")
    else:
        folders = {"train": "train", "test": "val"}
        classes, sources, fingerprint = folder_sources(source, folders, encoding)
    facts = PUBLISHED["imagenet"]
    found = (len(classes), len(sources["train"]), len(sources["test"]))
    expected = (facts.classes, facts.train_images, facts.test_images)
    if found != expected and not partial:
        raise DMRError(
            f"{source} has {found[0]:,} classes, {found[1]:,} training and {found[2]:,} validation "
            f"images, ImageNet has {expected[0]:,}, {expected[1]:,} and {expected[2]:,}; get what "
            f"is missing, or take what is there with --partial"
        )
    more = {"partial": partial}
    return write_set("imagenet", classes, sources, out, encoding, fingerprint, overwrite, more)
