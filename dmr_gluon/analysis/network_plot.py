"""A network as a picture: its blocks, branches and skip connections, not its operators.

What stands in the boxes is measured in the built graph (:mod:`dmr_gluon.models.complexity`).
"""

import itertools
import re

from ..errors import DMRError
from ..models.spec import INCEPTION_LIKE, MERGE_AND_RUN, PLAIN

INK, SKIP, FILL, FAINT = "#222222", "#0072B2", "#F2EFE6", "#777777"
#: Distances in the picture's units: between branches, of a box, of a text line.
_SPACING, _BOX, _LINE = 3.5, 2.1, 0.46


def draw(spec, complexity):
    """Draw a network, a column for each stage.

    Equal blocks in a row are drawn once, with their number.

    Parameters
    ----------
    spec : NetworkSpec
        In the form of branches.
    complexity : Complexity
        Of its symbol, at the size of its images.

    Returns
    -------
    Figure

    Raises
    ------
    DMRError
        For a network in the grouped form.
    """
    from matplotlib.figure import Figure

    if spec.form == "grouped":
        raise DMRError(
            f"{spec.name} has all branches in one convolution; draw the same network without "
            f"_grouped"
        )
    columns = []
    layers = {layer.name: layer for layer in complexity.layers}
    for stage in range(1, len(spec.blocks) + 1):
        columns.append(_Column(spec, stage, layers))
    width = sum(column.width for column in columns)
    height = max(column.height for column in columns)
    figure = Figure(figsize=(0.5 * width, 0.5 * (height + 1.6)), dpi=110)
    axes = figure.add_axes([0, 0, 1, 1])
    axes.set(xlim=(0, width), ylim=(-height, 1.6), aspect="equal")
    axes.axis("off")
    title = (
        f"{spec.name}: depth {complexity.depth}, {complexity.parameters / 1e6:.3f} M parameters, "
        f"{complexity.multiply_adds / 1e6:,.0f} M multiply-adds"
    )
    axes.text(width / 2, 1.05, title, ha="center", va="center", fontsize=13, weight="bold")
    left = 0.0
    for column in columns:
        column.draw(_Pen(axes, left + column.width / 2))
        left += column.width
    axes.text(width / 2, -height + 0.25, _legend(spec), ha="center", fontsize=9, color=FAINT)
    return figure


def _legend(spec):
    text = "BN follows every convolution"
    text += (
        ", and ReLU those within a box." if spec.stem_norm else " but the first; ReLU is in boxes."
    )
    if spec.block == MERGE_AND_RUN and spec.mapping == "mean":
        text += " m: the mean of the streams."
    return text


class _Pen:
    """Draws in one column; x counts from its middle, y downwards from 0 is negative."""

    def __init__(self, axes, middle):
        self.axes, self.middle = axes, middle

    def at(self, x):
        return self.middle + x

    def wire(self, *points, colour=INK, head=True):
        """A line through points; ``head``: with an arrow at its end."""
        points = [(self.at(x), y) for x, y in points]
        self.axes.plot(*zip(*points), color=colour, linewidth=1.3, zorder=1)
        if head:
            self.axes.annotate(
                "", points[-1], points[-2], zorder=2,
                arrowprops={"arrowstyle": "-|>", "color": colour, "shrinkA": 0, "shrinkB": 0},
            )  # fmt: skip

    def box(self, x, y, lines, colour=INK, width=_BOX):
        """Text lines in a box whose upper edge is at y; returns its lower edge."""
        from matplotlib.patches import FancyBboxPatch

        height = _LINE * len(lines) + 0.16
        self.axes.add_patch(
            FancyBboxPatch(
                (self.at(x) - width / 2, y - height), width, height,
                boxstyle="round,pad=0,rounding_size=0.12",
                facecolor=FILL, edgecolor=colour, linewidth=1.1, zorder=3,
            )
        )  # fmt: skip
        for i, text in enumerate(lines):
            size = 10 if width >= _BOX else 8 if len(text) < 12 else 7.4
            self.axes.text(
                self.at(x), y - 0.08 - _LINE * (i + 0.5), text,
                ha="center", va="center", fontsize=size, color=colour, zorder=4,
            )  # fmt: skip
        return y - height

    def node(self, x, y, text, colour=INK):
        from matplotlib.patches import Circle

        self.axes.add_patch(
            Circle((self.at(x), y), 0.24, facecolor="white", edgecolor=colour, linewidth=1.3,
                   zorder=3)
        )  # fmt: skip
        self.axes.text(
            self.at(x), y, text, ha="center", va="center", fontsize=10, color=colour, zorder=4
        )

    def text(self, x, y, text, **style):
        style = {"ha": "center", "va": "center", "fontsize": 10, **style}
        self.axes.text(self.at(x), y, text, **style)


class _Column:
    """One stage, with the stem above the first and the classifier below the last."""

    def __init__(self, spec, stage, layers):
        self.spec, self.stage, self.layers = spec, stage, layers
        self.first = stage == 1
        self.final = stage == len(spec.blocks)
        parallel = spec.block in (INCEPTION_LIKE, MERGE_AND_RUN)
        count = spec.branches if parallel else 1
        self.xs = [(k - (count - 1) / 2) * _SPACING for k in range(count)]
        self.width = count * _SPACING + (1.6 if count > 1 else 3.6)
        self.cells = self._cells()
        ends = 2.6 * self.first + 2.6 * self.final
        self.height = 1.4 + ends + sum(cell.height for cell in self.cells)

    def _cells(self):
        """Blocks, equal ones in a row as one cell."""
        cells = []
        for block in range(1, self.spec.blocks[self.stage - 1] + 1):
            last = self.final and block == self.spec.blocks[-1]
            cell = _Cell(self.spec, self.stage, block, last, self.layers, self.xs)
            if cells and cells[-1].same(cell):
                cells[-1].count += 1
            else:
                cells.append(cell)
        return cells

    def _heads(self):
        """Where streams enter the blocks of the first stage, or leave the last."""
        return self.xs if self.spec.block == MERGE_AND_RUN else [0.0]

    def _label(self, pen, y, xs):
        """Names of the streams, where one column stops and the next goes on."""
        for k, x in enumerate(xs, start=1):
            pen.text(x, y, f"$x_{k}$" if len(xs) > 1 else "$x$", fontsize=12)

    def draw(self, pen):
        """Draw the column."""
        y = 0.0
        if self.first:
            y = self._draw_stem(pen)
        else:
            self._label(pen, 0.15, self._heads())
        size = self.layers[f"stage{self.stage}_block1_branch1_conv1"].output
        size = self.cells[-1].output or size
        channels, rows, columns = size
        count = self.spec.blocks[self.stage - 1]
        pen.text(
            -self.width / 2 + 0.3, y + (0.15 if self.first else 0.2),
            f"stage {self.stage}\n{count} block{'s' * (count > 1)}\n"
            f"{channels} channels\n{rows}×{columns} pixels",
            ha="left", va="top", color=FAINT, style="italic",
        )  # fmt: skip
        y -= 0.75
        for x in self._heads():
            pen.wire((x, y + (0.75 if self.first else 0.65)), (x, y), head=False)
        ends = self._heads()
        for cell in self.cells:
            y, ends = cell.draw(pen, y)
        if self.final:
            self._draw_classifier(pen, y, ends)
        else:
            for x in ends:
                pen.wire((x, y), (x, y - 0.3))
            self._label(pen, y - 0.55, ends)

    def _draw_stem(self, pen):
        stems = sorted(name for name in self.layers if re.fullmatch(r"stem\d*_conv", name))
        places = self.xs if len(stems) > 1 else [0.0]
        pen.text(0, 0.35, "image")
        y = 0.0
        for name, x in zip(stems, places):
            lines = [_convolution(self.layers[name])]
            lines += ["max pool /2"] * (self.spec.stem == "imagenet")
            pen.wire((0, 0.15), (x, 0.15), (x, -0.4))
            y = pen.box(x, -0.4, lines)
        below = y - 0.5
        for x in places:
            pen.wire((x, y), (x, below), head=False)
        heads = self._heads()
        if len(places) == 1 and len(heads) > 1:
            pen.wire((heads[0], below), (heads[-1], below), head=False)
        return below

    def _draw_classifier(self, pen, y, ends):
        heads = sorted(name for name in self.layers if re.fullmatch(r"head\d*_fc", name))
        places = ends if len(heads) > 1 else [0.0]
        for x in ends:
            target = x if len(heads) > 1 else 0.0
            pen.wire((x, y), (x, y - 0.15), (target, y - 0.15), (target, y - 0.5))
        for name, x in zip(heads, places):
            classes = self.layers[name].output[-1]
            text = ["average pooling", f"FC, {classes} classes"]
            if len(ends) > len(heads):
                text.insert(0, "concatenate")
            end = pen.box(x, y - 0.5, text, width=_SPACING - 0.3)
        if len(heads) > 1:
            for x in places:
                pen.wire((x, end), (x, end - 0.3), (0, end - 0.3), head=False)
            pen.text(0, end - 0.55, "mean of the logits")


class _Cell:
    """One block, or several equal ones in a row."""

    def __init__(self, spec, stage, block, last, layers, xs):
        self.spec, self.xs, self.count = spec, xs, 1
        name = f"stage{stage}_block{block}"
        self.last = last and spec.block == MERGE_AND_RUN and spec.ends == "shared"
        here = [layer for layer in layers.values() if layer.name.startswith(name + "_")]
        branch = [layer for layer in here if re.search(r"_branch1_conv", layer.name)]
        self.output = branch[-1].output
        self.lines = _collapsed([_convolution(layer) for layer in branch])
        proj = [layer for layer in here if "_proj1_conv" in layer.name]
        self.projection = _convolution(proj[0]) if proj else None
        changes = bool(proj) or any("/2" in line for line in self.lines)
        self.skip = spec.block != PLAIN and (spec.projections or not (changes or block == 1))
        # How far the streams' ways to the merge lie above each other.
        self.rungs = (len(xs) - 1) // 2 if self._merges() else 0
        self.height = 2.55 + _LINE * len(self.lines) + 0.5 * self.rungs
        if spec.block == MERGE_AND_RUN and self.skip:
            self.height += 0.55

    def _merges(self):
        mean = self.spec.mapping == "mean" or self.last
        return self.spec.block == MERGE_AND_RUN and self.skip and mean

    def same(self, other):
        keys = ("last", "lines", "projection", "skip")
        return all(getattr(self, key) == getattr(other, key) for key in keys)

    def draw(self, pen, y):
        """Draw below y; returns (y below, x of the streams there)."""
        if self.count > 1:
            x = self.xs[-1] + (_BOX / 2 + 0.2 if len(self.xs) > 1 else 2.45)
            x += 0.2 * (self.spec.mapping == "identity")
            top, foot = y - 0.2, y - self.height + 0.75
            pen.wire(
                (x, top), (x + 0.15, top), (x + 0.15, foot), (x, foot), colour=FAINT, head=False
            )
            pen.text(
                x + 0.3, (top + foot) / 2, f"×{self.count}", ha="left", fontsize=13, color=FAINT
            )
        if self.spec.block == MERGE_AND_RUN:
            return self._merge_and_run(pen, y)
        return self._one_stream(pen, y)

    def _one_stream(self, pen, y):
        """Plain, residual and inception-like blocks."""
        split, top = y - 0.25, y - 0.6
        bottom = plus = top
        for x in self.xs:
            pen.wire((0, y), (0, split), (x, split), (x, top))
            bottom = pen.box(x, top, self.lines)
        plus = bottom - 0.75
        for x in self.xs:
            end = (x, plus) if x == 0 else (0.24 if x > 0 else -0.24, plus)
            pen.wire((x, bottom), (x, plus + (0.24 if x == 0 else 0)), end, head=bool(x))
        around = 0 if len(self.xs) % 2 == 0 else (1.75 if len(self.xs) == 1 else _SPACING / 2)
        if self.skip:
            pen.wire((0, split), (around, split), (around, top), colour=SKIP, head=False)
            end = (0.24, plus) if around else (0, plus + 0.24)
            pen.wire((around, top), (around, end[1]), end, colour=SKIP)
            if self.projection:
                middle = (top + bottom) / 2 + _LINE / 2
                pen.box(around, middle, [self.projection], SKIP, 1.25)
        if self.skip or len(self.xs) > 1:
            pen.node(0, plus, "+")
        below = y - self.height
        pen.wire((0, plus - 0.24), (0, below), head=False)
        pen.text(-0.2, plus - 0.5, "ReLU", ha="right", fontsize=9, color=FAINT)
        return below, [0.0]

    def _merge_and_run(self, pen, y):
        xs = self.xs
        # Between two branches, where the way down is free.
        merge = (xs[(len(xs) - 1) // 2] + xs[len(xs) // 2]) / 2 if len(xs) % 2 == 0 else (
            xs[len(xs) // 2] + _SPACING / 2
        )  # fmt: skip
        ranks = {x: int(abs(x - merge) // _SPACING) for x in xs}
        tap = {x: y - 0.3 - 0.5 * (self.rungs - ranks[x]) for x in xs}
        top = y - (0.6 if not self.skip else 1.15 + 0.5 * self.rungs)
        for x in xs:
            pen.wire((x, y), (x, top))
            bottom = pen.box(x, top, self.lines)
        plus = bottom - 0.75
        below = y - self.height
        if self._merges():
            node = top + 0.2
            for x in xs:
                pen.wire((x, tap[x]), (merge, tap[x]), (merge, node + 0.24), colour=SKIP)
                self._draw_projection(pen, x, merge, tap[x])
            pen.node(merge, node, "m", SKIP)
            pen.wire((merge, node - 0.24), (merge, plus + 0.24), colour=SKIP, head=self.last)
        if self.last:
            for x in xs:
                side = 0.24 if x > merge else -0.24
                pen.wire((x, bottom), (x, plus), (merge + side, plus))
            pen.node(merge, plus, "+")
            pen.wire((merge, plus - 0.24), (merge, below), head=False)
            pen.text(merge - 0.2, plus - 0.5, "ReLU", ha="right", fontsize=9, color=FAINT)
            return below, [merge]
        for x in xs:
            pen.wire((x, bottom), (x, below), head=False)
            side = 0.24 if merge > x else -0.24
            if self._merges():
                level = plus + 0.4 * min(ranks[x], 1)
                way = [(merge, plus + 0.24), (merge, level), (x + 3 * side, level)]
                pen.wire(*way, (x + 3 * side, plus), (x + side, plus), colour=SKIP)
            elif self.skip:
                right = x + _BOX / 2 + 0.3
                pen.wire((x, tap[x]), (right, tap[x]), (right, plus), (x + 0.24, plus), colour=SKIP)
                if self.projection:
                    pen.box(right, bottom - 0.03, [self.projection], SKIP, 1.25)
            if self.skip:
                pen.node(x, plus, "+")
            pen.text(x - 0.2, plus - 0.5, "ReLU", ha="right", fontsize=9, color=FAINT)
        return below, xs

    def _draw_projection(self, pen, x, merge, y):
        if self.projection:
            middle = x + (0.86 if merge > x else -0.86)
            pen.box(middle, y + _LINE / 2 + 0.08, [self.projection], SKIP, 1.5)


def _convolution(layer):
    """``3×3, 64 /2``: kernel, channels, stride."""
    kernel = layer.kind.split()[1].split("/")
    stride = f" /{kernel[1]}" if len(kernel) > 1 else ""
    return f"{kernel[0].replace('x', '×')}, {layer.output[0]}{stride}"


def _collapsed(lines):
    """Equal lines in a row as one, if there are many."""
    if len(lines) <= 3:
        return lines
    runs = [(line, len(list(group))) for line, group in itertools.groupby(lines)]
    return [line if count == 1 else f"{count} × ({line})" for line, count in runs]
