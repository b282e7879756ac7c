"""Compare runs with one other run of the same training, point by point. Needs no MXNet.

A point is a mean within an epoch, or the test error after one. Each has a 95% prediction interval
for one more run of ours (:func:`.statistics.prediction`), by Student's t with n - 1 degrees of
freedom, where n is the number of our runs.

All points of one run move together, the more so the closer they are: thirty of them are not thirty
tests. The joint verdict takes the root mean square of their t values as the t of a single point.
That is exact if all points move as one and conservative otherwise, because a mean of many squares
is spread less than one of them: with five runs or more, false alarms stay at or below 5% for any
correlation, with four they reach 6% (tests/test_points.py). With fewer runs, the spread is too
uncertain.
"""

import math
from dataclasses import dataclass
from typing import Optional, Tuple

from ..runs.reader import Run
from .groups import RunGroup, dataset_title, published_name
from .statistics import (
    CONSISTENT,
    HIGHER,
    LEVEL,
    LOWER,
    NO_VERDICT,
    Sample,
    Verdict,
    prediction,
    tested,
    two_sided,
)

#: What a point within an epoch has, and what there is after one.
TRAINING, TEST = ("train_loss", "train_error"), "test_error"
#: Of our runs, for a joint verdict.
_LEAST_RUNS = 4


@dataclass(frozen=True)
class Point:
    """One number of both.

    Parameters
    ----------
    epoch : int
    step : int, optional
        Within the epoch; None after it.
    measure : str
        ``train_loss``, ``train_error`` or ``test_error``.
    ours : Sample
    theirs : float
    half : float, optional
        Half the width of the 95% prediction interval of one more run of ours; for a test error
        widened by the sampling error of theirs if it is of fewer images.
    """

    epoch: int
    step: Optional[int]
    measure: str
    ours: Sample
    theirs: float
    half: Optional[float]

    @property
    def difference(self):
        """Ours less theirs."""
        return self.ours.mean - self.theirs

    @property
    def within(self):
        return None if self.half is None else abs(self.difference) <= self.half

    @property
    def t(self):
        """Of theirs as one more run of ours; None where ours have no spread."""
        if not self.ours.std:
            return None
        return self.difference / (self.ours.std * math.sqrt(1 + 1 / self.ours.count))


@dataclass(frozen=True)
class PointByPoint:
    """All points that a group has with one other run.

    Parameters
    ----------
    ours : RunGroup
    runs : tuple of Run
        Those of ours that count, or all where none does, without those that have no points.
    left_out : int
        How many have none.
    theirs : Run
    points : tuple of Point
        In the order of the training.
    test_images : int, optional
        Of how many images their test errors are, where these show that they are of fewer.
    deviations : tuple of str
        How the two trainings are known to differ.
    verdict : Verdict
        Joint, of the points within epochs; ``difference`` is the mean of our training errors less
        theirs.
    """

    ours: RunGroup
    runs: Tuple[Run, ...]
    left_out: int
    theirs: Run
    points: Tuple[Point, ...]
    test_images: Optional[int]
    deviations: Tuple[str, ...]
    verdict: Verdict

    @property
    def title(self):
        return (
            f"{self.ours.setup.network} on {dataset_title(self.ours.setup.dataset)} beside "
            f"{self.theirs.name}"
        )


def point_by_point(ours, others, deviations=()):
    """Compare a group with another group's single run, if both have points in common.

    Parameters
    ----------
    ours, others : RunGroup
    deviations : sequence of str
        How they differ, apart from the images.

    Returns
    -------
    PointByPoint or None
    """
    theirs = others.runs[0]
    one, other = ours.setup, others.setup
    alike = (
        len(others.runs) == 1
        and published_name(one.dataset) == published_name(other.dataset)
        and (one.network, one.epochs) == (other.network, other.epochs)
    )
    all_runs = ours.counted or ours.runs
    runs = [run for run in all_runs if run.points]
    if not alike or not runs or not theirs.points:
        return None
    places = [place for place in sorted(theirs.points) if all(place in r.points for r in runs)]
    if not places:
        return None
    tested = other.images.get("test", 0)
    fewer = tested if 0 < tested < one.images.get("test", 0) else None
    points = []
    for epoch in sorted({epoch for epoch, _ in places}):
        for place in (place for place in places if place[0] == epoch):
            for measure in TRAINING:
                values = [run.points[place][measure] for run in runs]
                points.append(_point(*place, measure, values, theirs.points[place][measure]))
        values = [run.epochs[epoch].test_error for run in runs if epoch in run.epochs]
        theirs_after = theirs.epochs[epoch].test_error if epoch in theirs.epochs else None
        if theirs_after is not None and len(values) == len(runs):
            points.append(_point(epoch, None, TEST, values, theirs_after, fewer))
    if one.dataset != other.dataset:
        titles = dataset_title(one.dataset), dataset_title(other.dataset)
        deviations = (f"{titles[0]} and {titles[1]}", *deviations)
    return PointByPoint(
        ours,
        tuple(runs),
        len(all_runs) - len(runs),
        theirs,
        tuple(points),
        fewer,
        tuple(deviations),
        joint(points),
    )


def _point(epoch, step, measure, values, theirs, images=None):
    ours = Sample.of(values)
    half = None
    if ours.std:
        half = prediction(ours)
        if images:  # theirs is one draw of so many images, ours are of all
            chance = 100 * math.sqrt(theirs / 100 * (1 - theirs / 100) / images)
            half *= math.hypot(1, chance / (ours.std * math.sqrt(1 + 1 / ours.count)))
    return Point(epoch, step, measure, ours, theirs, half)


def joint(points):
    """One verdict of all points within epochs, see the module.

    Parameters
    ----------
    points : sequence of Point
        Those after epochs are left out.

    Returns
    -------
    Verdict
    """
    inner = [point for point in points if point.step is not None]
    errors = [point.difference for point in inner if point.measure == "train_error"]
    difference = sum(errors) / len(errors) if errors else None
    squares = [point.t**2 for point in inner if point.t is not None]
    if not inner or len(squares) < len(inner) or inner[0].ours.count < _LEAST_RUNS:
        text = f"at least {_LEAST_RUNS} runs are needed, with some spread at every point"
        return Verdict(NO_VERDICT, text, difference)
    t, freedom = math.sqrt(sum(squares) / len(squares)), inner[0].ours.count - 1
    p = two_sided(t, freedom)
    outside = sum(not point.within for point in inner)
    text = (
        f"{len(inner)} points within epochs, {outside} of them outside; root mean square of "
        f"their t {t:.2f}, taken as of one point with {freedom} degrees of freedom"
    )
    text = tested(text, p)
    direction = LOWER if (difference or 0) < 0 else HIGHER
    return Verdict(CONSISTENT if p >= LEVEL else direction, text, difference, p=p)
