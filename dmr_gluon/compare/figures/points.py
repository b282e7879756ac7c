"""Errors against a network's depth and path length (Figure 6). Needs no MXNet."""

from dataclasses import dataclass, replace
from typing import Tuple

from ...analysis import paths
from ...paper.numbers import FIGURE6, TABLE2_ERRORS, TABLE2_L
from ..groups import Group
from .names import cut, kind_of, kind_title, layers_of, series_labels, training_title
from .style import COLUMN, SMALL, caption, letters, new_figure, styles, usual_order

ERROR = "test error, % (mean ± std)"
#: Table 2's families, as kinds of networks.
_TABLE2 = ("cifar_dmrnet", "cifar_resnet", "cifar_dilnet")
#: Figure 6's: in each only the length of the branches changes.
_FIGURE6 = ("cifar_plain", "cifar_resnet_blocks3", "cifar_resnet_blocks6")
_GREY = "#555555"
_HEIGHT = 3.0  # inches


@dataclass(frozen=True)
class Point:
    """The results of a group.

    Parameters
    ----------
    x : float
    group : Group
    """

    x: float
    group: Group

    @property
    def values(self):
        """Test errors of its runs, in percent."""
        found = (run.final("test_error") for run in self.group.counted)
        return [value for value in found if value is not None]


@dataclass(frozen=True)
class Series:
    """Networks of one kind, trained in one way.

    Parameters
    ----------
    kind : str
    label : str
    points : tuple of Point
        By x.
    """

    kind: str
    label: str
    points: Tuple[Point, ...]

    @property
    def is_curve(self):
        return len({point.x for point in self.points}) > 1


def series_of(groups, x_of):
    """Groups that have results, as series.

    Parameters
    ----------
    groups : list of Group
    x_of : callable
        From a NetworkSpec; None where a network has no place in the picture.

    Returns
    -------
    list of Series
    """
    found = {}
    for group in groups:
        spec = group.setup.spec
        x = None if spec is None or group.sample() is None else x_of(spec)
        if x is not None:
            key = kind_of(spec), group.runs[0].format, group.setup.bn_images
            found.setdefault(key, []).append(Point(float(x), group))
    found = dict(sorted(found.items(), key=lambda item: usual_order(item[0][0])))
    labels = series_labels(
        [key[0] for key in found], [points[0].group for points in found.values()]
    )
    return [
        Series(kind, label, tuple(sorted(points, key=lambda point: point.x)))
        for ((kind, *_), points), label in zip(found.items(), labels)
    ]


def depth_series(groups):
    """What the picture of depths has: beside the paper's curves also what is none itself.

    Not Figure 6's networks, which differ in their paths.
    """
    series = series_of(groups, layers_of)
    beside = has_table2(groups)
    return [
        one
        for one in series
        if one.kind not in _FIGURE6 and (one.is_curve or (beside and one.kind in _TABLE2))
    ]


def has_table2(groups):
    """Whether the paper's curves can stand in one axes with these groups."""
    setup = groups[0].setup
    return not groups[0].departures and any(key[0] == setup.dataset for key in TABLE2_ERRORS)


def draw_depth(groups, colours):
    """Test error against L, beside the paper's where that can be compared.

    Parameters
    ----------
    groups : list of Group
        That can stand in one curve.
    colours : dict of str to int
        By kind of network.

    Returns
    -------
    Figure
    """
    series = depth_series(groups)
    figure, axes = _axes(groups)
    handles = {}
    beside = has_table2(groups)
    places = len(series) + (len(_TABLE2) if beside else 0)
    if beside:
        for place, (kind, look) in enumerate(zip(_TABLE2, styles(_TABLE2, colours))):
            printed = TABLE2_ERRORS[groups[0].setup.dataset, kind[len("cifar_") :]]
            means, deviations = zip(*((float(mean), float(std)) for mean, std in printed))
            handles[f"{kind_title(kind)} (paper)"] = _bars(
                axes, (TABLE2_L, means, deviations), look, _dodge(place, places), paper=True
            )
    for place, (one, look) in enumerate(zip(series, looks_of(series, colours))):
        shift = _dodge(places - len(series) + place, places)
        handles[f"{one.label} (ours)" if beside else one.label] = draw_series(
            axes, one, look, shift
        )
    ticks = sorted({point.x for one in series for point in one.points})
    axes.set_xticks(TABLE2_L if beside else ticks if len(ticks) <= 10 else axes.get_xticks())
    axes.set_xlabel("L (layers, as in Table 2)")
    _legend(axes, handles)
    return figure


def path_series(groups):
    """What the picture of path lengths has; nothing where that is no more than two points."""
    series = series_of(groups, average_path)
    lengths = {point.x for one in series for point in one.points}
    return series if len(lengths) > 2 or any(one.is_curve for one in series) else []


def average_path(spec):
    """As the paper's Figure 6 counts it, projections included."""
    return paths.of_network(spec, count_projections=True).mean


def draw_paths(groups, colours):
    """Test error against the average length of a network's paths.

    Parameters
    ----------
    groups : list of Group
        That can stand in one curve.
    colours : dict of str to int
        By kind of network.

    Returns
    -------
    Figure
    """
    series = path_series(groups)
    figure, axes = _axes(groups)
    handles = {}
    for one, look in zip(series, looks_of(series, colours)):
        # Figure 6 has curves of networks of which only the length changes; others are points.
        dashes = look.dashes if one.kind in _FIGURE6 else None
        handles[one.label] = draw_series(axes, one, replace(look, dashes=dashes))
    axes.set_xlabel("average path length")
    axes.set_xlim(0, None)
    axes.xaxis.get_major_locator().set_params(integer=True, nbins=7, steps=[1, 2, 5, 10])
    if not groups[0].departures and groups[0].setup.dataset == "cifar10":
        most = max(length for _, length in FIGURE6)
        axes.set_xlim(0, max(axes.get_xlim()[1], 1.05 * most))
        _hint(axes)
    _legend(axes, handles)
    return figure


def _hint(axes):
    """Where the paper says that Figure 6's curves are lowest; it prints no numbers."""
    for row, (blocks, length) in enumerate(reversed(FIGURE6)):
        axes.axvline(length, color=_GREY, linewidth=0.8, linestyle=(0, (1, 1.5)), zorder=1)
        left = length < 0.44 * axes.get_xlim()[1]
        axes.annotate(
            f"paper: least at {length} ({blocks} blocks)",
            (length, 1),
            (-2 if left else 2, 2 + 9 * row),
            xycoords=("data", "axes fraction"),
            textcoords="offset points",
            ha="left" if left else "right",
            fontsize=SMALL,
            color=_GREY,
        )
    axes.set_title(axes.get_title(), pad=22)


def _axes(groups):
    figure = new_figure(COLUMN, _HEIGHT, constrained_layout=True)
    axes = figure.subplots()
    axes.set_title(letters(training_title(groups[0].setup)))
    axes.set_ylabel(ERROR)
    if groups[0].departures:
        reasons = "; ".join(cut(text, 80) for text in groups[0].departures)
        caption(figure, f"Not comparable with the paper: {reasons}.", COLUMN)
    return figure, axes


def looks_of(series, colours):
    """A style for each series."""
    return styles([one.kind for one in series], colours)


def _dodge(place, places):
    """Points by which one of several at one L is moved, less than to the next L."""
    return min(2.5, 12 / places) * (place - (places - 1) / 2)


def draw_series(axes, series, look, shift=0):
    """Draw means, standard deviations and the runs themselves.

    Parameters
    ----------
    axes : Axes
    series : Series
    look : Style
    shift : float
        Points by which all of it is moved to the right.

    Returns
    -------
    ErrorbarContainer
        For a legend.
    """
    samples = [point.group.sample() for point in series.points]
    numbers = [point.x for point in series.points]
    for point in series.points:
        axes.plot(
            [point.x] * len(point.values),
            point.values,
            ".",
            color=look.colour,
            alpha=0.6,
            markersize=3,
            markeredgewidth=0,
            transform=_moved(axes, shift),
        )
    deviations = [sample.std or 0 for sample in samples]
    means = [sample.mean for sample in samples]
    return _bars(axes, (numbers, means, deviations), look, shift)


def _bars(axes, values, look, shift, paper=False):
    """Means with standard deviations; the paper's lighter, with hollow markers."""
    numbers, means, deviations = values
    return axes.errorbar(
        numbers,
        means,
        deviations,
        color=look.colour,
        linestyle=look.line,
        marker=look.marker,
        alpha=0.45 if paper else 1,
        markerfacecolor="white" if paper else look.colour,
        linewidth=0.8 if paper else 1.3,
        markersize=3.5 if paper else 4,
        elinewidth=0.7,
        markeredgecolor=look.colour if paper else "white",
        markeredgewidth=0.8 if paper else 0.3,
        capsize=1.5,
        capthick=0.7,
        transform=_moved(axes, shift),
        zorder=2 if paper else 3,
    )


def _moved(axes, points):
    from matplotlib.transforms import ScaledTranslation

    return axes.transData + ScaledTranslation(points / 72, 0, axes.figure.dpi_scale_trans)


def _legend(axes, handles):
    """Below the axes and its name, where nothing can be behind it."""
    from matplotlib.transforms import ScaledTranslation

    below = ScaledTranslation(0, -29 / 72, axes.figure.dpi_scale_trans)
    axes.legend(
        list(handles.values()),
        list(map(letters, handles)),
        loc="upper center",
        bbox_to_anchor=(0.45, 0),
        bbox_transform=axes.transAxes + below,
        ncol=2,
        columnspacing=1.2,
    )
