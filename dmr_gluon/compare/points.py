"""Compare a group with one other run of the same training, point by point. Needs no MXNet.

A point is a running mean within an epoch, or the test error after one. Each has a 95% prediction
interval for one more run of ours (:func:`.statistics.prediction`).

The points of one run move together: thirty of them are not thirty tests. The joint verdict takes
the root mean square of their t values as the t of a single point, with n - 1 degrees of freedom for
n runs. That is exact if all points move as one. Otherwise it is conservative, because a mean of
many squares varies less than one of them: false alarms stay at or below 5% for any correlation with
five runs or more, and reach 6% with four (tests/test_points.py). Fewer runs give no joint verdict.
"""

import math
from dataclasses import dataclass
from typing import Optional, Tuple

from ..runs.reader import Run
from .groups import RunGroup
from .statistics import NO_VERDICT, Sample, Verdict, judged, prediction, quantile, two_sided

#: Measures within an epoch, and after it.
TRAINING, TEST = ("train_loss", "train_error"), "test_error"
TITLES = dict(zip((*TRAINING, TEST), ("training loss", "training error, %", "test error, %")))
#: The minimum number of runs for a joint verdict.
_LEAST_RUNS = 4


@dataclass(frozen=True)
class Point:
    """One number of both.

    Parameters
    ----------
    epoch : int
    step : int or None
        Within the epoch; None after it.
    measure : str
        ``train_loss``, ``train_error`` or ``test_error``.
    ours : Sample
    theirs : float
    half : float or None
        Half the width of the 95% prediction interval for one more run of ours; None if ours have no
        spread.
    """

    epoch: int
    step: Optional[int]
    measure: str
    ours: Sample
    theirs: float
    half: Optional[float]

    @property
    def difference(self):
        """Ours minus theirs."""
        return self.ours.mean - self.theirs

    @property
    def within(self):
        """Whether theirs lies in the interval; None without one."""
        return None if self.half is None else abs(self.difference) <= self.half


@dataclass(frozen=True)
class PointByPoint:
    """All points that a group has in common with another run.

    Parameters
    ----------
    ours : RunGroup
    runs : tuple of Run
        The runs of ours that have points: those that count, or all if none does.
    theirs : Run
    points : tuple of Point
        In order of training.
    test_images : int or None
        The number of images behind their test errors, if it is smaller than ours.
    deviations : tuple of str
        Known differences between the two trainings.
    verdict : Verdict
        Joint verdict on the points within epochs; ``difference`` is that of the training errors.
    """

    ours: RunGroup
    runs: Tuple[Run, ...]
    theirs: Run
    points: Tuple[Point, ...]
    test_images: Optional[int]
    deviations: Tuple[str, ...]
    verdict: Verdict

    @property
    def title(self):
        """Both sides, for headings."""
        return f"{self.ours.title} compared with {self.theirs.name}, point by point"


def value_at(run, epoch, step, measure):
    """Return a run's number at a point."""
    return run.epochs[epoch].test_error if step is None else run.points[epoch, step][measure]


def point_by_point(ours, theirs, deviations):
    """Compare a group with another run of the same training.

    Parameters
    ----------
    ours : RunGroup
    theirs : Run
    deviations : tuple of str
        Known differences between the two.

    Returns
    -------
    PointByPoint or None
        None if they have no points in common.
    """
    runs = [run for run in ours.counted or ours.runs if run.points]
    keys = list(_common_points([*runs, theirs])) if runs else []
    if not keys:
        return None
    test_images = theirs.setup.images.get("test")
    if not test_images or test_images >= ours.setup.images.get("test", 0):
        test_images = None
    points = []
    for key in keys:
        sample = Sample.of(value_at(run, *key) for run in runs)
        value = value_at(theirs, *key)
        points.append(Point(*key, sample, value, _half(key[-1], sample, value, test_images)))
    verdict = joint(points)
    return PointByPoint(ours, tuple(runs), theirs, tuple(points), test_images, deviations, verdict)


def _common_points(runs):
    """Yield epoch, step and measure of the points that all runs have, in order of training."""
    steps = {}
    for epoch, step in sorted(set.intersection(*(set(run.points) for run in runs))):
        steps.setdefault(epoch, []).append(step)
    for epoch in steps:
        yield from ((epoch, step, measure) for step in steps[epoch] for measure in TRAINING)
        tests = [run.epochs[epoch].test_error if epoch in run.epochs else None for run in runs]
        if None not in tests:
            yield epoch, None, TEST


def _half(measure, ours, theirs, test_images):
    if not ours.std:
        return None
    half = prediction(ours)
    if measure == TEST and test_images:  # their sampling error, as a binomial proportion
        chance = 100 * math.sqrt(theirs / 100 * (1 - theirs / 100) / test_images)
        half = math.hypot(half, quantile(ours.count - 1) * chance)
    return half


def joint(points):
    """Judge all points within epochs together; see the module.

    Parameters
    ----------
    points : sequence of Point
        Those after epochs are ignored.

    Returns
    -------
    Verdict
    """
    inner = [point for point in points if point.step is not None]
    errors = [point.difference for point in inner if point.measure == "train_error"]
    difference = sum(errors) / len(errors)
    runs = inner[0].ours.count
    if runs < _LEAST_RUNS or not all(point.half for point in inner):
        text = f"at least {_LEAST_RUNS} runs are needed, with some spread at every point"
        return Verdict(NO_VERDICT, text, difference)
    # A point's t is its difference in units of its interval, times the quantile.
    ratios = [point.difference / point.half for point in inner]
    t = quantile(runs - 1) * math.sqrt(sum(ratio**2 for ratio in ratios) / len(ratios))
    count = f"{len(inner)} points within epochs, {sum(not point.within for point in inner)} outside"
    text = f"{count}; root mean square of t {t:.2f} with {runs - 1} degrees of freedom"
    return judged(text, difference, None, two_sided(t, runs - 1))
