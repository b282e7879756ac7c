"""The report's curves as SVG, which is seen without its script. Needs no MXNet."""

import hashlib
import math

from ...runs.training_run import counted
from ..figures.names import kind_of_group
from ..figures.style import colours_of, styles
from .curves import figures, nice_step, ticks
from .markup import data, name, text

#: Of a panel, in units that are about a pixel; around what is drawn, room for the labels.
WIDTH, HEIGHT = 480, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 50, 10, 8, 26
#: A point at the right or lower end reaches so far beyond the axes.
_BEYOND = 3
#: Groups of which values are shown beside the pointer.
_MOST_READ = 12
#: A unit of a style's dashes in those units: about the width of a line.
_DASH = 1.8


def _attributes(look):
    """What gives the curves of a group colour and dashes."""
    dashes = " ".join(_short(_DASH * length) for length in look.dashes)
    dashes = f' stroke-dasharray="{dashes}"' if dashes else ""
    return f'color="{look.colour}"{dashes}'


def _sample(look):
    """A piece of line for a legend."""
    return (
        f'<svg class="sample" viewBox="0 0 34 10" width="34" height="10" aria-hidden="true">'
        f'<path class="line" {_attributes(look)} d="M1 5H33"/></svg>'
    )


class Chart:
    """One panel as SVG.

    Parameters
    ----------
    figure : Figure
    panel : Panel
    looks : list of Style
        One for each group.
    """

    def __init__(self, figure, panel, looks):
        self.figure, self.panel, self.looks = figure, panel, looks

    def x(self, epoch):
        return _LEFT + epoch / self.figure.last * (WIDTH - _LEFT - _RIGHT)

    def y(self, value):
        low, high = self.panel.low, self.panel.high
        if self.panel.log:
            # What has no logarithm stands at the bottom.
            low, high, value = math.log(low), math.log(high), math.log(max(value, low))
        return HEIGHT - _BOTTOM - (value - low) / (high - low) * (HEIGHT - _TOP - _BOTTOM)

    def svg(self):
        """The whole chart.

        Returns
        -------
        str
        """
        panel, figure = self.panel, self.figure
        count = len(figure.groups)
        label = (
            f"{panel.title} over {counted(figure.last, 'epoch')}, {counted(count, 'group')}; "
            f"the table below has the values"
        )
        across, down = WIDTH - _LEFT - _RIGHT, HEIGHT - _TOP - _BOTTOM
        groups = [
            f'<g data-group="{i}" {_attributes(look)}>{self._group(curve, alone)}</g>'
            for i, (look, curve, alone) in enumerate(zip(self.looks, panel.curves, panel.alone))
        ]
        dots = [
            f'<circle r="3.5" color="{look.colour}" data-group="{i}"/>'
            for i, look in enumerate(self.looks)
        ]
        across, down = across + _BEYOND, down + _BEYOND
        # The inner SVG cuts off what is above the axis.
        return (
            f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
            f'aria-label="{text(label)}">{self._axes()}'
            f'<svg x="{_LEFT}" y="{_TOP}" width="{across}" height="{down}" '
            f'viewBox="{_LEFT} {_TOP} {across} {down}">{"".join(groups)}</svg>'
            f'<g class="cursor"><path d="M0 {_TOP}V{HEIGHT - _BOTTOM}"/>{"".join(dots)}</g></svg>'
        )

    def _axes(self):
        parts = []
        for value in ticks(self.panel.low, self.panel.high, self.panel.log):
            y = _short(self.y(value))
            parts.append(
                f'<path class="grid" d="M{_LEFT} {y}H{WIDTH - _RIGHT}"/>'
                f'<text x="{_LEFT - 6}" y="{y}" dy=".35em" text-anchor="end">{value:g}</text>'
            )
        step = max(1, int(nice_step(self.figure.last, 5)))
        for epoch in range(0, self.figure.last + 1, step):
            x = _short(self.x(epoch))
            anchor = "end" if epoch == self.figure.last else "middle"
            parts.append(
                f'<path class="axis" d="M{x} {HEIGHT - _BOTTOM}v4"/>'
                f'<text x="{x}" y="{HEIGHT - 8}" text-anchor="{anchor}">{epoch}</text>'
            )
        parts.append(f'<path class="axis" d="M{_LEFT} {HEIGHT - _BOTTOM}H{WIDTH - _RIGHT}"/>')
        return "".join(parts)

    def _group(self, curve, alone):
        band = self._band(curve)
        lines = [f'<path class="line alone" d="{self._line(one)}"/>' for one in alone]
        lines.append(f'<path class="line" d="{self._line(curve)}"/>')
        points = [point for one in (*alone, curve) for point in self._points(one)]
        return (f'<path class="band" d="{band}"/>' if band else "") + "".join(lines + points)

    def _line(self, curve):
        return "".join(f"M{self._path(piece, curve.mean)}" for piece in _pieces(curve.mean))

    def _points(self, curve):
        """What is no line: an epoch of which those beside it are missing."""
        return [
            f'<circle class="point" r="{_BEYOND}" cx="{_short(self.x(self.figure.points[i]))}" '
            f'cy="{_short(self.y(curve.mean[i]))}"/>'
            for i, *more in _pieces(curve.mean)
            if not more
        ]

    def _band(self, curve):
        return "".join(
            f"M{self._path(piece, curve.high)}L{self._path(piece[::-1], curve.low)}Z"
            for piece in _pieces(curve.low)
            if len(piece) > 1
        )

    def _path(self, places, values):
        points = self.figure.points
        return " ".join(f"{_short(self.x(points[i]))} {_short(self.y(values[i]))}" for i in places)

    def script_data(self):
        """What the script needs of the panel: scale and values, in the digits that are shown."""
        panel = self.panel
        return {
            "log": panel.log,
            "low": panel.low,
            "high": panel.high,
            "top": _TOP,
            "bottom": HEIGHT - _BOTTOM,
            "mean": [list(map(panel.stored, curve.mean)) for curve in panel.curves],
            "range": [self._range(curve) for curve in panel.curves],
        }

    def _range(self, curve):
        if not any(value is not None for value in curve.low):
            return None
        return [list(map(self.panel.stored, values)) for values in (curve.low, curve.high)]


def _script_data(figure, charts):
    """A figure for the script, as an element that holds JSON."""
    content = {
        "step": figure.step,
        "last": figure.last,
        "left": _LEFT,
        "right": WIDTH - _RIGHT,
        "width": WIDTH,
        "panels": [chart.script_data() for chart in charts],
    }
    return f'<script type="application/json">{data(content)}</script>'


def curves(groups, names):
    """Every figure, with a legend that has its values.

    Parameters
    ----------
    groups : sequence of Group
    names : Names

    Returns
    -------
    str
    """
    colours = colours_of(map(kind_of_group, groups))
    return "".join(_figure(figure, names, colours) for figure in figures(groups))


def _figure(figure, names, colours):
    looks = styles([kind_of_group(group) for group in figure.groups], colours)
    charts = [Chart(figure, panel, looks) for panel in figure.panels]
    # Of more it would cover the curves; the table has them all.
    few = len(figure.groups) <= _MOST_READ
    readout = '<div class="readout" aria-hidden="true" hidden></div>' if few else ""
    panels = "".join(
        f'<figure><figcaption><b>{panel.title}</b> <span class="muted">{panel.unit}</span>'
        f"</figcaption>{chart.svg()}{readout}</figure>"
        for panel, chart in zip(figure.panels, charts)
    )
    notes = []
    if any(len(runs) > 1 for runs in figure.together):
        notes.append("Shaded: from the least to the greatest of a group’s runs.")
    if any(figure.alone):
        notes.append("Thin: unfinished runs of a group that has finished ones.")
    if any(panel.cut for panel in figure.panels):
        notes.append("Errors of the first epochs are above the axis.")
    if figure.step > 1:
        notes.append(f"Of {figure.last} epochs every {figure.step}th is drawn.")
    key = "curves-" + hashlib.sha256(repr((figure.dataset, figure.epochs)).encode()).hexdigest()[:8]
    return (
        f'<section class="curves" aria-labelledby="{key}"><h3 id="{key}">{name(figure.title)}'
        f'</h3><div class="panels" id="{key}-panels">{panels}</div>'
        f'<p class="muted note">{" ".join(notes)}</p>'
        f"{_legend(figure, names, key, looks)}"
        f"{_script_data(figure, charts)}</section>"
    )


def _legend(figure, names, key, looks):
    rows = []
    for i, group in enumerate(figure.groups):
        label, runs = names.label(group), figure.together[i]
        last = max((run.last for run in runs), default=0)
        count = counted(len(runs), "run")
        if last < figure.epochs:
            count += f", to epoch {last}"
        if figure.alone[i]:
            count += f", {len(figure.alone[i])} unfinished"
        values = "".join(_values(panel, panel.curves[i]) for panel in figure.panels)
        rows.append(
            f'<tr><th scope="row"><label><input type="checkbox" checked hidden '
            f'id="{key}-{names.key(group)}">{_sample(looks[i])}{name(label)}</label></th>'
            f"{values}<td>{count}</td></tr>"
        )
    heads = "".join(f'<th scope="col" class="number">{panel.title}</th>' for panel in figure.panels)
    return (
        f'<div class="scroll" role="region" tabindex="0" id="scroll-{key}" '
        f'aria-label="Values of the curves"><table class="legend"><caption><span>At epoch '
        f'<b class="epoch">{figure.last}</b>: from the least to the greatest of a group’s runs, '
        f"and their mean</span></caption><thead><tr>"
        f'<th scope="col"><label><input type="checkbox" checked hidden class="all" '
        f'aria-label="show all groups">network</label></th>{heads}<th scope="col">runs</th>'
        f"</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def _values(panel, curve):
    spread = ""
    if curve.low[-1] is not None:
        spread = f"{panel.shown(curve.low[-1])} – {panel.shown(curve.high[-1])}"
    mean = panel.shown(curve.mean[-1])
    return f'<td class="number"><small>{spread}</small> <span>{mean}</span></td>'


def _pieces(values):
    """The places of values that follow one another without a gap, as lists."""
    pieces = []
    for i, value in enumerate(values):
        if value is None:
            continue
        if pieces and pieces[-1][-1] == i - 1:
            pieces[-1].append(i)
        else:
            pieces.append([i])
    return pieces


def _short(value):
    """With at most one digit behind the point."""
    return f"{value:.1f}".rstrip("0").rstrip(".")
