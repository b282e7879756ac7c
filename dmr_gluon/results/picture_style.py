"""What all pictures of runs have in common: sizes, fonts, colours and lines. Needs no MXNet.

They are made for print: 3.4 inches wide (a column) or 7 (a page), no letter under 7 points, and
nothing is said by its colour alone.
"""

import contextlib
import textwrap
import warnings
from dataclasses import dataclass
from typing import Tuple, Union

from ..report.plots import COLOURS

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
_LINES = ("-", "--", "-.", ":", (0, (6, 1, 1, 1, 1, 1)), (0, (2, 1)))
_MARKERS = ("o", "s", "^", "D", "v", "P")
#: Kinds of networks that look the same in every picture.
_USUAL = ("dmrnet", "resnet", "dilnet", "resnet_blocks3", "resnet_blocks6", "plain")


@dataclass(frozen=True)
class Style:
    """How one series looks; as matplotlib takes it."""

    colour: str
    line: Union[str, Tuple]
    marker: str


@contextlib.contextmanager
def house_style():
    """Draw and write with these settings, whatever the user's own are."""
    import matplotlib.style

    with matplotlib.style.context(["default", _SETTINGS]), warnings.catch_warnings():
        # Of a data set's name in letters that the font lacks; they become boxes.
        warnings.filterwarnings("ignore", "Glyph .* missing")
        yield


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


def styles(kinds):
    """A style for each of some series, all different as long as there are 36 or fewer.

    Parameters
    ----------
    kinds : sequence of str
        The usual kinds of networks keep theirs; a kind may stand there twice.

    Returns
    -------
    list of Style
    """
    numbers = {}
    for place, kind in enumerate(kinds):
        number = usual_order(kind)
        if number < len(_USUAL) and number not in numbers.values():
            numbers[place] = number
    free = iter(sorted(set(range(len(_USUAL) + len(kinds))) - set(numbers.values())))
    for place in range(len(kinds)):
        if place not in numbers:
            numbers[place] = next(free)
    return [_style(numbers[place]) for place in range(len(kinds))]


def usual_order(kind):
    """Where a kind of network stands in legends: the usual ones first."""
    kind = kind.replace("cifar_", "")
    return _USUAL.index(kind) if kind in _USUAL else len(_USUAL)


def _style(number):
    turn = number // 6  # the same colours again, with other lines
    return Style(
        COLOURS[number % 6], _LINES[(number + turn) % 6], _MARKERS[(number + 2 * turn) % 6]
    )


def letters(text):
    """Any text as matplotlib is to draw it, letter by letter: no formulas, nothing invisible."""
    return "".join(c if c.isprintable() else "?" for c in text).replace("$", r"\$")


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
