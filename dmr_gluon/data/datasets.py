"""Facts about the paper's data sets, and prepared sets as found on disk.

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
from .content import DIGESTS

MANIFEST = "manifest.json"
MANIFEST_FORMAT = 1

_AGAIN = "prepare the data set again with --overwrite"


@dataclass(frozen=True)
class DatasetFacts:
    """Published facts. Means and standard deviations: R, G, B in 0-255."""

    classes: int
    train_images: int
    test_images: int
    mean: Tuple[float, float, float]
    std: Tuple[float, float, float]


#: Counts: section 4.1 and 4.5. Means and standard deviations: authors' code. SVHN counts
#: the images left for training; ImageNet's statistics are over training images whose
#: shorter side is 480.
PUBLISHED = {
    "cifar10": DatasetFacts(
        10, 50_000, 10_000, (125.307, 122.950, 113.865), (62.993, 62.089, 66.705)
    ),
    "cifar100": DatasetFacts(
        100, 50_000, 10_000, (129.304, 124.070, 112.434), (68.170, 65.392, 70.418)
    ),
    "svhn": DatasetFacts(
        10, 598_388, 26_032, (111.609, 113.161, 120.565), (50.498, 51.259, 50.244)
    ),
    "imagenet": DatasetFacts(
        1000, 1_281_167, 50_000, (123.370, 112.757, 99.406), (68.998, 66.093, 68.292)
    ),
}


@dataclass(frozen=True)
class Archive:
    """One file of an official data set, as it is published.

    Parameters
    ----------
    file : str
    url : str, optional
        None where it is given to registered users only.
    md5 : str
    bytes : int, optional
    origin : str
        Where the MD5 is published.
    alternative : bool
        The same images in another form: read where it is named, never downloaded.
    """

    file: str
    url: Optional[str]
    md5: str
    bytes: Optional[int]
    origin: str
    alternative: bool = False


def _cifar(file, md5, size, alternative=False):
    page = "https://www.cs.toronto.edu/~kriz/"
    return Archive(file, page + file, md5, size, page + "cifar.html", alternative)


def _svhn(file, md5, size):
    # The page has no hashes; these are what torchvision's loader demands.
    url = "http://ufldl.stanford.edu/housenumbers/" + file
    return Archive(file, url, md5, size, "torchvision/datasets/svhn.py")


def _ilsvrc(file, md5, size):
    return Archive(file, None, md5, size, "torchvision/datasets/imagenet.py")


#: Every file of the official data sets.
ARCHIVES = {
    "cifar10": (
        _cifar("cifar-10-python.tar.gz", "c58f30108f718f92721af3b95e74349a", 170_498_071),
        _cifar("cifar-10-binary.tar.gz", "c32a1d4ab5d03f1284b67883e8d87530", 170_052_171, True),
    ),
    "cifar100": (
        _cifar("cifar-100-python.tar.gz", "eb9058c3a382ffc7106e4002c42a8d85", 169_001_437),
        _cifar("cifar-100-binary.tar.gz", "03b5dce01913d631647c71ecec9e9cb8", 168_513_733, True),
    ),
    "svhn": (
        _svhn("train_32x32.mat", "e26dedcc434d2e4c54c9b2d4a06d8373", 182_040_794),
        _svhn("extra_32x32.mat", "a93ce644f1a588dc4d68dda5feec44a7", 1_329_278_602),
        _svhn("test_32x32.mat", "eb5a983be6a315427106f1b164d9cef3", 64_275_384),
    ),
    "imagenet": (
        _ilsvrc("ILSVRC2012_img_train.tar", "1d675b47d978889d74fa0da5fadfb00e", 147_897_477_120),
        _ilsvrc("ILSVRC2012_img_val.tar", "29b22e2961454d5413ddabcf34fc5622", 6_744_924_160),
        _ilsvrc("ILSVRC2012_devkit_t12.tar.gz", "fa75699e90414af021442c21a62c3abf", None),
    ),
}


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
