"""What all pictures of runs have in common: sizes, fonts, colours and lines. Needs no MXNet.

They are made for print: 3.4 inches wide (a column) or 7 (a page), no letter under 7 points, and
nothing is said by its colour alone.
"""

import textwrap

from ...runs.learning_curve import COLOURS, letters, own_settings, style

#: Inches.
COLUMN, PAGE = 3.4, 7.0
#: Points.
SMALL = 7
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
    "legend.borderaxespad": 0.2,
    "axes.linewidth": 0.6,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.5,
    "lines.linewidth": 1.1,
    "lines.markersize": 4,
    "figure.constrained_layout.wspace": 0.04,
    "pdf.fonttype": 42,  # publishers refuse matplotlib's usual Type 3
    "svg.hashsalt": "dmr-gluon",  # the same names inside for the same picture
}
#: Letters of a label for which there is room beside an axes.
_LONG = 16
#: Kinds of networks that have the same colour in every comparison, each one of six.
_USUAL = ("dmrnet", "resnet", "dilnet", "resnet_blocks3", "resnet_blocks6", "plain")
#: So many of them stand beside ours in the paper's curves, whether ours have them or not.
_PAPERS = 3


def house_style(what="the picture"):
    """Draw and write with these settings, whatever the user's own are; see own_settings."""
    return own_settings(_SETTINGS, what)


def new_figure(width, height, **options):
    """A figure, in inches."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=300, **options)


def settle(figure):
    """Lay a figure out for good, so that it is the same in every form that it is written in."""
    figure.draw_without_rendering()
    if hasattr(figure, "set_layout_engine"):  # matplotlib 3.6
        figure.set_layout_engine("none")
    else:
        figure.set_constrained_layout(False)


def colours_of(kinds):
    """A number for the colour of each kind of network in a comparison.

    One kind has it in all pictures and on the page. Seven kinds or more share six colours.

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
    """A style for each series in one picture, with its kind's colour and lines of its own.

    Parameters
    ----------
    kinds : sequence of str
        A kind may stand there several times.
    colours : dict of str to int
        Of :func:`colours_of`; the usual kinds may be left out.

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
    """Where a kind of network stands in legends: the usual ones first."""
    kind = kind.replace("cifar_", "")
    return _USUAL.index(kind) if kind in _USUAL else len(_USUAL)


def caption(figure, text, width):
    """A few lines under everything.

    Parameters
    ----------
    figure : Figure
    text : str
    width : float
        Of the figure, in inches.
    """
    in_a_line = int(width * 72 / (0.57 * SMALL))  # what a letter of this font takes
    lines = textwrap.wrap(text, in_a_line)
    figure.supxlabel("\n".join(map(letters, lines)), fontsize=SMALL)


def label_lines(axes, lines, labels, room):
    """Names at the ends of lines where they fit, otherwise in a legend.

    Parameters
    ----------
    axes : Axes
        With its limits as they will be.
    lines : list of Line2D
    labels : list of str
    room : float
        Height of the axes, in points.

    Returns
    -------
    bool
        Whether they fit.
    """
    ends = [(line.get_xdata()[-1], line.get_ydata()[-1]) for line in lines]
    heights = sorted(_height(axes, y) * room for _, y in ends)
    apart = min((b - a for a, b in zip(heights, heights[1:])), default=room)
    last = max(max(line.get_xdata()) for line in axes.get_lines())
    if apart < 1.25 * SMALL or any(x < last for x, _ in ends) or max(map(len, labels)) > _LONG:
        return False
    for line, label, end in zip(lines, labels, ends):
        axes.annotate(
            letters(label), end, (5, 0), textcoords="offset points", va="center",
            fontsize=SMALL, color=line.get_color(), annotation_clip=False,
        )  # fmt: skip
    return True


def plain_ticks(axis, unit=1, name=""):
    """Numbers as ``0.02`` on a logarithmic axis, and not only the powers of ten.

    Parameters
    ----------
    axis : Axis
    unit, name : float and str
        What is counted in: a million and ``M`` write 2,000,000 as ``2M``.
    """
    from matplotlib.ticker import LogLocator, NullFormatter

    low, high = axis.get_view_interval()
    parts = (1, 2, 5) if high < 1000 * low else (1,)
    axis.set_major_locator(LogLocator(subs=parts))
    axis.set_major_formatter(lambda value, _: f"{value / unit:g}{name}")
    axis.set_minor_formatter(NullFormatter())


def _height(axes, y):
    """Where a value is between the lower end of an axes, 0, and the upper one, 1."""
    pixels = axes.transData.transform((axes.get_xlim()[1], y))
    return axes.transAxes.inverted().transform(pixels)[1]
