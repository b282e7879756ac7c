"""Sizes, fonts, colours and lines of all figures. Needs no MXNet.

They are made for print: 3.4 inches wide (a column) or 7 (a page), no letter smaller than 7 points.
Series differ in dashes and markers too, not only in colour.
"""

import collections

from ...runs.learning_curve import COLOURS, style
from .names import kind_of

#: Inches.
COLUMN, PAGE = 3.4, 7.0
GREY = "#555555"
#: Matplotlib's settings, in place of the user's.
SETTINGS = {
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.titleweight": "bold",
    "figure.titleweight": "bold",
    "legend.fontsize": 7,
    "legend.frameon": False,
    "legend.handlelength": 2.8,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.5,
    "lines.linewidth": 1.1,
    "lines.markersize": 4,
    "svg.hashsalt": "dmr-gluon",  # reproducible identifiers
}
#: The kinds of networks in Table 2, whose colours are the same in every comparison.
TABLE2 = ("dmrnet", "resnet", "dilnet")


def new_figure(width, height):
    """Return a figure of this size in inches."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=300, constrained_layout=True)


def colours_of(groups):
    """Number the kinds of networks in a comparison: their colours, and their order in legends.

    Parameters
    ----------
    groups : iterable of RunGroup

    Returns
    -------
    dict of str to int
    """
    kinds = dict.fromkeys([*TABLE2, *sorted(kind_of(group.setup.spec) for group in groups)])
    return {kind: number for number, kind in enumerate(kinds)}


def looks_of(kinds, colours):
    """Return a style for each series of a figure: its kind's colour, and its own dashes.

    Parameters
    ----------
    kinds : sequence of str
        With repetitions.
    colours : dict of str to int
        From :func:`colours_of`. Seven kinds or more share six colours.

    Returns
    -------
    list of Style
    """
    found, taken = [], collections.Counter()
    for kind in kinds:
        number = colours[kind] % len(COLOURS)
        found.append(style(number, taken[number]))
        taken[number] += 1
    return found
