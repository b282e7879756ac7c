"""Logs of the authors' code (MXNet's FeedForward, 2016), as runs. Needs no MXNet.

Their lines, each after the time::

    start with arguments Namespace(aug_type=1, batch_size=64, ..., lr=0.1, ..., num_epochs=400, ...)
    Epoch[3] Batch [750]	Speed: 1238	loss: 0.6040(0.6302)	top1: 79.1750(78.1854)
    Epoch[3] Resetting Data Iterator
    Epoch[3] Time cost=40.083
    Saved checkpoint to "cross_d26w1-0004.params"
    Epoch[3] Validation-cross-entropy=0.606161
    Epoch[3] Validation-accuracy=0.791250

The arguments say what the log is of and with which recipe; other people's logs of that time lack
them, and the file's name or the caller has to say it. On ImageNet also ``top5: ...`` and
``Validation-top_k_accuracy_5=...``; Module's ``Epoch[3] Train-accuracy=0.98`` is read too. Epochs
count from 0 there. In brackets stands the mean from the epoch's begin: the metric itself begins
anew after each such line, and Module's ``Train-`` with it. A training that is begun again or
continued writes on in the same file, with a start of its own.
"""

import math
import os
import re

from ..errors import DMRError
from ..models.names import get_spec as read_network
from ..paper.dataset_facts import PUBLISHED
from ..paper.recipes import OF_DATASET, RECIPES
from .authors_recipe import images_of, other_size, recipe_of, what_it_is_of, whole_number
from .training_run import (
    AUTHORS,
    BOM,
    FINISHED,
    MEASURES,
    MOST_STEPS,
    STOPPED,
    Epochs,
    Problems,
    Run,
    Setup,
    epoch_number,
    lines_of,
    open_log,
    short,
)

_EPOCH = re.compile(r"Epoch\[(\d{1,9})\]\s*(.*)")
_VALUE = re.compile(r"(Train|Validation)-([\w-]+)=(\S+)\s*$")
_BATCH = re.compile(
    r"Batch\s*\[(?:\d+-)?(?P<batch>\d+)\]\s+Speed: (?P<speed>\S+)(?: samples/sec)?(?=\s)"
)
#: Theirs with the running mean in brackets, or MXNet's own.
_METRIC = re.compile(r"\s([\w-]+)(?:: ([^\s()]+)\(([^\s()]+)\)|=(\S+))(?!\S)")
_START = re.compile(r"start with arguments Namespace\((.*)\)\s*$")
_ARGUMENT = re.compile(r"\b([a-z_]+)=('[^']*'|[^,()\s]+)")
#: Measures by the names in the log, with what makes one of the other.
_NAMES = {
    ("Validation", "accuracy"): ("test_error", "share"),
    ("Validation", "top_k_accuracy_5"): ("test_top5_error", "share"),
    ("Validation", "cross-entropy"): ("test_loss", "as it is"),
    ("Train", "accuracy"): ("train_error", "share"),
    ("Train", "cross-entropy"): ("train_loss", "as it is"),
}
#: Messages of MXNet about an epoch, and others of MXNet and of their code, that hold no result.
_OF_EPOCH = re.compile(r"(Resetting Data Iterator|Time cost=\d+\.\d+)\s*$")
_OTHER = re.compile(
    r"(Saved checkpoint to \"[^\"]*\"|Change learning rate to \S+|Start training with \[[^]]*\]|"
    r"now learning rate arrived at \S+ will not change in the future|"
    r"Already binded, ignoring bind\(\)|"
    r"Auto-select kvstore type = \w+|network parameters: \S+|training strategy: lr=.*\]|"
    r"training parameters: lr=.*\]|Using gpus \S+ from:|GPU \d+: .*\)|\.txt|^)\s*$|"
    r"^\[\d\d:\d\d:\d\d\] src/"
)
_STEM = re.compile(r"^(?P<dataset>[a-z0-9]+)-(?P<network>[a-z0-9_]+?)(?:-seed(?P<seed>\d{1,9}))?$")
_PARAMETERS = re.compile(r"network parameters: (\d+\.\d{4}M)\s*$")
_STRATEGY = re.compile(r"training strategy: lr=\S+, step=(\[[\d, ]*\])\s*$")


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
        with open_log(path) as file:
            head = file.read(1 << 16)
    except OSError as error:
        raise DMRError(f"{path} cannot be read ({error.strerror})") from error
    return not head.lstrip(BOM + b" \t\r\n").startswith(b"{") and b'{"event"' not in head


def read_authors_log(path, dataset=None, network=None, epochs=None):
    """One of their logs.

    Parameters
    ----------
    path : str
        Where the log does not say what it is of, its name may: ``DATASET-NETWORK.log`` or
        ``DATASET-NETWORK-seedS.log``, such as ``cifar10-cifar_dmrnet56-seed2.log``.
    dataset, network : str, optional
        Where neither does.
    epochs : int, optional
        That the training was to have; default: what the log says, or else the paper's, or, of a
        log that has more, the authors' code's.

    Returns
    -------
    Run

    Raises
    ------
    DMRError
        Where nobody says what it is of, or it is of a network that is none of the paper's.
    """
    problems = Problems()
    log = _Log(path, problems)
    found = _STEM.match(os.path.splitext(os.path.basename(path))[0])
    named = found.groupdict() if found and found["dataset"] in OF_DATASET else {}
    given = named.get("dataset") or dataset, named.get("network") or network
    said = what_it_is_of(path, log.arguments)
    dataset, name = (own or other for own, other in zip(said, given))
    if not dataset or not name:
        raise DMRError(
            f"{path} is not a log of dmr-gluon, and one of the authors' code does not say what it "
            f"is of: call it DATASET-NETWORK-seedS.log, such as "
            f"cifar10-cifar_dmrnet56-seed1.log, or give --log-dataset and --log-network"
        )
    if dataset not in OF_DATASET:
        raise DMRError(
            f"{path}: there is no data set {dataset!r}; there are {', '.join(OF_DATASET)}"
        )
    published = PUBLISHED.get(dataset)
    try:
        spec = read_network(name, classes=published.classes if published else None)
    except DMRError as error:
        raise DMRError(f"{path}: {error}") from error
    if epochs is None:
        epochs = log.length or _usual_epochs(dataset, log.epochs.rows)
    rows = log.epochs.finish(epochs)
    seed = named.get("seed") or log.arguments.get("rand_seed", "")
    changes = [
        f"the log is of {own}, not of {short(other)}"
        for own, other in zip(said, (named.get("dataset"), named.get("network")))
        if own and other and own != other
    ]
    images = {}
    if published:
        images = {"train": published.train_images, "test": published.test_images}
    recipe, gpus = None, re.findall(r"\d+", log.arguments.get("gpus", ""))
    if all(said):
        recipe, unknown = recipe_of(dataset, spec, log, epochs)
        changes += unknown
        images["train"] = whole_number(log.arguments, "num_examples") or images["train"]
        errors = [row["test_error"] for row in rows.values() if "test_error" in row]
        images["test"] = images_of(errors, images["test"]) or images["test"]
    changes += other_size(log.parameters, spec)
    return Run(
        path=path,
        format=AUTHORS,
        state=FINISHED if "test_error" in rows.get(epochs, {}) else STOPPED,
        setup=Setup(
            dataset=dataset,
            network=spec.name,
            spec=spec,
            recipe=recipe,
            epochs=epochs,
            images=images,
            bn_images=recipe.batch_size // len(gpus) if recipe and gpus else None,
            seed=int(seed) if re.fullmatch(r"\d{1,18}", seed) else None,
            environment={"devices": [f"gpu({number})" for number in gpus]} if gpus else {},
        ),
        epochs=rows,
        points={place: row for place, row in log.points.items() if place[0] <= epochs},
        problems=problems.told(),
        changes=tuple(changes),
    )


def _usual_epochs(dataset, rows):
    """The paper's, or the authors' code's where a log has more; or as many as it has."""
    paper = OF_DATASET[dataset]
    authors = RECIPES["authors"].get(paper.name, paper)
    for length in sorted({paper.epochs, authors.epochs}):
        # One later epoch alone may be a damaged number.
        if length + 1 not in rows and sum(number > length for number in rows) < 2:
            return length
    return max(rows)


class _Log:
    """What a log says, line by line.

    Parameters
    ----------
    path : str
    problems : Problems
    """

    def __init__(self, path, problems):
        self.arguments, self._problems = {}, problems
        self.steps, self.parameters = (), None  # epochs at which the rate drops; "0.3494M"
        self.points = {}
        self.epochs = Epochs(problems)
        self._means, self._of_last_batches = {}, {}  # by epoch
        for number, line, whole in lines_of(path, problems):
            text = line.decode("utf-8", errors="replace")
            try:
                known = self._start(number, text) or self._take(text, whole)
            except ValueError as error:
                self._pass_over(number, str(error), "lines with a result that is damaged")
                continue
            if not known:
                self._note(text)
            if not known and not _OTHER.search(text):
                what = "is neither a result nor a message of MXNet that is known"
                self._pass_over(number, what, "lines that are neither")
        for epoch in sorted({*self._means, *self._of_last_batches}):
            last = self._of_last_batches.get(epoch, {})
            self.epochs.add(epoch, {**last, **self._means.get(epoch, {})})

    @property
    def length(self):
        """Epochs that the training was to have; None where the log does not say."""
        text = self.arguments.get("num_epochs", "")
        return int(text) if re.fullmatch(r"[1-9]\d{0,5}", text) else None

    def _pass_over(self, number, what, kind):
        self._problems.add(f"line {number} {what}; it was passed over", kind, number)

    def _start(self, number, text):
        found = _START.search(text)
        if not found:
            return False
        self.arguments = {key: text.strip("'") for key, text in _ARGUMENT.findall(found[1])}
        begin = self.arguments.get("load_epoch", "None")
        last = int(begin) if re.fullmatch(r"\d{1,9}", begin) else 0
        self.epochs.forget_after(last, number)
        for rows in (self._means, self._of_last_batches):
            for epoch in [epoch for epoch in rows if epoch > last]:
                del rows[epoch]
        for place in [place for place in self.points if place[0] > last]:
            del self.points[place]
        return True

    def _note(self, text):
        """Take what a line says of the network or of the schedule."""
        found = _PARAMETERS.search(text)
        if found:
            self.parameters = found[1]
        found = _STRATEGY.search(text)
        # One that is continued counts from there.
        if found and self.arguments.get("load_epoch", "None") == "None":
            self.steps = tuple(re.findall(r"\d+", found[1]))

    def _take(self, text, whole):
        """Take a line's results; whether it is of an epoch. ValueError says what is wrong."""
        found = _EPOCH.search(text)
        if not found:
            return False
        epoch, rest = epoch_number(int(found[1]) + 1), found[2]
        if _OF_EPOCH.match(rest):
            return True
        if rest.startswith("Batch"):
            batch, means = _means(rest)
            self._means.setdefault(epoch, {}).update(means)
            if (
                means
                and 1 <= batch <= MOST_STEPS
                and all(
                    0 <= value <= MEASURES[name] and value < math.inf
                    for name, value in means.items()
                )
            ):
                self.points[epoch, batch] = means
            return True
        found = _VALUE.match(rest)
        if not found:
            raise ValueError("begins as a result does, but goes on otherwise")
        what = _NAMES.get((found[1], found[2]))
        if what is None:
            return False
        value = _number(found[3])
        if not whole and not re.search(r"\.\d{6}$|n|f", found[3]):  # MXNet writes six decimals
            raise ValueError("is cut off")
        value = _error(value) if what[1] == "share" else value
        if found[1] == "Train":
            self._of_last_batches.setdefault(epoch, {})[what[0]] = value
        else:
            self.epochs.add(epoch, {what[0]: value})
        return True


def _means(rest):
    """Loss and error from an epoch's begin, of a line about batches."""
    begin = _BATCH.match(rest)
    metrics = list(_METRIC.finditer(rest, begin.end())) if begin else []
    if not metrics or _METRIC.sub("", rest[begin.end() :]).strip():
        raise ValueError("begins as one about batches does, but goes on otherwise")
    means = {}
    _number(begin["speed"])
    for metric in metrics:
        name, mean = metric[1], metric[3]
        value = _number(mean or metric[4])
        if mean and name == "loss":
            means["train_loss"] = value
        elif mean and name == "top1":
            means["train_error"] = _error(value / 100)
    return int(begin["batch"][:20]), means


def _error(share):
    """Of a share that is right, the rest in percent; rounded, as 100 * (1 - 0.912) is not 8.8."""
    return round(100 * (1 - share), 9)


def _number(text):
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"has {short(text)} where a number is to be") from None
