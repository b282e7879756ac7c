"""How the time and the memory of a training step grow: with depth, width, batch and branches."""

import contextlib
import math
from dataclasses import asdict, dataclass

from ..report.plots import COLOURS
from ..report.tables import text_table
from ..turns import measure
from .speeds import start

_BASE = "cifar_dmrnet14"


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
        Most memory of the process beyond what it had before the network was made.
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


def series(batch):
    """What is measured: for each curve (network, batch, size).

    Parameters
    ----------
    batch : int
        Images of a step where the batch does not grow.

    Returns
    -------
    dict of str to list of (str, int, int)
    """
    return {
        "depth": [(f"cifar_dmrnet{depth}", batch, depth) for depth in (8, 14, 26, 50, 98)],
        "width": [(_BASE + _ending("w", width, 1), batch, width) for width in (1, 2, 4)],
        "batch": [(_BASE, images, images) for images in (8, 16, 32, 64, 128)],
        "branches": [(_BASE + _ending("k", count, 2), batch, count) for count in (2, 3, 4, 6, 8)],
    }


def _ending(letter, number, usual):
    return "" if number == usual else f"_{letter}{number}"


class _Steps:
    """A process as :func:`dmr_gluon.turns.measure` times it: a run is a step, of any batch."""

    def __init__(self, process, batch):
        self._process, self._batch = process, batch

    def seconds(self, _, seconds):
        return self._process.seconds(self._batch, seconds)


def measure_curve(against, steps, options):
    """Measure a curve; its processes take turns.

    Parameters
    ----------
    against : str
    steps : list of (str, int, int)
        Of :func:`series`.
    options : BenchOptions

    Returns
    -------
    Curve
    """
    with contextlib.ExitStack() as stack:
        processes = {}
        for name, batch, size in steps:
            processes[size] = start("train", name, batch, options.gpu)
            stack.callback(processes[size].close)
            processes[size].wait()
        running = {size: _Steps(processes[size], batch) for _, batch, size in steps}
        speeds = measure(running, (1,), options.rounds, options.seconds)
        memory = {size: process.ask({"do": "memory"}) for size, process in processes.items()}
    return Curve(
        against,
        [
            Point(
                name,
                batch,
                size,
                1 / speeds[size].images_per_second[1],
                memory[size]["peak_bytes"] - memory[size]["start_bytes"],
            )
            for name, batch, size in steps
        ],
    )


def growth_table(curves, make=text_table):
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
    return make(("against", "", "network", "batch", "ms a step", "MB"), rows, (1, 3, 4, 5))


def draw_growth(curves, out):
    """Both against each size, on logarithmic axes.

    Parameters
    ----------
    curves : list of Curve
    out : str
        ``.png``, ``.svg`` or ``.pdf``.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.8), constrained_layout=True)
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
    for axes, title in ((left, "time of a training step, ms"), (right, "memory above start, MB")):
        axes.set(title=title, xscale="log", yscale="log", xlabel="times the smallest")
        axes.set_xticks(ticks, [str(tick) for tick in ticks])
        axes.minorticks_off()
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, fontsize="small")
    figure.savefig(out, dpi=120)
