"""Plot test errors against depth (Table 2) and path length (Figure 6)."""

import itertools

from ...analysis import paths
from ...models.spec import CustomSpec
from ...paper.numbers import FIGURE6, TABLE2_ERRORS, TABLE2_L
from ...runs.learning_curve import letters
from ...runs.reader import AUTHORS
from ..groups import BN_IMAGES
from ..statistics import PAPER_RUNS, Sample
from .names import kind_of, layers_of, name_title, training_title
from .style import COLUMN, GREY, TABLE2, looks_of, new_figure

#: Horizontal offset between series at one L; Table 2 has an L every 6.
_DODGE = 0.35


def series_of(groups, x_of):
    """Sort groups that have results into series.

    Parameters
    ----------
    groups : list of RunGroup
    x_of : callable
        From a NetworkSpec to x, or None for a network that is not in the figure.

    Returns
    -------
    dict of (str, str) to list of (float, Sample, list of float)
        By kind of network and label: x, errors in percent, and those of the single runs.
    """
    found = {}
    for group in groups:
        kind, x, sample = kind_of(group.setup.spec), x_of(group.setup.spec), group.sample()
        if x is None or sample is None:
            continue
        label = name_title(kind)
        if group.runs[0].format == AUTHORS:
            label += ", authors' code"
        if group.setup.bn_images not in (None, BN_IMAGES):
            label += f", BN over {group.setup.bn_images}"
        errors = [run.final("test_error") for run in group.counted]
        found.setdefault((kind, label), []).append((float(x), sample, errors))
    return {key: sorted(points, key=lambda point: point[0]) for key, points in found.items()}


def depth_series(groups):
    """Return the series of the figure over depth: single points only next to the paper's curves."""
    paper = [kind for kind, _ in _table2(groups)]
    series = series_of(groups, layers_of).items()
    return {key: points for key, points in series if len(points) > 1 or key[0] in paper}


def _table2(groups):
    """Return the paper's series if these groups are comparable with them."""
    dataset, found = groups[0].setup.dataset, {}
    if groups[0].deviations or (dataset, TABLE2[0]) not in TABLE2_ERRORS:
        return found
    for kind in TABLE2:
        printed = [Sample(PAPER_RUNS, *map(float, pair)) for pair in TABLE2_ERRORS[dataset, kind]]
        points = [(x, sample, []) for x, sample in zip(TABLE2_L, printed)]
        found[kind, f"{name_title(kind)} (paper)"] = points
    return found


def draw_depth(groups, colours):
    """Plot test error against L, next to the paper's curves if they are comparable.

    Parameters
    ----------
    groups : list of RunGroup
        Trained in one way.
    colours : dict of str to int
        By kind of network.

    Returns
    -------
    Figure
    """
    figure, axes = _axes(groups, "L (layers, as in Table 2)")
    shifts = itertools.count(step=_DODGE)
    _draw_series(axes, _table2(groups), colours, shifts, alpha=0.45, markerfacecolor="white")
    _draw_series(axes, depth_series(groups), colours, shifts)
    axes.xaxis.get_major_locator().set_params(integer=True)
    _legend(figure)
    return figure


def path_series(groups):
    """Return the series of the figure over path lengths; none if there is only one length."""
    series = series_of(groups, average_path)
    return series if len({x for points in series.values() for x, *_ in points}) > 1 else {}


def average_path(spec):
    """Return the average path length as Figure 6 counts it, with projections; None if unknown."""
    if isinstance(spec, CustomSpec):
        return None
    return paths.of_network(spec, count_projections=True).mean


def draw_paths(groups, colours):
    """Plot test error against average path length; parameters as for :func:`draw_depth`."""
    figure, axes = _axes(groups, "average path length")
    _draw_series(axes, path_series(groups), colours, itertools.repeat(0))
    if not groups[0].deviations and groups[0].setup.dataset == "cifar10":
        # The paper prints no errors, only where its curves are lowest.
        for blocks, length in FIGURE6:
            label = f"paper: least at {length} ({blocks} blocks)"
            axes.axvline(length, color=GREY, linewidth=0.8, linestyle=":", label=label)
    axes.set_xlim(0, None)
    _legend(figure)
    return figure


def _axes(groups, xlabel):
    figure = new_figure(COLUMN, 3.3)
    axes = figure.subplots()
    axes.set_title(letters(training_title(groups[0].setup)))
    axes.set(xlabel=xlabel, ylabel="test error, % (mean ± std)")
    return figure, axes


def _draw_series(axes, series, colours, shifts, **options):
    """Plot means with standard deviations, and the single runs as dots."""
    looks = looks_of([kind for kind, _ in series], colours)
    for key, look, shift in zip(series, looks, shifts):
        xs, samples, runs = zip(*series[key])
        xs = [x + shift for x in xs]
        for x, values in zip(xs, runs):
            axes.plot([x] * len(values), values, ".", color=look.colour, alpha=0.6, markersize=3)
        axes.errorbar(
            xs,
            [sample.mean for sample in samples],
            [sample.std or 0 for sample in samples],
            label=letters(key[1]),
            color=look.colour,
            linestyle=look.line,
            marker=look.marker,
            elinewidth=0.7,
            capsize=1.5,
            **options,
        )


def _legend(figure):
    """Put the legend below the axes, where it covers nothing."""
    figure.legend(loc="outside lower center", ncol=2, columnspacing=1.2)
