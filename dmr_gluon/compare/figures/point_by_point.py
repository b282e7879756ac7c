"""Runs beside one other run, point by point, as differences from their mean. Needs no MXNet."""

from ...runs.learning_curve import letters
from ..points import TEST
from .names import kind_of
from .style import PAGE, new_figure, styles

#: (measure, name), from top to bottom.
_PANELS = (
    ("train_loss", "training loss"),
    ("train_error", "training error, %"),
    (TEST, "test error, %"),
)
_HEIGHT = 1.7  # inches of a panel
_THEIRS = "#333333"  # no network's colour: both are of the same


def draw_point_by_point(item, colours):
    """Draw the points of both, less the mean of our runs.

    Parameters
    ----------
    item : PointByPoint
    colours : dict of str to int
        By kind of network.

    Returns
    -------
    Figure
    """
    panels = [(name, [p for p in item.points if p.measure == key]) for key, name in _PANELS]
    panels = [panel for panel in panels if panel[1]]
    figure = new_figure(PAGE, 0.6 + _HEIGHT * len(panels))
    figure.suptitle(letters(item.title))
    grid = figure.subplots(len(panels), 1, squeeze=False, sharex=True)
    (look,) = styles([kind_of(item.ours.setup.spec)], colours)
    legend = {}
    for (axes,), (name, points) in zip(grid, panels):
        axes.axhline(0, color=look.colour, linewidth=1)
        _draw_ours(axes, item, points, look.colour)
        _draw_theirs(axes, item, points)
        axes.set_ylabel(f"{name},\nless our mean")
        lines, labels = axes.get_legend_handles_labels()
        legend.update(zip(labels, lines))
    axes.set_xlabel("epoch")
    axes.set_xlim(0, max(point.epoch for point in item.points) + 0.1)
    axes.xaxis.get_major_locator().set_params(integer=True)
    figure.legend(legend.values(), legend, loc="outside lower center", ncol=len(legend))
    return figure


def _by_epoch(points):
    """Yield the points within each epoch: their means start again there."""
    inner = [point for point in points if point.step is not None]
    for epoch in sorted({point.epoch for point in inner}):
        yield [point for point in inner if point.epoch == epoch]


def _draw_ours(axes, item, points, colour):
    for part in _by_epoch(points):
        at = [_place(item, point) for point in part]
        if all(point.half is not None for point in part):
            half = [point.half for point in part]
            label = "95% of one more run of ours"
            low = [-value for value in half]
            axes.fill_between(at, low, half, color=colour, alpha=0.2, linewidth=0, label=label)
        for run in item.runs:
            own = [run.points[p.epoch, p.step][p.measure] - p.ours.mean for p in part]
            axes.plot(at, own, color=colour, linewidth=0.5, label="our runs")
    for point in points:
        if point.step is None:
            if point.half is not None:
                axes.errorbar(point.epoch, 0, point.half, color=colour, capsize=4, alpha=0.5)
            own = [run.epochs[point.epoch].test_error - point.ours.mean for run in item.runs]
            axes.plot([point.epoch] * len(own), own, "_", color=colour, markersize=5)


def _draw_theirs(axes, item, points):
    for part in _by_epoch(points):
        at = [_place(item, point) for point in part]
        axes.plot(at, [-point.difference for point in part], color=_THEIRS, linewidth=0.8)
    for marker, outside in (("o", False), ("x", True)):
        found = [point for point in points if (point.within is False) == outside]
        if found:
            at = [_place(item, point) for point in found]
            label = letters(f"{item.theirs.name}{', outside' if outside else ''}")
            differences = [-point.difference for point in found]
            axes.plot(at, differences, marker, color=_THEIRS, markersize=4.5, label=label)


def _place(item, point):
    """Return the epochs since the beginning; a test is at the end of its epoch."""
    if point.step is None:
        return point.epoch
    setup = item.ours.setup
    steps = max(each.step for each in item.points if each.step is not None)
    steps = max(steps, setup.images["train"] / setup.recipe.batch_size)
    return point.epoch - 1 + point.step / steps
