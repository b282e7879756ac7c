"""Logs of the authors' code (MXNet's Module, 2016), as runs. Needs no MXNet.

Their lines: ``Epoch[3] Validation-accuracy=0.912``, ``...-cross-entropy=0.31``,
``...-top_k_accuracy_5=0.93``; within an epoch ``Epoch[3] Batch [750] Speed: 1300
loss: 0.2101(0.2250) top1: 92.1000(91.8000)`` with the running mean in brackets; and MXNet's own
``Epoch[3] Train-accuracy=0.98``. Epochs count from 0 there. A log says neither what it is of nor
how long it was to be.
"""

import os
import re

from ..data.datasets import PUBLISHED
from ..errors import DMRError
from ..networks import network as read_network
from ..recipes import OF_DATASET, RECIPES
from .run import FINISHED, STOPPED, Epochs, Run, Setup, short

FORMAT = "authors"
_EPOCH = re.compile(r"Epoch\[(\d{1,9})\]\s*(.*)")
_VALUE = re.compile(r"(Train|Validation)-([\w-]+)=(\S+)\s*$")
_BATCH = re.compile(r"Batch\s*\[\d+(?:-\d+)?\]")
_RUNNING = re.compile(r"\b(loss|top1):\s*[^\s(]+\(([^)]*)\)")
#: Measures by the names in the log, with what makes one of the other.
_NAMES = {
    ("Validation", "accuracy"): ("test_error", "share"),
    ("Validation", "top_k_accuracy_5"): ("test_top5_error", "share"),
    ("Validation", "cross-entropy"): ("test_loss", "as it is"),
    ("Train", "accuracy"): ("train_error", "share"),
    ("Train", "cross-entropy"): ("train_loss", "as it is"),
}
#: Messages of MXNet and of their code that hold no result.
_OTHER = re.compile(
    r"Time cost=|Saved checkpoint|Change learning rate|Speed:|start with arguments|Namespace\(|"
    r"Already binded|Resume|Auto-?tun|^\s*$"
)
_STEM = re.compile(r"^(?P<dataset>[a-z0-9]+)-(?P<network>[a-z0-9_]+?)(?:-seed(?P<seed>\d{1,9}))?$")


def is_authors_log(path):
    """Whether a file is taken for one of theirs rather than for a ``log.jsonl``.

    Raises
    ------
    DMRError
        Where it cannot be read.
    """
    if path.endswith((".jsonl", ".json")):
        return False
    try:
        with open(path, "rb") as file:
            return not file.read(1 << 16).lstrip().startswith(b"{")
    except OSError as error:
        raise DMRError(f"{path} cannot be read ({error.strerror})") from error


def read_authors_log(path, dataset=None, network=None, epochs=None):
    """One of their logs.

    Parameters
    ----------
    path : str
        What it is of may stand in the file's name: ``DATASET-NETWORK.log`` or
        ``DATASET-NETWORK-seedS.log``, such as ``cifar10-cifar_dmrnet56-seed2.log``.
    dataset, network : str, optional
        Where it does not.
    epochs : int, optional
        That the training was to have; default: the paper's, or, of a log of just that length, the
        authors' code's.

    Returns
    -------
    Run

    Raises
    ------
    DMRError
        Where nobody says what it is of.
    """
    found = _STEM.match(os.path.splitext(os.path.basename(path))[0])
    named = found.groupdict() if found and found["dataset"] in OF_DATASET else {}
    dataset, name = named.get("dataset") or dataset, named.get("network") or network
    if not dataset or not name:
        raise DMRError(
            f"{path} is not a log of dmr-gluon, and one of the authors' code does not say what it "
            f"is of: call it DATASET-NETWORK-seedS.log, such as "
            f"cifar10-cifar_dmrnet56-seed1.log, or give --log-dataset and --log-network"
        )
    if dataset not in OF_DATASET:
        raise DMRError(f"there is no data set {dataset!r}; there are {', '.join(OF_DATASET)}")
    published = PUBLISHED.get(dataset)
    spec = read_network(name, classes=published.classes if published else None)
    problems = []
    rows = _epochs(path, problems)
    if epochs is None:
        epochs = _usual_epochs(dataset, max(rows.rows, default=0))
    rows = rows.finish(epochs)
    return Run(
        path=path,
        format=FORMAT,
        state=FINISHED if "test_error" in rows.get(epochs, {}) else STOPPED,
        setup=Setup(
            dataset=dataset,
            network=spec.name,
            spec=spec,
            epochs=epochs,
            images={"train": published.train_images, "test": published.test_images}
            if published
            else {},
            seed=int(named["seed"]) if named.get("seed") else None,
        ),
        epochs=rows,
        problems=tuple(problems),
    )


def _usual_epochs(dataset, last):
    paper = OF_DATASET[dataset]
    authors = RECIPES["authors"].get(paper.name, paper).epochs
    return authors if last == authors else paper.epochs


def _epochs(path, problems):
    try:
        with open(path, "rb") as file:
            lines = file.read().decode("utf-8", errors="replace").split("\n")
    except OSError as error:
        problems.append(f"the log cannot be read ({error.strerror})")
        lines = []
    values, unknown = {}, []
    for number, line in enumerate(lines, start=1):
        try:
            found = _line(line)
        except ValueError as error:
            problems.append(f"line {number} {error}; it was passed over")
            continue
        if found is None:
            if not _OTHER.search(line):
                unknown.append(number)
            continue
        epoch, measures = found
        values.setdefault(epoch, {}).update(measures)
    if unknown:
        problems.append(
            f"{len(unknown)} lines are neither results nor messages of MXNet that are known; "
            f"they were passed over (the first: line {unknown[0]})"
        )
    epochs = Epochs(problems)
    for epoch, measures in values.items():
        epochs.add(epoch, measures)
    return epochs


def _line(line):
    """(epoch from 1, measures) of a line, or None; ValueError says what is wrong with it."""
    found = _EPOCH.search(line)
    if not found:
        return None
    epoch, rest = int(found[1]) + 1, found[2]
    if _BATCH.match(rest):
        measures = {}
        for name, text in _RUNNING.findall(rest):
            value = _number(text)
            measures["train_loss" if name == "loss" else "train_error"] = (
                value if name == "loss" else 100 - value
            )
        return (epoch, measures) if measures else None
    found = _VALUE.match(rest)
    if not found:
        if _OTHER.search(rest):
            return None
        raise ValueError("begins as a result does, but goes on otherwise")
    what = _NAMES.get((found[1], found[2]))
    if what is None:
        return None
    value = _number(found[3])
    # Rounded, as 100 * (1 - 0.912) is not 8.8.
    return epoch, {what[0]: round(100 * (1 - value), 9) if what[1] == "share" else value}


def _number(text):
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"has {short(text)} where a number is to be") from None
