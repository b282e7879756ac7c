"""Drawing with Matplotlib, independent of the user's settings; and learning curves."""

import contextlib
import io
import os
import warnings
from dataclasses import dataclass
from typing import Optional, Tuple, Union

from ..errors import DMRError, last_line
from ..system.files import write_result
from .reader import read_run

#: Okabe and Ito's palette, which colour-blind readers can tell apart.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
_MARKERS = ("o", "s", "^", "D", "v", "P")
#: Lengths of dashes and gaps in widths of the line; the first line is solid.
_DASHES = (
    *((), (3.7, 1.6), (6.4, 1.6, 1, 1.6), (1, 1.65), (6, 1, 1, 1, 1, 1), (2, 1)),
    *((9, 2), (9, 2, 3, 2), (4, 4), (1, 4)),
)


@dataclass(frozen=True)
class Style:
    """The look of one series: colour, dashes (None: no line) and marker."""

    colour: str
    dashes: Optional[Tuple[float, ...]]
    marker: str

    @property
    def line(self) -> Union[str, Tuple]:
        """The dashes as Matplotlib takes them."""
        if self.dashes is None:
            return "none"
        return (0, self.dashes) if self.dashes else "-"


def style(number, turn=0):
    """Return the look of a series with colour ``number``, the ``turn``-th one of that colour.

    The first 60 of each colour all differ, the first ten in their dashes.
    """
    return Style(
        COLOURS[number % len(COLOURS)],
        _DASHES[(number + turn) % len(_DASHES)],
        _MARKERS[(number + 2 * turn + 3 * (turn // len(_DASHES))) % len(_MARKERS)],
    )


def letters(text):
    """Escape a text for Matplotlib: no formulas, nothing invisible."""
    return "".join(c if c.isprintable() else "?" for c in text).replace("$", r"\$")


@contextlib.contextmanager
def own_settings(settings=None, what="the picture"):
    """Draw with Matplotlib's defaults and these settings, whatever the user's are.

    Figures are made as ``matplotlib.figure.Figure``: pyplot would choose a backend.

    Parameters
    ----------
    settings : dict, optional
        Names and values of ``rcParams``.
    what : str
        For the message.

    Raises
    ------
    DMRError
        If anything goes wrong meanwhile.
    """
    if os.path.expanduser("~") == "~":  # no home, where Matplotlib would look for settings
        os.environ.setdefault("MPLCONFIGDIR", os.devnull)
    try:
        import matplotlib

        with warnings.catch_warnings():
            # A name in letters that the font lacks; they become boxes.
            warnings.filterwarnings("ignore", "Glyph .* missing")
            warnings.simplefilter("ignore", matplotlib.MatplotlibDeprecationWarning)
            own = {**matplotlib.rcParamsDefault, **(settings or {})}
            del own["backend"]
            with matplotlib.rc_context(own):
                yield
    except DMRError:
        raise
    except Exception as error:  # Matplotlib and its libraries raise every kind
        raise DMRError(
            f"{what} cannot be drawn ({type(error).__name__}: {last_line(error)})"
        ) from error


def check_picture(path):
    """Refuse a file name without a known extension.

    Raises
    ------
    DMRError
    """
    if os.path.splitext(path)[1].lower() not in (".png", ".svg", ".pdf"):
        raise DMRError(f"{path} cannot be written: name a picture that ends in .png, .svg or .pdf")


def write_picture(draw, path):
    """Draw a picture and write it.

    Parameters
    ----------
    draw : callable
        Returns a Figure.
    path : str
        ``.png``, ``.svg`` or ``.pdf``.

    Raises
    ------
    DMRError
        If it cannot be drawn or written.
    """
    check_picture(path)
    content = io.BytesIO()
    with own_settings(what=path):
        draw().savefig(content, format=os.path.splitext(path)[1][1:].lower())
    write_result(path, content.getvalue())


def whole_epochs(axis, last):
    """Put the ticks of an axis at whole epochs."""
    if last < 5:
        axis.set_ticks(range(1, last + 1))
    else:
        axis.get_major_locator().set_params(integer=True)


def draw_curve_of(run):
    """Draw ``curve.png`` of a finished run, and report it in a line.

    Parameters
    ----------
    run : RunDirectory

    Returns
    -------
    str
        Its path, or why there is none: a training does not fail because of its picture.
    """
    path = run.file("curve.png")
    try:
        write_picture(lambda: learning_curve([run.path]), path)
    except DMRError as error:
        return f"no learning curve: {error}"
    return f"learning curve: {path}"


def learning_curve(folders):
    """Draw training loss and test error over the epochs, as in Figure 7.

    Parameters
    ----------
    folders : list of str
        Runs.

    Returns
    -------
    Figure

    Raises
    ------
    DMRError
        If a run is damaged or has no epoch.
    """
    from matplotlib.figure import Figure

    runs = [read_run(folder) for folder in folders]
    title, names = told_apart(runs)
    figure = Figure(figsize=(9, 3.6 + 0.18 * len(runs)), dpi=120, constrained_layout=True)
    figure.suptitle(letters(title), fontsize="medium")
    left, right = figure.subplots(1, 2)
    for i, (run, name) in enumerate(zip(runs, names)):
        if not run.epochs:
            raise DMRError(f"{run.path} has no epoch yet; there is nothing to draw")
        error = f"{run.epochs[run.last].test_error:.2f}% after epoch {run.last}"
        turn, number = divmod(i, len(COLOURS))
        look = style(number, turn)
        options = {"color": look.colour, "linestyle": look.line, "marker": look.marker}
        options.update(markevery=max(1, len(run.epochs) // 10), markersize=3.5, linewidth=1.2)
        left.plot(*run.series("train_loss"), **options)
        label = letters(": ".join(filter(None, (name, error))))
        right.plot(*run.series("test_error"), label=label, **options)
    left.set(title="training loss", xlabel="epoch", ylabel="cross-entropy", yscale="log")
    right.set(title="test error", xlabel="epoch", ylabel="percent", ylim=(0, None))
    last = max(run.last for run in runs)
    for axes in (left, right):
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_xlim(0.5, last + 0.5)
        whole_epochs(axes.xaxis, last)
    figure.legend(loc="outside lower center", frameon=False, fontsize="small", handlelength=3.5)
    return figure


def told_apart(runs):
    """Return what some runs have in common, and what tells each of them from the others.

    Parameters
    ----------
    runs : list of Run

    Returns
    -------
    str, list of str
        Of network, data set and seed, those that all share; and for each run the others, with its
        folder if that is needed. Empty for a single run.
    """
    facts = [(r.setup.network, r.setup.dataset, f"seed {r.setup.seed}") for r in runs]
    shared = [len(set(values)) == 1 for values in zip(*facts)]
    common = ", ".join(text for text, same in zip(facts[0], shared) if same)
    names = [", ".join(t for t, same in zip(own, shared) if not same) for own in facts]
    if len(runs) > 1:
        names = [
            name if name and names.count(name) == 1 else ", ".join(filter(None, (name, run.path)))
            for name, run in zip(names, runs)
        ]
    return common, names
