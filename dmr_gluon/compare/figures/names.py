"""Names of networks, trainings and series in figures, and of their files. Needs no MXNet."""

import dataclasses
import hashlib
import json
import re

from ...models.names import name_of
from ...models.spec import PLAIN, RESIDUAL
from ...paper.recipes import OF_DATASET
from ...runs.reader import AUTHORS
from ...system.text_tables import counted
from ..groups import dataset_title, published_name

_FAMILIES = {"plain": "Plain", "resnet": "ResNet", "dilnet": "DILNet", "dmrnet": "DMRNet"}
#: Endings of networks' names.
_ENDINGS = {
    "w": "{}× wide",
    "k": "K = {}",
    "blocks": "{} blocks",
    "inner": "{}× wide inside",
    "ijcai": "IJCAI",
}
_NAME = re.compile(r"(?:cifar_)?(plain|resnet|dilnet|dmrnet)(\d*)(.*)")


def kind_of(spec):
    """Return a network's name without its depth."""
    return re.sub(r"(net|plain)\d+", r"\1", name_of(spec), count=1)


def kind_title(name):
    """Return a network's or kind's name as it is written in a text: ``DMRNet-32, 4× wide``."""
    family, depth, rest = _NAME.match(name).groups()
    title = _FAMILIES[family] + (f"-{depth}" if depth else "")
    for word, number in re.findall(r"_([a-z]+)(\d*)", rest):
        title += ", " + _ENDINGS.get(word, word).format(number)
    return title


def layers_of(spec):
    """Return L as Table 2 counts it; None for networks that are not for 32x32 images.

    Networks of one L have about the same number of parameters.
    """
    if spec.stem != "cifar":
        return None
    return (spec.depth - 2) / (2 if spec.block in (PLAIN, RESIDUAL) else 1)


def training_title(setup):
    """Return the data set, and the number of epochs if it is not the paper's."""
    published, title = published_name(setup.dataset), dataset_title(setup.dataset)
    if published and setup.epochs == OF_DATASET[published].epochs:
        return title
    return f"{title}, {counted(setup.epochs, 'epoch')}"


def training_key(group):
    """Return a key of groups that can be in one curve; empty for the paper's training."""
    if not group.deviations:
        return ""
    setup, recipe = group.setup, dataclasses.asdict(group.setup.recipe)
    recipe = {name: recipe[name] for name in recipe if name not in ("name", "model", "epochs")}
    what = [setup.epochs, sorted(setup.images.items()), list(group.runs[0].changes)]
    return json.dumps([*what, list(group.deviations), recipe], sort_keys=True)


def file_name(kind, setup):
    """Return such a name as ``curves-cifar10-400-epochs``."""
    return f"{kind}-{slug(setup.dataset)}-{setup.epochs}-epochs"


def digest(text):
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:8]


def slug(name):
    """Return a name in letters that every file system takes, with a digest if it was changed."""
    text = re.sub(r"[^a-z0-9_]+", "-", name.lower()).strip("-")[:40].strip("-")
    return text if text == name else f"{text}-{digest(name)}".strip("-")


def group_labels(groups):
    """Return a label for each group, with a run's name if several have one network."""
    titles = [kind_title(name_of(group.setup.spec)) for group in groups]
    names = [group.runs[0].name for group in groups]
    if len(set(zip(titles, names))) < len(groups):
        names = [group.runs[0].path for group in groups]
    return [
        title if titles.count(title) == 1 else f"{title} ({name})"
        for title, name in zip(titles, names)
    ]


def series_label(kind, group, alone):
    """Return the label of a series of groups, with its code and BN's images unless ``alone``."""
    whose = "authors' code, " if group.runs[0].format == AUTHORS else ""
    more = "" if alone else f" ({whose}BN over {group.setup.bn_images} images)"
    return kind_title(kind) + more
