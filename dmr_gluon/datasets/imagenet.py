"""ImageNet (ILSVRC 2012) from its official archives, without unpacking them.

``ILSVRC2012_img_train.tar`` holds a tar for each class, ``ILSVRC2012_img_val.tar`` 50,000
images without labels, which are in ``ILSVRC2012_devkit_t12.tar.gz``. The two large ones are
not compressed: where each image begins is noted in one pass over the headers, and images are
then read from there. Labels are the positions of the classes' WordNet ids in sorted order, as
everywhere.
"""

import os
import re
import tarfile
from typing import Dict, List, Tuple

import numpy as np
from tqdm import tqdm

from ..errors import DMRError
from .archives import ANOTHER, TAR_ERRORS, PlainMember, check_member, read_mat, read_members
from .encoder import Source
from .published_archives import ARCHIVES

TRAIN, VALIDATION, DEVKIT = (archive.file for archive in ARCHIVES["imagenet"])
_DEVKIT_FOLDER = "ILSVRC2012_devkit_t12"
_META = "data/meta.mat"
_GROUND_TRUTH = "data/ILSVRC2012_validation_ground_truth.txt"

_WORDNET_ID = re.compile(r"n\d{8}")
_VALIDATION_IMAGE = re.compile(r"(?:.*/)?ILSVRC2012_val_(\d{8})\.JPEG")
#: The largest image of ImageNet has about 15 MB.
_LARGEST_IMAGE = 64 << 20
#: Of the devkit's table of classes, which has less than 1 MB.
_LARGEST_META = 64 << 20


def is_official(source):
    """Whether a folder holds the official archives."""
    return os.path.isfile(os.path.join(source, TRAIN))


def archive_paths(source):
    """Paths of the three archives by name.

    Raises
    ------
    DMRError
        Where one is missing.
    """
    paths = {name: os.path.join(source, name) for name in (TRAIN, VALIDATION, DEVKIT)}
    for path in paths.values():
        if not os.path.isfile(path):
            raise DMRError(f"{path} is missing; put the three archives of ILSVRC 2012 there")
    return paths


def read_archives(source) -> Tuple[List[str], Dict[str, List[Source]]]:
    """The classes and images of the official archives.

    Parameters
    ----------
    source : str
        The folder that holds the three of them.

    Returns
    -------
    list of str, dict of str to list of Source
        WordNet ids in sorted order; ``train`` and ``test`` (the validation images, which the
        paper tests on).

    Raises
    ------
    DMRError
        Where an archive is missing, damaged or hostile, or the archives do not fit together.
    """
    paths = archive_paths(source)
    wordnet_id, truth, _ = _read_devkit(paths[DEVKIT])
    train = _train_images(paths[TRAIN])
    classes = sorted(train)
    unknown = sorted(set(classes) - set(wordnet_id.values()))
    if unknown:
        raise DMRError(f"{paths[TRAIN]} has {unknown[0]}.tar, a class that {DEVKIT} does not have")
    label_of = {name: label for label, name in enumerate(classes)}
    sources = {
        "train": [
            Source(f"{TRAIN}: {name}", label_of[class_name], read, ANOTHER)
            for class_name in classes
            for name, read in train[class_name]
        ]
    }
    test, seen = [], set()
    for number, name, read in _validation_images(paths[VALIDATION]):
        if not 1 <= number <= len(truth):
            raise DMRError(f"{paths[VALIDATION]}: {name!r} has no line in {_GROUND_TRUTH}")
        if number in seen:
            raise DMRError(f"{paths[VALIDATION]} has {name!r} twice; {ANOTHER}")
        seen.add(number)
        class_name = wordnet_id[truth[number - 1]]
        if class_name not in label_of:
            raise DMRError(f"{VALIDATION}: {name!r} is a {class_name}, which {TRAIN} does not have")
        test.append(Source(f"{VALIDATION}: {name}", label_of[class_name], read, ANOTHER))
    sources["test"] = test
    return classes, sources


def read_words(source):
    """What the devkit says of the classes, such as ``tench, Tinca tinca``, by WordNet id.

    Parameters
    ----------
    source : str
        The folder that may hold the devkit.

    Returns
    -------
    dict of str to str
        Empty where it is not there.

    Raises
    ------
    DMRError
        Where it is damaged or hostile.
    """
    path = os.path.join(source, DEVKIT)
    return _read_devkit(path)[2] if os.path.isfile(path) else {}


def _read_devkit(path):
    """({id from 1: WordNet id}, [id of each validation image], {WordNet id: words})."""
    members = read_members(path, _DEVKIT_FOLDER, [_META, _GROUND_TRUTH])
    meta = read_mat(f"{path}: {_META}", ["synsets"], _LARGEST_META, members[_META])
    try:
        entries = [e for e in np.ravel(meta["synsets"]) if int(e["num_children"].item()) == 0]
        wordnet_id = {int(e["ILSVRC2012_ID"].item()): str(e["WNID"].item()) for e in entries}
        words = {str(e["WNID"].item()): str(e["words"].item()) for e in entries}
        truth = [int(line) for line in members[_GROUND_TRUTH].split()]
    except Exception as error:  # whatever is in there instead
        raise DMRError(f"{path} cannot be read: {error}; {ANOTHER}") from None
    if not all(map(_WORDNET_ID.fullmatch, wordnet_id.values())) or not set(truth) <= set(
        wordnet_id
    ):
        raise DMRError(f"{path}: its classes and its labels do not fit together; {ANOTHER}")
    return wordnet_id, truth, words


def _train_images(path):
    """WordNet id to [(name, read)]."""
    images = {}
    with open(path, "rb") as file:
        size = os.path.getsize(path)
        with tqdm(total=size, desc="index", unit="B", unit_scale=True, disable=None) as progress:
            for member in _members(path, file, 0, size):
                name = os.path.basename(member.name)
                class_name = name[: -len(".tar")]
                if not name.endswith(".tar") or not _WORDNET_ID.fullmatch(class_name):
                    raise DMRError(f"{path}: {member.name!r} is not the tar of a class")
                inside = f"{path}: {name}"
                images[class_name] = found = []
                for image in _members(inside, file, member.offset_data, member.size):
                    _check_size(inside, image)
                    begin = member.offset_data + image.offset_data
                    found.append((image.name, _reader(path, begin, image.size)))
                progress.update(member.offset_data + member.size - progress.n)
    if not images:
        raise DMRError(f"{path} holds no tars of classes")
    return images


def _validation_images(path):
    """(number, name, read) of each."""
    with open(path, "rb") as file:
        for member in _members(path, file, 0, os.path.getsize(path)):
            match = _VALIDATION_IMAGE.fullmatch(member.name)
            if not match:
                raise DMRError(f"{path}: {member.name!r} is not a validation image")
            _check_size(path, member)
            read = _reader(path, member.offset_data, member.size)
            yield int(match.group(1)), member.name, read


def _check_size(path, member):
    if member.size > _LARGEST_IMAGE:
        raise DMRError(f"{path}: {member.name!r} says that it has {member.size:,} bytes")


def _members(name, file, start, size):
    """The files of an uncompressed tar that is a part of another file."""
    try:
        part = _Part(file, start, size)
        with tarfile.open(fileobj=part, mode="r:", tarinfo=PlainMember) as archive:
            while True:
                member = archive.next()
                if member is None:
                    # tarfile takes a damaged header for the end, which is two blocks of zeros.
                    if any(part.read_at(archive.offset, 1024)):
                        raise DMRError(f"{name} is damaged at byte {archive.offset}; {ANOTHER}")
                    return
                archive.members = []  # or it keeps all of them
                check_member(member, f"{name}: {member.name!r}")
                if member.isdir():
                    continue
                if member.size < 0 or member.offset_data + member.size > size:
                    raise DMRError(f"{name} ends in the middle of {member.name!r}; {ANOTHER}")
                yield member
    except TAR_ERRORS as error:
        raise DMRError(f"{name} cannot be read as a tar archive: {error}") from error


class _Part:
    """A part of a file as a file of its own, as far as tarfile needs it."""

    def __init__(self, file, start, size):
        self.file, self.start, self.size, self.position = file, start, size, 0

    def read(self, size):
        wanted = max(0, min(size, self.size - self.position))
        content = os.pread(self.file.fileno(), wanted, self.start + self.position)
        self.position += len(content)
        return content

    def read_at(self, offset, size):
        self.position = offset
        return self.read(size)

    def seek(self, offset):
        self.position = offset

    def tell(self):
        return self.position


def _reader(path, offset, size):
    def read():
        with open(path, "rb") as file:
            content = os.pread(file.fileno(), size, offset)
        if len(content) != size:
            raise OSError(0, "the archive ends early")
        return content

    return read
