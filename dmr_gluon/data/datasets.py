"""Prepared data sets on disk.

A prepared set is a folder with ``manifest.json`` and, for each split, a RecordIO file
and its index. No MXNet.
"""

import json
import os
import re
import shlex
from dataclasses import dataclass, replace
from typing import Any, Dict, Optional, Tuple

from ..errors import DMRError
from ..paper.dataset_facts import PUBLISHED
from .content import DIGESTS

MANIFEST = "manifest.json"
MANIFEST_FORMAT = 1

_AGAIN = "prepare the data set again with --overwrite"


@dataclass(frozen=True)
class Split:
    """One RecordIO file and its index, with their SHA-256."""

    records: str
    index: str
    count: int
    per_class: Tuple[int, ...]
    sha256: str
    index_sha256: str = ""


@dataclass(frozen=True)
class RecordDataset:
    """A prepared data set.

    Attributes
    ----------
    directory : str
    name : str
        ``digits``, ``cifar10``, ... or the name given with ``dmr prepare folder --name``.
    classes : tuple of str
        Class names; their positions are the labels.
    mean, std : tuple of float
        R, G, B in 0-255, to normalise with: as published by the paper's authors, else as measured
        over the training images.
    image_size : tuple of int, optional
        (height, width), if it is the same for all images.
    splits : dict of Split
        ``train`` and ``test``; also ``validation`` in SVHN's split of the paper.
    official : dict, optional
        How an official set was identified: ``known_by`` is ``content`` (then ``digests`` has those
        of its splits), ``archives`` (by their MD5) or ``counts``.
    words : tuple of str, optional
        Readable names of the classes if ``classes`` are identifiers, as ImageNet's are.
    """

    directory: str
    name: str
    classes: Tuple[str, ...]
    mean: Tuple[float, ...]
    std: Tuple[float, ...]
    image_size: Optional[Tuple[int, int]]
    splits: Dict[str, Split]
    official: Optional[Dict[str, Any]] = None
    words: Optional[Tuple[str, ...]] = None

    def split(self, name: str) -> Split:
        """Return one split by name."""
        if name not in self.splits:
            raise DMRError(
                f"{self.directory} has no split {name!r}; name one of {', '.join(self.splits)}"
            )
        return self.splits[name]


def read_manifest(directory):
    """Return the manifest of a prepared set as a dictionary, or None if there is none."""
    path = os.path.join(directory, MANIFEST)
    try:
        with open(path, encoding="utf-8") as file:
            manifest = json.load(file)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise DMRError(f"{path} cannot be read ({error}); {_AGAIN}") from error
    if not isinstance(manifest, dict) or manifest.get("format") != MANIFEST_FORMAT:
        raise DMRError(f"{path} is not a manifest of this version; {_AGAIN}")
    return manifest


def manifest_faults(manifest):
    """Yield the faults of a manifest, except those of its splits."""
    classes, words = manifest.get("classes"), manifest.get("words")
    size, splits = manifest.get("image_size"), manifest.get("splits")
    if not isinstance(manifest.get("dataset"), str):
        yield "it lacks the data set's name"
    if not (_texts(classes) and classes):
        yield "its classes are no list of names"
    elif words is not None and not (_texts(words) and len(words) == len(classes)):
        yield "its words are not one text for each class"
    if size is not None and not (_numbers(size, 2) and all(map(_whole, size)) and min(size) > 0):
        yield "its image_size is neither null nor a height and a width"
    published = manifest.get("published")
    for of in (manifest, manifest if published is None else published):
        for key in ("mean", "std"):
            if not (isinstance(of, dict) and _numbers(of.get(key), 3)):
                yield f"its {key} is not three numbers"
    if not (isinstance(splits, dict) and splits and all(map(is_plain, splits))):
        yield "it names no splits"
    unofficial = official_fault(manifest)
    if unofficial:
        yield f"it was prepared as {manifest['dataset']} {unofficial}"


def split_fault(entry, classes):
    """Return the fault of a split's entry in the manifest, or None."""
    if not isinstance(entry, dict):
        return "is no table"
    per_class = entry.get("per_class")
    if not _whole(entry.get("count")):
        return "has no count"
    if not (_numbers(per_class, classes) and all(map(_whole, per_class))):
        return f"has no counts of {classes} classes"
    for key in ("records", "index"):
        file = entry.get(key)
        if not (
            isinstance(file, dict)
            and is_plain(file.get("file"))
            and _whole(file.get("bytes"))
            and re.fullmatch("[0-9a-f]{64}", str(file.get("sha256")))
        ):
            return f"{key}: the entry lacks a file's name, size or SHA-256"
    return None


def _texts(value):
    return isinstance(value, list) and all(isinstance(text, str) for text in value)


def _numbers(value, length):
    return (
        isinstance(value, list)
        and len(value) == length
        and all(isinstance(n, (int, float)) and abs(n) < 1 << 62 for n in value)  # NaN fails too
    )


def _whole(value):
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 62


def is_plain(name):
    """Return whether a name is that of a file in the same folder."""
    return isinstance(name, str) and name.isprintable() and not re.search(r"^\.*$|/", name)


def partial_name(dataset):
    """Return the name of a set that ``--partial`` makes from an official set's source.

    It must not begin with the official name: names of sets derived from the official one do.
    """
    return f"partial-{dataset}"


def making_command(manifest, directory):
    """Return the command that prepares a set again, its own one if the manifest has it."""
    command = manifest.get("command")
    if not (isinstance(command, str) and command.isprintable()):
        command = ""
    if not command.startswith("dmr prepare "):
        return f"dmr prepare ... --out {quoted(directory)} --overwrite"
    return command if "--overwrite" in command.split() else f"{command} --overwrite"


def quoted(directory):
    """Return a path as a command line in a message can have it."""
    return shlex.quote(directory) if directory.isprintable() else ascii(directory)[1:-1]


def official_fault(manifest):
    """Return why a set with an official name is not accepted as that set, or None."""
    name, official = manifest.get("dataset"), manifest.get("official")
    if not isinstance(name, str) or name not in PUBLISHED:
        return None
    if not isinstance(official, dict) or not isinstance(official.get("known_by"), str):
        return "by a version of dmr-gluon that did not verify its images"
    if name in DIGESTS and official.get("digests") != DIGESTS[name]:
        return "from images that are not that set's"
    return None


def open_prepared(directory) -> RecordDataset:
    """Open a prepared set after checking its manifest and the sizes of its files.

    Parameters
    ----------
    directory : str

    Returns
    -------
    RecordDataset

    Raises
    ------
    DMRError
        If the folder, its manifest, a record file or an index is missing, has another size than
        the manifest says, or the manifest is invalid.
    """
    directory = os.fspath(directory)
    manifest = read_manifest(directory)
    if manifest is None:
        what = "has no manifest.json" if os.path.isdir(directory) else "does not exist"
        raise DMRError(
            f"no prepared data set: {directory} {what}; make it with 'dmr prepare', or name the "
            f"folder of another set"
        )
    fault = official_fault(manifest)
    if fault:
        raise DMRError(
            f"{directory} was prepared as {manifest['dataset']} {fault}; prepare it again: "
            f"{making_command(manifest, directory)}"
        )
    faults = list(manifest_faults(manifest))
    for split, entry in {} if faults else manifest["splits"].items():
        wrong = split_fault(entry, len(manifest["classes"]))
        faults += [f"the split {split} {wrong}"] if wrong else []
    if faults:
        raise DMRError(f"{os.path.join(directory, MANIFEST)}: {faults[0]}; {_AGAIN}")
    # The published statistics apply to an official set and to those derived from it.
    statistics = manifest.get("published") or manifest
    size = manifest.get("image_size")
    return RecordDataset(
        directory=directory,
        name=manifest["dataset"],
        classes=tuple(manifest["classes"]),
        mean=tuple(statistics["mean"]),
        std=tuple(statistics["std"]),
        image_size=tuple(size) if size else None,
        splits={split: open_split(directory, it) for split, it in manifest["splits"].items()},
        official=manifest.get("official"),
        words=tuple(manifest["words"]) if manifest.get("words") else None,
    )


def open_split(directory, entry) -> Split:
    """Return the split that a manifest's entry describes, after checking the sizes of its files.

    Raises
    ------
    DMRError
        If a file is missing or has another size.
    """
    paths = {}
    for key, kind in (("records", "record file"), ("index", "index")):
        path = paths[key] = os.path.join(directory, entry[key]["file"])
        if not os.path.isfile(path):
            raise DMRError(f"the {kind} {path} is missing; prepare the data set again")
        size = os.path.getsize(path)
        if size != entry[key]["bytes"]:
            raise DMRError(
                f"the {kind} {path} has {size} bytes, its manifest says {entry[key]['bytes']}; it "
                f"is damaged or half copied: prepare the data set again"
            )
    return Split(
        count=entry["count"],
        per_class=tuple(entry["per_class"]),
        sha256=entry["records"]["sha256"],
        index_sha256=entry["index"]["sha256"],
        **paths,
    )


def open_as_trained(dataset, directory=None) -> RecordDataset:
    """Open the prepared set of a run, with the mean and std that its network was trained with.

    Parameters
    ----------
    dataset : dict
        The data set's entry in a run's configuration.
    directory : str, optional
        Default: where it was in training.

    Returns
    -------
    RecordDataset

    Raises
    ------
    DMRError
        As :func:`open_prepared`, and for other classes.
    """
    prepared = open_prepared(directory or dataset["directory"])
    if list(prepared.classes) != dataset["classes"]:
        raise DMRError(
            f"{prepared.directory} has other classes than {dataset['name']}, on which the network "
            f"was trained; name the right one with --data-dir"
        )
    return replace(prepared, mean=tuple(dataset["mean"]), std=tuple(dataset["std"]))
