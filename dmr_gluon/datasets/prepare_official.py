"""The paper's data sets from their official archives to RecordIO."""

import functools
import hashlib
import json
import os

from ..data.content import DIGESTS, image_digest, require_official
from ..data.datasets import MANIFEST, partial_name, read_manifest
from ..errors import DMRError
from ..paper.dataset_facts import PUBLISHED
from ..system.files import write_atomically
from .archives import readable
from .encoder import Encoding, Source
from .folder import folder_sources, stamp
from .imagenet import TRAIN, archive_paths, is_official, read_archives, read_words
from .official import CIFAR_CLASSES, files_of, read_cifar, read_svhn, tree_images, tree_of
from .published_archives import describe_archive
from .writer import alone_in, disk_errors, write_set

#: Images that the paper sets aside and the authors' code trains on.
_SVHN_VALIDATION = 6_000


def prepare_official(
    name,
    source,
    out,
    svhn_split="paper",
    jpeg_quality=None,
    partial=False,
    overwrite=False,
):
    """CIFAR-10, CIFAR-100 or SVHN from the official archives, as PNG.

    CIFAR is known by its content, whatever it comes in: all of its images with their labels, and no
    others, are the official set. SVHN is known by the number of its images; the manifest says
    whether its files are the published ones by their MD5.

    Parameters
    ----------
    name : str
        ``cifar10``, ``cifar100`` or ``svhn``.
    source, out : str
        The archive or the folder that holds it, or CIFAR's tree of images, see
        :mod:`dmr_gluon.datasets.official`, and the folder to write to.
    svhn_split : str
        ``paper`` or ``authors``, see :func:`dmr_gluon.datasets.official.read_svhn`.
    jpeg_quality : int, optional
        Store the images as JPEGs of that quality, with halved chroma, as MXNet's ``im2rec`` makes
        them; the set is then called ``NAME-jpegQUALITY``.
    partial : bool
        Take what is there, under a name of its own: it is not the official set.
    overwrite : bool
        Replace another prepared set that is in ``out``.

    Returns
    -------
    PreparedSet

    Raises
    ------
    DMRError
        For an archive that is missing, damaged, hostile or not the official set's or cannot be
        read, or an ``out`` that holds something else.
    """
    encoding, called = Encoding(), name
    if jpeg_quality is not None:
        encoding, called = Encoding(None, "jpeg", jpeg_quality), f"{name}-jpeg{jpeg_quality}"
    called = partial_name(called) if partial else called
    split = {"svhn_split": svhn_split} if name == "svhn" else {}
    by_content = name in DIGESTS and not partial
    files = {}
    if by_content:  # whatever the images come in, they are these or refused
        made = repr((DIGESTS[name], encoding))
    else:
        with readable(source):
            tree = tree_of(source) if name in DIGESTS else None
            paths, unpacked = ({}, False) if tree else files_of(name, source)
            files = {file: describe_archive(path, unpacked) for file, path in paths.items()}
            paths = [path for folder in (tree or {}).values() for path in tree_images(folder)]
            images = [(os.path.relpath(path, source), stamp(path)) for path in paths]
        hashes = sorted((file, entry["sha256"]) for file, entry in files.items())
        made = repr((hashes, images, encoding, split.get("svhn_split"), partial))
    fingerprint = hashlib.sha256(made.encode(errors="surrogateescape")).hexdigest()

    @readable(source)
    def read():
        found = read_svhn(source, svhn_split) if name == "svhn" else read_cifar(name, source)
        more = {"partial": partial, **split}
        if files:
            more["sources"] = files
        if name == "svhn" and not partial:
            _require_counts(name, source, found, split)
            more["official"] = {"known_by": _known_by(files)}
        if not partial:
            facts = PUBLISHED[name]
            more["published"] = {"mean": facts.mean, "std": facts.std}
        sources, digests = {}, {}
        for part, (images, labels) in found.splits.items():
            names, order = found.names_of(part), range(len(labels))
            if name in DIGESTS:
                digests[part] = list(map(image_digest, images, labels))
                # By content, so that the set is the same wherever its images come from.
                order = sorted(order, key=digests[part].__getitem__)
            sources[part] = [
                Source(names[i], int(labels[i]), functools.partial(images.__getitem__, i))
                for i in order
            ]
        if by_content:
            _require_content(name, source, found, digests)
            more["official"] = {"known_by": "content", "digests": DIGESTS[name]}
        _note_unpublished(files)
        return list(found.classes), sources, more

    return write_set(called, fingerprint, read, out, encoding, overwrite)


def _require_counts(name, source, found, split):
    facts = PUBLISHED[name]
    expected = {"train": facts.train_images, "test": facts.test_images}
    expected["train"] += _SVHN_VALIDATION * (split.get("svhn_split") == "authors")
    for part, count in expected.items():
        images = len(found.splits[part][1])
        if images != count:
            raise DMRError(
                f"{source} has {images:,} images for {part}, {name} has {count:,}; get the "
                f"official archive again, or {_AS_ANOTHER}"
            )


def _require_content(name, source, found, digests):
    remedy = f"get the official archive, or {_AS_ANOTHER}"
    if found.jpegs:
        remedy = f"{found.jpegs:,} are JPEGs, which are not lossless: {remedy}"
    splits = {part: (*pair, found.names_of(part)) for part, pair in found.splits.items()}
    require_official(name, source, splits, found.classes, digests, remedy)
    if tuple(found.classes) != CIFAR_CLASSES[name]:
        raise DMRError(f"{source} has other names of classes than {name}; {remedy}")


#: What can be done with images that are not an official set's.
_AS_ANOTHER = "take what is there, under a name of its own, with --partial"


def prepare_imagenet(
    source, out, short_side=None, quality=None, checksums=False, partial=False, overwrite=False
):
    """ImageNet (ILSVRC 2012), as JPEG.

    Parameters
    ----------
    source, out : str
        The folder with the three official archives, see :mod:`dmr_gluon.datasets.imagenet`, or
        with ``train/<class>/*`` and ``val/<class>/*``; and the folder to write to.
    short_side : int, optional
        Resize to that shorter side: 480 in the authors' code, 256 for evaluation alone; None:
        as they are.
    quality : int, optional
        Encode all images anew with it; None: keep those that are not resized.
    checksums : bool
        Put the archives' MD5 and SHA-256 into the manifest, compared with the published ones.
    partial : bool
        Take fewer images than the official set has, under a name of its own.
    overwrite : bool
        Replace another prepared set that is in ``out``.

    Returns
    -------
    PreparedSet

    Raises
    ------
    DMRError
        For archives that are missing, damaged, hostile or not whole or cannot be read, an
        unreadable image, or an ``out`` that holds something else.
    """
    encoding = Encoding(short_side, "jpeg", quality, upright=False)  # as the reference pipelines
    paths = archive_paths(source) if is_official(source) else {}
    if paths:
        made = hashlib.sha256(repr(encoding).encode())
        for file, path in paths.items():
            # Not of the content: that would be to read 150 GB once more.
            made.update(file.encode() + stamp(path))
        fingerprint = made.hexdigest()
        read_images = functools.partial(read_archives, source)
    elif not os.path.isdir(os.path.join(source, "train")):
        raise DMRError(f"{source} has neither {TRAIN} nor train/<class>/* and val/<class>/*")
    elif checksums:
        raise DMRError(f"--checksums is for the archives; {source} holds images: leave it out")
    else:
        *tree, fingerprint = folder_sources(source, {"train": "train", "test": "val"}, encoding)
        read_images = functools.partial(tuple, tree)

    @readable(source)
    def read():
        classes, sources = read_images()
        facts = PUBLISHED["imagenet"]
        found = (len(classes), len(sources["train"]), len(sources["test"]))
        expected = (facts.classes, facts.train_images, facts.test_images)
        if found != expected and not partial:
            raise DMRError(
                f"{source} has {found[0]:,} classes, {found[1]:,} training and {found[2]:,} "
                f"validation images, ImageNet has {expected[0]:,}, {expected[1]:,} and "
                f"{expected[2]:,}; get what is missing, or {_AS_ANOTHER}"
            )
        files = {file: {"bytes": os.path.getsize(path)} for file, path in paths.items()}
        more = {"sources": files} if files else {}
        words = read_words(source)
        if words:
            more["words"] = [words.get(name, "") for name in classes]
        if not partial:
            facts = PUBLISHED["imagenet"]
            more["published"] = {"mean": facts.mean, "std": facts.std}
            more["official"] = {"known_by": "counts"}
        return classes, sources, {"partial": partial, **more}

    name = partial_name("imagenet") if partial else "imagenet"
    prepared = write_set(name, fingerprint, read, out, encoding, overwrite)
    if checksums:
        _add_checksums(out, paths)
    return prepared


def _add_checksums(out, paths):
    """Put the hashes of archives into a manifest that does not have them yet."""
    with disk_errors(out), alone_in(out):  # no other set may come there meanwhile
        manifest = read_manifest(out)
        if all("md5" in entry for entry in manifest["sources"].values()):
            return
        for file, path in paths.items():
            with readable(path):
                manifest["sources"][file] = describe_archive(path)
        _note_unpublished(manifest["sources"])
        if "official" in manifest:
            manifest["official"] = {"known_by": _known_by(manifest["sources"])}
        write_atomically(os.path.join(out, MANIFEST), json.dumps(manifest, indent=1))


def _known_by(files):
    """By what a set is known whose content has no published digest."""
    return "archives" if all(entry["published"] for entry in files.values()) else "counts"


def _note_unpublished(files):
    for file, entry in files.items():
        if entry.get("published") is False:
            print(f"note: {file} is not the published file; its MD5 is {entry['md5']}")
