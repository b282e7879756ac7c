"""Name networks and trainings in figures. Needs no MXNet."""

import re

from ...models.names import name_of
from ...models.spec import PLAIN, RESIDUAL, CustomSpec
from ...system.text_tables import counted
from ..groups import dataset_title

_FAMILIES = {"plain": "Plain", "resnet": "ResNet", "dilnet": "DILNet", "dmrnet": "DMRNet"}


def kind_of(spec):
    """Return a network's name without its depth, such as ``dmrnet_w4``."""
    if isinstance(spec, CustomSpec):
        return spec.name
    return re.sub(r"\d+", "", name_of(spec).replace("cifar_", ""), count=1)


def name_title(name):
    """Return the name of a network or kind for legends, such as ``DMRNet-32 w4``."""
    family, depth, rest = re.match(r"(?:cifar_)?([a-z]+)(\d*)(.*)", name).groups()
    if family not in _FAMILIES or "(" in rest:
        return name  # a user's own
    return _FAMILIES[family] + (f"-{depth}" if depth else "") + rest.replace("_", " ")


def layers_of(spec):
    """Return L as counted in Table 2; None for networks that are not for 32x32 images.

    Networks of one L have about the same number of parameters.
    """
    if isinstance(spec, CustomSpec) or spec.stem != "cifar":
        return None
    return (spec.depth - 2) / (2 if spec.block in (PLAIN, RESIDUAL) else 1)


def training_title(setup):
    """Return the data set and the number of epochs."""
    return f"{dataset_title(setup.dataset)}, {counted(setup.epochs, 'epoch')}"


def group_labels(groups):
    """Return a label for each group, with a run's name if several have one network."""
    titles = [name_title(name_of(group.setup.spec)) for group in groups]
    names = [group.runs[0].name for group in groups]
    if len(set(names)) < len(names):
        names = [group.runs[0].path for group in groups]
    return [
        title if titles.count(title) == 1 else f"{title} ({name})"
        for title, name in zip(titles, names)
    ]
