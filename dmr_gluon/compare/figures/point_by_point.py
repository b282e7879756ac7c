"""Plot runs and one other run as differences from the runs' mean. Needs no MXNet."""

from ...runs.learning_curve import letters
from ..points import TITLES, value_at
from .names import kind_of
from .style import PAGE, looks_of, new_figure

_HEIGHT = 1.7  # inches per panel
_THEIRS = "#333333"  # not a colour of networks: both are of the same


def draw_point_by_point(item, colours):
    """Plot the points of both minus the mean of our runs, with one panel per measure.

    Parameters
    ----------
    item : PointByPoint
    colours : dict of str to int
        By kind of network.

    Returns
    -------
    Figure
    """
    measures = [name for name in TITLES if any(p.measure == name for p in item.points)]
    figure = new_figure(PAGE, 0.6 + _HEIGHT * len(measures))
    figure.suptitle(letters(item.title))
    grid = figure.subplots(len(measures), 1, squeeze=False, sharex=True)
    (look,) = looks_of([kind_of(item.ours.setup.spec)], colours)
    for (axes,), measure in zip(grid, measures):
        points = [point for point in item.points if point.measure == measure]
        _draw_points(axes, item, points, look.colour)
        axes.set_ylabel(f"{TITLES[measure]},\nminus our mean")
    axes.set_xlabel("epoch")
    axes.set_xlim(0, item.points[-1].epoch + 0.1)
    axes.xaxis.get_major_locator().set_params(integer=True)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncol=3)
    return figure


def _draw_points(axes, item, points, colour):
    at, half = [_place(item, point) for point in points], [point.half or 0 for point in points]
    options = {"fmt": "none", "color": colour, "alpha": 0.3, "elinewidth": 4}
    axes.errorbar(at, [0] * len(at), half, label="95% of one more run of ours", **options)
    axes.axhline(0, color=colour, linewidth=1)
    for run in item.runs:
        own = [value_at(run, p.epoch, p.step, p.measure) - p.ours.mean for p in points]
        label = "our runs" if run is item.runs[0] else None
        axes.plot(at, own, "_", color=colour, markersize=5, label=label)
    differences, label = [-point.difference for point in points], letters(item.theirs.name)
    axes.plot(at, differences, "o", color=_THEIRS, markersize=4, label=label)


def _place(item, point):
    """Return the epochs since the beginning; a test is at the end of its epoch."""
    if point.step is None:
        return point.epoch
    setup = item.ours.setup
    return point.epoch - 1 + point.step / (setup.images["train"] / setup.recipe.batch_size)
