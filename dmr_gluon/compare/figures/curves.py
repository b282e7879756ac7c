"""Plot errors and losses over the epochs, as in Figures 7 and 8. Needs no MXNet."""

import statistics

from ...runs.learning_curve import letters, whole_epochs
from ...runs.reader import FINISHED
from ..groups import published_name
from .names import group_labels, kind_of, layers_of, training_title
from .style import PAGE, looks_of, new_figure

#: Measures and axis labels, from left to right.
_FIGURE7 = (("train_loss", "training loss"), ("test_error", "test error, %"))
_FIGURE8 = (("train_error", "top-1 training error, %"), ("test_error", "top-1 validation error, %"))
_HEIGHT = 2.3  # inches per row
#: From this many epochs on, losses are logarithmic, and the first errors are cut off: otherwise the
#: last ones are hard to tell apart.
_MANY = 40


def has_curves(groups):
    """Tell whether any run has an epoch."""
    return any(run.epochs for group in groups for run in group.runs)


def draw_curves(groups, colours):
    """Plot the curves of groups, with one row of axes per number of layers.

    Parameters
    ----------
    groups : list of RunGroup
        On one data set, with one number of epochs.
    colours : dict of str to int
        By kind of network.

    Returns
    -------
    Figure
    """
    rows = {}
    for group in sorted(groups, key=lambda group: colours[kind_of(group.setup.spec)]):
        if has_curves([group]):
            rows.setdefault(layers_of(group.setup.spec) or 0, []).append(group)
    setup = groups[0].setup
    measures = _FIGURE8 if published_name(setup.dataset) == "imagenet" else _FIGURE7
    figure = new_figure(PAGE, 0.4 + _HEIGHT * len(rows))
    figure.suptitle(letters(training_title(setup)))
    grid = figure.subplots(len(rows), len(measures), squeeze=False, sharex=True)
    for (layers, members), row in zip(sorted(rows.items()), grid):
        looks = looks_of([kind_of(group.setup.spec) for group in members], colours)
        for axes, (measure, label) in zip(row, measures):
            for group, name, look in zip(members, group_labels(members), looks):
                _draw_group(axes, group, measure, look, letters(name))
            axes.set_ylabel(label)
            _limit(axes, measure, setup.epochs)
        if layers:
            row[0].set_title(f"L = {layers:g}", loc="left")
        axes = row[-1] if row[-1].get_lines() else row[0]  # without test images
        axes.legend(loc="upper right")  # where falling curves leave room
    for axes in grid[-1]:
        axes.set_xlabel("epoch")
    return figure


def _limit(axes, measure, epochs):
    from matplotlib.ticker import NullFormatter

    axes.set_xlim(0.5, epochs + 0.5)
    whole_epochs(axes.xaxis, epochs)
    if epochs < _MANY:
        return
    if measure == "train_loss":
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter(NullFormatter())
    else:
        medians = [statistics.median(line.get_ydata()) for line in axes.get_lines()]
        if medians:
            axes.set_ylim(0, 2.5 * max(medians))


def _draw_group(axes, group, measure, look, label):
    """Plot the mean and range of the runs that count, and unfinished runs as thin lines."""
    options = {"color": look.colour, "linestyle": look.line}
    values = {}
    for run in group.counted:
        for epoch, value in zip(*run.series(measure)):
            values.setdefault(epoch, []).append(value)
    if values:
        means, every = list(map(statistics.fmean, values.values())), max(1, len(values) // 8)
        axes.plot(list(values), means, label=label, marker=look.marker, markevery=every, **options)
        low, high = list(map(min, values.values())), list(map(max, values.values()))
        axes.fill_between(list(values), low, high, color=look.colour, alpha=0.2, linewidth=0)
        label = None
    for run in group.runs:
        epochs, values = run.series(measure)
        if run.state != FINISHED and epochs:
            axes.plot(epochs, values, linewidth=0.6, label=label, **options)
            axes.plot(epochs[-1:], values[-1:], "x", color=look.colour, markersize=5)
            label = None
