"""Is a prepared data set what was prepared, and if not, which record is damaged?

:func:`check` walks the chain of records once from its beginning. Where it breaks, the index
decides which record is at fault, and the walk goes on with the next. :func:`check_quickly`
goes by the index and looks at nothing but the records' heads. Nothing here needs MXNet.
"""

import contextlib
import hashlib
import os
import random
import stat
from array import array
from bisect import bisect_left
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Dict, Optional, Tuple

from tqdm import tqdm

from ..errors import DMRError
from ..system.machine import usable_cores
from . import datasets
from . import recordio as form
from .datasets import MANIFEST, manifest_faults, open_prepared, read_manifest, split_faults

_BLOCK = 1 << 20
_KEPT = 20  # problems of a split's records; the others are counted
_WAITING = 64  # images that are read and not yet decoded


@dataclass(frozen=True)
class Problem:
    """What is wrong, in one line; with the record's number and its place in the file."""

    split: str  # manifest.json where the manifest itself is at fault
    record: Optional[int]
    offset: Optional[int]
    what: str

    def __str__(self):
        record = "" if self.record is None else f", record {self.record}"
        offset = "" if self.offset is None else f" at byte {self.offset}"
        return f"{self.split}{record}{offset}: {self.what}"


@dataclass(frozen=True)
class Report:
    """What :func:`check` found.

    Attributes
    ----------
    problems : tuple of Problem
        Those of a split's records are the first 20.
    others : dict of int
        How many more each split has.
    records : dict of int
        How many records of each split could be read.
    summaries : dict of str
        A line for each split, true of one without problems.
    repair : str
        What to do about any problem.
    """

    problems: Tuple[Problem, ...]
    others: Dict[str, int]
    records: Dict[str, int]
    summaries: Dict[str, str]
    repair: str

    @property
    def ok(self):
        return not self.problems

    def text(self):
        """One line for each problem and each split without; how to repair."""
        lines = [str(problem) for problem in self.problems if problem.split not in self.summaries]
        for split, summary in self.summaries.items():
            wrong = [str(problem) for problem in self.problems if problem.split == split]
            if self.others[split]:
                wrong.append(f"{split}: {self.others[split]} more problems")
            lines += wrong or [summary]
        return "\n".join(lines if self.ok else [*lines, self.repair])


def check(directory, sample=None, hashes=True) -> Report:
    """Check every file and every record of a prepared set, and decode its images.

    Parameters
    ----------
    directory : str
    sample : int, optional
        Decode only so many images of each split, always the same ones.
    hashes : bool
        Compare the files' SHA-256. Nothing else shows damage within a JPEG that can still be
        decoded, or two labels exchanged.

    Returns
    -------
    Report
        Whatever the files hold.

    Raises
    ------
    DMRError
        Where there is no manifest or it may not be read.
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
        open_prepared(directory)  # says that there is none, and how to make one
    faults = faults or list(manifest_faults(manifest))
    splits = {}
    for name, entry in ({} if faults else manifest["splits"]).items():
        wrong = list(split_faults(entry, len(manifest["classes"])))
        faults += [f"the split {name}: {fault}" for fault in wrong]
        if not wrong:
            splits[name] = _SplitCheck(directory, name, manifest, sample, hashes)
            splits[name].run()
    problems = [Problem(MANIFEST, None, None, fault) for fault in faults]
    for split in splits.values():
        problems += split.of_files + split.of_records
    return Report(
        problems=tuple(problems),
        others={name: split.others for name, split in splits.items()},
        records={name: split.found for name, split in splits.items()},
        summaries={name: split.summary() for name, split in splits.items()},
        repair=f"to repair, prepare the set again: {datasets.making_command(manifest, directory)}",
    )


def check_quickly(prepared):
    """Check sizes, index and every record's head: seconds, even for ImageNet.

    Parameters
    ----------
    prepared : PreparedSet

    Raises
    ------
    DMRError
        At the first problem, naming the file and the record.
    """
    for split in prepared.splits.values():
        try:
            problem = next(_quick_problems(split, len(prepared.classes)), None)
        except OSError as error:
            problem = f"{split.records} or its index cannot be read ({error.strerror})"
        if problem:
            raise DMRError(
                f"{problem}; prepare the data set again with --overwrite "
                f"('dmr check {prepared.directory}' says more)"
            )


def _quick_problems(split, classes):
    """What is wrong, as text. Only the first counts: what follows builds on its absence."""
    offsets = array("q")
    with open(split.index, "rb") as index:
        for line, key, offset in form.index_lines(index):
            if key != line or (offset <= offsets[-1] if offsets else offset):
                yield f"{split.index}: line {line + 1} is not that of record {line}, or misplaced"
            offsets.append(offset)
    if len(offsets) != split.count:
        yield f"{split.index} has {len(offsets)} records, the manifest says {split.count}"
    codes, per_class = form.label_codes(classes), [0] * classes
    with open(split.records, "rb", buffering=0) as file:
        size = os.fstat(file.fileno()).st_size
        offsets.append(size)
        # Of 100 GB only the heads: let the disk fetch many at a time and nothing around them.
        _advise(file, [0], 0, os.POSIX_FADV_RANDOM)
        for key in range(split.count):
            if key % 1024 == 0:
                _advise(file, offsets[key : key + 1024], form.LEAST, os.POSIX_FADV_WILLNEED)
            try:
                limit = min(offsets[key + 1], size)
                _, code, number, _ = header = _quick_look(file, offsets[key], limit)
                for fault in form.header_faults(header, codes):
                    raise form.Broken(fault)
                if number != key:
                    raise form.Broken(f"its header has the number {number}")
            except form.Broken as broken:
                yield f"{split.records}, record {key} at byte {offsets[key]}: {broken}"
            per_class[codes[code]] += 1
    if tuple(per_class) != split.per_class:
        yield f"{split.records}: {form.difference(per_class, split.per_class)}"


def _quick_look(file, position, limit):
    end, _ = form.find_record(file, position, limit)
    if end != limit:
        raise form.Broken(f"it ends at byte {end}, the next one begins at {limit}")
    return form.read_header(file, position)


def _advise(file, offsets, length, advice):
    with contextlib.suppress(OSError):
        for offset in offsets:
            os.posix_fadvise(file.fileno(), offset, length, advice)


class _SplitCheck:
    """Checks one split: all its problems, and how many records could be read."""

    def __init__(self, directory, name, manifest, sample, hashes):
        self.name, self.entry = name, manifest["splits"][name]
        self.count, self.hashes = self.entry["count"], hashes
        self.paths = {
            kind: os.path.join(directory, self.entry[kind]["file"]) for kind in ("index", "records")
        }
        self.size = tuple(manifest["image_size"]) if manifest["image_size"] else None
        self.codes = form.label_codes(len(manifest["classes"]))
        self.all_decoded = sample is None or sample >= self.count
        self.chosen = range(self.count)
        if not self.all_decoded:
            self.chosen = frozenset(random.Random(0).sample(self.chosen, sample))
        self.of_files, self.of_records, self.others = [], [], 0
        self.offsets = array("q")  # that the index says; -1 where it says nothing
        self.found, self.per_class = 0, [0] * len(self.codes)
        self.waiting = deque()  # (record, offset, image being decoded)
        self.shifts = {}  # by how much the last record's number and offset were wrong

    def summary(self):
        return (
            f"{self.name}: {self.found} records, {len(self.codes)} classes, "
            f"{'all' if self.all_decoded else f'{len(self.chosen)} of them'} decoded, "
            f"hashes {'equal' if self.hashes else 'not compared'}"
        )

    def run(self):
        digests = {"index": self._go_through("index", self._read_index)}
        digests["records"] = self._go_through("records", self._walk)
        if self.found != self.count:
            self._file_problem(f"{self.found} whole records, the manifest says {self.count}")
        elif not self.of_records and self.per_class != self.entry["per_class"]:
            self._file_problem(form.difference(self.per_class, self.entry["per_class"]))
        if self.hashes and not (self.of_files or self.of_records):
            whole = "can be read" if self.all_decoded else "has the right form"
            for kind, digest in digests.items():
                if digest != self.entry[kind]["sha256"]:
                    self._file_problem(
                        f"the content of {self.entry[kind]['file']} differs from what was prepared "
                        f"(SHA-256), although every record {whole}"
                    )
        self.of_records.sort(key=lambda problem: (problem.offset or 0, problem.record or 0))

    def _go_through(self, kind, function):
        """Call a function with a file, its size and what digests it up to a place; its SHA-256."""
        name, wanted = self.entry[kind]["file"], self.entry[kind]["bytes"]
        try:
            status = os.stat(self.paths[kind])
            if not stat.S_ISREG(status.st_mode):
                self._file_problem(f"{name} is not a file")
                return None
            if status.st_size != wanted:
                self._file_problem(f"{name} has {status.st_size} bytes, not {wanted}")
            sha256, path = hashlib.sha256(), self.paths[kind]
            with open(path, "rb", _BLOCK) as file, open(path, "rb") as behind:

                def digest(position):
                    # Close behind what is read, so that the disk reads it once.
                    for _ in range((position - behind.tell()) // _BLOCK if self.hashes else 0):
                        sha256.update(behind.read(_BLOCK))

                function(file, status.st_size, digest)
                digest(status.st_size)
                sha256.update(behind.read(_BLOCK))
                return sha256.hexdigest()
        except OSError as error:
            self._file_problem(f"{name} cannot be read ({error.strerror})")
            return None

    def _file_problem(self, what):
        self.of_files.append(Problem(self.name, None, None, what))

    def _problem(self, record, offset, what):
        if len(self.of_records) < _KEPT:
            self.of_records.append(Problem(self.name, record, offset, what))
        else:
            self.others += 1

    def _shifted(self, kind, shift, record, offset, what):
        """A problem if there is a shift; only counted if the record before has the same."""
        if shift and shift == self.shifts.get(kind):
            self.others += 1
        elif shift:
            self._problem(record, offset, what)
        self.shifts[kind] = shift

    def _read_index(self, file, size, digest):
        most = size // 4  # lines, however large a number a damaged one has
        self.offsets = array("q", [-1]) * most
        lines, highest = 0, -1
        for line, key, offset in form.index_lines(file):
            lines = line + 1
            where = f"line {lines} of the index"
            if key is None:
                self._problem(line, None, f"{where} is not a number, a tab and an offset")
            elif key >= most:
                self._problem(key, None, f"{where}: there cannot be so many records")
            elif self.offsets[key] >= 0:
                self._problem(key, None, f"{where}: the second one of this record")
            else:
                if key < highest:
                    self._problem(key, None, f"{where} comes too late")
                self.offsets[key], highest = offset, max(highest, key)
        del self.offsets[highest + 1 :]
        if lines != self.count:
            self._file_problem(f"the index has {lines} lines, the manifest says {self.count}")

    def _walk(self, file, size, digest):
        position = key = 0
        bar = tqdm(total=self.count, desc=self.name, unit=" records", disable=None, leave=False)
        with bar, ThreadPoolExecutor(usable_cores()) as pool:
            while position < size:
                try:
                    end, image = self._check_record(file, position, size, key)
                    if key in self.chosen:
                        fault = pool.submit(form.image_fault, image, self.size)
                        self.waiting.append((key, position, fault))
                    position, key = end, key + 1
                except form.Broken as broken:
                    position, key = self._go_on(file, position, size, key, broken)
                digest(position)
                while len(self.waiting) > (_WAITING if position < size else 0):
                    record, offset, fault = self.waiting.popleft()
                    if fault.result():
                        self._problem(record, offset, fault.result())
                bar.update()
        surplus = [k for k in range(key, len(self.offsets)) if self.offsets[k] >= 0]
        if surplus:
            offset = self.offsets[surplus[0]]
            self._problem(surplus[0], offset, "the index has it, the record file does not")

    def _check_record(self, file, position, size, key):
        """Check the record at a position, but for its image; returns where it ends, and that."""
        end, parts = form.find_record(file, position, size)
        follows = form.seems_to_begin(form.read_at(file, end, form.LEAST), size - end)
        if end < size and not follows and self._index_says(key + 1) not in (end, None):
            # Not the next record's head is damaged, but this one's length.
            raise form.Broken(f"its length leads to byte {end}, where no record begins")
        content, filled = form.read_content(file, parts)
        _, code, number, _ = header = form.unpack_header(content)
        self.found += 1
        for fault in form.header_faults(header, self.codes):
            self._problem(key, position, fault)
        if code in self.codes:
            self.per_class[self.codes[code]] += 1
        self._shifted("number", number - key, key, position, f"its header has the number {number}")
        if not filled:
            self._problem(key, position, "the bytes that fill it up are not zero")
        said = self._index_says(key)
        if said is None and self.offsets:
            self._shifted("offset", "none", key, position, "the index does not have it")
        elif said is not None:
            self._shifted("offset", said - position, key, position, f"the index has it at {said}")
        return end, form.image_of(content)

    def _index_says(self, key):
        """The offset of a record, or None."""
        return self.offsets[key] if key < len(self.offsets) and self.offsets[key] >= 0 else None

    def _go_on(self, file, position, size, key, broken):
        """Report a record that cannot be read; position and number of the next that may be."""
        begin = form.find_next(file, position + 1, size)
        while begin is not None and self._number_at(file, begin) is None:
            begin = form.find_next(file, begin + 1, size)
        if begin is None:
            what = f"{broken}; none begins in the {size - position} bytes up to the file's end"
            if key >= self.count:
                key, what = None, f"{size - position} bytes follow the last record"
            self._problem(key, position, what)
            return size, self.count if key is None else key + 1
        self._problem(key, position, f"{broken}; the next one begins at byte {begin}")
        number = self._number_at(file, begin)
        if number > key + 1:
            others = f", nor the others up to {number - 1}" if number > key + 2 else ""
            self._problem(key + 1, None, f"it cannot be found{others}")
        return begin, number

    def _number_at(self, file, begin):
        """The number of the record that seems to begin there: the index's or its own."""
        at = bisect_left(self.offsets, begin)
        if self._index_says(at) == begin:
            return at
        number = form.read_header(file, begin)[2]
        return number if number < max(self.count, len(self.offsets)) else None
