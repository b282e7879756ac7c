"""Write prepared data sets: RecordIO, index and manifest.

Everything is written to the folder ``.preparing`` inside the target. Once the manifest is
complete, the files are moved into place, the manifest last. So a killed preparation leaves a
complete set or none. The same command then skips finished splits and completes interrupted moves.
"""

import contextlib
import functools
import hashlib
import json
import os
import shlex
import shutil
import sys
from collections import Counter

import cv2
import numpy as np

from ..data import recordio as form
from ..data.datasets import MANIFEST, MANIFEST_FORMAT, open_prepared, read_manifest
from ..errors import DMRError
from ..standalone.predict_onnx import shown
from ..system.files import write_atomically
from ..system.machine import installed_wheels, lock
from ..version import __version__
from .archives import readable
from .encoder import encode_all

#: Folder inside the target where a set is written, and its list of finished splits.
WORK, _FINISHED = ".preparing", "finished.json"
#: Seconds to wait for a process that has just been killed.
_PATIENCE = 5


def write_set(name, fingerprint, read, out, encoding, overwrite, write_split=None):
    """Write all splits and the manifest, unless the same set is there already.

    Parameters
    ----------
    name : str
    fingerprint : str
        Hash of everything that determines the set.
    read : function
        Called only if the set is not there. Returns the classes, a list of str; a list of
        :class:`~.encoder.Source` for each split, ``train`` first; more entries of the manifest,
        a dict.
    out : str
    encoding : Encoding
    overwrite : bool
        Replace another prepared set.
    write_split : function, optional
        Writes a split in another way: called with the path of its files without extension, the
        number of classes, and what ``read`` returned for the split. Returns what
        :meth:`Statistics.describe` does. Default: encode the images.

    Returns
    -------
    RecordDataset

    Raises
    ------
    DMRError
        If images are unreadable, a split has none, or ``out`` holds something else or damaged
        files, or cannot be written.
    """
    out = os.fspath(out)
    with _locked(out):
        _publish(out)
        if not overwrite and _is_there(name, fingerprint, out):
            prepared = open_prepared(out)
            print(f"{shown(out)} holds this data set already; nothing to do")
            return prepared
        with readable(f"the source of {name}"):
            classes, sources, more = read()
        for split, images in sources.items():
            if not images:
                raise DMRError(f"the source of {name} has no images for {split}; add some")
        versions = {"dmr_gluon": __version__, "numpy": np.__version__, "opencv": cv2.__version__}
        key = {"dataset": name, "fingerprint": fingerprint, "versions": versions}
        work = os.path.join(out, WORK)
        write_split = write_split or functools.partial(_encode_split, encoding=encoding)
        splits = _write_splits(len(classes), sources, work, write_split, key)
        sizes = [split["image_size"] for split in splits.values()]
        oddities = sum((Counter(split["oddities"]) for split in splits.values()), Counter())
        manifest = {
            "format": MANIFEST_FORMAT,
            "dataset": name,
            "fingerprint": fingerprint,
            "classes": classes,
            "image_size": sizes[0] if sizes.count(sizes[0]) == len(sizes) else None,
            "mean": splits["train"]["mean"],
            "std": splits["train"]["std"],
            "published": None,
            "oddities": oddities,
            "splits": {split: found["entry"] for split, found in splits.items()},
            **more,
            "command": " ".join(map(shlex.quote, ["dmr", *sys.argv[1:]])),
            "versions": {**versions, **installed_wheels()},
        }
        write_atomically(os.path.join(work, MANIFEST), json.dumps(manifest, indent=1))
        _publish(out)
    for oddity, count in oddities.items():
        print(f"note: {count} images: {oddity}")
    return open_prepared(out)


@contextlib.contextmanager
def _locked(out):
    """Lock a folder against other preparations; turn the system's errors into a refusal."""
    try:
        os.makedirs(out, exist_ok=True)
        with contextlib.ExitStack() as stack:
            handle = os.open(out, os.O_RDONLY)
            stack.callback(os.close, handle)
            if lock(handle, _PATIENCE) is False:
                raise DMRError(
                    f"another process is preparing {out}; wait for it or choose another --out"
                )
            stack.callback(_remove_if_empty, out)
            yield
    except OSError as error:
        raise DMRError(
            f"cannot write to {out} ({error.strerror or error}); free some space and give the "
            f"same command again, or choose another --out"
        ) from error


def _remove_if_empty(folder):
    with contextlib.suppress(OSError):
        os.rmdir(folder)


def _is_there(name, fingerprint, out):
    """Return whether ``out`` holds this very set; refuse if it holds something else."""
    found = read_manifest(out)
    if found is None and not os.path.exists(os.path.join(out, "train.rec")):
        return False
    if found is None or (found.get("dataset"), found.get("fingerprint")) != (name, fingerprint):
        raise DMRError(
            f"{out} holds another data set, or this one made from other images or in another way; "
            f"choose another --out, or replace it with --overwrite"
        )
    return True


def _write_splits(classes, sources, work, write_split, key):
    """Write all splits that no earlier run with the same key has finished; describe each."""
    path, finished = os.path.join(work, _FINISHED), {}
    with contextlib.suppress(OSError, ValueError), open(path, encoding="utf-8") as file:
        known, found = json.load(file)
        finished = found if known == key else {}
    if not finished:
        shutil.rmtree(work, ignore_errors=True)
    os.makedirs(work, exist_ok=True)
    try:
        for split, images in sources.items():
            if split not in finished:
                finished[split] = write_split(os.path.join(work, split), classes, images)
                write_atomically(path, json.dumps([key, finished]))
    except BaseException as error:
        # Images that are replaced make another set; an unfinished split may fill the disk.
        if isinstance(error, DMRError) or not finished:
            shutil.rmtree(work, ignore_errors=True)
        raise
    return finished


def _encode_split(path, classes, images, encoding):
    """Encode images; write PATH.rec and PATH.idx; return the manifest's entry and statistics."""
    statistics, encoded = Statistics(classes), encode_all(images, encoding, os.path.basename(path))
    with contextlib.closing(encoded), HashedFile(f"{path}.rec") as records, HashedFile(
        f"{path}.idx"
    ) as index:
        for number, image in enumerate(encoded):
            index.write(form.index_line(number, records.bytes))
            records.write(form.record(image.label, number, image.data))
            statistics.add(image)
    return statistics.describe(records=records.entry(), index=index.entry())


class Statistics:
    """Count and measure the images of a split.

    Parameters
    ----------
    classes : int
    """

    def __init__(self, classes):
        self.per_class, self.pixels, self.total, self.squares = [0] * classes, 0, 0.0, 0.0
        self.sizes, self.oddities = set(), Counter()

    def add(self, image):
        """Add one :class:`~.encoder.Encoded`."""
        self.per_class[image.label] += 1
        self.pixels += image.size[0] * image.size[1]
        self.total, self.squares = self.total + image.total, self.squares + image.squares
        self.sizes.add(image.size)
        self.oddities.update(image.oddities)

    def describe(self, **files):
        """Return the split's entry in the manifest, with these files, and its statistics."""
        mean = self.total / self.pixels
        variance = np.maximum(self.squares / self.pixels - mean**2, 0)
        std = np.where(variance > 0, np.sqrt(variance), 1.0)  # a constant channel is not scaled
        return {
            "entry": {"count": sum(self.per_class), "per_class": self.per_class, **files},
            "mean": [round(float(value), 3) for value in mean],
            "std": [round(float(value), 3) for value in std],
            "image_size": list(*self.sizes) if len(self.sizes) == 1 else None,
            "oddities": self.oddities,
        }


class HashedFile:
    """Write a file and hash it in one pass; a context manager that ends with the file on disk."""

    def __init__(self, path):
        self.bytes = 0
        self._file, self._digest = open(path, "wb"), hashlib.sha256()  # noqa: SIM115

    def __enter__(self):
        return self

    def __exit__(self, *_):
        with self._file:
            self._file.flush()
            os.fsync(self._file.fileno())

    def write(self, content):
        self._file.write(content)
        self._digest.update(content)
        self.bytes += len(content)

    def entry(self):
        """Return the file's entry in the manifest."""
        name = os.path.basename(self._file.name)
        return {"file": name, "bytes": self.bytes, "sha256": self._digest.hexdigest()}


def _publish(out):
    """Move a finished set into place. Repeated after any interruption, it ends the same."""
    work = os.path.join(out, WORK)
    if not os.path.exists(os.path.join(work, MANIFEST)):
        return
    with contextlib.suppress(DMRError):  # there is no set, or a damaged one
        open_prepared(out)
        for split in read_manifest(out)["splits"].values():
            for part in split.get("parts", [split]):
                for file in (part["records"]["file"], part["index"]["file"]):
                    if not os.path.isabs(file):  # im2rec's own files stay
                        os.remove(os.path.join(out, file))
    for path in (os.path.join(work, _FINISHED), os.path.join(out, MANIFEST)):
        with contextlib.suppress(FileNotFoundError):
            os.remove(path)
    for file in sorted(os.listdir(work)):
        if file.endswith((".rec", ".idx")):
            os.replace(os.path.join(work, file), os.path.join(out, file))
    os.replace(os.path.join(work, MANIFEST), os.path.join(out, MANIFEST))
    shutil.rmtree(work, ignore_errors=True)
