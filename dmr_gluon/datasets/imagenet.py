"""ImageNet (ILSVRC 2012) from its official archives, without unpacking them, or from a tree.

``ILSVRC2012_img_train.tar`` contains a tar for each class, ``ILSVRC2012_img_val.tar`` 50,000
images without labels, whose labels are in ``ILSVRC2012_devkit_t12.tar.gz``. The two large ones
are not compressed: one pass over their headers notes where each image begins, and images are then
read from there. Labels are the positions of the classes' WordNet ids in sorted order, as
everywhere.
"""

import hashlib
import io
import os
import re
import tarfile

from tqdm import tqdm

from ..errors import DMRError
from ..system.settings import number
from . import archives
from .encoder import Encoding, Source
from .folder import folder_sources, stamp
from .registration import Registration
from .writer import write_set

_ARCHIVES = (
    archives.Archive("ILSVRC2012_img_train.tar", None, "1d675b47d978889d74fa0da5fadfb00e"),
    archives.Archive("ILSVRC2012_img_val.tar", None, "29b22e2961454d5413ddabcf34fc5622"),
    archives.Archive("ILSVRC2012_devkit_t12.tar.gz", None, "fa75699e90414af021442c21a62c3abf"),
)
TRAIN, VALIDATION, DEVKIT = (archive.file for archive in _ARCHIVES)
_META = "ILSVRC2012_devkit_t12/data/meta.mat"
_GROUND_TRUTH = "ILSVRC2012_devkit_t12/data/ILSVRC2012_validation_ground_truth.txt"

_CLASS_TAR = re.compile(r"(?:.*/)?(n\d{8})\.tar")
_VALIDATION_IMAGE = re.compile(r"(?:.*/)?ILSVRC2012_val_(\d{8})\.JPEG")
#: Rows of the devkit's table of classes, which has 1,676.
_MOST_SYNSETS = 100_000


def prepare_imagenet(source, out, short_side=None, partial=False, overwrite=False):
    """Prepare ImageNet (ILSVRC 2012), as JPEG.

    Parameters
    ----------
    source, out : str
        The folder with the three official archives, or with ``train/<class>/*`` and
        ``val/<class>/*``; and the folder to write to.
    short_side : int, optional
        Resize to this shorter side: 480 in the authors' code, 256 for evaluation alone. Default:
        keep the images as they are.
    partial : bool
        Accept whatever images are there, and call the set ``partial-imagenet``.
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
    encoding = Encoding(short_side, "jpeg", upright=False)  # as the reference pipelines
    paths = {file: os.path.join(source, file) for file in (TRAIN, VALIDATION, DEVKIT)}
    from_archives = os.path.isfile(paths[TRAIN])
    if from_archives:
        with archives.readable(source):  # sizes and times only: a hash would read 150 GB more
            stamps = [file.encode() + stamp(path) for file, path in paths.items()]
        fingerprint = hashlib.sha256(repr(encoding).encode() + b"".join(stamps)).hexdigest()
    elif os.path.isdir(os.path.join(source, "train")):
        *tree, fingerprint = folder_sources(source, encoding, test="val")
    else:
        raise DMRError(f"{source} has neither {TRAIN} nor train/<class>/* and val/<class>/*")

    def read():
        more = {"partial": partial}
        if from_archives:
            classes, sources, words = read_archives(source)
            sizes = {file: os.path.getsize(path) for file, path in paths.items()}
            more["sources"] = {file: {"bytes": size} for file, size in sizes.items()}
        else:
            classes, sources = tree
            words = _read_devkit(paths[DEVKIT])[1] if os.path.isfile(paths[DEVKIT]) else {}
        if words:
            more["words"] = [words.get(name, "") for name in classes]
        if not partial:
            more.update(archives.official(source, "imagenet", sources, known_by="counts"))
        return classes, sources, more

    name = "partial-imagenet" if partial else "imagenet"
    return write_set(name, fingerprint, read, out, encoding, overwrite)


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
    truth, words = _read_devkit(os.path.join(source, DEVKIT))
    classes = sorted(words)
    labels = {name: label for label, name in enumerate(classes)}
    sources = {"train": [], "test": []}
    path = os.path.join(source, TRAIN)
    bar = tqdm(total=os.path.getsize(path), desc="index", unit="B", unit_scale=True, disable=None)
    with bar, open(path, "rb") as file, archives.undamaged(path), _open_tar(file) as archive:
        for member in archives.tar_files(archive):
            match = _CLASS_TAR.fullmatch(member.name)
            if match:
                with _open_tar(archive.extractfile(member)) as images:
                    for image in archives.tar_files(images):
                        read = _reader(path, member.offset_data + image.offset_data, image.size)
                        name, label = f"{TRAIN}: {image.name}", labels[match[1]]
                        sources["train"].append(Source(name, label, read, archives.ANOTHER))
            bar.update(member.offset_data + member.size - bar.n)
    sources["train"].sort(key=lambda image: image.label)
    path = os.path.join(source, VALIDATION)
    with open(path, "rb") as file, archives.undamaged(path), _open_tar(file) as archive:
        for image in archives.tar_files(archive):
            match = _VALIDATION_IMAGE.fullmatch(image.name)
            if match:
                read = _reader(path, image.offset_data, image.size)
                name, label = f"{VALIDATION}: {image.name}", labels[truth[int(match[1])]]
                sources["test"].append(Source(name, label, read, archives.ANOTHER))
    return classes, sources, words


def _read_devkit(path):
    """Return the WordNet id of each validation image, from 1, and the words of each WordNet id."""
    members = archives.read_members(path, [_META, _GROUND_TRUTH])
    with archives.undamaged(path):
        (synsets,) = archives.read_mat(io.BytesIO(members[_META]), ["synsets"], _MOST_SYNSETS)
        leaves = [row for row in synsets.ravel() if int(row["num_children"].item()) == 0]
        ids = {int(row["ILSVRC2012_ID"].item()): str(row["WNID"].item()) for row in leaves}
        words = {str(row["WNID"].item()): str(row["words"].item()) for row in leaves}
        lines = members[_GROUND_TRUTH].split()
        truth = {number: ids[int(line)] for number, line in enumerate(lines, start=1)}
    return truth, words


def _open_tar(file):
    return tarfile.open(fileobj=file, mode="r:")  # uncompressed: offsets are those in the file


def _reader(path, offset, size):
    def read():
        with open(path, "rb") as file:
            content = os.pread(file.fileno(), size, offset)
        if len(content) != size:
            raise OSError(0, "the archive ends early")
        return content

    return read


def _add_flags(parser):
    text = "resize to this shorter side: 480 (authors) or 256 (default: keep the size)"
    size = number(int, 1, 10_000)
    parser.add_argument("--short-side", type=size, metavar="N", help=text)


IMAGENET = Registration(
    "imagenet",
    "from the official tars, or train/ and val/",
    prepare_imagenet,
    _add_flags,
    _ARCHIVES,
    "folder with the archives or the tree",
)
