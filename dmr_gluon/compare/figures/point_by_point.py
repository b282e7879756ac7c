"""Runs beside one other run, point by point, as differences from their mean. Needs no MXNet."""

from ..points import TEST
from .names import kind_of_group
from .style import PAGE, letters, new_figure, styles

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
    panels = [
        (name, [point for point in item.points if point.measure == measure])
        for measure, name in _PANELS
    ]
    panels = [panel for panel in panels if panel[1]]
    figure = new_figure(PAGE, 0.6 + _HEIGHT * len(panels), constrained_layout=True)
    figure.suptitle(letters(item.title))
    grid = figure.subplots(len(panels), 1, squeeze=False, sharex=True)
    (ours,) = styles([kind_of_group(item.ours)], colours)
    for (axes,), (name, points) in zip(grid, panels):
        _draw_panel(axes, item, points, ours)
        axes.set_ylabel(f"{name},\nless our mean")
    last = grid[-1][0]
    last.set_xlabel("epoch")
    epochs = max(point.epoch for point in item.points)
    last.set_xlim(0, epochs + 0.1)
    if epochs <= 20:
        last.set_xticks(range(epochs + 1))
    legend = {}
    for (axes,) in grid:
        legend.update((label, line) for line, label in zip(*axes.get_legend_handles_labels()))
    figure.legend(legend.values(), legend, loc="outside lower center", ncol=min(len(legend), 5))
    return figure


def _draw_panel(axes, item, points, ours):
    inner = [point for point in points if point.step is not None]
    first = min(point.epoch for point in item.points)
    axes.axhline(0, color=ours.colour, linewidth=1)
    # Each epoch by itself: its means begin anew.
    for epoch in sorted({point.epoch for point in inner}):
        part = [point for point in inner if point.epoch == epoch]
        at = [_place(item, point) for point in part]
        if all(point.half is not None for point in part):
            half = [point.half for point in part]
            label = "95% of one more run of ours" if epoch == first else None
            low = [-value for value in half]
            axes.fill_between(at, low, half, color=ours.colour, alpha=0.2, linewidth=0, label=label)
        for number, run in enumerate(item.runs):
            own = [run.points[p.epoch, p.step][p.measure] - p.ours.mean for p in part]
            label = "our runs" if epoch == first and not number else None
            axes.plot(at, own, color=ours.colour, linewidth=0.5, label=label)
        axes.plot(at, [-point.difference for point in part], color=_THEIRS, linewidth=0.8)
    for point in points:
        if point.step is None and point.half is not None:
            axes.errorbar(point.epoch, 0, point.half, color=ours.colour, capsize=4, alpha=0.5)
        if point.step is None:
            own = [run.epochs[point.epoch][TEST] - point.ours.mean for run in item.runs]
            axes.plot([point.epoch] * len(own), own, "_", color=ours.colour, markersize=5)
    for outside, look in ((False, "o"), (True, "x")):
        found = [point for point in points if (point.within is False) == outside]
        if found:
            axes.plot(
                [_place(item, point) for point in found],
                [-point.difference for point in found],
                look,
                color=_THEIRS,
                markersize=5 if outside else 4,
                label=letters(f"{item.theirs.name}{', outside' if outside else ''}"),
            )


def _place(item, point):
    """In epochs since the beginning; a test is drawn at its epoch's end."""
    if point.step is None:
        return point.epoch
    setup = item.ours.setup
    steps = max(each.step for each in item.points if each.step is not None)
    if setup.recipe and setup.images.get("train"):
        steps = max(steps, setup.images["train"] / setup.recipe.batch_size)
    return point.epoch - 1 + point.step / steps
