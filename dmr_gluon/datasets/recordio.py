"""Prepare RecordIO made by MXNet's im2rec without copying it.

Only a manifest and an index of each file are written. im2rec's own index is not needed: a walk
along the records finds where each of them begins.
"""

import hashlib
import os
from array import array
from collections import namedtuple

import numpy as np
from tqdm import tqdm

from ..data import recordio as form
from ..data.check import examine
from ..errors import DMRError
from .archives import readable
from .encoder import measured, oddities_of
from .folder import own_name, stamp
from .registration import Registration
from .writer import HashedFile, Statistics, write_set

_AGAIN = "make the file again with im2rec"


def prepare_recordio(train, out, test=(), classes=None, name=None, overwrite=False):
    """Prepare RecordIO made by im2rec without copying it.

    Images are read unchanged, and rotated upright as EXIF says.

    Parameters
    ----------
    train, test : sequence of str
        One or more files for each split. Without test images the set is for training only.
    out : str
        The folder for manifest and indexes.
    classes : str, optional
        A text file with the classes' names in the order of their labels, one per line. Default:
        ``0``, ``1``, ...
    name : str, optional
        The data set's name in logs and results. Default: the name of ``out``.
    overwrite : bool
        Replace another prepared set in ``out``.

    Returns
    -------
    RecordDataset

    Raises
    ------
    DMRError
        If a file is damaged or given twice, an image is unreadable, a record has a list of
        labels, the labels are not 0 to n - 1, or ``out`` holds something else.
    """
    name = own_name(name or os.path.basename(os.path.abspath(out)))
    paths = {"train": [*map(os.path.abspath, train)], "test": [*map(os.path.abspath, test)]}
    every = [*paths["train"], *paths["test"]]
    with readable(name):
        names = _read_names(classes) if classes else None
        fingerprint = hashlib.sha256(ascii([paths, names]).encode())
        for number, path in enumerate(every):
            fingerprint.update(stamp(path))
            if any(os.path.samefile(path, other) for other in every[:number]):
                raise DMRError(f"{path} is given twice; give it only once")
            if os.path.realpath(os.path.dirname(path)) == os.path.realpath(out):
                raise DMRError(f"{path} is in {out} and could be replaced; choose another --out")

    def read():
        files = {split: [*map(_walk, found)] for split, found in paths.items() if found}
        return _name_classes(files, names), files, {}

    return write_set(name, fingerprint.hexdigest(), read, out, None, overwrite, _index_split)


#: One file, with the offset, the number and the label of each record as arrays.
_File = namedtuple("_File", "path size offsets numbers labels")


def _walk(path):
    """Walk along the heads of a file's records."""
    found = array("q")
    with open(path, "rb", buffering=0) as file:
        size, position = os.fstat(file.fileno()).st_size, 0
        if form.read_at(file, 0, len(form.MAGIC)) != form.MAGIC:
            raise DMRError(f"{path} is not RecordIO; name a .rec file that im2rec has made")
        with tqdm(total=size, desc=path, unit="B", unit_scale=True, disable=None) as bar:
            while position < size:
                try:
                    end, _ = form.find_record(file, position, size)
                    number, label = form.read_header(file, position)
                except form.Broken as broken:
                    where = f"{path}, record {len(found) // 3} at byte {position}"
                    raise DMRError(f"{where}: {broken}; {_AGAIN}") from broken
                found.extend((position, number, label))
                bar.update(end - position)
                position = end
    walked = _File(path, size, *np.array(found).reshape(-1, 3).T)
    _compare_with_index(walked)
    return walked


def _compare_with_index(file):
    """Refuse a file that differs from im2rec's index, if there is one: it may be cut off."""
    path = os.path.splitext(file.path)[0] + ".idx"
    if not os.path.exists(path):
        return
    with open(path, "rb") as index:
        offsets = sorted(line.split(b"\t")[-1].strip() for line in index)
    if offsets != sorted(b"%d" % offset for offset in file.offsets):
        raise DMRError(
            f"{path} does not list the {len(file.offsets)} records of {file.path}: one of the "
            f"two was cut off or belongs to another file; {_AGAIN}, or remove {path}"
        )


def _read_names(path):
    """Return the names of the classes, from a text file."""
    with open(path, encoding="utf-8", errors="surrogateescape") as file:
        names = [line.strip() for line in file.read().rstrip().split("\n")]
    for number, name in enumerate(names, start=1):
        if not name.isprintable() or not name or name in names[: number - 1]:
            raise DMRError(
                f"line {number} of {path} is empty, repeated or not UTF-8; write one name per line"
            )
    return names


def _name_classes(files, names):
    """Return the names of the classes, after checking that the labels are 0 to n - 1."""
    trained = np.unique(np.concatenate([file.labels for file in files["train"]]))
    count = len(names) if names else int(trained[-1]) + 1
    named = f"{count} classes are named" if names else f"the training images have {count} classes"
    for file in sum(files.values(), []):
        beyond = np.flatnonzero(file.labels >= count)
        if len(beyond):
            raise DMRError(
                f"{file.path}, record {beyond[0]}: its label is {file.labels[beyond[0]]}, but "
                f"{named}, 0 to {count - 1}; name all classes with --classes, or {_AGAIN}"
            )
    missing = np.setdiff1d(np.arange(count), trained)
    if len(missing):
        raise DMRError(
            f"no training image has the label {missing[0]}, but {named}, 0 to {count - 1}; "
            f"number the classes 0, 1, 2, ... and {_AGAIN}"
        )
    return names or list(map(str, range(count)))


def _index_split(path, classes, files):
    """Write an index of each file, and examine all images; see ``write_split`` of write_set."""
    statistics, parts = Statistics(classes), []
    for number, file in enumerate(files, start=1):
        with HashedFile(f"{path}-{number}.idx" if files[1:] else f"{path}.idx") as index:
            for pair in zip(file.numbers, file.offsets):
                index.write(form.index_line(*pair))
        offsets = [*file.offsets.tolist(), file.size]
        faults, sha256 = examine(file.path, offsets, _measure, statistics.add)
        if faults:
            raise DMRError(f"{file.path}: {'; '.join(faults)}; {_AGAIN}")
        parts.append(
            {
                "count": len(file.labels),
                "per_class": np.bincount(file.labels, minlength=classes).tolist(),
                "records": {"file": file.path, "bytes": file.size, "sha256": sha256},
                "index": index.entry(),
                "upright": True,
            }
        )
    return statistics.describe(**({"parts": parts} if parts[1:] else parts[0]))


def _measure(record):
    label, image = form.split_record(record)
    pixels = form.decode(image, upright=True)
    return measured(label, b"", pixels, oddities_of(bytes(image), upright=True))


def _add_flags(parser):
    files = {"metavar": "REC", "nargs": "+", "action": "extend"}
    parser.add_argument("--train", required=True, help="RecordIO of the training images", **files)
    text = "RecordIO of the test images (default: none, for training only)"
    parser.add_argument("--test", default=[], help=text, **files)
    text = "the classes' names in the order of their labels, one per line (default: 0, 1, ...)"
    parser.add_argument("--classes", metavar="FILE", help=text)
    parser.add_argument("--name", help="the set's name in logs and results (default: DIR's)")


RECORDIO = Registration(
    "recordio", "RecordIO made by im2rec, read where it is", prepare_recordio, _add_flags
)
