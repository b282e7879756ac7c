"""Read logs of the authors' code (MXNet's FeedForward, 2016) as runs. Needs no MXNet.

Their lines, each after the time::

    start with arguments Namespace(aug_type=1, batch_size=64, ..., lr=0.1, ..., num_epochs=400, ...)
    training strategy: lr=0.100000, step=[200, 300, 350]
    network parameters: 0.3494M
    Epoch[3] Batch [750]	Speed: 1238	loss: 0.6040(0.6302)	top1: 79.1750(78.1854)
    Epoch[3] Validation-cross-entropy=0.606161
    Epoch[3] Validation-accuracy=0.791250

Epochs count from 0. Numbers in brackets are means since the beginning of the epoch. The arguments
give network and recipe. A training that is started again or continued appends to the same file,
with a start of its own.
"""

import math
import re
from dataclasses import replace

from ..errors import DMRError
from ..models.names import get_spec as read_network
from ..paper.dataset_facts import PUBLISHED
from ..paper.recipes import OF_DATASET, RECIPES
from .log import EpochRecord
from .reader import AUTHORS, FINISHED, STOPPED, Run, Setup

#: Their names of networks: ours, and how many layers of the plain network a block replaces.
_NETWORKS = {
    "plain": ("cifar_plain{depth}", 2),
    "resnet": ("cifar_resnet{depth}", 2),
    "half": ("cifar_dilnet{depth}", 4),
    "cross": ("cifar_dmrnet{depth}", 4),
    "fuse3": ("cifar_resnet{depth}_blocks3", 2),
    "fuse6": ("cifar_resnet{depth}_blocks6", 2),
}
_START = re.compile(r"start with arguments Namespace\((.*)\)\s*$")
_ARGUMENT = re.compile(r"\b([a-z_]+)=('[^']*'|[^,()\s]+)")
_STEPS = re.compile(r"training strategy: .*step=\[([\d, ]*)\]")
_PARAMETERS = re.compile(r"network parameters: (\d+\.\d{4}M)")
_RESULT = re.compile(r"Epoch\[(\d+)\] (?:Batch|Validation-(?:accuracy|cross-entropy)=)")
_BATCH = re.compile(r"Batch \[(\d+)\].*\sloss: \S+\(([\d.]+)\)\s+top1: \S+\(([\d.]+)\)")
_VALIDATION = re.compile(r"Validation-(accuracy|cross-entropy)=([\d.]+)\s*$")


def read_authors_log(path):
    """Read one of their logs.

    Parameters
    ----------
    path : str

    Returns
    -------
    Run

    Raises
    ------
    DMRError
        If the file is not such a log, a line with results is damaged, or the network is not one
        of the paper's.
    """
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            lines = file.readlines()
    except OSError as error:
        raise DMRError(f"{path} cannot be read ({error.strerror})") from error
    log = _Log(path, lines)
    if "num_epochs" not in log.arguments:
        raise DMRError(
            f"{path} is not a log: neither JSON lines of this package (log.jsonl), nor a log of "
            f"the authors' code, which says 'start with arguments'; name a run's folder or log"
        )
    try:
        return _run(path, log)
    except (DMRError, KeyError, ValueError) as error:
        what = f"its arguments lack {error}" if isinstance(error, KeyError) else error
        raise DMRError(f"{path}: {what}; only logs of the paper's networks are read") from error


class _Log:
    """Arguments and numbers of a log."""

    def __init__(self, path, lines):
        self.arguments, self.steps, self.parameters = {}, None, None
        self.epochs, self.points = {}, {}
        if lines and not lines[-1].endswith("\n"):
            lines.pop()  # cut off while it was written
        for number, line in enumerate(lines, start=1):
            start, result = _START.search(line), _RESULT.search(line)
            if start:
                self._begin(start[1])
            elif result and not self._take(int(result[1]) + 1, line):
                raise DMRError(
                    f"line {number} of {path} has a result that is damaged; take that line out"
                )
            elif _STEPS.search(line) and self.arguments.get("load_epoch", "None") == "None":
                self.steps = re.findall(r"\d+", _STEPS.search(line)[1])
            elif _PARAMETERS.search(line):
                self.parameters = _PARAMETERS.search(line)[1]

    def _begin(self, arguments):
        """Take the arguments, and drop the epochs that are trained again."""
        self.arguments = {key: text.strip("'") for key, text in _ARGUMENT.findall(arguments)}
        begin = self.arguments.get("load_epoch", "None")
        last = int(begin) if begin.isdigit() else 0
        self.epochs = {number: row for number, row in self.epochs.items() if number <= last}
        self.points = {place: row for place, row in self.points.items() if place[0] <= last}

    def _take(self, epoch, line):
        """Take the results of a line, and return whether they make sense."""
        batch, validation = _BATCH.search(line), _VALIDATION.search(line)
        try:
            if batch:
                values = {"train_loss": float(batch[2]), "train_error": _error(batch[3], 100)}
                self.points[epoch, int(batch[1])] = values
            elif validation and validation[1] == "accuracy":
                values = {"test_error": _error(validation[2], 1)}
            elif validation:
                values = {"test_loss": float(validation[2])}
            else:
                return False
        except ValueError:
            return False
        self.epochs[epoch] = replace(self.epochs.get(epoch, EpochRecord(epoch)), **values)
        return all(0 <= value < math.inf for value in values.values())


def _error(right, whole):
    """Return in percent what is not right, rounded, because 100 * (1 - 0.912) is not 8.8."""
    return round(100 * (1 - float(right) / whole), 9)


def _run(path, log):
    dataset, spec = _network(log.arguments)
    epochs = int(log.arguments["num_epochs"])
    recipe, changes = _recipe(log, dataset, spec, epochs)
    published = PUBLISHED[dataset]
    errors = [row.test_error for row in log.epochs.values() if row.test_error is not None]
    gpus = re.findall(r"\d+", log.arguments.get("gpus", ""))
    seed = log.arguments.get("rand_seed", "")
    rows = {number: row for number, row in log.epochs.items() if number <= epochs}
    done = epochs in rows and rows[epochs].test_error is not None
    return Run(
        path=path,
        format=AUTHORS,
        state=FINISHED if done else STOPPED,
        setup=Setup(
            dataset=dataset,
            network=spec.name,
            spec=spec,
            recipe=recipe,
            epochs=epochs,
            images={
                "train": int(log.arguments.get("num_examples", published.train_images)),
                "test": images_of(errors, published.test_images) or published.test_images,
            },
            bn_images=recipe.batch_size // len(gpus) if gpus else None,
            seed=int(seed) if seed.isdigit() else None,
            environment={"devices": [f"gpu({number})" for number in gpus]} if gpus else {},
        ),
        epochs=rows,
        points={place: row for place, row in log.points.items() if place[0] <= epochs},
        changes=tuple(changes),
    )


def _network(arguments):
    """Return the data set and our network; their depth is the plain network's, 2L + 2."""
    dataset, theirs = arguments["dataset"], arguments["network"]
    if dataset not in ("cifar10", "cifar100", "svhn") or theirs not in _NETWORKS:
        raise DMRError(
            f"{theirs} on {dataset} is not in the paper, which has {', '.join(_NETWORKS)} on "
            f"cifar10, cifar100 and svhn"
        )
    name, layers = _NETWORKS[theirs]
    blocks = (int(arguments["depth"]) - 2) // (3 * layers)
    width = arguments.get("widen_factor", "1")
    name = name.format(depth=6 * blocks + 2) + (f"_w{width}" if width != "1" else "")
    return dataset, read_network(name, classes=PUBLISHED[dataset].classes)


def _recipe(log, dataset, spec, epochs):
    """Return the recipe that the arguments describe, and whatever it cannot express."""
    paper, arguments = OF_DATASET[dataset], log.arguments
    # What the paper leaves open is as in their code.
    said = {"bn_momentum": RECIPES["authors"][paper.name].bn_momentum}
    for name, kind in (("batch_size", int), ("lr", float), ("lr_factor", float)):
        said[name] = kind(arguments.get(name, getattr(paper, name)))
    steps = log.steps or re.findall(r"\d+", arguments.get("lr_steps", ""))
    if steps:
        said["lr_drops"] = tuple(int(step) / epochs for step in steps)
    augmentation, changes = arguments.get("aug_type", "1"), []
    if augmentation == "0":
        said.update(pad=0, mirror=False)
    elif augmentation == "1":
        said.update(pad=4, mirror=True)
    else:
        changes.append(f"augmentation of their kind {augmentation}")
    if arguments.get("num_classes", str(spec.classes)) != str(spec.classes):
        changes.append(f"{arguments['num_classes']} classes, {dataset} has {spec.classes}")
    changes += _other_size(log.parameters, spec)
    return replace(paper, model=spec.name, epochs=epochs, **said), changes


def _other_size(parameters, spec):
    """Say if the logged number of parameters is not the network's."""
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
    """Infer how many images errors in percent are of, if fewer than the whole split.

    Their code may have evaluated some batches only. The errors are then all multiples of a coarser
    share than the split has, which is not to be expected of so many errors by chance.

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
