"""Errors against depth, path length (Figure 6) and parameters (Table 3)."""

from dataclasses import dataclass
from typing import Tuple

from ...analysis import paths
from ...paper.numbers import FIGURE6, TABLE2_ERRORS, TABLE2_L, TABLE3
from ...runs.learning_curve import letters
from ..groups import RunGroup
from .names import kind_of, kind_title, layers_of, series_label, training_title
from .style import COLUMN, GREY, PAGE, SMALL, new_figure, plain_ticks, styles, usual_order

ERROR = "test error, % (mean ± std)"
#: Table 2's families, as kinds of networks.
_TABLE2 = ("cifar_dmrnet", "cifar_resnet", "cifar_dilnet")
#: Figure 6's: only the length of the branches differs.
_FIGURE6 = ("cifar_plain", "cifar_resnet_blocks3", "cifar_resnet_blocks6")
#: The columns of Table 3.
_TABLE3 = ("cifar10", "cifar100", "svhn")
#: Horizontal distance of the series at one L, of which Table 2 has one every 6.
_DODGE = 0.35


@dataclass(frozen=True)
class Series:
    """Networks of one kind, trained in one way.

    Parameters
    ----------
    kind, label : str
    points : tuple of (float, RunGroup)
        By x.
    """

    kind: str
    label: str
    points: Tuple[Tuple[float, RunGroup], ...]

    @property
    def is_curve(self):
        return len({x for x, _ in self.points}) > 1


def series_of(groups, x_of):
    """Sort groups that have results into series.

    Parameters
    ----------
    groups : list of RunGroup
    x_of : callable
        From a NetworkSpec; None for a network that is not in the figure.

    Returns
    -------
    list of Series
    """
    found = {}
    for group in groups:
        x = x_of(group.setup.spec) if group.sample() else None
        if x is not None:
            key = kind_of(group.setup.spec), group.runs[0].format, group.setup.bn_images
            found.setdefault(key, []).append((float(x), group))
    kinds = [key[0] for key in found]
    series = [
        Series(
            kind,
            series_label(kind, points[0][1], alone=kinds.count(kind) == 1),
            tuple(sorted(points, key=lambda point: point[0])),
        )
        for (kind, *_), points in found.items()
    ]
    return sorted(series, key=lambda one: usual_order(one.kind))


def depth_series(groups):
    """Return the series of the figure of depths, without Figure 6's networks.

    Single points are shown only beside the paper's curves.
    """
    beside = _has_table2(groups)
    return [
        one
        for one in series_of(groups, layers_of)
        if one.kind not in _FIGURE6 and (one.is_curve or (beside and one.kind in _TABLE2))
    ]


def _has_table2(groups):
    """Tell whether these groups are comparable with the paper's curves."""
    dataset = groups[0].setup.dataset
    return not groups[0].deviations and any(key[0] == dataset for key in TABLE2_ERRORS)


def draw_depth(groups, colours):
    """Draw test error against L, beside the paper's if that can be compared.

    Parameters
    ----------
    groups : list of RunGroup
        That can be in one curve.
    colours : dict of str to int
        By kind of network.

    Returns
    -------
    Figure
    """
    figure, axes = _axes(groups, COLUMN)
    series, kinds = depth_series(groups), _TABLE2 if _has_table2(groups) else ()
    for place, (kind, look) in enumerate(zip(kinds, styles(kinds, colours))):
        printed = TABLE2_ERRORS[groups[0].setup.dataset, kind[len("cifar_") :]]
        means, deviations = zip(*((float(mean), float(std)) for mean, std in printed))
        xs = [x + _DODGE * place for x in TABLE2_L]
        _bars(axes, (xs, means, deviations), look, f"{kind_title(kind)} (paper)", paper=True)
    for place, (one, look) in enumerate(zip(series, _looks(series, colours)), start=len(kinds)):
        label = f"{one.label} (ours)" if kinds else one.label
        _draw_series(axes, one, look, label, shift=_DODGE * place)
    axes.set_xlabel("L (layers, as in Table 2)")
    axes.xaxis.get_major_locator().set_params(integer=True)
    _legend(figure)
    return figure


def path_series(groups):
    """Return the series of the figure of path lengths; none if there are two points at most."""
    series = series_of(groups, average_path)
    lengths = {x for one in series for x, _ in one.points}
    return series if len(lengths) > 2 or any(one.is_curve for one in series) else []


def average_path(spec):
    """Return the average path length as Figure 6 counts it, projections included."""
    return paths.of_network(spec, count_projections=True).mean


def draw_paths(groups, colours):
    """Draw test error against average path length; as :func:`draw_depth`."""
    figure, axes = _axes(groups, COLUMN)
    series = path_series(groups)
    for one, look in zip(series, _looks(series, colours)):
        # Only Figure 6's networks differ in nothing but the length; others are points.
        _draw_series(axes, one, look, one.label, line=one.kind in _FIGURE6)
    if not groups[0].deviations and groups[0].setup.dataset == "cifar10":
        # The paper says where its curves are lowest, and prints no numbers.
        for blocks, length in FIGURE6:
            label = f"paper: least at {length} ({blocks} blocks)"
            axes.axvline(length, color=GREY, linewidth=0.8, linestyle=":", label=label)
    axes.set_xlabel("average path length")
    axes.set_xlim(0, None)
    _legend(figure)
    return figure


def parameter_series(groups):
    """Return the series that can be compared with Table 3."""
    setup = groups[0].setup
    if groups[0].deviations or setup.dataset not in _TABLE3:
        return []
    return series_of(groups, _parameters_of)


def _parameters_of(spec):
    """Return a network's trained parameters in millions, counted in its graph."""
    from ...models.complexity import complexity_of

    return complexity_of(spec).parameters / 1e6


def competitors(dataset):
    """Return the methods of Table 3 that have a number of parameters and an error on a data set.

    Parameters
    ----------
    dataset : str

    Returns
    -------
    list of (str, float, float, bool)
        Name with depth, millions of parameters, test error in percent, and whether it is the
        paper's own.
    """
    column, found = _TABLE3.index(dataset), []
    for method, depth, size, *errors in TABLE3:
        if size is not None and errors[column] is not None:
            name, ours, _ = method.partition(" (ours)")
            name = f"{name.split(' [')[0]}, {depth}"  # without the number of the reference
            found.append((name, float(size.rstrip("M")), float(errors[column]), bool(ours)))
    return found


def draw_parameters(groups, colours):
    """Draw test error against parameters, beside Table 3; as :func:`draw_depth`."""
    figure, axes = _axes(groups, PAGE)
    axes.set_xscale("log")
    names = ["Table 3 (name, depth)"]
    for number, (name, x, y, own) in enumerate(competitors(groups[0].setup.dataset), start=1):
        colour = "black" if own else GREY
        axes.plot(x, y, "o" if own else "x", color=colour, fillstyle="none")
        offset = {"xytext": (4, -3), "textcoords": "offset points"}
        axes.annotate(number, (x, y), **offset, fontsize=SMALL, color=colour)
        names.append(f"{number}  {name}{' (the paper)' if own else ''}")
    place = {"transform": axes.transAxes, "verticalalignment": "top"}
    axes.text(1.02, 1, "\n".join(names), fontsize=SMALL, color=GREY, **place)
    series = parameter_series(groups)
    for one, look in zip(series, _looks(series, colours)):
        _draw_series(axes, one, look, f"{one.label} (ours)", line=False)
    plain_ticks(axes.xaxis, "{x:g}M")
    axes.set_xlabel("parameters")
    _legend(figure)
    return figure


def _axes(groups, width):
    figure = new_figure(width, 3.3)
    axes = figure.subplots()
    axes.set_title(letters(training_title(groups[0].setup)))
    axes.set_ylabel(ERROR)
    return figure, axes


def _looks(series, colours):
    return styles([one.kind for one in series], colours)


def _draw_series(axes, series, look, label, shift=0.0, line=True):
    """Draw means, standard deviations and the runs themselves."""
    xs, samples = [x + shift for x, _ in series.points], []
    for x, (_, group) in zip(xs, series.points):
        samples.append(group.sample())
        values = [run.final("test_error") for run in group.counted]
        axes.plot([x] * len(values), values, ".", color=look.colour, alpha=0.6, markersize=3)
    means, deviations = zip(*((sample.mean, sample.std or 0) for sample in samples))
    _bars(axes, (xs, means, deviations), look, label, line=line)


def _bars(axes, values, look, label, paper=False, line=True):
    """Draw means with standard deviations; the paper's lighter, with hollow markers."""
    axes.errorbar(
        *values,
        label=letters(label),
        color=look.colour,
        linestyle=look.line if line else "none",
        marker=look.marker,
        alpha=0.45 if paper else 1,
        markerfacecolor="white" if paper else look.colour,
        elinewidth=0.7,
        capsize=1.5,
        zorder=2 if paper else 3,
    )


def _legend(figure):
    """Put the legend below the axes, where it covers nothing."""
    columns = 2 if figure.get_figwidth() == COLUMN else 4
    figure.legend(loc="outside lower center", ncol=columns, columnspacing=1.2)
