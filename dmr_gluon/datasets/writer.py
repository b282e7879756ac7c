"""From images to a prepared data set: RecordIO, index and manifest.

Every kind of source gives the same thing, a list of :class:`Source` per split; what follows
(encoding, statistics, writing, the manifest) is one code path.

Killed at any moment, a preparation leaves a set that is whole or none at all, and the same
command goes on with it: records are written under other names; when all are whole, the manifest
is written as ``manifest.json.ready``; and only then everything gets its name, which the next
run finishes if this one cannot.
"""

import contextlib
import glob
import json
import os
import shlex
import sys
from collections import Counter

import cv2
import numpy as np

from ..data.datasets import MANIFEST, MANIFEST_FORMAT, open_prepared, read_manifest
from ..errors import DMRError
from ..standalone.predict_onnx import shown
from ..system.files import write_atomically
from ..system.machine import installed_wheels, lock
from ..version import __version__
from .encoder import MOST_FAULTS, encode_all
from .records import RecordWriter, discard, part_of, read_state, state_of

_READY = MANIFEST + ".ready"
_KINDS = ("records", "index")
#: Seconds that a process which has just been killed may take to be gone.
_PATIENCE = 5


def write_set(name, fingerprint, read, out, encoding, overwrite):
    """Write every split and then the manifest, unless that very set is there already.

    Parameters
    ----------
    name : str
    fingerprint : str
        Of all that decides what is written.
    read : function
        Gives, only when the set is not there: classes, a list of str; a list of
        :class:`Source` for each split, ``train`` first; more for the manifest, a dict.
    out : str
    encoding : Encoding
    overwrite : bool

    Returns
    -------
    PreparedSet

    Raises
    ------
    DMRError
        For unreadable images, a split without any, or an ``out`` that holds something else or
        cannot be written.
    """
    out = os.fspath(out)
    with disk_errors(out), alone_in(out):
        ready = _ready(name, fingerprint, out, overwrite)
    if ready:
        return ready
    classes, sources, more = read()
    for split, images in sources.items():
        if not images:
            raise DMRError(
                f"the source of {name} has no images for {split}; get them: a set needs some of "
                f"each split, with --partial too"
            )
    # MXNet writes nothing here: another wheel goes on with the same work.
    versions = {"dmr_gluon": __version__, "numpy": np.__version__, "opencv": cv2.__version__}
    key = {"dataset": name, "fingerprint": fingerprint, "versions": versions}
    with disk_errors(out):
        os.makedirs(out, exist_ok=True)
        with alone_in(out):
            # Once more: reading took a while, in which another may have written there.
            ready = _ready(name, fingerprint, out, overwrite)
            if ready:
                return ready
            splits, train, sizes, oddities = _write_splits(classes, sources, out, encoding, key)
            mean, std = train.mean_and_std()
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
            write_atomically(os.path.join(out, _READY), json.dumps(manifest, indent=1))
            _publish(out)
    for oddity, count in oddities.items():
        print(f"note: {count} images: {oddity}")
    return open_prepared(out)


def _write_splits(classes, sources, out, encoding, key):
    """Their entries for the manifest, statistics of the first, sizes and oddities of all."""
    writers, faults = {}, []
    try:
        for split, images in sources.items():
            key = {**key, "split": split, "images": len(images)}
            writer = writers[split] = RecordWriter(out, split, len(classes), key)
            with writer:
                if writer.count:
                    print(f"{split}: going on after {writer.count} of {len(images)} images")
                with contextlib.closing(
                    encode_all(images, encoding, split, writer.count, faults)
                ) as encoded:
                    for each in encoded:
                        writer.write(each)
            if len(faults) >= MOST_FAULTS:
                break
        if faults:
            raise _refusal(faults)
    except Exception as error:  # but not Ctrl-C, after which the same command goes on
        # With a full disk or a source that cannot be read just now there may be hours of work
        # to go on with. Images that have to be replaced make it another set.
        passing = isinstance(error, OSError) or isinstance(error.__cause__, OSError)
        for writer in writers.values():
            if faults or not (passing and writer.noted):
                writer.discard()
        raise
    statistics = [writer.statistics for writer in writers.values()]
    sizes = {size for each in statistics for size in each.sizes}
    oddities = sum((each.oddities for each in statistics), Counter())
    splits = {split: writer.manifest() for split, writer in writers.items()}
    return splits, statistics[0], sizes, dict(oddities)


def _refusal(faults):
    """Of images that cannot be encoded, in one line."""
    (_, first), *others = faults
    text = str(first)
    if others:
        least = "at least " if len(faults) >= MOST_FAULTS else ""
        names = ", ".join(repr(name) for name, _ in others)
        text += f" ({least}{len(others)} more cannot be encoded: {names})"
    return DMRError(text)


def _publish(out):
    """Give what is ready its name. Begun anew after any interruption, it ends the same."""
    ready, final = os.path.join(out, _READY), os.path.join(out, MANIFEST)
    try:
        with open(ready, encoding="utf-8") as file:
            files = _files_of(json.load(file))
    except FileNotFoundError:
        return
    except ValueError:
        files = ()
    if not files:  # damaged on the disk: it is made again from the parts and their states
        os.remove(ready)
        return
    # Only now is another set given up; until the manifest is there, there is none.
    with contextlib.suppress(DMRError):
        for file in _files_of(read_manifest(out)) - files:
            with contextlib.suppress(OSError):
                os.remove(os.path.join(out, file))
    with contextlib.suppress(FileNotFoundError):
        os.remove(final)
    for file in sorted(files):
        path = os.path.join(out, file)
        with contextlib.suppress(FileNotFoundError):
            os.replace(part_of(path), path)
    for split, _ in _begun(out):
        discard(out, split)
    os.replace(ready, final)


def _files_of(manifest):
    """Names of record files and indexes; none of what is no manifest."""
    try:
        names = [entry[k]["file"] for entry in manifest["splits"].values() for k in _KINDS]
        return {name for name in names if os.path.basename(name) == name}
    except (KeyError, TypeError, AttributeError):
        return set()


def _begun(out):
    """(split, state) of what stopped preparations have left; a damaged state is None."""
    for path in glob.glob(os.path.join(glob.escape(out), state_of("*"))):
        yield os.path.basename(path)[: -len(state_of(""))], read_state(path)


@contextlib.contextmanager
def disk_errors(out):
    """What the system says while a set is written, as a refusal."""
    try:
        yield
    except OSError as error:
        raise DMRError(
            f"cannot write to {out} ({error.strerror or error}); free some space and give the "
            f"same command again, or choose another --out"
        ) from error


@contextlib.contextmanager
def alone_in(out):
    """Keep other preparations out of a folder, if there is one: they write the same files."""
    with contextlib.ExitStack() as stack:
        if os.path.isdir(out):
            handle = os.open(out, os.O_RDONLY)
            stack.callback(os.close, handle)
            if lock(handle, _PATIENCE) is False:
                raise DMRError(
                    f"another process is preparing {out}; wait for it or choose another --out"
                )
        yield


def _ready(name, fingerprint, out, overwrite):
    """The set in ``out`` if it is this one and whole, which is then said; else None."""
    _publish(out)
    if overwrite:
        return None
    ready = _already_there(name, fingerprint, out)
    if ready:
        print(f"{shown(out)} holds this data set already; nothing to do")
        return ready
    for _, state in _begun(out):
        key = state["key"] if state else None
        if key and (key["dataset"], key["fingerprint"]) != (name, fingerprint):
            raise DMRError(
                f"{out} holds the beginning of a data set {key['dataset']!r} made from other "
                f"images or in another way; go on with that one, choose another --out, or give "
                f"it up with --overwrite"
            )
    return None


def _already_there(name, fingerprint, out):
    """The set in ``out`` if it is this one and whole; a refusal if it is something else."""
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
        return open_prepared(out)
    except DMRError as damage:
        print(f"{shown(str(damage))}; doing so")
        return None
