"""What the report's curves show: groups that can share axes, and their values. Needs no MXNet."""

import math
import statistics

from ...runs.training_run import FINISHED, by_epoch, counted
from ..groups import dataset_title, published_name

#: Epochs of a long training that are drawn; there are not many more pixels.
MOST_POINTS = 800
#: Share of an error's values that the axis has to hold; the first epochs are far above the rest.
_SHOWN = 0.9
#: Measure, title, what it is in, and whether the axis is logarithmic.
_FIGURE7 = (
    ("train_loss", "Training loss", "cross-entropy, logarithmic", True),
    ("test_error", "Test error", "percent", False),
)
_FIGURE8 = (
    ("train_error", "Training error", "percent", False),
    ("test_error", "Validation error", "percent", False),
)


class Curve:
    """A measure of one or several runs, at the epochs that are drawn.

    Parameters
    ----------
    runs : sequence of Run
    measure : str
    points : sequence of int
        Epochs.
    """

    def __init__(self, runs, measure, points):
        #: The mean over the runs that have the epoch; None where none has.
        self.mean = []
        #: The least and the greatest, where several runs have the epoch; else None.
        self.low, self.high = [], []
        found = by_epoch(runs, measure)
        for point in points:
            values = found.get(point, ())
            several = len(values) > 1
            self.mean.append(statistics.fmean(values) if values else None)
            self.low.append(min(values) if several else None)
            self.high.append(max(values) if several else None)

    def drawn(self):
        """All values above 0."""
        return [value for part in (self.mean, self.low, self.high) for value in part if value]

    def last(self):
        """The last mean, or None."""
        return next((value for value in reversed(self.mean) if value is not None), None)


class Panel:
    """One measure of all groups of a figure.

    Parameters
    ----------
    kind : tuple
        Of the tables above.
    figure : Figure
    """

    def __init__(self, kind, figure):
        self.measure, self.title, self.unit, self.log = kind
        #: By group, its curve, and those of its runs that are drawn on their own.
        self.curves = [Curve(runs, self.measure, figure.points) for runs in figure.together]
        self.alone = [
            [Curve([run], self.measure, figure.points) for run in runs] for runs in figure.alone
        ]
        self.low, self.high, self.cut = self._limits()

    @property
    def empty(self):
        return all(curve.last() is None for curve in self._all())

    def shown(self, value):
        """A value with the digits that are shown of it; the script writes them in the same way."""
        if value is None:
            return "–"
        return f"{value:#.3g}" if self.log else f"{value:.2f}"

    def stored(self, value):
        """The same as a number, which JSON keeps short."""
        return None if value is None else float(self.shown(value))

    def _all(self):
        return [*self.curves, *(curve for curves in self.alone for curve in curves)]

    def _limits(self):
        values = sorted(value for curve in self._all() for value in curve.drawn())
        if not values:
            return (0.1, 1.0, False) if self.log else (0.0, 1.0, False)
        if self.log:
            # Beyond this a value is damage, and stands at the bottom.
            low = max(values[0], values[-1] * 1e-12, 1e-30)
            high = max(values[-1], low)
            margin = (high / low) ** 0.04 if high > low else 1.5
            return low / margin, high * margin, False
        ends = [curve.last() for curve in self.curves]
        high = max(values[int(_SHOWN * (len(values) - 1))], *(end or 0.0 for end in ends))
        if len(self.curves[0].mean) < 20:
            high = values[-1]
        low = 0.0 if any(0.0 in curve.mean for curve in self._all()) else values[0]
        step = nice_step(max(high - low, 0.1), 5)
        low, high = math.floor(low / step) * step, math.ceil(high / step) * step
        high = max(high, low + step)
        return low, high, values[-1] > high


class Figure:
    """Groups on one data set with as many epochs, which share axes.

    Parameters
    ----------
    dataset : str
    epochs : int
    groups : list of Group
    """

    def __init__(self, dataset, epochs, groups):
        self.dataset, self.epochs = dataset, epochs
        unfinished = [
            [run for run, _ in group.left_out if run.state != FINISHED and run.epochs]
            for group in groups
        ]
        self.groups = groups
        #: By group, the runs behind its mean: those that count, or else whatever there is.
        self.together = [group.counted or runs for group, runs in zip(groups, unfinished)]
        #: Unfinished runs beside such that count, whose mean they do not change.
        self.alone = [runs if group.counted else [] for group, runs in zip(groups, unfinished)]
        runs = [run for runs in (*self.together, *self.alone) for run in runs]
        #: The last epoch that is drawn.
        self.last = max((run.last for run in runs), default=0)
        self.step = max(1, -(-self.last // MOST_POINTS))
        #: The epochs that are drawn.
        self.points = [*range(self.step, self.last, self.step), *([self.last] if self.last else [])]
        kinds = _FIGURE8 if published_name(dataset) == "imagenet" else _FIGURE7
        panels = [Panel(kind, self) for kind in kinds]
        self.panels = [panel for panel in panels if not panel.empty]

    @property
    def title(self):
        return f"{dataset_title(self.dataset)}, {counted(self.epochs, 'epoch')}"


def figures(groups):
    """Groups as figures, in the groups' order; without those that have nothing to draw.

    Returns
    -------
    list of Figure
    """
    found = {}
    for group in groups:
        found.setdefault((group.setup.dataset, group.setup.epochs), []).append(group)
    made = [Figure(dataset, epochs, members) for (dataset, epochs), members in found.items()]
    return [figure for figure in made if figure.panels]


def nice_step(span, most):
    """A step of 1, 2 or 5 times a power of ten, at most ``most`` of which make up ``span``."""
    power = 10.0 ** math.floor(math.log10(span / most))
    return next(
        factor * power for factor in (1, 2, 5, 10, 20) if factor * power * most >= span * 0.999
    )


def ticks(low, high, log):
    """Round numbers between two.

    Returns
    -------
    list of float
    """
    if log:
        first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
        every = max(1, (last - first) // 6)
        factors = (1, 2, 5) if high <= low * 1000 else (1,)
        found = [
            factor * 10.0**power for power in range(first, last + 1, every) for factor in factors
        ]
        found = [value for value in found if low <= value <= high]
        if len(found) > 1:
            return found
    step = nice_step(high - low, 5)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(number * step, 12) for number in range(first, last + 1)]
