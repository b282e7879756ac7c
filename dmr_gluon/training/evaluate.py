"""Exact evaluation: every image of a split once, at any batch size and device count."""

import os
from collections import deque
from dataclasses import dataclass
from typing import Any, Callable, Deque, Optional, Sequence

import numpy as np

from ..data.datasets import RecordDataset
from ..data.loader import evaluation_batches, share_of
from ..errors import DMRError
from ..paper.recipes import Recipe
from ..runs import log as runlog
from ..runs.directory import RunDirectory, place_of
from ..runs.trained_network import logged_epoch
from ..runtime import mx
from ..system.machine import processor
from .distributed import ALONE, Group
from .progress import Progress
from .step import HostBuffers, split_over


@dataclass(frozen=True)
class Evaluation:
    """Counts over one split.

    Attributes
    ----------
    images : int
    wrong, wrong_top5 : int
        Images whose class is not the first, or not among the first five.
    loss : float
        Mean cross-entropy, in nats.
    """

    images: int
    wrong: int
    wrong_top5: int
    loss: float

    @property
    def error(self) -> float:
        """Percent."""
        return 100 * self.wrong / self.images

    @property
    def top5_error(self) -> float:
        """Percent."""
        return 100 * self.wrong_top5 / self.images


class Interrupted(Exception):
    """An evaluation was given up because a signal came."""


def evaluate(
    net: mx.gluon.HybridBlock,
    prepared: RecordDataset,
    recipe: Recipe,
    devices: Sequence[mx.Context],
    split: str = "test",
    group: Group = ALONE,
    threads: Optional[int] = None,
    interrupted: Callable[[], object] = lambda: False,
) -> Evaluation:
    """Run a network over a split.

    Parameters
    ----------
    net : HybridBlock
        Gives logits; initialised on ``devices``.
    prepared : RecordDataset
    recipe : Recipe
        Its image sizes and batch size are used.
    devices : list of Context
    split : str
    group : Group
        Workers that share the images.
    threads : int, optional
        That read. Default: one for each core.
    interrupted : function
        Asked before every batch of a worker that is alone.

    Returns
    -------
    Evaluation
        Of all images, on every worker.

    Raises
    ------
    Interrupted
        Where ``interrupted`` says so.
    DMRError
        If the images seen, counted per class, are not those of the manifest.
    """
    tally = _Tally(len(prepared.classes))
    waiting: Deque[Any] = deque()
    total = prepared.split(split).count
    mine = len(range(total)[share_of(total, group.part)])
    host, full = HostBuffers(devices), None
    with Progress(f"evaluate {split}", mine, shown=group.first) as progress:
        for data, label in evaluation_batches(prepared, recipe, split, group.part, threads):
            if group.kv is None and interrupted():
                raise Interrupted
            full = full or len(label)
            if devices[0].device_type == "gpu" and len(label) < full:
                # For a smaller batch memory would be planned and algorithms tried once more.
                data = np.concatenate([data, np.repeat(data[-1:], full - len(label), axis=0)])
            parts = split_over(devices, data, host)
            waiting.append(([net(part) for part in parts], label))
            # Two batches stay under way, so that reading and computing overlap.
            if len(waiting) > 2:
                tally.add(*waiting.popleft())
            progress.update(len(label))
        while waiting:
            tally.add(*waiting.popleft())
    tally.add_others(group)
    if tuple(tally.seen) != prepared.split(split).per_class:
        raise DMRError(
            f"{prepared.split(split).records}: its labels are not those that the manifest "
            f"counts; prepare the data set again"
        )
    return Evaluation(total, tally.wrong, tally.wrong_top5, tally.loss / total)


#: Of the images, how many may change sides because another machine rounds differently.
_ROUNDING = 0.005


def check_with_log(
    result: Evaluation, run: RunDirectory, epoch: int, devices: Sequence[mx.Context]
) -> Optional[str]:
    """Compare the error on a run's own test images with the one that its log has.

    Parameters
    ----------
    result : Evaluation
    run : RunDirectory
    epoch : int
        Whose network it is of.
    devices : list of Context
        That it was computed on.

    Returns
    -------
    str or None
        What is to be noted: that there is nothing to compare with, or a small difference and
        what explains it.

    Raises
    ------
    DMRError
        For a difference that nothing explains.
    """
    logged, config = logged_epoch(run.log, epoch), run.config()
    if logged is None:
        return f"{run.log} has no whole line of epoch {epoch}; there is nothing to compare with"
    if logged["test_error"] == result.error:
        return None
    now = {
        "processor": ("processor", processor()),
        "number of threads": ("threads", os.environ.get("OMP_NUM_THREADS")),
        "list of devices": ("devices", [str(device) for device in devices]),
        "number of workers": ("workers", 1),
        "form of the network": ("converted_from", None),
    }
    # It may have gone on elsewhere, more than once.
    places = [config, place_of(config), *runlog.read(run.log)]
    unlike = [
        what
        for what, (name, value) in now.items()
        if any(place.get(name, value) != value for place in places)
    ]
    unlike += ["type of number"] * (config["recipe"].get("dtype") == "float16")
    unlike += ["choice of cuDNN's"] * (devices[0].device_type == "gpu")
    wrong = round(logged["test_error"] * result.images / 100)
    said = f"{run.log} records {wrong} wrong of {result.images} images for epoch {epoch}"
    if unlike and abs(wrong - result.wrong) <= max(1, _ROUNDING * result.images):
        return f"{said}; another {' and another '.join(unlike)} rounds differently"
    raise DMRError(
        f"{said}, not {result.wrong}: these are other parameters, or other software computes "
        f"otherwise; evaluate with the versions that config.json names"
    )


class _Tally:
    def __init__(self, classes):
        self.seen = np.zeros(classes, np.int64)
        self.wrong = self.wrong_top5 = 0
        self.loss = 0.0

    def add_others(self, group):
        """Add what the other workers counted."""
        counts = [*self.seen, self.wrong, self.wrong_top5, self.loss]
        *seen, wrong, wrong_top5, self.loss = group.sum("evaluation", counts)
        self.seen = np.array(seen, np.int64)
        self.wrong, self.wrong_top5 = int(wrong), int(wrong_top5)

    def add(self, outputs, label):
        wrong = label[(label < 0) | (label >= len(self.seen))]
        if len(wrong):
            raise DMRError(
                f"a record has the label {wrong[0]}, but there are {len(self.seen)} classes; "
                f"prepare the data set again"
            )
        logits = np.concatenate([output.asnumpy() for output in outputs])[: len(label)]
        logits = logits.astype(np.float64)
        self.seen += np.bincount(label, minlength=len(self.seen))
        rows = np.arange(len(label))
        own = logits[rows, label][:, None]
        # Rank of the true class; equal logits are ordered as argmax orders them. Written so
        # that a logit that is not a number counts as wrong.
        before = np.arange(logits.shape[1]) < label[:, None]
        rank = np.sum(~((logits < own) | ((logits == own) & ~before)), axis=1)
        self.wrong += int(np.sum(rank > 0))
        self.wrong_top5 += int(np.sum(rank >= 5))
        largest = logits.max(axis=1, keepdims=True)
        with np.errstate(invalid="ignore"):  # a loss that is not finite is said by who asks
            self.loss += float(
                np.sum(np.log(np.sum(np.exp(logits - largest), axis=1)) + (largest - own)[:, 0])
            )
