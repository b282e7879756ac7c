"""Open prepared data sets.

A prepared set is a folder with ``manifest.json`` and, for each split, a RecordIO file
and its index. RecordIO made by im2rec stays where it is: the manifest has its absolute
path. Needs no MXNet.
"""

import json
import os
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
    """One RecordIO file and its index (paths), with their SHA-256; or several such parts.

    ``count`` images, of which ``per_class[i]`` have the label i. A split in several parts has no
    paths of its own; its images are those of the parts, one part after the other. ``upright``:
    rotate images as EXIF says while reading; sets that are copied were rotated in preparation.
    """

    records: str
    index: str
    count: int
    per_class: Tuple[int, ...]
    sha256: str
    index_sha256: str = ""
    upright: bool = False
    parts: Tuple["Split", ...] = ()

    @property
    def files(self) -> Tuple["Split", ...]:
        """The parts; the split itself if it is one file."""
        return self.parts or (self,)


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
        R, G, B in 0-255, for normalisation: as published by the paper's authors, else as measured
        over the training images.
    image_size : tuple of int, optional
        (height, width), if it is the same for all images.
    splits : dict of Split
        ``train`` and ``test``; also ``validation`` in SVHN's split of the paper. A set made from
        RecordIO may lack ``test``; it is for training only.
    official : dict, optional
        How an official set was identified: ``known_by`` is ``content`` (then ``digests`` has those
        of its splits), ``archives`` (by their MD5) or ``counts``.
    words : tuple of str, optional
        Readable names of the classes if ``classes`` are identifiers, as ImageNet's are.
    fit : str, optional
        How photographs got ``image_size``: ``crop``, ``pad`` or ``stretch``.
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
    fit: Optional[str] = None

    def count(self, name: str) -> int:
        """Return the number of images of a split, 0 if the set does not have it."""
        return self.splits[name].count if name in self.splits else 0

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


def making_command(manifest, directory):
    """Return the command that prepares a set again, if possible the original one."""
    command = str(manifest.get("command"))
    if not command.startswith("dmr prepare "):  # the set was prepared from Python
        command = f"dmr prepare ... --out {quoted(directory)}"
    return command if "--overwrite" in command.split() else f"{command} --overwrite"


def quoted(directory):
    """Return a path as a command line in a message can have it."""
    return shlex.quote(directory) if directory.isprintable() else ascii(directory)[1:-1]


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
        If there is no set, its manifest is invalid, a file has another size than the manifest
        says, or the set has an official name but not the official images.
    """
    directory = os.fspath(directory)
    manifest = read_manifest(directory)
    if manifest is None:
        raise DMRError(
            f"no prepared data set: {directory} has no manifest.json; make it with 'dmr prepare', "
            f"or name the folder of another set"
        )
    try:
        return _dataset_of(manifest, directory)
    except (LookupError, TypeError, ValueError, AttributeError, OverflowError) as error:
        path, fault = os.path.join(directory, MANIFEST), f"{type(error).__name__}: {error}"
        raise DMRError(f"{path} is damaged ({fault}); {_AGAIN}") from error


def _dataset_of(manifest, directory):
    """Build the set from its manifest; an invalid one raises any of several exceptions."""
    name, official = manifest["dataset"], manifest.get("official")
    verified = official and (name not in DIGESTS or official["digests"] == DIGESTS[name])
    if name in PUBLISHED and not verified:
        raise DMRError(
            f"{directory} was prepared as {name}, but its images were not verified to be that "
            f"set's; prepare it again: {making_command(manifest, directory)}"
        )
    classes, words = tuple(manifest["classes"]), manifest.get("words")
    splits = {key: _split_of(entry, directory) for key, entry in manifest["splits"].items()}
    if not classes or any(len(split.per_class) != len(classes) for split in splits.values()):
        raise ValueError(f"not every split has counts of {len(classes)} classes")
    if words and len(words) != len(classes):
        raise ValueError(f"{len(words)} words for {len(classes)} classes")
    height, width = map(int, manifest.get("image_size") or (0, 0))
    # The published statistics apply to an official set and to those derived from it.
    statistics = manifest.get("published") or manifest
    return RecordDataset(
        directory=directory,
        name=name,
        classes=classes,
        mean=tuple(float(statistics["mean"][channel]) for channel in range(3)),
        std=tuple(float(statistics["std"][channel]) for channel in range(3)),
        image_size=(height, width) if height else None,
        splits=splits,
        official=official,
        words=tuple(words) if words else None,
        fit=manifest.get("fit"),
    )


def _split_of(entry, directory):
    """Build a split from its entry in the manifest, after checking the sizes of its files."""
    if "parts" in entry:
        parts = tuple(_split_of(part, directory) for part in entry["parts"])
        return Split(
            records="",
            index="",
            count=sum(part.count for part in parts),
            per_class=tuple(map(sum, zip(*(part.per_class for part in parts)))),
            sha256="+".join(part.sha256 for part in parts),
            parts=parts,
        )
    paths = {}
    for key in ("records", "index"):
        path = paths[key] = os.path.join(directory, entry[key]["file"])
        expected = entry[key]["bytes"]
        size = os.path.getsize(path) if os.path.isfile(path) else None
        if size != expected:
            found = "is missing" if size is None else f"has {size} bytes"
            back = "put it back, or " if size is None and os.path.isabs(entry[key]["file"]) else ""
            raise DMRError(f"{path} {found}, the manifest says {expected} bytes; {back}{_AGAIN}")
    return Split(
        count=int(entry["count"]),
        per_class=tuple(map(int, entry["per_class"])),
        sha256=entry["records"]["sha256"],
        index_sha256=entry["index"]["sha256"],
        upright=bool(entry.get("upright")),
        **paths,
    )


def open_as_trained(dataset, directory=None) -> RecordDataset:
    """Open the prepared set of a run, with the mean and std of its training.

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
        As :func:`open_prepared`, and if the classes differ.
    """
    prepared = open_prepared(directory or dataset["directory"])
    if list(prepared.classes) != dataset["classes"]:
        raise DMRError(
            f"{prepared.directory} has other classes than {dataset['name']}, which the network "
            f"was trained on; name the right one with --data-dir"
        )
    return replace(prepared, mean=tuple(dataset["mean"]), std=tuple(dataset["std"]))
