"""Verify a prepared data set against its manifest.

:func:`check_quickly` looks at sizes, index and record headers, and runs before every training.
:func:`check` also compares the SHA-256 of the files and decodes the images. The cure is always the
same: prepare the set again. No MXNet.
"""

import contextlib
import hashlib
import os
import random
from array import array
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Dict, Optional, Tuple

from tqdm import tqdm

from ..errors import DMRError
from ..standalone.predict_onnx import shown
from ..system.files import digests_of
from ..system.machine import usable_cores
from . import datasets
from . import recordio as form
from .datasets import (
    MANIFEST,
    Split,
    manifest_faults,
    open_prepared,
    open_split,
    read_manifest,
    split_fault,
)

_MAX_NAMED = 20  # damaged images of a split; the others are counted
_AHEAD = 64  # images that are read and not yet decoded


@dataclass(frozen=True)
class Report:
    """The result of :func:`check`.

    Attributes
    ----------
    problems : dict of str to tuple of str
        By split; those of the manifest itself under ``manifest.json``.
    summaries : dict of str to str
        One line for each split without problems.
    repair : str
        What to do about any problem.
    """

    problems: Dict[str, Tuple[str, ...]]
    summaries: Dict[str, str]
    repair: str

    @property
    def ok(self):
        """Whether there are no problems."""
        return not any(self.problems.values())

    def text(self):
        """Return one line for each problem and each split without, then the repair."""
        lines = [f"{name}: {text}" for name, found in self.problems.items() for text in found]
        lines += [f"{name}: {text}" for name, text in self.summaries.items()]
        return "\n".join(map(shown, lines if self.ok else [*lines, self.repair]))


def check(directory, sample=None, hashes=True) -> Report:
    """Check every file and every record of a prepared set, and decode its images.

    Parameters
    ----------
    directory : str
    sample : int, optional
        Decode only this many images of each split, always the same ones.
    hashes : bool
        Compare the files' SHA-256. Nothing else detects a damaged JPEG that still decodes, or two
        exchanged labels.

    Returns
    -------
    Report

    Raises
    ------
    DMRError
        If there is no manifest, or it cannot be read.
    """
    directory = os.fspath(directory)
    if sample is not None and sample < 1:
        raise DMRError(f"{sample} images are no sample; name 1 or more")
    manifest, faults = {}, []
    try:
        manifest = read_manifest(directory)
    except DMRError as error:
        if isinstance(error.__cause__, OSError):
            raise
        faults = [str(error)]
    if manifest is None:
        open_prepared(directory)  # raises: there is no set
    faults = faults or list(manifest_faults(manifest))
    problems, summaries = {}, {}
    for name, entry in ({} if faults else manifest["splits"]).items():
        wrong = split_fault(entry, len(manifest["classes"]))
        if wrong:
            faults.append(f"the split {name} {wrong}")
            continue
        try:
            split = open_split(directory, entry)
            found = _check_split(split, manifest, sample, hashes)
        except DMRError as error:
            found = [str(error)]
        except OSError as error:
            found = [f"{entry['records']['file']} or its index cannot be read ({error.strerror})"]
        if found:
            problems[name] = tuple(found)
        else:
            decoded = "all" if sample is None or sample >= split.count else f"{sample} of them"
            summaries[name] = (
                f"{split.count} records, {len(manifest['classes'])} classes, {decoded} decoded, "
                f"hashes {'equal' if hashes else 'not compared'}"
            )
    problems = {MANIFEST: tuple(faults), **problems}
    command = datasets.making_command(manifest, directory)
    return Report(problems, summaries, f"to repair, prepare the set again: {command}")


def check_quickly(prepared):
    """Check sizes, index and every record's header: seconds, even for ImageNet.

    Parameters
    ----------
    prepared : RecordDataset

    Raises
    ------
    DMRError
        At the first problem, naming the file and the record.
    """
    for split in prepared.splits.values():
        try:
            problem, _ = _check_headers(split, len(prepared.classes))
        except OSError as error:
            problem = f"{split.records} or its index cannot be read ({error.strerror})"
        if problem:
            raise DMRError(
                f"{problem}; prepare the data set again with --overwrite "
                f"('dmr check {prepared.directory}' says more)"
            )


def _check_headers(split, classes):
    """Return the first problem of index and headers, or None, and the records' offsets."""
    offsets = array("q")
    with open(split.index, "rb") as index:
        for line, key, offset in form.index_lines(index):
            if key != line or (offset <= offsets[-1] if offsets else offset):
                return f"{split.index}: line {line + 1} is not that of record {line}", None
            offsets.append(offset)
    if len(offsets) != split.count:
        found = f"has {len(offsets)} records, the manifest says {split.count}"
        return f"{split.index} {found}", None
    per_class = [0] * classes
    with open(split.records, "rb", buffering=0) as file:
        size = os.fstat(file.fileno()).st_size
        offsets.append(size)
        # Of 100 GB only the heads: let the disk fetch many at a time and nothing around them.
        _advise(file, [0], 0, os.POSIX_FADV_RANDOM)
        for key in range(split.count):
            if key % 1024 == 0:
                heads = offsets[key : key + 1024]
                _advise(file, heads, form.SMALLEST_RECORD, os.POSIX_FADV_WILLNEED)
            start, limit = offsets[key], min(offsets[key + 1], size)
            try:
                end, _ = form.find_record(file, start, limit)
                if end != limit:
                    raise form.Broken(f"it ends at byte {end}, the next one begins at {limit}")
                per_class[form.read_header(file, start, key, classes)] += 1
            except form.Broken as broken:
                return f"{split.records}, record {key} at byte {start}: {broken}", None
    for label, (found, wanted) in enumerate(zip(per_class, split.per_class)):
        if found != wanted:
            text = f"{found} records of class {label}, the manifest says {wanted}"
            return f"{split.records}: {text}", None
    return None, offsets


def _advise(file, offsets, length, advice):
    with contextlib.suppress(OSError):
        for offset in offsets:
            os.posix_fadvise(file.fileno(), offset, length, advice)


def _check_split(split: Split, manifest, sample, hashes):
    """Return the problems of one split."""
    problem, offsets = _check_headers(split, len(manifest["classes"]))
    if problem:
        return [problem]
    size = manifest["image_size"] and tuple(manifest["image_size"])
    problems, digest = _check_images(split, offsets, size, sample)
    if hashes and not problems:
        (index,) = digests_of(split.index, "sha256")
        for path, found, wanted in (
            (split.index, index, split.index_sha256),
            (split.records, digest, split.sha256),
        ):
            if found != wanted:
                problems.append(f"{path} differs from what was prepared (its SHA-256 is another)")
    return problems


def _check_images(split, offsets, size, sample):
    """Read all records once; return the problems of the images, and the SHA-256 of the file."""
    chosen = range(split.count)
    if sample is not None and sample < split.count:
        chosen = frozenset(random.Random(0).sample(chosen, sample))
    sha256, problems, others, waiting = hashlib.sha256(), [], 0, deque()
    bar = tqdm(total=split.count, desc=split.records, unit=" records", disable=None, leave=False)
    with bar, open(split.records, "rb") as file, ThreadPoolExecutor(usable_cores()) as pool:
        for key in range(split.count):
            record = file.read(offsets[key + 1] - offsets[key])
            sha256.update(record)
            if key in chosen:
                waiting.append((key, pool.submit(_image_fault, record, size)))
            while len(waiting) > (_AHEAD if key + 1 < split.count else 0):
                number, fault = waiting.popleft()
                what = fault.result()
                if what and len(problems) < _MAX_NAMED:
                    problems.append(f"record {number} at byte {offsets[number]}: {what}")
                elif what:
                    others += 1
            bar.update()
    if others:
        problems.append(f"{others} more damaged images")
    return problems, sha256.hexdigest()


def _image_fault(record, size) -> Optional[str]:
    """Return the fault of a record's image, or None."""
    try:
        _, image = form.split_record(record)
    except form.Broken as broken:
        return str(broken)
    pixels = form.decode(image)
    if pixels is None:
        return "its image cannot be decoded"
    height, width = pixels.shape[:2]
    if size and (height, width) != size:
        return f"its image is {width}x{height} instead of {size[1]}x{size[0]}"
    return None
