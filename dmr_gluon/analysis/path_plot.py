"""Redraw Figure 3, the distributions of path lengths. Needs no MXNet."""

from ..models.spec import INCEPTION_LIKE, MERGE_AND_RUN, RESIDUAL
from ..runs.learning_curve import COLOURS
from . import paths

#: The three networks that the paper compares, and their numbers of blocks per L.
NETWORKS = (("ResNet", RESIDUAL, 2), ("DILNet", INCEPTION_LIKE, 1), ("DMRNet", MERGE_AND_RUN, 1))


def distributions(length):
    """Return (name, distribution) of the three networks for one L of Table 1, with B = K = 2."""
    return [(name, paths.of_paper(block, factor * length)) for name, block, factor in NETWORKS]


def draw(lengths):
    """Draw the distributions for one or more L side by side.

    Parameters
    ----------
    lengths : sequence of int
        L, the number of the DMRNet's blocks.

    Returns
    -------
    Figure
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.8 * len(lengths), 3.6), dpi=110, constrained_layout=True)
    for axes, length in zip(figure.subplots(1, len(lengths), squeeze=False)[0], lengths):
        for colour, (name, distribution) in zip(COLOURS, distributions(length)):
            sizes = sorted(distribution.counts)
            shares = [100 * distribution.share(size) for size in sizes]
            label = f"{name}: {float(distribution.mean):.1f} ± {distribution.std:.1f}"
            axes.plot(sizes, shares, "o-", color=colour, markersize=3.5, label=label)
            axes.axvline(float(distribution.mean), color=colour, linewidth=0.8, linestyle=":")
        axes.set(title=f"L = {length}", xlabel="layers on a path", ylabel="percent of all paths")
        axes.set_ylim(0, None)
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, fontsize="small")
    return figure
