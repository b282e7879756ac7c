"""Write prepared data sets: RecordIO, index and manifest.

Everything is written into the folder ``.preparing`` inside the target; when all splits and the
manifest are there, the files are moved into place, the manifest last. A preparation that is killed
leaves a whole set or none. The same command skips the splits that were finished, and completes
the moves if those were interrupted.
"""

import contextlib
import hashlib
import json
import os
import shlex
import shutil
import sys
from collections import Counter
from dataclasses import asdict

import cv2
import numpy as np

from ..data import recordio as form
from ..data.datasets import MANIFEST, MANIFEST_FORMAT, open_prepared, read_manifest
from ..errors import DMRError
from ..standalone.predict_onnx import shown
from ..system.files import write_atomically
from ..system.machine import installed_wheels, lock
from ..version import __version__
from .encoder import MAX_FAULTS, Statistics, encode_all

#: Folder inside the target where a set is written.
WORK = ".preparing"
#: Seconds to wait for a process that has just been killed.
_PATIENCE = 5


class RecordWriter:
    """Write ``NAME.rec`` and ``NAME.idx``; a context manager.

    Parameters
    ----------
    directory : str
    name : str
        Name of the split, such as ``train``.
    classes : int
        Number of classes; labels are 0 to classes - 1.

    Attributes
    ----------
    statistics : Statistics
        Over the images written.

    Raises
    ------
    OSError
        If not everything reaches the disk.
    """

    def __init__(self, directory, name, classes):
        self.statistics = Statistics()
        self._files = {kind: f"{name}.{kind}" for kind in ("rec", "idx")}
        self._streams = {
            kind: open(os.path.join(directory, file), "wb")  # noqa: SIM115, closed by __exit__
            for kind, file in self._files.items()
        }
        self._bytes = dict.fromkeys(self._files, 0)
        self._digests = {kind: hashlib.sha256() for kind in self._files}
        self._count, self._per_class = 0, [0] * classes

    def __enter__(self):
        return self

    def __exit__(self, kind, value, traceback):
        try:
            if kind is None:
                for stream in self._streams.values():
                    stream.flush()
                    os.fsync(stream.fileno())
        finally:
            for stream in self._streams.values():
                with contextlib.suppress(OSError):
                    stream.close()
                if kind is not None:  # an unfinished split would keep a full disk full
                    os.remove(stream.name)

    def write(self, encoded):
        """Append one :class:`~.encoder.Encoded` image."""
        line = form.index_line(self._count, self._bytes["rec"])
        self._append("rec", form.record(encoded.label, self._count, encoded.data))
        self._append("idx", line)
        self.statistics.add(encoded)
        self._per_class[encoded.label] += 1
        self._count += 1

    def _append(self, kind, content):
        self._streams[kind].write(content)
        self._digests[kind].update(content)
        self._bytes[kind] += len(content)

    def manifest(self):
        """Return the split's entry in the manifest."""
        files = {
            kind: {
                "file": self._files[kind],
                "bytes": self._bytes[kind],
                "sha256": self._digests[kind].hexdigest(),
            }
            for kind in self._files
        }
        return {
            "count": self._count,
            "per_class": self._per_class,
            "records": files["rec"],
            "index": files["idx"],
        }


def write_set(name, fingerprint, read, out, encoding, overwrite):
    """Write every split and then the manifest, unless the same set is there already.

    Parameters
    ----------
    name : str
    fingerprint : str
        Hash of everything that determines the set.
    read : function
        Called only if the set is not there. Returns the classes, a list of str; a list of
        :class:`Source` for each split, ``train`` first; more entries of the manifest, a dict.
    out : str
    encoding : Encoding
    overwrite : bool
        Replace another prepared set.

    Returns
    -------
    RecordDataset

    Raises
    ------
    DMRError
        If images are unreadable, a split has none, or ``out`` holds something else or cannot be
        written.
    """
    out = os.fspath(out)
    with disk_errors(out), alone_in(out):
        found = _find_same(name, fingerprint, out, overwrite)
    if found:
        return found
    classes, sources, more = read()
    for split, images in sources.items():
        if not images:
            raise DMRError(
                f"the source of {name} has no images for {split}; get them: a set needs some of "
                f"each split, with --partial too"
            )
    versions = {"dmr_gluon": __version__, "numpy": np.__version__, "opencv": cv2.__version__}
    key = {"dataset": name, "fingerprint": fingerprint, "versions": versions}
    with disk_errors(out):
        os.makedirs(out, exist_ok=True)
        with alone_in(out):
            # Again: another process may have written there while the source was read.
            found = _find_same(name, fingerprint, out, overwrite)
            if found:
                return found
            splits, statistics = _write_splits(classes, sources, out, encoding, key)
            mean, std = statistics[0].mean_and_std()
            sizes = {tuple(size) for each in statistics for size in each.sizes}
            oddities = dict(sum((Counter(each.oddities) for each in statistics), Counter()))
            manifest = {
                "format": MANIFEST_FORMAT,
                "dataset": name,
                "fingerprint": fingerprint,
                "classes": classes,
                "image_size": list(sizes.pop()) if len(sizes) == 1 else None,
                "mean": mean,
                "std": std,
                "published": None,
                "oddities": oddities,
                "splits": splits,
                **more,
                "command": " ".join(map(shlex.quote, ["dmr", *sys.argv[1:]])),
                "versions": {**versions, **installed_wheels()},
            }
            write_atomically(os.path.join(out, WORK, MANIFEST), json.dumps(manifest, indent=1))
            _publish(out)
    for oddity, count in oddities.items():
        print(f"note: {count} images: {oddity}")
    return open_prepared(out)


def _write_splits(classes, sources, out, encoding, key):
    """Return the manifest's entries and the statistics of all splits."""
    work, faults, entries, statistics = os.path.join(out, WORK), [], {}, []
    os.makedirs(work, exist_ok=True)
    try:
        for split, images in sources.items():
            finished = os.path.join(work, f"{split}.json")
            split_key = {**key, "split": split, "images": len(images)}
            found = None if faults else _read_finished(finished, split_key)
            if found is None:
                with contextlib.suppress(FileNotFoundError):
                    os.remove(finished)
                with RecordWriter(work, split, len(classes)) as writer:
                    encoded = encode_all(images, encoding, split, faults)
                    with contextlib.closing(encoded):
                        for each in encoded:
                            writer.write(each)
                entry = writer.manifest()
                found = {"entry": entry, "statistics": asdict(writer.statistics)}
                if not faults:
                    write_atomically(finished, json.dumps({"key": split_key, **found}))
            else:
                print(f"{split}: finished by an earlier run")
            entries[split] = found["entry"]
            statistics.append(Statistics(**found["statistics"]))
            if len(faults) >= MAX_FAULTS:
                break
        if faults:
            raise _refusal(faults)
    except BaseException:
        if faults:  # images that are replaced make another set
            shutil.rmtree(work, ignore_errors=True)
        with contextlib.suppress(OSError):  # unless it has finished splits
            os.rmdir(work)
        raise
    return entries, statistics


def _read_finished(path, key):
    """Return what an earlier run noted about a finished split; None if it is another split."""
    try:
        with open(path, encoding="utf-8") as file:
            found = json.load(file)
        sizes = {k: found["entry"][k]["bytes"] for k in ("records", "index")}
        files = {k: found["entry"][k]["file"] for k in sizes}
        whole = all(
            os.path.getsize(os.path.join(os.path.dirname(path), files[k])) == sizes[k]
            for k in sizes
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return found if whole and found["key"] == key else None


def _refusal(faults):
    """Return the refusal of images that cannot be encoded, in one line."""
    (_, first), *others = faults
    text = str(first)
    if others:
        least = "at least " if len(faults) >= MAX_FAULTS else ""
        names = ", ".join(repr(name) for name, _ in others)
        text += f" ({least}{len(others)} more cannot be encoded: {names})"
    return DMRError(text)


def _publish(out):
    """Move a finished set into place. Repeated after any interruption, it ends the same."""
    work = os.path.join(out, WORK)
    try:
        files = _files_of(read_manifest(work))
    except DMRError:  # damaged on the disk: the set is made again
        files = set()
    if not files:
        return
    with contextlib.suppress(DMRError):
        for file in _files_of(read_manifest(out)) - files:
            with contextlib.suppress(OSError):
                os.remove(os.path.join(out, file))
    # Only now is another set given up; until the manifest is there, there is none.
    with contextlib.suppress(FileNotFoundError):
        os.remove(os.path.join(out, MANIFEST))
    for file in sorted(files):
        with contextlib.suppress(FileNotFoundError):  # moved before the interruption
            os.replace(os.path.join(work, file), os.path.join(out, file))
    os.replace(os.path.join(work, MANIFEST), os.path.join(out, MANIFEST))
    shutil.rmtree(work, ignore_errors=True)


def _files_of(manifest):
    """Return the names of record files and indexes; none for an invalid manifest."""
    try:
        entries = manifest["splits"].values()
        names = [entry[kind]["file"] for entry in entries for kind in ("records", "index")]
        return {name for name in names if os.path.basename(name) == name}
    except (KeyError, TypeError, AttributeError):
        return set()


@contextlib.contextmanager
def disk_errors(out):
    """Turn the system's errors while a set is written into a refusal."""
    try:
        yield
    except OSError as error:
        raise DMRError(
            f"cannot write to {out} ({error.strerror or error}); free some space and give the "
            f"same command again, or choose another --out"
        ) from error


@contextlib.contextmanager
def alone_in(out):
    """Keep other preparations out of a folder, if it exists: they write the same files."""
    with contextlib.ExitStack() as stack:
        if os.path.isdir(out):
            handle = os.open(out, os.O_RDONLY)
            stack.callback(os.close, handle)
            if lock(handle, _PATIENCE) is False:
                raise DMRError(
                    f"another process is preparing {out}; wait for it or choose another --out"
                )
        yield


def _find_same(name, fingerprint, out, overwrite):
    """Return the set in ``out`` if it is this one and whole; refuse if it is something else."""
    _publish(out)
    if overwrite:
        return None
    existing = read_manifest(out)
    if existing is None:
        strangers = [f for f in ("train.rec", "test.rec") if os.path.exists(os.path.join(out, f))]
        if strangers:
            raise DMRError(
                f"{os.path.join(out, strangers[0])} is there without a manifest; choose another "
                f"--out, or replace it with --overwrite"
            )
        return None
    if (existing.get("dataset"), existing.get("fingerprint")) != (name, fingerprint):
        raise DMRError(
            f"{out} holds the data set {existing.get('dataset')!r} made from other images or in "
            f"another way; choose another --out, or replace it with --overwrite"
        )
    try:
        found = open_prepared(out)
    except DMRError as damage:
        print(f"{shown(str(damage))}; doing so")
        return None
    print(f"{shown(out)} holds this data set already; nothing to do")
    return found
