"""Errors and losses over the epochs, as in Figures 7 and 8. Needs no MXNet."""

import statistics

from ...runs.learning_curve import letters, whole_epochs
from ...runs.reader import FINISHED
from ..groups import published_name
from .names import group_labels, kind_of, layers_of, training_title
from .style import PAGE, new_figure, plain_ticks, styles, usual_order

#: (measure, name, axis), from left to right. Figure 7 leaves out the high errors of the first
#: epochs, so that the last ones can be told apart: ``cut``.
_FIGURE7 = (("train_loss", "training loss", "log"), ("test_error", "test error, %", "cut"))
_FIGURE8 = (
    ("train_error", "top-1 training error, %", "linear"),
    ("test_error", "top-1 validation error, %", "linear"),
)
#: Lines that can still be told apart in one axes.
_LINES = 6
_HEIGHT = 2.3  # inches of a row
#: From this many epochs on, only some get a marker, losses are logarithmic, high errors cut.
_MANY = 40


def has_curves(groups):
    """Tell whether any run has an epoch."""
    return any(run.epochs for group in groups for run in group.runs)


def draw_curves(groups, colours):
    """Draw the curves of groups; of many groups, those with equally many layers share a row.

    Parameters
    ----------
    groups : list of RunGroup
        Of one data set, with one number of epochs.
    colours : dict of str to int
        By kind of network.

    Returns
    -------
    Figure
    """
    groups = [group for group in groups if has_curves([group])]
    groups.sort(key=lambda group: usual_order(kind_of(group.setup.spec)))
    rows = {"": groups}
    if len(groups) > _LINES:
        rows = {}
        for group in sorted(groups, key=lambda group: layers_of(group.setup.spec) or 0):
            layers = layers_of(group.setup.spec)
            rows.setdefault(f"L = {layers:g}" if layers else "", []).append(group)
    setup = groups[0].setup
    measures = _FIGURE8 if published_name(setup.dataset) == "imagenet" else _FIGURE7
    figure = new_figure(PAGE, 0.4 + _HEIGHT * len(rows))
    figure.suptitle(letters(training_title(setup)))
    grid = figure.subplots(len(rows), len(measures), squeeze=False, sharex=True)
    for (title, members), row in zip(rows.items(), grid):
        looks = styles([kind_of(group.setup.spec) for group in members], colours)
        for axes, (measure, name, kind) in zip(row, measures):
            for group, label, look in zip(members, group_labels(members), looks):
                _draw_group(axes, group, measure, look, letters(label))
            axes.set_ylabel(name)
            _limit(axes, kind, setup.epochs)
        row[0].set_title(title, loc="left")
        row[-1].legend(loc="upper right")  # where falling curves leave room
    for axes in grid[-1]:
        axes.set_xlabel("epoch")
    return figure


def _limit(axes, kind, epochs):
    axes.set_xlim(0 if epochs >= _MANY else 0.5, epochs + 0.5)
    whole_epochs(axes.xaxis, epochs)
    rows = [line.get_ydata() for line in axes.get_lines()]
    if kind == "log" and epochs >= _MANY:
        axes.set_yscale("log")
        plain_ticks(axes.yaxis)
    elif kind == "cut" and max(map(len, rows), default=0) >= _MANY:
        lowest = min(min(row) for row in rows)
        highest = max(2.5 * statistics.median(row) for row in rows)
        axes.set_ylim(max(0, lowest - 0.08 * (highest - lowest)), highest)


def _draw_group(axes, group, measure, look, label):
    """Draw the mean of the runs that count with their range, and unfinished runs as thin lines."""
    counted = [run.series(measure) for run in group.counted if run.series(measure)[0]]
    options = {"color": look.colour, "linestyle": look.line, "marker": look.marker}
    if counted:
        rows = {}
        for numbers, values in counted:
            for number, value in zip(numbers, values):
                rows.setdefault(number, []).append(value)
        numbers, rows = list(rows), list(rows.values())
        options["markevery"] = max(1, len(numbers) // 8 if len(numbers) >= _MANY else 1)
        axes.plot(numbers, list(map(statistics.fmean, rows)), label=label, **options)
        low, high = list(map(min, rows)), list(map(max, rows))
        axes.fill_between(numbers, low, high, color=look.colour, alpha=0.2, linewidth=0)
        label = None
    for run in group.runs:
        numbers, values = run.series(measure)
        if run.state != FINISHED and numbers:
            axes.plot(numbers, values, linewidth=0.6, label=label, **{**options, "marker": ""})
            # Where it is, or where it broke off.
            axes.plot(numbers[-1:], values[-1:], "x", color=look.colour, markersize=5)
            label = None
