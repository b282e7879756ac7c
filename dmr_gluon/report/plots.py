"""Pictures of runs."""

import os

from ..errors import DMRError
from ..results.run import one_line
from . import runlog

#: Okabe and Ito's palette, which colour-blind readers can tell apart.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")


def check_picture(path):
    """Refuse a name that does not say which kind of picture it is to be.

    Raises
    ------
    DMRError
    """
    if os.path.splitext(path)[1].lower() not in (".png", ".svg", ".pdf"):
        raise DMRError(f"{path} cannot be written: name a picture that ends in .png, .svg or .pdf")


def learning_curve(logs, out):
    """Training loss and test error over the epochs, as in Figure 7.

    Parameters
    ----------
    logs : list of str
        Paths of ``log.jsonl``, one run each.
    out : str
        ``.png``, ``.svg`` or ``.pdf``.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6), dpi=120, constrained_layout=True)
    left, right = figure.subplots(1, 2)
    for i, log in enumerate(logs):
        colour = COLOURS[i % len(COLOURS)]
        epochs = runlog.epochs(log)
        if not epochs:
            raise DMRError(f"{log} has no epoch yet; there is nothing to draw")
        numbers = [epoch["epoch"] for epoch in epochs]
        name = os.path.basename(os.path.dirname(os.path.abspath(log)))
        name = one_line(name, len(name))  # no font has bytes that are not UTF-8
        marker = "o" if len(epochs) < 40 else None
        style = {"color": colour, "marker": marker, "markersize": 3}
        left.plot(numbers, [epoch["train_loss"] for epoch in epochs], label=name, **style)
        right.plot(numbers, [epoch["test_error"] for epoch in epochs], label=name, **style)
        right.annotate(
            f"{epochs[-1]['test_error']:.2f}%",
            (numbers[-1], epochs[-1]["test_error"]),
            textcoords="offset points",
            xytext=(0, 8),
            ha="right",
            color=colour,
        )
    left.set(title="training loss", xlabel="epoch", ylabel="cross-entropy", yscale="log")
    right.set(title="test error", xlabel="epoch", ylabel="percent", ylim=(0, None))
    for axes in (left, right):
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
        axes.xaxis.get_major_locator().set_params(integer=True)
    left.legend(frameon=False, fontsize="small")
    figure.savefig(out)
