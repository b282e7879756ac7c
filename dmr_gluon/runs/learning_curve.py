"""Drawing with Matplotlib, whatever the user's settings of it are; and learning curves."""

import contextlib
import io
import os
import sys
import warnings
from dataclasses import dataclass
from typing import Optional, Tuple, Union

from ..errors import DMRError, last_line
from ..system.files import write_result
from . import log as runlog

#: Okabe and Ito's palette, which colour-blind readers can tell apart.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
_MARKERS = ("o", "s", "^", "D", "v", "P")
#: Lengths of dashes and gaps in widths of the line; the first line is solid.
_DASHES = (
    *((), (3.7, 1.6), (6.4, 1.6, 1, 1.6), (1, 1.65), (6, 1, 1, 1, 1, 1), (2, 1)),
    *((9, 2), (9, 2, 3, 2), (4, 4), (1, 4)),
)
#: Letters of a run's name that a legend has room for.
_LONG = 60


@dataclass(frozen=True)
class Style:
    """How one series looks: colour, dashes (None: without a line) and marker."""

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
    """The look of a series with colour ``number``, the ``turn``-th one of that colour.

    The first 60 of each colour all differ, the first ten in their dashes.
    """
    return Style(
        COLOURS[number % len(COLOURS)],
        _DASHES[(number + turn) % len(_DASHES)],
        _MARKERS[(number + 2 * turn + 3 * (turn // len(_DASHES))) % len(_MARKERS)],
    )


def letters(text):
    """Any text as Matplotlib is to draw it, letter by letter: no formulas, nothing invisible."""
    return "".join(c if c.isprintable() else "?" for c in text).replace("$", r"\$")


def _import_matplotlib():
    """Import Matplotlib where the user's environment would keep it from being imported."""
    if "matplotlib" not in sys.modules:
        if os.path.expanduser("~") == "~":
            # Nobody's home, where it would look for settings: it makes a folder for the process.
            os.environ.setdefault("MPLCONFIGDIR", os.devnull)
        # A backend that this Matplotlib does not know is an error, and none is used here.
        backend = os.environ.pop("MPLBACKEND", None)
        try:
            import matplotlib
        finally:
            if backend is not None:
                os.environ["MPLBACKEND"] = backend
        if backend:
            with contextlib.suppress(ValueError):
                matplotlib.rcParams["backend"] = backend  # for what else this process draws
    return sys.modules["matplotlib"]


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
        For whatever goes wrong meanwhile.
    """
    try:
        matplotlib = _import_matplotlib()
        with warnings.catch_warnings():
            # Of a name in letters that the font lacks; they become boxes.
            warnings.filterwarnings("ignore", "Glyph .* missing")
            warnings.simplefilter("ignore", matplotlib.MatplotlibDeprecationWarning)
            own = {**matplotlib.rcParamsDefault, **(settings or {})}
            del own["backend"]
            with matplotlib.rc_context(own):
                yield
    except DMRError:
        raise
    except Exception as error:  # Matplotlib's and its libraries' are of every kind
        raise DMRError(
            f"{what} cannot be drawn ({type(error).__name__}: {last_line(error)})"
        ) from error


def check_picture(path):
    """Refuse a name that does not say which kind of picture it is to be.

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
        Gives a Figure.
    path : str
        ``.png``, ``.svg`` or ``.pdf``.

    Raises
    ------
    DMRError
        Where it cannot be drawn, or not be written there.
    """
    check_picture(path)
    content = io.BytesIO()
    with own_settings(what=path):
        draw().savefig(content, format=os.path.splitext(path)[1][1:].lower())
    write_result(path, content.getvalue())


def draw_curve_of(run):
    """Draw ``curve.png`` of a run that has finished, and say so in a line.

    Parameters
    ----------
    run : RunDirectory

    Returns
    -------
    str
        Where it is, or why there is none: no training fails because of its picture.
    """
    path = run.file("curve.png")
    try:
        write_picture(lambda: learning_curve([run.log]), path)
    except DMRError as error:
        return f"no learning curve: {error}"
    return f"learning curve: {path}"


def learning_curve(logs):
    """Training loss and test error over the epochs, as in Figure 7.

    Parameters
    ----------
    logs : list of str
        Paths of ``log.jsonl``, one run each.

    Returns
    -------
    Figure

    Raises
    ------
    DMRError
        For a log that is damaged or has no epoch.
    """
    from matplotlib.figure import Figure

    title, names = told_apart(logs)
    columns = max(1, min(len(logs), 150 // (max(map(len, names)) + 35)))
    height = 3.6 + 0.18 * -(-len(logs) // columns)
    figure = Figure(figsize=(9, height), dpi=120, constrained_layout=True)
    figure.suptitle(letters(title), fontsize="medium")
    left, right = figure.subplots(1, 2)
    labels = []
    for i, (log, name) in enumerate(zip(logs, names)):
        epochs = runlog.epochs(log)
        if not epochs:
            raise DMRError(f"{log} has no epoch yet; there is nothing to draw")
        numbers = [epoch["epoch"] for epoch in epochs]
        error = f"{epochs[-1]['test_error']:.2f}% after epoch {numbers[-1]}"
        labels.append(letters(": ".join(filter(None, (name, error)))))
        turn, number = divmod(i, len(COLOURS))
        look = style(number, turn)
        options = {"color": look.colour, "linestyle": look.line, "marker": look.marker}
        # One epoch is a marker alone; of many some have one, not the same in each run.
        every = max(1, len(epochs) // 10)
        options.update(markevery=(every * i // len(logs), every), markersize=3.5, linewidth=1.2)
        left.plot(numbers, [epoch["train_loss"] for epoch in epochs], **options)
        right.plot(numbers, [epoch["test_error"] for epoch in epochs], **options)
    left.set(title="training loss", xlabel="epoch", ylabel="cross-entropy", yscale="log")
    right.set(title="test error", xlabel="epoch", ylabel="percent", ylim=(0, None))
    for axes in (left, right):
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
        last = max(max(line.get_xdata()) for line in axes.get_lines())
        if last < 5:
            axes.set(xlim=(0.5, last + 0.5), xticks=range(1, last + 1))
        else:
            axes.xaxis.get_major_locator().set_params(integer=True)
    legend = figure.legend(
        right.get_lines(), range(len(labels)), loc="outside lower center", ncol=columns,
        frameon=False, fontsize="small", handlelength=3.5,
    )  # fmt: skip
    for text, label in zip(legend.get_texts(), labels):
        text.set_text(label)  # legend() leaves out what begins with an underscore
    return figure


def told_apart(logs):
    """What some runs have in common, and what tells each of them from the others.

    Parameters
    ----------
    logs : list of str
        Paths of ``log.jsonl``.

    Returns
    -------
    str, list of str
        Of network, data set and seed what all have; and for each run, what it has otherwise,
        with its folder where that is needed. Empty for a single run.
    """
    facts = [_facts(log) for log in logs]
    alike = [len(set(values)) == 1 for values in zip(*facts)]
    common = ", ".join(text for text, same in zip(facts[0], alike) if same and text)
    names = [", ".join(t for t, same in zip(own, alike) if t and not same) for own in facts]
    again = [not name or names.count(name) > 1 for name in names]
    if len(logs) > 1 and any(again):
        folders = [os.path.dirname(os.path.abspath(log)) for log in logs]
        shared = os.path.commonpath(folders)
        folders = [os.path.relpath(folder, shared) for folder in folders]
        names = [
            ", ".join(filter(None, (name, folder if more else "")))
            for name, folder, more in zip(names, folders, again)
        ]
    return common, [name if len(name) <= _LONG else "…" + name[1 - _LONG :] for name in names]


def _facts(log):
    """A run's network, data set and seed; empty what its log does not say."""
    start = next((event for event in runlog.read(log) if event["event"] == "start"), {})
    recipe, dataset = (
        value if isinstance(value, dict) else {} for value in map(start.get, ("recipe", "dataset"))
    )
    seed = f"seed {start['seed']}" if "seed" in start else ""
    return str(recipe.get("model", "")), str(dataset.get("name", "")), seed
