"""What pictures call networks, trainings and series, and what their files are called.

Needs no MXNet.
"""

import dataclasses
import hashlib
import json
import re

from ...models.names import name_of
from ...models.spec import PLAIN, RESIDUAL
from ...paper.recipes import OF_DATASET
from ...runs.training_run import AUTHORS, counted
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
_LOGS = {"dmr_gluon": "this code", AUTHORS: "authors' code"}


def network_title(setup):
    """``DMRNet-32, 4× wide``."""
    if setup.spec is None:
        return cut(setup.network, 40)
    return kind_title(name_of(setup.spec))


def cut(text, most):
    """A text, shortened where it is longer."""
    return text if len(text) <= most else text[: most - 3] + "..."


def kind_of(spec):
    """A network's name without the depth: equal for networks that differ in their depth."""
    return re.sub(r"(net|plain)\d+", r"\1", name_of(spec), count=1)


def kind_of_group(group):
    """The same for a group; a network that is not known is a kind of its own."""
    return kind_of(group.setup.spec) if group.setup.spec else group.setup.network


def kind_title(name):
    """A kind, or a network's name, as it is written in a text."""
    family, depth, rest = _NAME.match(name).groups()
    title = _FAMILIES[family] + (f"-{depth}" if depth else "")
    for word, number in re.findall(r"_([a-z]+)(\d*)", rest):
        title += ", " + _ENDINGS.get(word, word).format(number)
    return title


def layers_of(spec):
    """L as Table 2 counts it: networks of one L have about the same number of parameters.

    None of networks that are not for 32x32 images.
    """
    if spec is None or spec.stem != "cifar":
        return None
    streams = 2 if spec.block in (PLAIN, RESIDUAL) else 1
    return (spec.depth - 2) / streams


def training_title(setup):
    """The data set, and how long the training is where that is not as in the paper."""
    published = published_name(setup.dataset)
    title = cut(dataset_title(setup.dataset), 48)
    if published and setup.epochs == OF_DATASET[published].epochs:
        return title
    return f"{title}, {counted(setup.epochs, 'epoch')}"


def training_key(group):
    """Equal for groups whose results can stand in one curve; empty where the paper's can too."""
    if not group.departures:
        return ""
    setup = group.setup
    what = [setup.epochs, sorted(setup.images.items()), list(group.runs[0].changes)]
    return json.dumps([*what, list(group.departures), _recipe(setup)], sort_keys=True)


def file_name(kind, setup):
    """Such as ``curves-cifar10-400-epochs``, whatever the data set is called."""
    return f"{kind}-{slug(setup.dataset)}-{setup.epochs}-epochs"


def digest(text):
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:8]


def slug(name):
    """Letters that every file system takes; what gets lost of a name is in a digest behind it."""
    text = re.sub(r"[^a-z0-9_]+", "-", name.lower()).strip("-")[:40].strip("-")
    return text if text == name else f"{text}-{digest(name)}".strip("-")


def group_labels(groups):
    """A label for each group, of those of one network with what tells them apart."""
    return _told_apart([network_title(group.setup) for group in groups], groups)


def series_labels(kinds, groups):
    """A label for each series, given its kind and one group of it."""
    return _told_apart([kind_title(kind) for kind in kinds], groups)


def _told_apart(titles, groups):
    alike = {}
    for title, group in zip(titles, groups):
        alike.setdefault(title, []).append(_facts(group))
    seen, labels = {}, []
    for title, group in zip(titles, groups):
        label = title
        if len(alike[title]) > 1:
            facts = _facts(group)
            known = set(facts).intersection(*alike[title])
            parts = [
                text
                for name, text in facts.items()
                if name in known and any(other[name] != text for other in alike[title])
            ]
            label = cut(", ".join([title, *filter(None, parts[:3])]), 60)
        seen[label] = seen.get(label, 0) + 1
        labels.append(label if seen[label] == 1 else f"{label} ({seen[label]})")
    return labels


def _facts(group):
    """What may tell groups of one network apart, in words."""
    setup, run = group.setup, group.runs[0]
    facts = {"log": _LOGS[run.format]}
    facts["bn"] = f"BN over {setup.bn_images} images" if setup.bn_images else ""
    facts["images"] = f"{setup.images.get('train', 0):,} images"
    facts.update((name, f"{name} {_shown(value)}") for name, value in _recipe(setup).items())
    facts["changes"] = ", ".join(run.changes)
    return facts


def _recipe(setup):
    recipe = dataclasses.asdict(setup.recipe) if setup.recipe else {}
    return {name: recipe[name] for name in recipe if name not in ("name", "model", "epochs")}


def _shown(value):
    return f"{value:g}" if isinstance(value, float) else str(value)
