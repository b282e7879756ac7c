"""Errors against numbers of parameters, beside those of Table 3."""

import math
from dataclasses import replace

from ...paper.numbers import TABLE3
from ...runs.learning_curve import COLOURS
from .names import network_title, training_title
from .points import ERROR, draw_series, looks_of, series_of
from .style import PAGE, SMALL, letters, new_figure, plain_ticks

#: The columns of Table 3.
_DATASETS = ("cifar10", "cifar100", "svhn")
_GREY = "#666666"
_HEIGHT = 4.6  # inches
#: Results of ours that still get a label each.
_MANY = 12
#: Of the axes in the figure: left, bottom, right. Labels need a place that stays.
_AREA = (0.075, 0.105, 0.98)
#: Of the title, and of a row of the legend, in parts of the figure's height.
_TITLE, _ROW, _COLUMNS = 0.05, 0.035, 4


def competitors(dataset):
    """Methods of Table 3 that have a number of parameters and an error on a data set.

    Parameters
    ----------
    dataset : str

    Returns
    -------
    list of (str, float, float, bool)
        Name with depth, parameters, test error in percent, and whether it is the paper's own.
    """
    column = _DATASETS.index(dataset)
    found = []
    for method, depth, size, *errors in TABLE3:
        if size is not None and errors[column] is not None:
            name, ours, _ = method.partition(" (ours)")
            name = name.split(" [")[0]  # without the number in the paper's references
            parameters = float(size.rstrip("M")) * 1e6
            found.append((f"{name}, {depth}", parameters, float(errors[column]), bool(ours)))
    return found


def parameter_groups(groups):
    """Those that can stand beside Table 3."""
    setup = groups[0].setup
    if groups[0].departures or setup.dataset not in _DATASETS:
        return []
    return [group for group in groups if group.setup.spec and group.sample()]


def parameters_of(spec):
    """A network's trained parameters, counted in its graph."""
    from ...models.complexity import complexity_of

    return complexity_of(spec).parameters


def draw_parameters(groups, colours):
    """Test error against parameters, of groups and of the methods in Table 3.

    Parameters
    ----------
    groups : list of Group
        Comparable with the paper, on one data set.
    colours : dict of str to int
        By kind of network.

    Returns
    -------
    Figure
    """
    from .labels import place_labels  # needs NumPy

    series = series_of(groups, parameters_of)
    figure = new_figure(PAGE, _HEIGHT)
    left, bottom, right = _AREA
    axes = figure.add_axes((left, bottom, right - left, 0.5))
    figure.suptitle(letters(training_title(groups[0].setup)))
    labels, obstacles, handles = [], [], {}
    for its_own, name, options in (
        (False, "Table 3 (name, depth)", {"color": _GREY, "marker": "x"}),
        # A ring about what may be the same result.
        (True, "the paper's own", {"color": COLOURS[0], "marker": "o", "ms": 7, "mfc": "none"}),
    ):
        points = [item for item in competitors(groups[0].setup.dataset) if item[3] == its_own]
        xs, ys = [item[1] for item in points], [item[2] for item in points]
        (handles[name],) = axes.plot(xs, ys, linestyle="none", zorder=4, **options)
        labels += [(x, y, text, options["color"]) for text, x, y, _ in points]
        obstacles += [(x, y, y) for x, y in zip(xs, ys)]
    many = sum(len(one.points) for one in series) > _MANY
    for one, look in zip(series, looks_of(series, colours)):
        handle = draw_series(axes, one, replace(look, dashes=None))
        if many:
            handles[f"{one.label} (ours)"] = handle
        for point in one.points:
            obstacles.append((point.x, *_span(point)))
            if not many:
                label = f"{network_title(point.group.setup)} (ours)"
                labels.append((point.x, point.group.sample().mean, label, "black"))
    axes.set_xscale("log")
    axes.margins(0.06)
    plain_ticks(axes.xaxis, 1e6, "M")
    axes.set_xlabel("parameters")
    axes.set_ylabel(ERROR)
    figure.legend(
        list(handles.values()),
        list(map(letters, handles)),
        loc="upper center",
        bbox_to_anchor=(0.5, 1 - _TITLE),
        ncol=_COLUMNS,
    )
    rows = math.ceil(len(handles) / _COLUMNS)
    top = 1 - _TITLE - _ROW * (rows + 1)
    axes.set_position((left, bottom, right - left, top - bottom))
    place_labels(axes, labels, obstacles, SMALL)
    return figure


def _span(point):
    """All that is drawn of a point: the runs, and a standard deviation about their mean."""
    sample = point.group.sample()
    spread = sample.std or 0
    ends = [*point.values, sample.mean - spread, sample.mean + spread]
    return min(ends), max(ends)
