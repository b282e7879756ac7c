"""Sizes, fonts, colours and lines of all figures. Needs no MXNet.

They are made for print: 3.4 inches wide (a column) or 7 (a page), no letter under 7 points. Series
differ in dashes and markers too, not only in colour.
"""

from ...runs.learning_curve import COLOURS, own_settings, style

#: Inches.
COLUMN, PAGE = 3.4, 7.0
#: Points.
SMALL = 7
GREY = "#555555"
_SETTINGS = {
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.titleweight": "bold",
    "axes.labelsize": 8,
    "figure.titlesize": 9,
    "figure.titleweight": "bold",
    "xtick.labelsize": SMALL,
    "ytick.labelsize": SMALL,
    "legend.fontsize": SMALL,
    "legend.frameon": False,
    "legend.handlelength": 2.8,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.5,
    "lines.linewidth": 1.1,
    "lines.markersize": 4,
    "svg.hashsalt": "dmr-gluon",  # the same names inside for the same figure
}
#: Kinds of networks that have the same colour in every comparison, each one of six.
_USUAL = ("dmrnet", "resnet", "dilnet", "resnet_blocks3", "resnet_blocks6", "plain")
#: Of these the first are drawn beside ours in the paper's curves, whether or not ours have them.
_PAPERS = 3


def house_style(what="the figure"):
    """Draw and write with these settings, whatever the user's own are; see own_settings."""
    return own_settings(_SETTINGS, what)


def new_figure(width, height):
    """Return a figure of this size in inches."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=300, constrained_layout=True)


def plain_ticks(axis, form="{x:g}"):
    """Label the powers of ten of a logarithmic axis as plain numbers."""
    from matplotlib.ticker import NullFormatter

    axis.set_major_formatter(form)
    axis.set_minor_formatter(NullFormatter())


def colours_of(kinds):
    """Number the colours of the kinds of networks in a comparison.

    A kind has one colour in all figures. Seven kinds or more share six colours.

    Parameters
    ----------
    kinds : iterable of str

    Returns
    -------
    dict of str to int
    """
    kinds = list(dict.fromkeys(kinds))
    found = {kind: usual_order(kind) for kind in kinds if usual_order(kind) < len(_USUAL)}
    others = [kind for kind in kinds if kind not in found]
    taken = {*found.values(), *range(_PAPERS)}
    free = [number for number in range(len(_USUAL) + len(others)) if number not in taken]
    return {**found, **dict(zip(others, free))}


def styles(kinds, colours):
    """Return a style for each series of a figure, with its kind's colour and a line of its own.

    Parameters
    ----------
    kinds : sequence of str
        A kind may occur several times.
    colours : dict of str to int
        From :func:`colours_of`; the usual kinds may be missing.

    Returns
    -------
    list of Style
    """
    found = []
    for kind in kinds:
        turn, number = divmod(colours.get(kind, usual_order(kind)), len(COLOURS))
        looks = [style(number, turn + more) for more in range(len(kinds))]
        found.append(next((look for look in looks if look not in found), looks[0]))
    return found


def usual_order(kind):
    """Return the place of a kind of network in legends: the usual ones first."""
    kind = kind.replace("cifar_", "")
    return _USUAL.index(kind) if kind in _USUAL else len(_USUAL)
