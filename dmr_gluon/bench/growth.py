"""How the time and the memory of a training step grow: with depth, width, batch and branches."""

import contextlib
import math
from dataclasses import asdict, dataclass

from tqdm import tqdm

from ..runs.learning_curve import COLOURS
from ..system.text_tables import text_table
from ..system.timing import measure
from .speeds import start

_BASE = "cifar_dmrnet14"
#: Its step on one image takes next to no memory but what MXNet needs for any step.
_SMALLEST = "cifar_dmrnet8"


@dataclass(frozen=True)
class Point:
    """One training step.

    Attributes
    ----------
    network : str
    batch : int
    size : int
        What grows: the depth, the width, the number of images or of branches.
    seconds : float
        Of a step: the median of the rounds.
    bytes : int
        Most memory of the process, beyond that of one that trains the smallest network on one
        image.
    """

    network: str
    batch: int
    size: int
    seconds: float
    bytes: int


@dataclass(frozen=True)
class Curve:
    """Training steps that differ in one thing.

    Attributes
    ----------
    against : str
    points : list of Point
        Two or more, the smallest first.
    """

    against: str
    points: list

    @property
    def exponents(self):
        """Of seconds and of bytes: c in y = a x^c."""
        sizes = [point.size for point in self.points]
        return tuple(
            exponent(sizes, values)
            for values in (
                [point.seconds for point in self.points],
                [point.bytes for point in self.points],
            )
        )

    def describe(self):
        """For JSON."""
        time, memory = self.exponents
        points = [asdict(point) for point in self.points]
        return {
            "against": self.against,
            "points": points,
            "exponents": {"seconds": time, "bytes": memory},
        }


def exponent(sizes, values):
    """c of the y = a x^c that fits best: least squares of logarithms.

    Parameters
    ----------
    sizes, values : sequence of float
        All above 0; of the sizes at least two different ones.

    Returns
    -------
    float
    """
    xs, ys = ([math.log(value) for value in some] for some in (sizes, values))
    x_mean, y_mean = sum(xs) / len(xs), sum(ys) / len(ys)
    products = sum((x - x_mean) * (y - y_mean) for x, y in zip(xs, ys))
    return products / sum((x - x_mean) ** 2 for x in xs)


def _series(batch):
    """What is measured: for each curve (network, batch, size)."""
    return {
        "depth": [(f"cifar_dmrnet{depth}", batch, depth) for depth in (8, 14, 26, 50, 98)],
        "width": [(_BASE + _ending("w", width, 1), batch, width) for width in (1, 2, 4)],
        "batch": [(_BASE, images, images) for images in (16, 32, 64, 128, 256)],
        "branches": [(_BASE + _ending("k", count, 2), batch, count) for count in (2, 3, 4, 6, 8)],
    }


def _ending(letter, number, usual):
    return "" if number == usual else f"_{letter}{number}"


class _Steps:
    """A process as :func:`.timing.measure` times it: a run is a step, of any batch."""

    def __init__(self, process, batch):
        self._process, self._batch = process, batch

    def seconds(self, _, seconds):
        return self._process.seconds(self._batch, seconds)


def measure_growth(options):
    """Measure every curve; the processes of one take turns.

    Parameters
    ----------
    options : BenchOptions
        Its ``batch``, at least ``LEAST_GROWTH_BATCH``, ``rounds`` and ``seconds`` are used. On the
        CPU: how much memory each of several processes has on a GPU is not known.

    Returns
    -------
    list of Curve
    """
    with contextlib.closing(start("train", _SMALLEST, 1)) as process:
        process.wait()
        smallest = _peak_bytes(process, 1)
    curves = tqdm(
        _series(options.batch or 64).items(), "growth", unit=" curves", disable=None, leave=False
    )
    return [_curve(against, steps, smallest, options) for against, steps in curves]


def _peak_bytes(process, batch):
    process.seconds(batch, 0)  # a second step: it has all memory that a run takes
    return process.ask({"do": "memory"})["peak_bytes"]


def _curve(against, steps, smallest, options):
    with contextlib.ExitStack() as stack:
        processes = {}
        for name, batch, size in steps:
            processes[size] = start("train", name, batch)
            stack.callback(processes[size].close)
            processes[size].wait()
        running = {size: _Steps(processes[size], batch) for _, batch, size in steps}
        speeds = measure(running, (1,), options.rounds, options.seconds)
        points = [
            Point(
                name,
                batch,
                size,
                1 / speeds[size].images_per_second[1],
                _peak_bytes(processes[size], batch) - smallest,
            )
            for name, batch, size in steps
        ]
    return Curve(against, points)


def growth_table(curves):
    """Every point, and under each curve its exponents."""
    rows = []
    for curve in curves:
        for point in curve.points:
            rows.append(
                (
                    curve.against,
                    point.size,
                    point.network,
                    point.batch,
                    f"{1000 * point.seconds:,.1f}",
                    f"{point.bytes / 1e6:,.0f}",
                )
            )
        time, memory = curve.exponents
        rows.append((curve.against, "exponent", "", "", f"{time:.2f}", f"{memory:.2f}"))
    return text_table(("against", "", "network", "batch", "ms a step", "MB"), rows, (1, 3, 4, 5))


def draw_growth(curves):
    """Both against each size, on logarithmic axes.

    Parameters
    ----------
    curves : list of Curve

    Returns
    -------
    Figure
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator

    figure = Figure(figsize=(9, 3.8), dpi=120, constrained_layout=True)
    left, right = figure.subplots(1, 2)
    for curve, colour in zip(curves, COLOURS):
        first = curve.points[0]
        times = [point.size / first.size for point in curve.points]
        for axes, values, power in (
            (left, [1000 * point.seconds for point in curve.points], curve.exponents[0]),
            (right, [point.bytes / 1e6 for point in curve.points], curve.exponents[1]),
        ):
            label = f"{curve.against} from {first.size}: exponent {power:.2f}"
            axes.plot(times, values, "o-", color=colour, markersize=4, label=label)
    ticks = [1, 2, 4, 8, 16]
    for axes, title in ((left, "time of a training step, ms"), (right, "memory of it, MB")):
        axes.set(title=title, xscale="log", yscale="log", xlabel="times the smallest")
        axes.set_xticks(ticks, [str(tick) for tick in ticks])
        axes.minorticks_off()
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter("{x:,.0f}")
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, fontsize="small")
    return figure
