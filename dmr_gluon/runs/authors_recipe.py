"""What a log of the authors' code says of itself: network, recipe, size.

Needs no MXNet, without which only the number of parameters is not checked.

Each function takes the arguments that stand in the log's first lines, as texts by name.
"""

import re
from dataclasses import replace

from ..errors import DMRError
from ..paper.recipes import OF_DATASET, RECIPES
from .training_run import one_line

#: Sets on which the arguments say all of the recipe; ImageNet was trained by another program.
_SELF_DESCRIBED = ("cifar10", "cifar100", "svhn")
#: Their names of networks: ours, and how many layers of the plain network a block stands for.
_NETWORKS = {
    "plain": ("cifar_plain{depth}", 2),
    "resnet": ("cifar_resnet{depth}", 2),
    "half": ("cifar_dilnet{depth}", 4),
    "cross": ("cifar_dmrnet{depth}", 4),
    "fuse3": ("cifar_resnet{depth}_blocks3", 2),
    "fuse6": ("cifar_resnet{depth}_blocks6", 2),
}


def what_it_is_of(path, arguments):
    """The data set and the network that a log's own arguments name, or None for each.

    Their depth is that of the plain network with as many layers: 2L + 2.
    """
    dataset, theirs = (arguments.get(key) for key in ("dataset", "network"))
    depth, width = (whole_number(arguments, key) for key in ("depth", "widen_factor"))
    if dataset not in _SELF_DESCRIBED or theirs is None or depth is None:
        return None, None
    if theirs not in _NETWORKS:
        raise DMRError(
            f"{path} is of the authors' network {theirs!r}, which the paper does not have; there "
            f"are {', '.join(_NETWORKS)}"
        )
    name, layers = _NETWORKS[theirs]
    per_stage = (depth - 2) // (3 * layers)  # they divide as whole numbers
    name = name.format(depth=6 * per_stage + 2)
    return dataset, name + (f"_w{width}" if width not in (None, 1) else "")


def recipe_of(dataset, spec, log, epochs):
    """The recipe that a log's arguments describe, and what of it is none of ours."""
    paper, unknown = OF_DATASET[dataset], []
    # What the paper leaves open is as in their code.
    said = {"bn_momentum": RECIPES["authors"][paper.name].bn_momentum}
    for name, kind in (("batch_size", int), ("lr", float), ("lr_factor", float)):
        try:
            said[name] = kind(log.arguments.get(name, getattr(paper, name)))
        except ValueError:
            unknown.append(f"{name} {one_line(log.arguments[name])}")
    classes = whole_number(log.arguments, "num_classes")
    if classes not in (None, spec.classes):
        unknown.append(f"{classes} classes, {dataset} has {spec.classes}")
    steps = log.steps or re.findall(r"\d+", log.arguments.get("lr_steps", ""))[:99]
    if steps:
        said["lr_drops"] = tuple(int(step[:9]) / epochs for step in steps)
    augmentation = log.arguments.get("aug_type")
    if augmentation == "0":
        said.update(pad=0, mirror=False)
    elif augmentation == "1":
        said.update(pad=4, mirror=True)
    elif augmentation is not None:
        unknown.append(f"augmentation of their kind {one_line(augmentation)}")
    try:
        return replace(paper, model=spec.name, epochs=epochs, **said), unknown
    except DMRError as error:
        return replace(paper, model=spec.name, epochs=epochs), [*unknown, str(error)]


def other_size(parameters, spec):
    """Where the log's number of parameters is not the network's."""
    if parameters is None:
        return
    try:  # counted in the graph, which needs an MXNet that works
        from ..models.complexity import complexity_of
    except (DMRError, ImportError):
        return
    ours = f"{complexity_of(spec).parameters / 1e6:.4f}M"
    if ours != parameters:
        yield f"the log says {parameters} parameters, {spec.name} has {ours}"


def images_of(errors, whole):
    """Of how many images errors in percent are, where they show that it is not the whole split.

    Their code may have evaluated some batches only. The errors are then all multiples of a coarser
    share than the split has, which in so many errors is not to be expected by chance.

    Parameters
    ----------
    errors : list of float
    whole : int
        Images of the split.

    Returns
    -------
    int or None
    """
    errors = {error for error in errors if 0 < error < 100}  # equal ones say nothing more
    for count in range(50, whole, 50):
        # A share of the whole split is one of these by chance as often as it has fewer images.
        chance = (count / whole) ** len(errors)
        shares = (error / 100 * count for error in errors)
        if chance < 1e-3 and all(abs(share - round(share)) < 1e-6 * count for share in shares):
            return count
    return None


def whole_number(arguments, name):
    text = arguments.get(name, "")
    return int(text) if re.fullmatch(r"[1-9]\d{0,8}", text) else None
