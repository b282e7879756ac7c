"""Draw the paper's three building blocks (Figure 1): python docs/draw_blocks.py OUT.png."""

import sys

from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyArrowPatch, FancyBboxPatch

from dmr_gluon.runs.learning_curve import write_picture

INK, SKIP, FILL = "#222222", "#0072B2", "#F2EFE6"


class Drawing:
    """One block; coordinates grow upwards, data flows downwards."""

    def __init__(self, axes, title, equation):
        self.axes = axes
        axes.set(xlim=(-2.5, 2.5), ylim=(-1.2, 9.8), aspect="equal")
        axes.axis("off")
        axes.set_title(title, fontsize=12, fontweight="bold", pad=2)
        axes.text(0, -1.0, equation, ha="center", va="top", fontsize=11.5)

    def layer(self, x, y, text="conv 3×3"):
        box = FancyBboxPatch(
            (x - 0.78, y - 0.3), 1.56, 0.6, boxstyle="round,pad=0.02,rounding_size=0.1",
            facecolor=FILL, edgecolor=INK, linewidth=1.1, zorder=3,
        )  # fmt: skip
        self.axes.add_patch(box)
        self.axes.text(x, y, text, ha="center", va="center", fontsize=9.5, zorder=4)

    def node(self, x, y, text, colour=INK):
        self.axes.add_patch(
            Circle((x, y), 0.27, facecolor="white", edgecolor=colour, linewidth=1.4, zorder=3)
        )
        self.axes.text(x, y, text, ha="center", va="center", fontsize=10, color=colour, zorder=4)

    def arrow(self, *points, colour=INK):
        """A line through points, with a head at the last."""
        for start, end in zip(points[:-2], points[1:-1]):
            self.axes.plot(*zip(start, end), color=colour, linewidth=1.4, zorder=1)
        arrow = FancyArrowPatch(
            points[-2], points[-1], arrowstyle="-|>", mutation_scale=11, color=colour,
            linewidth=1.4, shrinkA=0, shrinkB=0, zorder=2,
        )  # fmt: skip
        self.axes.add_patch(arrow)

    def label(self, x, y, text, **style):
        self.axes.text(x, y, text, ha="center", va="center", fontsize=11, **style)

    def branch(self, x, top, bottom, name, head=True):
        """H: two layers between two heights; ``head``: whether the line ends in an arrow."""
        upper, lower = top - (top - bottom) * 0.3, top - (top - bottom) * 0.72
        self.arrow((x, top), (x, upper + 0.32))
        self.layer(x, upper)
        self.arrow((x, upper - 0.32), (x, lower + 0.32))
        self.layer(x, lower)
        if head:
            self.arrow((x, lower - 0.32), (x, bottom))
        else:
            self.axes.plot([x, x], [lower - 0.32, bottom], color=INK, linewidth=1.4, zorder=1)
        self.label(x + (0.35 if x >= 0 else -0.35), (upper + lower) / 2, f"${name}$")


def residual(drawing):
    for top, name, branch in ((9.0, "x", "H_1"), (4.7, "", "H_2")):
        drawing.branch(0, top, top - 3.2, branch)
        drawing.node(0, top - 3.47, "+")
        around = [(0, top - 0.2), (1.5, top - 0.2), (1.5, top - 3.47), (0.29, top - 3.47)]
        drawing.arrow(*around, colour=SKIP)
        if name:
            drawing.label(0, top + 0.35, f"${name}$")
    drawing.axes.plot([0, 0], [5.26, 4.6], color=INK, linewidth=1.4, zorder=1)
    drawing.arrow((0, 0.96), (0, 0.2))
    drawing.label(0, -0.1, "$y$")


def inception_like(drawing):
    drawing.label(0, 9.35, "$x$")
    drawing.arrow((0, 9.05), (0, 3.05), colour=SKIP)
    for x, name in ((-1.4, "H_1"), (1.4, "H_2")):
        drawing.axes.plot([0, x], [8.5, 8.5], color=INK, linewidth=1.4, zorder=1)
        drawing.branch(x, 8.5, 2.78, name, head=False)
        drawing.arrow((x, 2.78), (0.29 * (1 if x > 0 else -1), 2.78))
    drawing.node(0, 2.78, "+")
    drawing.arrow((0, 2.5), (0, 1.2))
    drawing.label(0, 0.9, "$y$")


def merge_and_run(drawing):
    drawing.node(0, 7.6, "½", SKIP)
    for k, x in ((1, -1.4), (2, 1.4)):
        sign = 1 if x > 0 else -1
        drawing.label(x, 9.35, f"$x_{k}$")
        drawing.branch(x, 9.05, 3.05, f"H_{k}")
        drawing.arrow((x, 8.7), (0.0, 8.7), (0, 7.88), colour=SKIP)
        drawing.node(x, 2.78, "+")
        drawing.arrow((0, 7.32), (0, 2.78), (x - 0.29 * sign, 2.78), colour=SKIP)
        drawing.arrow((x, 2.5), (x, 1.2))
        drawing.label(x, 0.9, f"$y_{k}$")
    drawing.label(0.0, 9.0, "merge", color=SKIP, fontstyle="italic")
    drawing.label(0.0, 2.45, "run", color=SKIP, fontstyle="italic")


def draw_blocks():
    figure = Figure(figsize=(10, 6.4), dpi=110, constrained_layout=True)
    blocks = (
        ("Two residual blocks", "$y = H_2(z) + z$,  $z = H_1(x) + x$", residual),
        ("Inception-like block", "$y = H_1(x) + H_2(x) + x$", inception_like),
        ("Merge-and-run block", r"$y_k = H_k(x_k) + \frac{1}{2}(x_1 + x_2)$", merge_and_run),
    )
    for axes, (title, equation, draw) in zip(figure.subplots(1, 3), blocks):
        draw(Drawing(axes, title, equation))
    return figure


if __name__ == "__main__":
    write_picture(draw_blocks, sys.argv[1])
