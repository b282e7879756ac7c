"""Exact evaluation: each image of a split once, at any batch size and device count."""

from collections import deque
from dataclasses import dataclass
from typing import Any, Callable, Deque, Optional, Sequence

import numpy as np

from ..data.datasets import RecordDataset
from ..data.loader import evaluation_batches, share_of
from ..data.reader import Reading
from ..errors import DMRError
from ..paper.recipes import Recipe
from ..runs.directory import RunDirectory
from ..runs.trained_network import logged_epoch
from ..runtime import mx
from .distributed import ALONE, WorkerGroup
from .progress import progress_bar
from .step import HostBuffers, split_over


@dataclass(frozen=True)
class Evaluation:
    """The result of evaluating one split.

    Attributes
    ----------
    images : int
    wrong, wrong_top5 : int
        Images whose class is not ranked first, or not among the first five.
    loss : float
        Mean cross-entropy, in nats.
    """

    images: int
    wrong: int
    wrong_top5: int
    loss: float

    @property
    def error(self) -> float:
        """Top-1 error in percent."""
        return 100 * self.wrong / self.images

    @property
    def top5_error(self) -> float:
        """Top-5 error in percent."""
        return 100 * self.wrong_top5 / self.images


def evaluate(
    net: Callable[[mx.nd.NDArray], mx.nd.NDArray],
    prepared: RecordDataset,
    recipe: Recipe,
    devices: Sequence[mx.Context],
    split: str = "test",
    group: WorkerGroup = ALONE,
    reading: Reading = Reading(),
    each: Optional[Callable[[np.ndarray, np.ndarray], None]] = None,
) -> Evaluation:
    """Evaluate a network on a split.

    Parameters
    ----------
    net : HybridBlock or callable
        Returns logits; initialised on ``devices``.
    prepared : RecordDataset
    recipe : Recipe
        Provides image sizes and batch size.
    devices : list of Context
    split : str
    group : WorkerGroup
        Workers that share the images.
    reading : Reading
        The threads or processes that read. Default: one thread per core.
    each : callable, optional
        Called with the labels and the logits of each batch, in the order of the records.

    Returns
    -------
    Evaluation
        Over all images, on every worker.

    Raises
    ------
    DMRError
        If the counts per class are not those of the manifest.
    """
    classes, total = len(prepared.classes), prepared.split(split).count
    waiting: Deque[Any] = deque()
    counts = np.zeros(classes + 3)
    mine = len(range(total)[share_of(total, group.shard)])
    host, full = HostBuffers(devices), None
    with progress_bar(f"evaluate {split}", mine, shown=group.first) as bar:
        for data, label in evaluation_batches(prepared, recipe, split, group.shard, reading):
            full = full or len(label)
            if devices[0].device_type == "gpu" and len(label) < full:
                # A smaller batch would plan memory and try algorithms again.
                data = np.concatenate([data, np.repeat(data[-1:], full - len(label), axis=0)])
            parts = split_over(devices, data, host)
            waiting.append(([net(part) for part in parts], label))
            # Keep two batches in flight, so that reading and computing overlap.
            if len(waiting) > 2:
                outputs, labels = waiting.popleft()
                counts += _count(classes, outputs, labels, each)
            bar.update(len(label))
        while waiting:
            outputs, labels = waiting.popleft()
            counts += _count(classes, outputs, labels, each)
    *seen, wrong, wrong_top5, loss = group.sum("evaluation", counts)
    if tuple(seen) != prepared.split(split).per_class:
        raise DMRError(
            f"{prepared.directory}: the labels of {split} are not those that the manifest "
            f"counts; prepare the data set again"
        )
    return Evaluation(total, int(wrong), int(wrong_top5), float(loss) / total)


def _count(classes, outputs, label, each=None):
    """Return images of each class, errors, top-5 errors and summed loss of a batch, in one row."""
    wrong = label[(label < 0) | (label >= classes)]
    if len(wrong):
        raise DMRError(
            f"a record has the label {wrong[0]}, but there are {classes} classes; prepare the "
            f"data set again"
        )
    logits = np.concatenate([output.asnumpy() for output in outputs])[: len(label)]
    logits = logits.astype(np.float64)
    if each:
        each(label, logits)
    own = logits[np.arange(len(label)), label][:, None]
    # The rank of the true class. Ties are ordered as argmax orders them, and a NaN counts as wrong.
    before = np.arange(logits.shape[1]) < label[:, None]
    rank = np.sum(~((logits < own) | ((logits == own) & ~before)), axis=1)
    largest = logits.max(axis=1, keepdims=True)
    with np.errstate(invalid="ignore"):  # the caller reports a loss that is not finite
        losses = np.log(np.sum(np.exp(logits - largest), axis=1)) + (largest - own)[:, 0]
    seen = np.bincount(label, minlength=classes)
    return np.array([*seen, np.sum(rank > 0), np.sum(rank >= 5), np.sum(losses)])


#: Share of the images whose prediction may flip because another machine rounds differently.
_ROUNDING = 0.005


def check_with_log(result: Evaluation, run: RunDirectory, epoch: int) -> Optional[str]:
    """Compare the error on a run's own test images with its log.

    Parameters
    ----------
    result : Evaluation
    run : RunDirectory
    epoch : int
        The epoch of the evaluated network.

    Returns
    -------
    str or None
        A note: that there is nothing to compare with, or a small difference and its
        explanation.

    Raises
    ------
    DMRError
        For a difference that rounding does not explain.
    """
    logged = logged_epoch(run.log, epoch)
    if logged is None:
        return f"{run.log} has no whole line of epoch {epoch}; there is nothing to compare with"
    if logged["test_error"] == result.error:
        return None
    wrong = round(logged["test_error"] * result.images / 100)
    said = f"{run.log} records {wrong} wrong of {result.images} images for epoch {epoch}"
    if abs(wrong - result.wrong) <= max(1, _ROUNDING * result.images):
        return f"{said}; other devices and other numbers of threads round differently"
    raise DMRError(
        f"{said}, not {result.wrong}: these are other parameters, or other software computes "
        f"otherwise; evaluate with the versions that config.json names"
    )
