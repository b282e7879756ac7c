"""Read logs of the authors' code (MXNet's FeedForward, 2016) as runs. Needs no MXNet.

Their lines, each after the time::

    start with arguments Namespace(aug_type=1, batch_size=64, ..., lr=0.1, ..., num_epochs=400, ...)
    training strategy: lr=0.100000, step=[200, 300, 350]
    Epoch[3] Batch [750]	Speed: 1238	loss: 0.6040(0.6302)	top1: 79.1750(78.1854)
    Epoch[3] Validation-cross-entropy=0.606161
    Epoch[3] Validation-accuracy=0.791250

Epochs count from 0. Numbers in brackets are means since the start of the epoch. The arguments
determine network and recipe. A training that is restarted or continued appends to the same file,
with a start of its own.
"""

import re
from dataclasses import replace

from ..errors import DMRError
from ..models.names import get_spec
from ..paper.dataset_facts import PUBLISHED
from ..paper.recipes import OF_DATASET, RECIPES
from .log import EpochRecord, read_lines
from .reader import AUTHORS, FINISHED, STOPPED, Run, Setup

#: By their names of networks: ours, and how many layers of the plain network a block replaces.
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
_SCHEDULE = re.compile(r"training strategy: .*step=\[([\d, ]*)\]")
_RESULT = re.compile(r"Epoch\[(\d+)\] (?:Batch|Validation-(?:accuracy|cross-entropy)=)")
_NUMBER = r"(\d+(?:\.\d+)?)"
_BATCH = re.compile(rf"Batch \[(\d+)\].*\sloss: \S+\({_NUMBER}\)\s+top1: \S+\({_NUMBER}\)")
_ACCURACY = re.compile(rf"Validation-accuracy={_NUMBER}\s*$")
_LOSS = re.compile(rf"Validation-cross-entropy={_NUMBER}\s*$")


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
        If the file is not such a log, a result is damaged, or the network is not one of the
        paper's.
    """
    arguments, begin, steps, epochs, points = {}, 0, "", {}, {}
    for number, line in enumerate(read_lines(path)[:-1], start=1):
        line = line.decode("utf-8", errors="replace")
        start, schedule, result = (e.search(line) for e in (_START, _SCHEDULE, _RESULT))
        if start:
            arguments = {key: text.strip("'") for key, text in _ARGUMENT.findall(start[1])}
            begin = arguments.get("load_epoch", "None")  # None: from the beginning
            begin = int(begin) if begin.isdigit() else 0
            epochs = {epoch: row for epoch, row in epochs.items() if epoch <= begin}
            points = {place: row for place, row in points.items() if place[0] <= begin}
        elif schedule and not begin:
            steps = schedule[1]
        elif result:
            epoch = int(result[1]) + 1
            values = _results(line)
            if values is None:
                raise DMRError(f"line {number} of {path} is damaged: take that line out")
            epochs[epoch] = replace(epochs.get(epoch, EpochRecord(epoch)), **values)
            batch = _BATCH.search(line)
            if batch:
                points[epoch, int(batch[1])] = values
    if "num_epochs" not in arguments:
        raise DMRError(
            f"{path} is not a log: neither JSON lines of this package (log.jsonl), nor a log of "
            f"the authors' code, which says 'start with arguments'; name a run's folder or log"
        )
    try:
        setup = _setup(arguments, steps, epochs)
    except (DMRError, KeyError, ValueError) as error:
        what = f"its arguments lack {error}" if isinstance(error, KeyError) else error
        raise DMRError(f"{path}: {what}; only logs of the paper's networks are read") from error
    last, augmentation = epochs.get(setup.epochs), arguments.get("aug_type", "1")
    unknown = () if augmentation in ("0", "1") else (f"augmentation of their kind {augmentation}",)
    return Run(
        path=path,
        format=AUTHORS,
        state=FINISHED if last and last.test_error is not None else STOPPED,
        setup=setup,
        epochs=epochs,
        points=points,
        changes=unknown,
    )


def _results(line):
    """Return the results on a line by field of EpochRecord, or None if it is damaged."""
    batch, accuracy, loss = (e.search(line) for e in (_BATCH, _ACCURACY, _LOSS))
    if batch:
        return {"train_loss": float(batch[2]), "train_error": _error(batch[3], 100)}
    if accuracy and float(accuracy[1]) <= 1:
        return {"test_error": _error(accuracy[1], 1)}
    return {"test_loss": float(loss[1])} if loss else None


def _error(accuracy, whole):
    """Return the error in percent, rounded because 100 * (1 - 0.912) is not 8.8."""
    return round(100 * (1 - float(accuracy) / whole), 9)


def _setup(arguments, steps, epochs):
    dataset, spec = _network(arguments)
    recipe = _recipe(arguments, steps, OF_DATASET[dataset])
    published = PUBLISHED[dataset]
    errors = [row.test_error for row in epochs.values() if row.test_error is not None]
    gpus = re.findall(r"\d+", arguments.get("gpus", ""))
    seed = arguments.get("rand_seed", "")
    return Setup(
        dataset=dataset,
        network=spec.name,
        spec=spec,
        recipe=replace(recipe, model=spec.name),
        epochs=recipe.epochs,
        images={
            "train": int(arguments.get("num_examples", published.train_images)),
            "test": images_of(errors, published.test_images) or published.test_images,
        },
        bn_images=recipe.batch_size // len(gpus) if gpus else None,
        seed=int(seed) if seed.isdigit() else None,
        environment={"devices": [f"gpu({number})" for number in gpus]} if gpus else {},
    )


def _network(arguments):
    """Return the data set and our network; their depth is the plain network's, 2L + 2."""
    dataset, theirs = arguments["dataset"], arguments["network"]
    if dataset not in ("cifar10", "cifar100", "svhn") or theirs not in _NETWORKS:
        raise DMRError(f"{theirs} on {dataset} is not in the paper")
    name, layers = _NETWORKS[theirs]
    blocks = (int(arguments["depth"]) - 2) // (3 * layers)
    width = arguments.get("widen_factor", "1")
    name = name.format(depth=6 * blocks + 2) + (f"_w{width}" if width != "1" else "")
    return dataset, get_spec(name, classes=PUBLISHED[dataset].classes)


def _recipe(arguments, steps, paper):
    """Return the recipe that the arguments describe. What the paper leaves open is their code's."""
    epochs = int(arguments["num_epochs"])
    drops = re.findall(r"\d+", steps or arguments.get("lr_steps", ""))
    augmented = arguments.get("aug_type", "1") != "0"
    return replace(
        paper,
        epochs=epochs,
        bn_momentum=RECIPES["authors"][paper.name].bn_momentum,
        batch_size=int(arguments.get("batch_size", paper.batch_size)),
        lr=float(arguments.get("lr", paper.lr)),
        lr_factor=float(arguments.get("lr_factor", paper.lr_factor)),
        lr_drops=tuple(int(step) / epochs for step in drops) or paper.lr_drops,
        pad=4 if augmented else 0,
        mirror=augmented,
    )


def images_of(errors, whole):
    """Infer of how many images some errors in percent are, if not of the whole split.

    Their code may evaluate only some batches. All errors are then multiples of a coarser share
    than the split has, which so many errors are unlikely to be by chance.

    Parameters
    ----------
    errors : list of float
    whole : int
        Number of images in the split.

    Returns
    -------
    int or None
    """
    errors = {error for error in errors if 0 < error < 100}  # equal ones add no evidence
    for count in range(50, whole, 50):
        # A share of the whole split is a multiple of 1 / count with this probability.
        chance = (count / whole) ** len(errors)
        shares = (error / 100 * count for error in errors)
        if chance < 1e-3 and all(abs(share - round(share)) < 1e-6 * count for share in shares):
            return count
    return None
