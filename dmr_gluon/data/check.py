"""Verify a prepared data set against its manifest.

:func:`check_quickly` looks at sizes, index and record headers, and runs before every training.
:func:`check` also decodes all images and compares the SHA-256 of the files. The cure is always the
same: prepare the set again. Needs no MXNet.
"""

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Dict, Tuple

import cv2
from tqdm import tqdm

from ..errors import DMRError
from ..standalone.predict_onnx import shown
from ..system.files import digests_of
from ..system.machine import usable_cores
from . import recordio as form
from .datasets import Split, making_command, open_prepared, read_manifest

_MAX_NAMED = 20  # damaged images of a file; the others are counted
_BLOCK = 256  # records that are read at a time


@dataclass(frozen=True)
class Report:
    """The result of :func:`check`.

    Attributes
    ----------
    problems : dict of str to tuple of str
        By split. Of a split in several files, those of the first file that has any.
    summaries : dict of str to str
        One line for each split without problems.
    repair : str
        The cure for any problem.
    """

    problems: Dict[str, Tuple[str, ...]]
    summaries: Dict[str, str]
    repair: str

    @property
    def ok(self):
        """Whether there are no problems."""
        return not self.problems

    def text(self):
        """Return one line per problem and per split without problems, then the repair."""
        lines = [f"{name}: {text}" for name, found in self.problems.items() for text in found]
        lines += [f"{name}: {text}" for name, text in self.summaries.items()]
        return "\n".join(map(shown, lines if self.ok else [*lines, self.repair]))


def check(directory) -> Report:
    """Check every file and every record of a prepared set, and decode its images.

    Parameters
    ----------
    directory : str

    Returns
    -------
    Report

    Raises
    ------
    DMRError
        As :func:`~.datasets.open_prepared`: for a damaged manifest, or files of other sizes.
    """
    prepared = open_prepared(directory)
    problems: Dict[str, Tuple[str, ...]] = {}
    classes, summaries = len(prepared.classes), {}
    for name, split in prepared.splits.items():
        try:
            files = (_check_file(file, classes, prepared.image_size) for file in split.files)
            found = next(filter(None, files), [])
        except (OSError, form.Broken) as error:
            found = [str(error)]
        if found:
            problems[name] = tuple(found)
        else:
            summaries[name] = f"{split.count} records, {classes} classes, all decoded, hashes equal"
    command = making_command(read_manifest(prepared.directory), prepared.directory)
    return Report(problems, summaries, f"to repair, prepare the set again: {command}")


def check_quickly(prepared):
    """Check index and record headers: seconds, even for ImageNet.

    Parameters
    ----------
    prepared : RecordDataset

    Raises
    ------
    DMRError
        At the first problem, naming the file and the record.
    """
    for file in (file for split in prepared.splits.values() for file in split.files):
        try:
            _check_headers(file, len(prepared.classes))
        except (OSError, form.Broken) as error:
            raise DMRError(
                f"{error}; prepare the data set again with --overwrite "
                f"('dmr check {prepared.directory}' says more)"
            ) from error


def _check_headers(split, classes):
    """Check the index, the records' headers and the counts of the classes of one file.

    Returns
    -------
    list of int
        Where each record begins, and where the last one ends.

    Raises
    ------
    Broken
        At the first problem.
    OSError
    """
    numbers, offsets = (column.tolist() for column in form.read_index(split.index))
    if len(offsets) != split.count:
        raise form.Broken(
            f"{split.index} has {len(offsets)} records, the manifest says {split.count}"
        )
    per_class = [0] * classes
    with open(split.records, "rb", buffering=0) as file:
        descriptor = file.fileno()
        offsets.append(os.fstat(descriptor).st_size)
        # Of 100 GB only the heads: let the disk fetch many at a time and nothing around them.
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_RANDOM)
        for key, (start, limit) in enumerate(zip(offsets, offsets[1:])):
            if key % 1024 == 0:
                for head in offsets[key : key + 1024]:
                    size = form.SMALLEST_RECORD
                    os.posix_fadvise(descriptor, head, size, os.POSIX_FADV_WILLNEED)
            try:
                end, _ = form.find_record(file, start, min(limit, offsets[-1]))
                if end != limit:
                    raise form.Broken(f"it ends at byte {end}, the next one begins at {limit}")
                number, label = form.read_header(file, start)
                if number != numbers[key]:
                    raise form.Broken(f"its header is damaged, or that of record {number}")
                if label >= classes:
                    raise form.Broken(f"its label {label} is not one of 0 to {classes - 1}")
                per_class[label] += 1
            except form.Broken as broken:
                where = f"{split.records}, record {key} at byte {start}"
                raise form.Broken(f"{where}: {broken}") from broken
    if tuple(per_class) != split.per_class:
        raise form.Broken(f"{split.records}: the classes have other counts than in the manifest")
    return offsets


def _check_file(split: Split, classes, size):
    """Return the problems of one file: damaged images, or else files that differ."""

    def require_image(record):
        _, image = form.split_record(record)
        height, width = form.decode(image, split.upright).shape[:2]
        if size and (height, width) != size:
            raise form.Broken(f"its image is {width}x{height} instead of {size[1]}x{size[0]}")

    offsets = _check_headers(split, classes)
    problems, sha256 = examine(split.records, offsets, require_image)
    if problems:
        return problems
    (index,) = digests_of(split.index, "sha256")
    hashes = (split.records, sha256, split.sha256), (split.index, index, split.index_sha256)
    differs = "differs from what was prepared (its SHA-256 is another)"
    return [f"{path} {differs}" for path, found, expected in hashes if found != expected]


def examine(path, offsets, function, take=lambda result: None):
    """Read the records of a file in order, and examine them on all cores.

    Parameters
    ----------
    path : str
    offsets : sequence of int
        Where each record begins, and where the last one ends.
    function : callable
        Called with the bytes of a record; raises :class:`Broken` for a damaged one. Must be
        thread-safe.
    take : callable
        Called with what the function returns, in the order of the records.

    Returns
    -------
    list of str, str
        The damaged records, of which at most 20 are named; the SHA-256 of all bytes.
    """

    def attempt(record):
        try:
            return function(record)
        except form.Broken as broken:
            return broken

    cv2.setNumThreads(1)  # the threads here are the parallelism
    count, sha256, faults = len(offsets) - 1, hashlib.sha256(), []
    bar = tqdm(total=count, desc=path, unit=" records", disable=None, leave=False)
    with bar, open(path, "rb") as file, ThreadPoolExecutor(usable_cores()) as pool:
        for first in range(0, count, _BLOCK):
            limits = offsets[first : first + _BLOCK + 1]
            records = [file.read(end - start) for start, end in zip(limits, limits[1:])]
            results = pool.map(attempt, records)
            for record in records:
                sha256.update(record)
            for key, result in enumerate(results, start=first):
                if isinstance(result, form.Broken):
                    faults.append(f"record {key} at byte {offsets[key]}: {result}")
                else:
                    take(result)
            bar.update(len(records))
    if len(faults) > _MAX_NAMED:
        faults[_MAX_NAMED:] = [f"{len(faults) - _MAX_NAMED} more damaged images"]
    return faults, sha256.hexdigest()
