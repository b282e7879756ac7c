"""Learning curves, and drawing with Matplotlib independently of the user's settings."""

import contextlib
import io
import os
import warnings
from typing import NamedTuple, Tuple, Union

from ..errors import DMRError, last_line
from ..system.files import write_result
from .reader import read_run

#: Okabe and Ito's palette for colour-blind readers.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
_MARKERS = ("o", "s", "^", "D", "v", "P")
#: Lengths of dashes and gaps, in line widths; the first line is solid.
_DASHES = (
    *((), (3.7, 1.6), (6.4, 1.6, 1, 1.6), (1, 1.65), (6, 1, 1, 1, 1, 1), (2, 1)),
    *((9, 2), (9, 2, 3, 2), (4, 4), (1, 4)),
)


class Style(NamedTuple):
    """The look of one series, in Matplotlib's terms."""

    colour: str
    line: Union[str, Tuple]
    marker: str


def style(number, turn=0):
    """Return the ``turn``-th style with colour ``number``.

    The first 60 styles of each colour all differ, the first ten in their dashes.
    """
    dashes = _DASHES[(number + turn) % len(_DASHES)]
    return Style(
        COLOURS[number % len(COLOURS)],
        (0, dashes) if dashes else "-",
        _MARKERS[(number + 2 * turn + 3 * (turn // len(_DASHES))) % len(_MARKERS)],
    )


def letters(text):
    """Escape a text for Matplotlib: no formulas, nothing invisible."""
    return "".join(c if c.isprintable() else "?" for c in text).replace("$", r"\$")


@contextlib.contextmanager
def own_settings(settings=None, what="the picture"):
    """Draw with Matplotlib's defaults and these settings, whatever the user's are.

    Make figures as ``matplotlib.figure.Figure``: pyplot would choose a backend.

    Parameters
    ----------
    settings : dict, optional
        Names and values of ``rcParams``.
    what : str
        Subject of the error message.

    Raises
    ------
    DMRError
        If drawing fails for any reason.
    """
    try:
        import matplotlib.style

        with warnings.catch_warnings():
            # Characters that the font lacks become boxes.
            warnings.filterwarnings("ignore", "Glyph .* missing")
            with matplotlib.style.context(["default", settings or {}]):
                yield
    except DMRError:
        raise
    except Exception as error:  # Matplotlib and its libraries raise every kind
        raise DMRError(
            f"{what} cannot be drawn ({type(error).__name__}: {last_line(error)})"
        ) from error


def write_picture(draw, path):
    """Draw a picture and write it.

    Parameters
    ----------
    draw : callable
        Returns a Figure.
    path : str
        Its extension is a format of Matplotlib's, such as ``.png``, ``.svg`` or ``.pdf``.

    Raises
    ------
    DMRError
        If it cannot be drawn or written.
    """
    content = io.BytesIO()
    with own_settings(what=path):
        draw().savefig(content, format=os.path.splitext(path)[1][1:].lower())
    write_result(path, content.getvalue())


def whole_epochs(axis, last):
    """Put the ticks of an axis at whole epochs."""
    axis.get_major_locator().set_params(integer=True, min_n_ticks=min(last, 2))


def draw_curve_of(run):
    """Draw ``curve.png`` of a finished run.

    Parameters
    ----------
    run : RunDirectory

    Returns
    -------
    str
        A line with its path, or with the reason why it could not be drawn: a training does not
        fail because of its picture.
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
    figure = Figure(figsize=(9, 3.6 + 0.18 * len(runs)), dpi=120, constrained_layout=True)
    left, right = figure.subplots(1, 2)
    for i, run in enumerate(runs):
        if not run.epochs:
            raise DMRError(f"{run.path} has no epoch yet; there is nothing to draw")
        turn, number = divmod(i, len(COLOURS))
        look = style(number, turn)
        options = {"color": look.colour, "linestyle": look.line, "marker": look.marker}
        options.update(markevery=max(1, len(run.epochs) // 10), markersize=3.5, linewidth=1.2)
        error = run.epochs[run.last].test_error
        error = "no test images" if error is None else f"{error:.2f}% after epoch {run.last}"
        setup = run.setup
        label = f"{run.name}: {setup.network}, {setup.dataset}, seed {setup.seed}, {error}"
        left.plot(*run.series("train_loss"), **options)
        right.plot(*run.series("test_error"), label=letters(label), **options)
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
