"""Errors and losses over the epochs, as in Figures 7 and 8. Needs no MXNet."""

import math
import statistics
import textwrap

from ...runs.training_run import FINISHED, by_epoch
from ..groups import published_name
from .names import group_labels, kind_of_group, layers_of, training_title
from .style import PAGE, label_lines, letters, new_figure, plain_ticks, styles, usual_order

#: (measure, name, axes), from left to right. Of many epochs the first have errors so high that
#: the last ones could not be told apart: ``cut`` leaves them out, as Figure 7 does.
_FIGURE7 = (
    ("train_loss", "training loss", "logarithmic"),
    ("test_error", "test error, %", "cut"),
)
_FIGURE8 = (
    ("train_error", "top-1 training error, %", "whole"),
    ("test_error", "top-1 validation error, %", "whole"),
)
#: Lines that can still be told apart in one axes, and axes that fit on a page below each other.
_LINES, _ROWS = 6, 4
_HEIGHT = 1.95  # inches of a row
#: Inches of a line of a legend below, and letters for which there is room within axes.
_LINE, _WIDE = 0.15, 36
#: From this many epochs on not every one gets a marker.
_MANY = 40


def measures_of(dataset):
    """What is drawn of a data set's runs."""
    return _FIGURE8 if published_name(dataset) == "imagenet" else _FIGURE7


def pages_of(groups):
    """Groups as pages of rows; of many groups, those with equally many parameters share a row.

    Parameters
    ----------
    groups : list of Group
        Of one data set, with one number of epochs.

    Returns
    -------
    list of list of (str, list of Group)
        Each row with its title; none where there is nothing to draw.
    """
    drawn = [group for group in groups if any(_drawn(run, group) for run in group.runs)]
    drawn.sort(key=lambda group: usual_order(kind_of_group(group)))
    if len(drawn) <= _LINES:
        return [[("", drawn)]] if drawn else []
    rows = {}
    for group in drawn:
        rows.setdefault(_size(group), []).append(group)
    parts = [
        (title, row[i : i + _LINES])
        for (_, _, title), row in sorted(rows.items(), key=lambda item: item[0])
        for i in range(0, len(row), _LINES)
    ]
    return [parts[i : i + _ROWS] for i in range(0, len(parts), _ROWS)]


def _size(group):
    spec = group.setup.spec
    layers = layers_of(spec)
    if layers is None:
        return 0, 0, ""
    width = spec.stem_channels // 16
    return width, layers, f"L = {layers:g}" + (f", {width}× wide" if width > 1 else "")


def _drawn(run, group):
    """Whether a run is a line: a finished one that repeats another is not."""
    measures = [name for name, _, _ in measures_of(group.setup.dataset)]
    has = any(name in row for row in run.epochs.values() for name in measures)
    return has and (run.state != FINISHED or run in group.counted)


def draw_curves(rows, colours):
    """Draw one page.

    Parameters
    ----------
    rows : list of (str, list of Group)
    colours : dict of str to int
        By kind of network.

    Returns
    -------
    Figure
    """
    setup = rows[0][1][0].setup
    figure = new_figure(PAGE, 0.35 + _HEIGHT * len(rows), constrained_layout=True)
    figure.suptitle(letters(training_title(setup)))
    runs = [run for _, groups in rows for group in groups for run in group.runs]
    columns = [
        item for item in measures_of(setup.dataset) if any(r.series(item[0])[0] for r in runs)
    ]
    grid = figure.subplots(len(rows), len(columns), squeeze=False, sharex=True)
    for place, ((title, groups), row) in enumerate(zip(rows, grid)):
        _draw_row(row, groups, columns, colours, len(rows) == 1)
        row[0].set_title(title, loc="left")
        if place == len(rows) - 1:
            for axes in row:
                axes.set_xlabel("epoch")
    figure.align_ylabels()
    return figure


def _draw_row(row, groups, columns, colours, alone):
    labels = group_labels(groups)
    looks = styles([kind_of_group(group) for group in groups], colours)
    for axes, (measure, name, kind) in zip(row, columns):
        lines = {}
        for number, (group, label, style) in enumerate(zip(groups, labels, looks)):
            line = _draw_group(axes, group, measure, style, number / len(groups))
            if line:
                lines[label] = line
        epochs = groups[0].setup.epochs
        if epochs < 5:
            axes.set_xlim(0.5, epochs + 0.5)
            axes.set_xticks(range(1, epochs + 1))
        else:
            axes.set_xlim(0, 1.01 * epochs)
            axes.xaxis.get_major_locator().set_params(integer=True)
        axes.set_ylabel(name)
        values = [
            value
            for group in groups
            for run in group.runs
            if _drawn(run, group)
            for value in run.series(measure)[1]
        ]
        if kind == "logarithmic" and any(values):
            _limit_logarithmic(axes, values)
        elif lines:
            _limit(axes, lines.values(), values, kind == "cut")
    # The last axes' lines, which the first one's look like.
    if alone and label_lines(axes, list(lines.values()), list(lines), 0.75 * 72 * _HEIGHT):
        return
    longest = max(map(len, lines), default=0)
    if alone and longest > _WIDE:
        columns = 1 if longest > 1.3 * _WIDE else 2
        figure = row[0].figure
        figure.set_figheight(figure.get_figheight() + _LINE * -(-len(lines) // columns))
        names, place = list(map(letters, lines)), "outside lower center"
        figure.legend(list(lines.values()), names, loc=place, ncol=columns)
        return
    names = ["\n".join(map(letters, textwrap.wrap(name, _WIDE))) for name in lines]
    row[0].legend(list(lines.values()), names, loc="best")


def _limit_logarithmic(axes, values):
    # Of a loss of 0 there is no logarithm; beyond these powers a training has broken down.
    values = [min(max(value, 1e-30), 1e30) for value in values if value > 0]
    low, high = min(values), max(values)
    room = max(1.3, math.sqrt(10 * low / high))  # a power of ten in all, so that there are ticks
    axes.set_ylim(low / room, high * room)  # first: the scale would look for limits of its own
    axes.set_yscale("log")
    plain_ticks(axes.yaxis)


def _limit(axes, lines, values, cut):
    rows = [list(line.get_ydata()) for line in lines]
    low, high = min(values), max(values)  # the bands' too
    if cut and max(map(len, rows)) >= _MANY:
        high = min(high, max(2.5 * statistics.median(row) for row in rows))
    room = 0.08 * (high - low) or 1
    axes.set_ylim(max(0, low - room), high + room)
    axes.yaxis.get_major_locator().set_params(nbins=7, steps=[1, 2, 5, 10])


def _draw_group(axes, group, measure, style, offset):
    """The mean of the runs that count, with all between the best and the worst; others thin.

    Returns the line that stands for the group, or None.
    """
    first = None
    counted = [run for run in group.counted if run.series(measure)[0]]
    others = [run for run in group.runs if run.state != FINISHED and run.series(measure)[0]]
    if counted:
        found = by_epoch(counted, measure)
        numbers, values = list(found), list(found.values())
        first = _line(axes, numbers, list(map(statistics.fmean, values)), style, offset)
        if len(counted) > 1:
            low, high = (list(map(pick, values)) for pick in (min, max))
            axes.fill_between(numbers, low, high, color=style.colour, alpha=0.2, linewidth=0)
    for run in others:
        numbers, values = run.series(measure)
        line = _line(axes, numbers, values, style, offset, linewidth=0.6)
        # Where it stands, or where it broke off.
        axes.plot(numbers[-1:], values[-1:], "x", color=style.colour, markersize=5)
        first = first or line
    return first


def _line(axes, numbers, values, style, offset, **options):
    every = None
    if len(numbers) >= _MANY:
        step = len(numbers) // 8
        every = (int(offset * step), step)
    (line,) = axes.plot(
        numbers,
        values,
        color=style.colour,
        linestyle=style.line,
        marker=style.marker,
        markevery=every,
        markersize=3.5,
        markeredgecolor="white",
        markeredgewidth=0.3,
        **{"linewidth": 1.1 if len(numbers) < _MANY else 0.8, **options},
    )
    return line
