"""The report's tables, and what groups are called in it. Needs no MXNet."""

import hashlib
import re

from ..comparison import MEASURES
from ..groups import dataset_title
from ..statistics import CONSISTENT, HIGHER, LOWER, NO_VERDICT
from ..tables import NOT_DISTINGUISHED, WORDS, point_notes, point_rows, result
from .markup import Cell, bullets, name, number, signed, table, text

#: Symbol and class of a verdict: its colour is not all that tells it.
SIGNS = {
    CONSISTENT: ("≈", "consistent"),
    LOWER: ("▼", "lower"),
    HIGHER: ("▲", "higher"),
    NO_VERDICT: ("–", "none"),
}
#: Of a pair: sign and class, and which has the lower error.
_BETTER = {LOWER: (("◀", "lower"), "one"), HIGHER: (("▶", "lower"), "other")}


class Names:
    """What groups are called, and where their details stand.

    Parameters
    ----------
    groups : sequence of Group
    """

    def __init__(self, groups):
        alike, self._labels, self._keys = {}, {}, {}
        for group in groups:
            alike.setdefault((group.setup.dataset, group.setup.network), []).append(group)
        for group in groups:
            label = group.setup.network
            if len(alike[group.setup.dataset, label]) > 1:
                label += f" ({group.runs[0].name})"
            self._labels[_paths(group)] = label
            # An id that stays while other groups come and go.
            path = group.runs[0].path.encode("utf-8", "backslashreplace")
            key = "group-" + hashlib.sha256(path).hexdigest()[:10]
            while key in self._keys.values():
                key += "-again"
            self._keys[_paths(group)] = key

    def label(self, group):
        """Its network, with a run where several groups on a data set have that network."""
        return self._labels[_paths(group)]

    def key(self, group):
        """Its id."""
        return self._keys[_paths(group)]

    def link(self, group):
        """Its label as HTML that leads to its details."""
        return f'<a href="#{self.key(group)}">{name(self.label(group))}</a>'


def _paths(group):
    """What tells a group from the others, however often it was made."""
    return tuple(run.path for run in group.runs)


def beside_paper(comparison, names):
    """Each group at every place where the paper has its network."""
    if not comparison.rows:
        return "<p>There is no run of which it is known what was trained.</p>"
    columns = [
        ("network", "text"),
        ("data set", "text"),
        ("in the paper", "text"),
        ("measure", "text"),
        ("runs", "number"),
        ("mean ± std", "number"),
        ("paper’s", "number"),
        ("difference", "number"),
        ("verdict", "text"),
        ("median", "number"),
        ("best", "number"),
    ]
    rows, muted = [], []
    for i, row in enumerate(comparison.rows):
        group, sample = row.group, row.sample
        if group.departures:
            muted.append(i)
        rows.append(
            [
                names.link(group),
                name(dataset_title(group.setup.dataset)),
                text(row.place) or '<span class="muted">–</span>',
                text(MEASURES[row.measure]),
                Cell(str(sample.count if sample else 0), sample.count if sample else 0),
                _mean(sample),
                Cell(text(row.printed), float(row.printed.split()[0]))
                if row.printed
                else number(None),
                number(row.verdict.difference, "{:+.2f}"),
                _verdict(SIGNS[row.verdict.kind], word(row), row.verdict),
                number(sample.median if sample else None),
                number(sample.best if sample else None),
            ]
        )
    caption = "Errors after the last epoch, in percent, beside the paper’s"
    return table("beside-paper", columns, rows, caption, muted)


def word(row):
    """What a row comes to, in two or three words."""
    if row.group.departures:
        return "not comparable"
    return WORDS[row.verdict.kind].replace("'", "’")


def _verdict(sign, words, verdict, but=""):
    """A cell with a verdict and its reasoning, without what ``but`` matches of that."""
    sign, css = sign
    reason = text(re.sub(but or "^not comparable: ", "", verdict.text), 600)
    if verdict.interval:
        low, high = (signed("{:+.2f}", end) for end in verdict.interval)
        reason += f'; <span class="together">95% interval {low} to {high}</span>'
    return (
        f'<span class="verdict {css}"><b aria-hidden="true">{sign}</b> {words}</span>'
        f'<small class="reason">{reason}</small>'
    )


def _mean(sample):
    if sample is None:
        return number(None)
    return Cell(result(sample), sample.mean)


def beside_each_other(comparison, names):
    """Each pair of groups; nothing where there are none."""
    columns = [
        ("first", "text"),
        ("second", "text"),
        ("data set", "text"),
        ("first’s", "number"),
        ("second’s", "number"),
        ("difference", "number"),
        ("p", "number"),
        ("better", "text"),
        ("what else differs", "text"),
    ]
    rows = []
    for pair in comparison.pairs:
        verdict = pair.verdict
        sign, winner = _BETTER.get(verdict.kind, (SIGNS[verdict.kind], None))
        if winner:
            winner = getattr(pair, winner)
            better = f"{name(names.label(winner))} by {abs(verdict.difference):.2f}"
        else:
            better = NOT_DISTINGUISHED if verdict.kind == CONSISTENT else "no verdict"
        rows.append(
            [
                names.link(pair.one),
                names.link(pair.other),
                name(dataset_title(pair.one.setup.dataset)),
                _mean(pair.one.sample()),
                _mean(pair.other.sample()),
                number(verdict.difference, "{:+.2f}"),
                _p(verdict.p),
                _verdict(sign, better, verdict, but=r", p [<=] [\d.]+$"),
                text("; ".join(pair.unlike), 600) or '<span class="muted">nothing</span>',
            ]
        )
    if not rows:
        return ""
    return table(
        "beside-each-other",
        columns,
        rows,
        "Errors after the last epoch, in percent, of each two trainings on one data set",
    )


def _p(p):
    if p is not None and p < 0.001:
        return Cell("&lt; 0.001", p)
    return number(p, "{:.3f}")


def point_by_point(item):
    """A :class:`.points.PointByPoint` as a table, with its joint verdict."""
    columns = (
        *(("point", "text"), ("measure", "text"), ("ours", "number"), ("theirs", "number")),
        *(("difference", "number"), ("95% of one more run", "number"), ("theirs is", "text")),
    )
    rows = []
    for texts, point in point_rows(item):
        values = (point.ours.mean, point.theirs, point.difference, point.half)
        middle = [Cell(signed("{}", text(t)), value) for t, value in zip(texts[2:6], values)]
        rows.append([text(texts[0]), text(texts[1]), *middle, text(texts[6])])
    what = f"{item.title} {item.theirs.path}".encode("utf-8", "surrogateescape")
    key = "points-" + hashlib.sha256(what).hexdigest()[:10]
    return table(key, columns, rows, f"{item.title}, point by point") + bullets(point_notes(item))
