"""Format a comparison as tables for a terminal, as Markdown and as JSON. Needs no MXNet."""

import itertools
import re
from dataclasses import dataclass, field, is_dataclass
from typing import List, Tuple

from ..runs.reader import Run
from ..standalone.predict_onnx import shown
from ..system.text_tables import counted, markdown_table, text_table
from .comparison import MEASURES
from .groups import RunGroup, dataset_title
from .points import TITLES
from .statistics import CONSISTENT, LOWER, NO_VERDICT

#: The maximum number of points in a table.
_MOST_POINTS = 100


@dataclass(frozen=True)
class Section:
    """A table and the notes below it."""

    title: str
    header: Tuple[str, ...] = ()
    rows: List[tuple] = field(default_factory=list)
    right: Tuple[int, ...] = ()
    notes: List[str] = field(default_factory=list)


def sections(comparison):
    """Lay out a report.

    Parameters
    ----------
    comparison : Comparison

    Returns
    -------
    list of Section
    """
    rows = itertools.groupby(comparison.rows, lambda row: row.group.setup.dataset)
    pairs = itertools.groupby(comparison.pairs, lambda pair: pair.one.setup.dataset)
    return [
        *(_with_paper(dataset, found) for dataset, found in rows),
        *(_with_each_other(dataset, found) for dataset, found in pairs),
        *map(_point_by_point, comparison.points),
        *_notes(comparison),
    ]


def as_text(comparison):
    """Format the report for a terminal."""
    parts = []
    for section in sections(comparison):
        table = [text_table(section.header, section.rows, section.right)] if section.rows else []
        parts.append("\n".join([section.title, *table, *section.notes]))
    return printable("\n\n".join(parts))


def as_markdown(comparison, pictures=()):
    """Format the report for a document.

    Parameters
    ----------
    comparison : Comparison
    pictures : sequence of (str, str)
        Titles, and paths relative to the document.
    """
    parts = []
    for section in sections(comparison):
        parts.append(f"## {_escaped(section.title)}")
        if section.rows:
            rows = [tuple(map(_escaped, row)) for row in section.rows]
            parts.append(markdown_table(section.header, rows, section.right))
        if section.notes:
            parts.append("\n".join(f"- {_escaped(note)}" for note in section.notes))
    parts += [f"![{_escaped(title)}](<{path}>)" for title, path in pictures]
    return printable("\n\n".join(parts))


def printable(text):
    """Make invisible characters visible, which names in logs may contain, except line ends."""
    return "\n".join(map(shown, text.split("\n")))


def _escaped(text):
    """Escape a text for Markdown."""
    return re.sub(r"([\\`*<>|\[\]])", r"\\\1", str(text)).replace("\n", " ")


def as_json(comparison):
    """Return values for JSON, with the names of :class:`.Comparison`; epochs are left out."""
    groups = [
        {**_plain(group), "recipe": _plain(group.setup.recipe), **_fields(group)}
        for group in comparison.groups
    ]
    return {**_fields(comparison), "groups": groups}


def _plain(value):
    if isinstance(value, RunGroup):
        setup = value.setup
        about = {name: getattr(setup, name) for name in ("dataset", "network", "epochs")}
        return {**about, "init_from": setup.init_from and setup.init_from["sha256"]}
    if isinstance(value, Run):
        found = {"path": value.path, "seed": value.setup.seed, "state": value.state}
        return {**found, "epoch": value.last, "test_error": value.final("test_error")}
    if is_dataclass(value):
        return _fields(value)
    return list(map(_plain, value)) if isinstance(value, tuple) else value


def _fields(value):
    return {name: _plain(part) for name, part in vars(value).items()}


def _result(sample, digits=2):
    """Format ``6.53 ± 0.06``; the spread is missing for one run."""
    if sample is None:
        return "-"
    spread = "" if sample.std is None else f" ± {sample.std:.{digits}f}"
    return f"{sample.mean:.{digits}f}{spread}"


def _difference(verdict):
    return "-" if verdict.difference is None else f"{verdict.difference:+.2f}"


def _reasoning(verdict):
    if verdict.interval is None:
        return verdict.text
    low, high = verdict.interval
    return f"{verdict.text}; 95% interval {low:+.2f} to {high:+.2f}"


def _with_paper(dataset, rows):
    reasons, cells = {}, []
    for row in rows:
        sample, verdict = row.sample, row.verdict
        if verdict.kind != NO_VERDICT:
            words = f"{verdict.kind}: {_reasoning(verdict)}"
        elif row.group.deviations:
            words = f"not comparable ({reasons.setdefault(verdict.text, len(reasons) + 1)})"
        else:
            words = f"no verdict: {verdict.text}"
        measure = "" if row.measure == "test_error" else MEASURES[row.measure]
        cells.append(
            (
                row.group.setup.network,
                ", ".join(filter(None, (row.place, measure))) or "-",
                sample.count if sample else 0,
                _result(sample),
                f"{sample.median:.2f}" if sample else "-",
                f"{sample.best:.2f}" if sample else "-",
                row.printed or "-",
                _difference(verdict),
                words,
            )
        )
    header = ("network", "place", "runs", "error", "median", "best", "paper", "difference")
    notes = [f"({number}) {text}" for text, number in reasons.items()]
    title = f"{dataset_title(dataset)}: compared with the paper"
    return Section(title, (*header, "verdict"), cells, (2, 3, 4, 5, 6, 7), notes)


def _with_each_other(dataset, pairs):
    cells = [
        (
            *_side(pair.one),
            *_side(pair.other),
            _difference(pair.verdict),
            _better(pair),
            "; ".join(pair.deviations) or "-",
        )
        for pair in pairs
    ]
    header = ("one (runs)", "error", "other (runs)", "error", "difference", "better")
    title = f"{dataset_title(dataset)}: compared with each other"
    return Section(title, (*header, "other deviations"), cells, (1, 3, 4))


def _side(group):
    sample = group.sample()
    return f"{group.setup.network} ({sample.count if sample else 0})", _result(sample)


def _better(pair):
    verdict = pair.verdict
    if verdict.kind == NO_VERDICT:
        return f"unknown: {verdict.text}"
    if verdict.kind == CONSISTENT:
        return f"not distinguished by these runs: {_reasoning(verdict)}"
    return f"{'one' if verdict.kind == LOWER else 'other'}: {_reasoning(verdict)}"


def _point_by_point(item):
    cells = []
    for point in item.points[-_MOST_POINTS:]:
        digits = 4 if point.measure == "train_loss" else 2
        cells.append(
            (
                f"epoch {point.epoch}" + (f", step {point.step}" if point.step else ""),
                TITLES[point.measure],
                _result(point.ours, digits),
                f"{point.theirs:.{digits}f}",
                f"{point.difference:+.{digits}f}",
                "-" if point.half is None else f"±{point.half:.{digits}f}",
                {None: "-", True: "within", False: "outside"}[point.within],
            )
        )
    kind = "no verdict" if item.verdict.kind == NO_VERDICT else item.verdict.kind
    notes = [f"ours together: {kind}: {item.verdict.text}"]
    if len(item.points) > _MOST_POINTS:
        notes.append(f"the last {_MOST_POINTS} of {len(item.points):,} points; --json has them all")
    left_out = len(item.ours.counted or item.ours.runs) - len(item.runs)
    if left_out:
        notes.append(f"left out: {counted(left_out, 'run')} without points (--log-steps)")
    if item.deviations:
        notes.append(f"deviations: {'; '.join(item.deviations)}")
    ours = f"ours ({counted(len(item.runs), 'run')})"
    header = ("point", "measure", ours, "theirs", "difference", "95% of one more run", "theirs is")
    return Section(item.title, header, cells, (2, 3, 4, 5), notes)


def _notes(comparison):
    """Yield the remarks on single runs and on the tests as a whole, if there are any."""
    notes = []
    for group in comparison.groups:
        notes += [f"left out: {run.path}: {reason}" for run, reason in group.left_out]
        notes += [f"{group.title}: {remark}" for remark in group.remarks]
    if comparison.tests:
        notes.append(
            f"{counted(comparison.tests, 'test')} at the 5% level: if nothing differs, expect "
            f"{comparison.tests / 20:.2g} false alarms"
        )
    if notes:
        yield Section("Notes", notes=notes)
