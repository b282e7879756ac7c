"""Prepare RecordIO made by MXNet's im2rec without copying it.

Only a manifest and an index of each file are written. im2rec's own index is not needed: a walk
along the records finds where each of them begins.
"""

import hashlib
import os
from array import array
from dataclasses import dataclass, field

import numpy as np
from tqdm import tqdm

from ..data import recordio as form
from ..data.check import examine
from ..errors import DMRError
from ..standalone import predict_onnx
from ..system.text_tables import counted
from .archives import readable
from .encoder import measured, oddities_of
from .folder import own_name, stamp
from .registration import Registration
from .writer import HashedFile, Statistics, write_set

#: Damaged images of a file that are named.
_MAX_NAMED = 20
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
        fingerprint = hashlib.sha256(ascii([paths, classes]).encode())
        for number, path in enumerate(every):
            fingerprint.update(stamp(path))
            if any(os.path.samefile(path, other) for other in every[:number]):
                raise DMRError(f"{path} is given twice; give it only once")
            if os.path.realpath(os.path.dirname(path)) == os.path.realpath(out):
                raise DMRError(
                    f"{path} is in {out}, where a later preparation could replace it; choose "
                    f"another --out"
                )
        names = _read_names(classes) if classes else None
        fingerprint.update(ascii(names).encode())

    def read():
        files = {split: [*map(_walk, found)] for split, found in paths.items() if found}
        return _name_classes(files, names), files, {}

    return write_set(name, fingerprint.hexdigest(), read, out, None, overwrite, _index_split)


@dataclass(frozen=True)
class _Walked:
    """One file: offset, number and label of each record; ``offsets`` also has the file's end."""

    path: str
    offsets: array = field(default_factory=lambda: array("q"))
    numbers: array = field(default_factory=lambda: array("q"))
    labels: array = field(default_factory=lambda: array("q"))


def _walk(path):
    """Walk along the heads of a file's records."""
    found = _Walked(path)
    with open(path, "rb", buffering=0) as file:
        size, position = os.fstat(file.fileno()).st_size, 0
        if form.read_at(file, 0, len(form.MAGIC)) != form.MAGIC:
            what = "is not RecordIO" if size else "is empty"
            raise DMRError(f"{path} {what}; name a .rec file that im2rec has made")
        with tqdm(total=size, desc=path, unit="B", unit_scale=True, disable=None) as bar:
            while position < size:
                try:
                    end, _ = form.find_record(file, position, size)
                    number, label = form.read_any_header(file, position)
                    if end - position == form.SMALLEST_RECORD:
                        raise form.Broken("it has no image")
                except form.Broken as broken:
                    where = f"{path}, record {len(found.labels)} at byte {position}"
                    raise DMRError(f"{where}: {broken}; {_AGAIN}") from broken
                found.offsets.append(position)
                found.numbers.append(number)
                found.labels.append(label)
                bar.update(end - position)
                position = end
    _compare_with_index(found)
    found.offsets.append(size)
    return found


def _compare_with_index(found):
    """Refuse a file that differs from im2rec's index, if there is one: it may be cut off."""
    path = os.path.splitext(found.path)[0] + ".idx"
    if not os.path.exists(path):
        return
    with open(path, "rb") as file:
        offsets = sorted(line.split(b"\t")[-1].strip() for line in file)
    if offsets != sorted(b"%d" % offset for offset in found.offsets):
        raise DMRError(
            f"{path} does not list the {len(found.offsets)} records of {found.path}: one of the "
            f"two was cut off or belongs to another file; {_AGAIN}, or remove {path}"
        )


def _read_names(path):
    """Return the names of the classes, from a text file."""
    with open(path, encoding="utf-8", errors="surrogateescape") as file:
        names = [line.strip() for line in file.read().rstrip().split("\n")]
    for number, name in enumerate(names, start=1):
        if not name.isprintable() or not name or name in names[: number - 1]:
            raise DMRError(
                f"line {number} of {path} is empty, a duplicate or not UTF-8 text; write one class "
                f"name per line"
            )
    return names


def _name_classes(files, names):
    """Return the names of the classes, after checking that the labels are 0 to n - 1."""
    labels = np.concatenate([found.labels for found in files["train"]])
    count = len(names) if names else int(labels.max()) + 1
    named = f"{count} classes are named" if names else f"the training images have {count} classes"
    for found in (*files["train"], *files.get("test", ())):
        for number, label in enumerate(found.labels):
            if label >= count:
                raise DMRError(
                    f"{found.path}, record {number}: its label is {label}, but {named}, 0 to "
                    f"{count - 1}; name all classes with --classes, or {_AGAIN}"
                )
    missing = np.flatnonzero(np.bincount(labels, minlength=count) == 0)
    if len(missing):
        raise DMRError(
            f"no training image has the label {missing[0]}, but {named}, 0 to {count - 1}; "
            f"number the classes 0, 1, 2, ... and {_AGAIN}"
        )
    return names or list(map(str, range(count)))


def _index_split(path, classes, files):
    """Write an index of each file, and examine all images; see ``write_split`` of write_set."""
    statistics, parts = Statistics(classes), []
    for number, found in enumerate(files, start=1):
        with HashedFile(f"{path}-{number}.idx" if files[1:] else f"{path}.idx") as index:
            for pair in zip(found.numbers, found.offsets):
                index.write(form.index_line(*pair))
        sha256, faults = hashlib.sha256(), []
        for record, image in enumerate(examine(found.path, found.offsets, _examine, sha256)):
            if isinstance(image, str):
                faults.append(f"record {record} at byte {found.offsets[record]}: {image}")
            else:
                statistics.add(image)
        if faults:
            what = counted(len(faults), "damaged image")
            raise DMRError(f"{found.path}: {what}: {'; '.join(faults[:_MAX_NAMED])}; {_AGAIN}")
        facts = {"bytes": found.offsets[-1], "sha256": sha256.hexdigest()}
        parts.append(
            {
                "count": len(found.labels),
                "per_class": np.bincount(found.labels, minlength=classes).tolist(),
                "records": {"file": found.path, **facts},
                "index": index.entry(),
                "upright": True,
            }
        )
    return statistics.describe(**({"parts": parts} if parts[1:] else parts[0]))


def _examine(record):
    """Measure a record's image, or return its fault."""
    try:
        label, image = form.split_record(record)
        content = bytes(image)
        pixels = predict_onnx.decode(content, upright=True)
    except form.Broken as broken:
        return str(broken)
    except predict_onnx.Problem as problem:
        return f"its image {problem}"
    if pixels is None:
        return "its image cannot be decoded"
    return measured(label, b"", pixels, oddities_of(content, upright=True))


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
