"""ImageNet (ILSVRC 2012) from its official archives, without unpacking them, or from a tree.

``ILSVRC2012_img_train.tar`` contains a tar for each class, ``ILSVRC2012_img_val.tar`` 50,000
images without labels, whose labels are in ``ILSVRC2012_devkit_t12.tar.gz``. The two large ones
are not compressed: one pass over their headers notes where each image begins, and images are then
read from there. Labels are the positions of the classes' WordNet ids in sorted order, as
everywhere.
"""

import hashlib
import json
import os
import re
import tarfile

import numpy as np
from tqdm import tqdm

from ..data.datasets import MANIFEST, partial_name, read_manifest
from ..errors import DMRError
from ..paper.dataset_facts import PUBLISHED
from ..system.files import write_atomically
from .archives import (
    ANOTHER,
    AS_PARTIAL,
    TAR_ERRORS,
    Archive,
    describe_files,
    known_by,
    note_unpublished,
    read_mat,
    read_members,
    readable,
)
from .encoder import Encoding, Source
from .folder import folder_sources, stamp
from .registration import Registration, whole_number
from .writer import alone_in, disk_errors, write_set


def _archive(file, md5, size):
    return Archive(file, None, md5, size, "torchvision/datasets/imagenet.py")


_ARCHIVES = (
    _archive("ILSVRC2012_img_train.tar", "1d675b47d978889d74fa0da5fadfb00e", 147_897_477_120),
    _archive("ILSVRC2012_img_val.tar", "29b22e2961454d5413ddabcf34fc5622", 6_744_924_160),
    _archive("ILSVRC2012_devkit_t12.tar.gz", "fa75699e90414af021442c21a62c3abf", None),
)
TRAIN, VALIDATION, DEVKIT = (archive.file for archive in _ARCHIVES)
_DEVKIT_FOLDER = "ILSVRC2012_devkit_t12"
_META = "data/meta.mat"
_GROUND_TRUTH = "data/ILSVRC2012_validation_ground_truth.txt"

_WORDNET_ID = re.compile(r"n\d{8}")
_VALIDATION_IMAGE = re.compile(r"(?:.*/)?ILSVRC2012_val_(\d{8})\.JPEG")
#: Bytes; the largest image of ImageNet has about 15 MB.
_LARGEST_IMAGE = 64 << 20
#: Rows of the devkit's table of classes, which has 1,676.
_MOST_SYNSETS = 100_000


def prepare_imagenet(
    source, out, short_side=None, quality=None, checksums=False, partial=False, overwrite=False
):
    """Prepare ImageNet (ILSVRC 2012), as JPEG.

    Parameters
    ----------
    source, out : str
        The folder with the three official archives, or with ``train/<class>/*`` and
        ``val/<class>/*``; and the folder to write to.
    short_side : int, optional
        Resize to this shorter side: 480 in the authors' code, 256 for evaluation alone; None:
        keep the size.
    quality : int, optional
        Encode all images again with this quality; None: keep those that are not resized.
    checksums : bool
        Put the archives' MD5 and SHA-256 into the manifest, compared with the published ones.
    partial : bool
        Accept fewer images than the official set has, under a name of its own.
    overwrite : bool
        Replace another prepared set in ``out``.

    Returns
    -------
    RecordDataset

    Raises
    ------
    DMRError
        If archives are missing, damaged or incomplete, an image is unreadable, or ``out`` holds
        something else.
    """
    encoding = Encoding(short_side, "jpeg", quality, upright=False)  # as the reference pipelines
    paths = {}
    if os.path.isfile(os.path.join(source, TRAIN)):
        paths = {name: os.path.join(source, name) for name in (TRAIN, VALIDATION, DEVKIT)}
        made = hashlib.sha256(repr(encoding).encode())
        for file, path in paths.items():
            if not os.path.isfile(path):
                raise DMRError(f"{path} is missing; put the three archives of ILSVRC 2012 there")
            # Size and time only: hashing the content would read 150 GB once more.
            made.update(file.encode() + stamp(path))
        fingerprint = made.hexdigest()
    elif not os.path.isdir(os.path.join(source, "train")):
        raise DMRError(f"{source} has neither {TRAIN} nor train/<class>/* and val/<class>/*")
    elif checksums:
        raise DMRError(f"--checksums is for the archives; {source} holds images: leave it out")
    else:
        *tree, fingerprint = folder_sources(source, {"train": "train", "test": "val"}, encoding)

    @readable(source)
    def read():
        if paths:
            classes, sources, words = read_archives(source)
        else:
            (classes, sources), words = tree, {}
            if os.path.isfile(os.path.join(source, DEVKIT)):
                *_, words = _read_devkit(os.path.join(source, DEVKIT))
        more = {"partial": partial}
        if paths:
            more["sources"] = {
                file: {"bytes": os.path.getsize(path)} for file, path in paths.items()
            }
        if words:
            more["words"] = [words.get(name, "") for name in classes]
        if not partial:
            facts = PUBLISHED["imagenet"]
            _require_counts(source, classes, sources, facts)
            more["published"] = {"mean": facts.mean, "std": facts.std}
            more["official"] = {"known_by": "counts"}
        return classes, sources, more

    name = partial_name("imagenet") if partial else "imagenet"
    prepared = write_set(name, fingerprint, read, out, encoding, overwrite)
    if checksums:
        _add_checksums(out, paths)
    return prepared


def _require_counts(source, classes, sources, facts):
    found = (len(classes), len(sources["train"]), len(sources["test"]))
    expected = (facts.classes, facts.train_images, facts.test_images)
    if found != expected:
        raise DMRError(
            f"{source} has {found[0]:,} classes, {found[1]:,} training and {found[2]:,} validation "
            f"images, ImageNet has {expected[0]:,}, {expected[1]:,} and {expected[2]:,}; get what "
            f"is missing, or {AS_PARTIAL}"
        )


def _add_checksums(out, paths):
    """Add the archives' hashes to a manifest that lacks them."""
    with disk_errors(out), alone_in(out):  # no other set may come there meanwhile
        manifest = read_manifest(out)
        if all("md5" in entry for entry in manifest["sources"].values()):
            return
        manifest["sources"] = describe_files(paths, _ARCHIVES)
        note_unpublished(manifest["sources"])
        if "official" in manifest:
            manifest["official"] = {"known_by": known_by(manifest["sources"])}
        write_atomically(os.path.join(out, MANIFEST), json.dumps(manifest, indent=1))


def read_archives(source):
    """Read the classes and index the images of the official archives.

    Parameters
    ----------
    source : str
        The folder that contains the three of them.

    Returns
    -------
    list of str, dict of str to list of Source, dict of str to str
        WordNet ids in sorted order; ``train`` and ``test`` (the validation images, which the
        paper tests on); the words of each WordNet id, such as ``tench, Tinca tinca``.

    Raises
    ------
    DMRError
        If an archive is damaged, or the archives do not fit together.
    """
    wordnet_id, truth, words = _read_devkit(os.path.join(source, DEVKIT))
    train = _train_images(os.path.join(source, TRAIN))
    classes = sorted(train)
    unknown = sorted(set(classes) - set(wordnet_id.values()))
    if unknown:
        raise DMRError(f"{TRAIN} has {unknown[0]}.tar, a class that {DEVKIT} does not have")
    label_of = {name: label for label, name in enumerate(classes)}
    sources = {
        "train": [
            Source(f"{TRAIN}: {name}", label_of[class_name], read, ANOTHER)
            for class_name in classes
            for name, read in train[class_name]
        ],
        "test": [],
    }
    seen = set()
    for number, name, read in _validation_images(os.path.join(source, VALIDATION)):
        if not 1 <= number <= len(truth):
            raise DMRError(f"{VALIDATION}: {name!r} has no line in {_GROUND_TRUTH}")
        if number in seen:
            raise DMRError(f"{VALIDATION} has {name!r} twice; {ANOTHER}")
        seen.add(number)
        class_name = wordnet_id[truth[number - 1]]
        if class_name not in label_of:
            raise DMRError(f"{VALIDATION}: {name!r} is a {class_name}, which {TRAIN} does not have")
        image = Source(f"{VALIDATION}: {name}", label_of[class_name], read, ANOTHER)
        sources["test"].append(image)
    return classes, sources, words


def _read_devkit(path):
    """Return {id from 1: WordNet id}, [id of each validation image], {WordNet id: words}."""
    members = read_members(path, _DEVKIT_FOLDER, [_META, _GROUND_TRUTH])
    meta = read_mat(f"{path}: {_META}", ["synsets"], _MOST_SYNSETS, members[_META])
    try:
        entries = [e for e in np.ravel(meta["synsets"]) if int(e["num_children"].item()) == 0]
        wordnet_id = {int(e["ILSVRC2012_ID"].item()): str(e["WNID"].item()) for e in entries}
        words = {str(e["WNID"].item()): str(e["words"].item()) for e in entries}
        truth = [int(line) for line in members[_GROUND_TRUTH].split()]
    except Exception as error:  # whatever is in there instead
        raise DMRError(f"{path} cannot be read: {error}; {ANOTHER}") from None
    ids = wordnet_id.values()
    if not all(map(_WORDNET_ID.fullmatch, ids)) or not set(truth) <= set(wordnet_id):
        raise DMRError(f"{path}: its classes and its labels do not fit together; {ANOTHER}")
    return wordnet_id, truth, words


def _train_images(path):
    """Return WordNet id to [(name, read)]."""
    images, size = {}, os.path.getsize(path)
    bar = tqdm(total=size, desc="index", unit="B", unit_scale=True, disable=None)
    with bar as progress, open(path, "rb") as file:
        for member, content in _members(path, file):
            class_name, extension = os.path.splitext(os.path.basename(member.name))
            if extension != ".tar" or not _WORDNET_ID.fullmatch(class_name):
                raise DMRError(f"{path}: {member.name!r} is not the tar of a class")
            images[class_name] = [
                (image.name, _reader(path, member.offset_data + image.offset_data, image.size))
                for image, _ in _members(f"{path}: {member.name}", content)
            ]
            progress.update(member.offset_data + member.size - progress.n)
    if not images:
        raise DMRError(f"{path} holds no tars of classes")
    return images


def _validation_images(path):
    """Yield (number, name, read) of each."""
    with open(path, "rb") as file:
        for member, _ in _members(path, file):
            match = _VALIDATION_IMAGE.fullmatch(member.name)
            if not match:
                raise DMRError(f"{path}: {member.name!r} is not a validation image")
            read = _reader(path, member.offset_data, member.size)
            yield int(match.group(1)), member.name, read


def _members(name, file):
    """Yield the files of an uncompressed tar, and their content as a file."""
    try:
        with tarfile.open(fileobj=file, mode="r:") as archive:
            for member in archive:
                if member.isdir():
                    continue
                if not member.isreg() or member.size < 0:
                    raise DMRError(f"{name}: {member.name!r} is not a plain file; {ANOTHER}")
                yield member, archive.extractfile(member)
    except TAR_ERRORS as error:
        raise DMRError(f"{name} cannot be read as a tar archive: {error}; {ANOTHER}") from error


def _reader(path, offset, size):
    if size > _LARGEST_IMAGE:
        raise DMRError(f"{path} has an image of {size:,} bytes; {ANOTHER}")

    def read():
        with open(path, "rb") as file:
            content = os.pread(file.fileno(), size, offset)
        if len(content) != size:
            raise OSError(0, "the archive ends early")
        return content

    return read


def _add_flags(parser):
    parser.add_argument(
        "--short-side",
        type=whole_number("--short-side", 1, 10_000),
        metavar="N",
        help="resize to this shorter side: 480 (authors) or 256 (default: keep the size)",
    )
    parser.add_argument(
        "--quality",
        type=whole_number("--quality", 1, 100),
        metavar="Q",
        help="encode all images again with this quality, 1 to 100",
    )
    parser.add_argument(
        "--checksums",
        action="store_true",
        help="put the archives' hashes into the manifest, compared with the published ones; "
        "this reads their 150 GB once more",
    )


IMAGENET = Registration(
    "imagenet",
    "from the official tars, or train/ and val/",
    prepare_imagenet,
    _add_flags,
    _ARCHIVES,
    "folder with the archives or the tree",
)
