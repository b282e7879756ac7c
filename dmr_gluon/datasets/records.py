"""Writing RecordIO so that a half-written file is never taken for a whole one.

What a stopped preparation has written is not lost: every few seconds it notes how far it is,
and the same preparation goes on from there, to the same bytes.
"""

import contextlib
import hashlib
import json
import os
import time

from ..data import recordio as form
from ..system.files import digests_of, write_atomically
from .encoder import Statistics

#: Between two notes of how far the work is: what is lost of it at most.
SECONDS_BETWEEN_STATES = 10


def part_of(file):
    """The name of a file that is not published yet."""
    return file + ".part"


def state_of(split):
    """The name of the file that says how far a split is."""
    return part_of(f"{split}.state")


def discard(directory, split):
    """Remove what there is of a split that is not published."""
    state = state_of(split)
    for name in (part_of(f"{split}.rec"), part_of(f"{split}.idx"), state, part_of(state)):
        with contextlib.suppress(FileNotFoundError):
            os.remove(os.path.join(directory, name))


def read_state(path):
    """What a stopped preparation noted last, a dict; None where that is missing or damaged."""
    try:
        with open(path, encoding="utf-8") as file:
            digest, _, text = file.read().rstrip("\n").partition("\n")
        return json.loads(text) if digest == _sha256(text) else None
    except (OSError, ValueError):
        return None


def _sha256(text):
    return hashlib.sha256(text.encode()).hexdigest()


class RecordWriter:
    """Writes ``NAME.rec`` and ``NAME.idx``, under other names until they are published.

    Use as a context manager. On entry it takes over what an earlier run with the same ``key``
    has written, as far as that run had noted; ``count`` says how many records that is.

    Parameters
    ----------
    directory : str
    name : str
        Of the split, such as ``train``.
    classes : int
        Number of classes; labels are 0 to classes - 1.
    key : dict
        All that decides what is written, of text and numbers.

    Attributes
    ----------
    count : int
        Records written.
    statistics : Statistics
        Of the images written.
    noted : bool
        Is there something on the disk to go on with?

    Raises
    ------
    OSError
        When not everything has reached the disk.
    """

    def __init__(self, directory, name, classes, key):
        self.directory, self.name, self.key = directory, name, key
        self.files = {kind: f"{name}.{kind}" for kind in ("rec", "idx")}
        self.per_class = [0] * classes
        self.count, self.noted = 0, False
        self.statistics = Statistics()
        self._bytes = dict.fromkeys(self.files, 0)
        self._digests = {kind: hashlib.sha256() for kind in self.files}
        self._streams = {}

    def __enter__(self):
        self._take_over()
        for kind, file in self.files.items():
            path = self._path(part_of(file))
            self._streams[kind] = open(path, "r+b" if self.count else "wb")  # noqa: SIM115
            self._streams[kind].truncate(self._bytes[kind])
            self._streams[kind].seek(self._bytes[kind])
        self._saved = time.monotonic()
        return self

    def write(self, encoded):
        """Append one record.

        Parameters
        ----------
        encoded : Encoded
        """
        line = form.index_line(self.count, self._bytes["rec"])
        self._append("rec", form.record(encoded.label, self.count, encoded.data))
        self._append("idx", line)
        self.statistics.add(encoded)
        self.per_class[encoded.label] += 1
        self.count += 1
        if time.monotonic() - self._saved >= SECONDS_BETWEEN_STATES:
            self._save()

    def __exit__(self, kind, value, traceback):
        try:
            if kind is None:
                self._save()
        finally:
            for stream in self._streams.values():
                with contextlib.suppress(OSError):  # what counts has been flushed by _save
                    stream.close()

    def discard(self):
        """Remove what was written."""
        discard(self.directory, self.name)

    def manifest(self):
        """What the manifest says of this split."""
        return {
            "count": self.count,
            "per_class": self.per_class,
            "records": self._describe("rec"),
            "index": self._describe("idx"),
        }

    def _path(self, name):
        return os.path.join(self.directory, name)

    def _describe(self, kind):
        return {
            "file": self.files[kind],
            "bytes": self._bytes[kind],
            "sha256": self._digests[kind].hexdigest(),
        }

    def _append(self, kind, content):
        self._streams[kind].write(content)
        self._digests[kind].update(content)
        self._bytes[kind] += len(content)

    def _save(self):
        """Note how far the work is, once it is safe on the disk."""
        for stream in self._streams.values():
            stream.flush()
            os.fsync(stream.fileno())
        state = json.dumps(
            {"key": self.key, "statistics": self.statistics.to_json(), **self.manifest()}
        )
        write_atomically(self._path(state_of(self.name)), f"{_sha256(state)}\n{state}")
        self._saved, self.noted = time.monotonic(), True

    def _take_over(self):
        """Go on from the last state, if it is of the same work and true; else from nothing."""
        path = self._path(state_of(self.name))
        state = read_state(path)
        digests = self._digests_of_parts(state)
        if digests is None:
            if os.path.exists(path):
                print(
                    f"note: {self.name} is begun anew: what is there is damaged, or of other "
                    f"images or versions"
                )
            return
        entries = {"rec": state["records"], "idx": state["index"]}
        self.count, self.per_class, self.noted = state["count"], state["per_class"], True
        self.statistics = Statistics.from_json(state["statistics"])
        self._digests = digests
        self._bytes = {kind: entry["bytes"] for kind, entry in entries.items()}

    def _digests_of_parts(self, state):
        """Of the parts up to a state, by kind; None unless it is of this work and true."""
        if state is None or state["key"] != self.key:
            return None
        digests = {}
        for kind, entry in (("rec", state["records"]), ("idx", state["index"])):
            path = self._path(part_of(self.files[kind]))
            try:
                digests[kind] = digests_of(path, ["sha256"], entry["bytes"])["sha256"]
            except OSError:
                return None
            if digests[kind].hexdigest() != entry["sha256"]:
                return None
        return digests
