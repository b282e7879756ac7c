"""Prepared sets as found on disk.

A prepared set is a folder with ``manifest.json`` and, for each split, a RecordIO file
and its index. Nothing here needs MXNet.
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
    """One RecordIO file and its index."""

    records: str
    index: str
    count: int
    per_class: Tuple[int, ...]
    sha256: str


@dataclass(frozen=True)
class PreparedSet:
    """A prepared data set.

    Attributes
    ----------
    directory : str
    name : str
        ``digits``, ``cifar10``, ... or what ``dmr prepare folder --name`` was given.
    classes : tuple of str
        Class names; their positions are the labels.
    mean, std : tuple of float
        R, G, B in 0-255, to normalise with: published where the paper's authors
        published them, else measured over the training images.
    image_size : tuple of int, optional
        (height, width) if all images have the same.
    splits : dict of Split
        ``train`` and ``test``; ``validation`` too in SVHN's split of the paper.
    official : dict, optional
        Of an official set, by what it is known to be that: ``known_by`` is ``content`` (then
        ``digests`` has those of its splits), ``archives`` (their MD5) or ``counts``.
    words : tuple of str, optional
        What the classes are called, where ``classes`` are numbers, as ImageNet's are.
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
        """One split by name."""
        if name not in self.splits:
            raise DMRError(
                f"{self.directory} has no split {name!r}; name one of {', '.join(self.splits)}"
            )
        return self.splits[name]


def read_manifest(directory):
    """The manifest of a prepared set as a dictionary, or None where there is none."""
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
    """Each thing that is wrong with a manifest, its splits aside."""
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


def split_faults(entry, classes):
    """Each thing that is wrong with what a manifest says of a split."""
    if not isinstance(entry, dict):
        yield "is no table"
        return
    if not _whole(entry.get("count")):
        yield "has no count"
    if not (_numbers(entry.get("per_class"), classes) and all(map(_whole, entry["per_class"]))):
        yield f"per_class is not {classes} numbers"
    for key in ("records", "index"):
        file = entry[key] if isinstance(entry.get(key), dict) else {}
        if not is_plain(file.get("file")):
            yield f"{key} names no file"
        if not _whole(file.get("bytes")):
            yield f"{key} has no number of bytes"
        if not re.fullmatch("[0-9a-f]{64}", str(file.get("sha256"))):
            yield f"{key} has no SHA-256"


def _texts(value):
    return isinstance(value, list) and all(isinstance(text, str) for text in value)


def _numbers(value, length):
    return (
        isinstance(value, list)
        and len(value) == length
        and all(isinstance(n, (int, float)) and abs(n) < 1 << 62 for n in value)  # nor not a number
    )


def _whole(value):
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 62


def is_plain(name):
    """Whether it would do as the name of a file in the same folder."""
    return isinstance(name, str) and name.isprintable() and not re.search(r"^\.*$|/", name)


def partial_name(dataset):
    """What is made of an official set's source with ``--partial`` is called.

    It does not begin as the official name does, which names of sets made from that begin with.
    """
    return f"partial-{dataset}"


def making_command(manifest, directory):
    """What makes a set again: its own command if it was made by one."""
    command = manifest.get("command")
    if not (isinstance(command, str) and command.isprintable()):
        command = ""
    if not command.startswith("dmr prepare "):
        return f"dmr prepare ... --out {_quoted(directory)} --overwrite"
    return command if "--overwrite" in command.split() else f"{command} --overwrite"


def preparing_command(directory, name=None):
    """The command that makes a set which is not there yet.

    Parameters
    ----------
    directory : str
        Where it belongs.
    name : str, optional
        Which set it must be; default: the one that the folder is named after, or any.
    """
    called = name or os.path.basename(os.path.abspath(directory))
    if called in PUBLISHED or called == "digits":
        # ImageNet cannot be downloaded.
        what = f"{called} --source DIR" if called == "imagenet" else called
    else:
        what = f"folder SRC --name {_quoted(name)}" if name else "folder SRC"
    return f"dmr prepare {what} --out {_quoted(directory)}"


def _quoted(directory):
    return shlex.quote(directory) if directory.isprintable() else ascii(directory)[1:-1]


def official_fault(manifest):
    """Why a set with an official name cannot be taken for that, or None."""
    name, official = manifest.get("dataset"), manifest.get("official")
    if not isinstance(name, str) or name not in PUBLISHED:
        return None
    if not isinstance(official, dict) or not isinstance(official.get("known_by"), str):
        return "by a version of dmr-gluon that did not look whether its images are that set's"
    if name in DIGESTS and official.get("digests") != DIGESTS[name]:
        return "from images that are not that set's"
    return None


def open_prepared(directory, name=None) -> PreparedSet:
    """Open a prepared set after a quick look at its files (names and sizes).

    Parameters
    ----------
    directory : str
    name : str, optional
        Which set is wanted there, for what to do where there is none.

    Raises
    ------
    DMRError
        Where the folder, its manifest, a record file or an index is missing or has
        another size than the manifest says, or the manifest is not one.
    """
    directory = os.fspath(directory)
    manifest = read_manifest(directory)
    if manifest is None:
        what = "has no manifest.json" if os.path.isdir(directory) else "does not exist"
        raise DMRError(
            f"no prepared data set: {directory} {what}; make it with "
            f"'{preparing_command(directory, name)}', or name the folder of another set"
        )
    fault = official_fault(manifest)
    if fault:
        raise DMRError(
            f"{directory} was prepared as {manifest['dataset']} {fault}; prepare it again: "
            f"{making_command(manifest, directory)}"
        )
    faults = list(manifest_faults(manifest))
    for name, entry in {} if faults else manifest["splits"].items():
        wrong = split_faults(entry, len(manifest["classes"]))
        faults += [f"the split {name}: {fault}" for fault in wrong]
    if faults:
        raise DMRError(f"{os.path.join(directory, MANIFEST)}: {faults[0]}; {_AGAIN}")
    splits = {}
    for name, entry in manifest["splits"].items():
        for key, kind in (("records", "record file"), ("index", "index")):
            _require_file(directory, entry[key], kind)
        splits[name] = Split(
            records=os.path.join(directory, entry["records"]["file"]),
            index=os.path.join(directory, entry["index"]["file"]),
            count=entry["count"],
            per_class=tuple(entry["per_class"]),
            sha256=entry["records"]["sha256"],
        )
    # Of an official set, and of one made from it, the published ones.
    usual = manifest.get("published") or manifest
    size = manifest.get("image_size")
    return PreparedSet(
        directory=directory,
        name=manifest["dataset"],
        classes=tuple(manifest["classes"]),
        mean=tuple(usual["mean"]),
        std=tuple(usual["std"]),
        image_size=tuple(size) if size else None,
        splits=splits,
        official=manifest.get("official"),
        words=tuple(manifest["words"]) if manifest.get("words") else None,
    )


def open_as_trained(dataset, directory=None) -> PreparedSet:
    """The prepared set for a run's network, with the mean and std that it was trained with.

    Parameters
    ----------
    dataset : dict
        What a run's configuration says of its data set.
    directory : str, optional
        Where it is; default: where it was.

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
    # Whatever the other set's own statistics are.
    return replace(prepared, mean=tuple(dataset["mean"]), std=tuple(dataset["std"]))


def _require_file(directory, entry, kind):
    path = os.path.join(directory, entry["file"])
    try:
        size = os.path.getsize(path)
    except OSError:
        raise DMRError(f"the {kind} {path} is missing; prepare the data set again") from None
    if size != entry["bytes"]:
        raise DMRError(
            f"the {kind} {path} has {size} bytes, its manifest says {entry['bytes']}; it is "
            f"damaged or half copied: prepare the data set again"
        )
