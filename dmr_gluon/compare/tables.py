"""A comparison as tables for a terminal, as Markdown and as JSON. Needs no MXNet."""

import os
import re
from dataclasses import asdict, dataclass, field
from typing import List, Tuple

from ..system.text_tables import counted, markdown_table, one_line, text_table
from .comparison import MEASURES
from .groups import dataset_title
from .statistics import CONSISTENT, HIGHER, LOWER, NO_VERDICT

#: Verdicts of :func:`.verdicts.beside_paper`, in words.
WORDS = {
    CONSISTENT: "consistent",
    LOWER: "lower than the paper's",
    HIGHER: "higher than the paper's",
    NO_VERDICT: "no verdict",
}
#: The same of two groups, which need not be alike: it takes many runs to see a small difference.
NOT_DISTINGUISHED = "not distinguished by these runs"
#: Measures of :mod:`.points`, in words, and what its joint verdict says.
POINT_MEASURES = {
    "train_loss": "training loss",
    "train_error": "training error, %",
    "test_error": "test error, %",
}
JOINT_WORDS = {
    CONSISTENT: "consistent with one more run of ours",
    LOWER: "ours are lower than chance explains",
    HIGHER: "ours are higher than chance explains",
}
#: Points that are all shown.
_MOST_POINTS = 100


@dataclass(frozen=True)
class Section:
    """A table with what is to be said below it."""

    title: str
    header: Tuple[str, ...] = ()
    rows: List[tuple] = field(default_factory=list)
    right: Tuple[int, ...] = ()
    notes: List[str] = field(default_factory=list)


def sections(comparison):
    """What a report says, in order.

    Parameters
    ----------
    comparison : Comparison

    Returns
    -------
    list of Section
    """
    datasets = dict.fromkeys(row.group.setup.dataset for row in comparison.rows)
    found = [_beside_the_paper(comparison, dataset) for dataset in datasets]
    datasets = dict.fromkeys(pair.one.setup.dataset for pair in comparison.pairs)
    found += [_beside_each_other(comparison, dataset) for dataset in datasets]
    found += map(_point_by_point, comparison.points)
    found.append(_notes(comparison))
    return [section for section in found if section.rows or section.notes]


def as_text(comparison):
    """For a terminal."""
    parts = []
    for section in sections(comparison):
        lines = [section.title]
        if section.rows:
            lines.append(text_table(section.header, section.rows, section.right))
        parts.append("\n".join([*lines, *section.notes]))
    return printable("\n\n".join(parts))


def as_markdown(comparison, pictures=()):
    """For a document.

    Parameters
    ----------
    comparison : Comparison
    pictures : sequence of (str, str)
        What stands on them, and their paths as the document has to name them.
    """
    parts = []
    for section in sections(comparison):
        parts.append(f"## {_escaped(section.title)}")
        if section.rows:
            rows = [tuple(_escaped(cell) for cell in row) for row in section.rows]
            parts.append(markdown_table(section.header, rows, section.right))
        if section.notes:
            parts.append("\n".join(f"- {_escaped(note)}" for note in section.notes))
    parts += [f"![{_escaped(text)}](<{path}>)" for text, path in pictures]
    return printable("\n\n".join(parts))


def printable(text):
    """With nothing that cannot be seen, which a name in a log may have, but for line ends."""
    return "\n".join(one_line(line, len(line)) for line in text.split("\n"))


def _escaped(text):
    """So that Markdown shows it as it is."""
    return re.sub(r"([\\`*<>|\[\]])", r"\\\1", str(text)).replace("\n", " ")


def as_json(comparison):
    """Everything but the epochs, as values for JSON."""
    return {
        "rows": [
            {
                **_group_of(row.group),
                "place": row.place,
                "measure": row.measure,
                "ours": row.sample and asdict(row.sample),
                "paper": row.printed,
                "verdict": asdict(row.verdict),
            }
            for row in comparison.rows
        ],
        "pairs": [
            {
                "one": _group_of(pair.one),
                "other": _group_of(pair.other),
                "deviations": pair.deviations,
                "verdict": asdict(pair.verdict),
            }
            for pair in comparison.pairs
        ],
        "points": [
            {
                **_group_of(item.ours),
                "theirs": item.theirs.path,
                "runs": [run.path for run in item.runs],
                "deviations": item.deviations,
                "test_images": item.test_images,
                "points": [{**asdict(point), "within": point.within} for point in item.points],
                "verdict": asdict(item.verdict),
            }
            for item in comparison.points
        ],
        "groups": [
            {
                **_group_of(group),
                "recipe": asdict(group.setup.recipe),
                "deviations": group.deviations,
                "remarks": group.remarks,
                "runs": [_run(run, group) for run in group.runs],
            }
            for group in comparison.groups
        ],
    }


def _group_of(group):
    setup = group.setup
    return {"dataset": setup.dataset, "network": setup.network, "epochs": setup.epochs}


def _run(run, group):
    return {
        "path": run.path,
        "state": run.state,
        "seed": run.setup.seed,
        "epoch": run.last,
        "test_error": run.final("test_error"),
        "left_out": group.reasons.get(run.path),
    }


def result(sample):
    """``6.53 ± 0.06``; of one run without a spread, of none a dash."""
    if sample is None:
        return "-"
    spread = "" if sample.std is None else f" ± {sample.std:.2f}"
    return f"{sample.mean:.2f}{spread}"


def signed(value):
    """A difference in percentage points."""
    return "" if value is None else f"{value:+.2f}"


def reasoning(verdict):
    """How a verdict came about, with the interval where there is one."""
    if verdict.interval is None:
        return verdict.text
    low, high = verdict.interval
    return f"{verdict.text}; 95% interval {low:+.2f} to {high:+.2f}"


def _beside_the_paper(comparison, dataset):
    notes, rows = {}, []
    for row in comparison.rows:
        if row.group.setup.dataset != dataset:
            continue
        place = ", ".join(filter(None, (row.place, _measure(row))))
        if row.verdict.kind != NO_VERDICT:
            verdict = f"{WORDS[row.verdict.kind]}: {reasoning(row.verdict)}"
        elif row.group.deviations:
            number = notes.setdefault(row.verdict.text, len(notes) + 1)
            verdict = f"not comparable ({number})"
        else:
            verdict = f"no verdict: {row.verdict.text}"
        sample = row.sample
        middle = [f"{sample.median:.2f}", f"{sample.best:.2f}"] if sample else ["-", "-"]
        rows.append(
            (
                *(row.group.setup.network, place or "-", _count(sample), result(sample), *middle),
                *(row.printed or "-", signed(row.verdict.difference) or "-", verdict),
            )
        )
    header = (
        "network", "place", "runs", "error", "median", "best", "paper", "difference", "verdict",
    )  # fmt: skip
    title = f"{dataset_title(dataset)}: beside the paper"
    lines = [f"({number}) {text}" for text, number in notes.items()]
    return Section(title, header, rows, (2, 3, 4, 5, 6, 7), lines)


def _measure(row):
    """Where the paper prints more than the test error."""
    return MEASURES[row.measure] if row.place.startswith("Table 4") else ""


def _beside_each_other(comparison, dataset):
    rows = []
    for pair in comparison.pairs:
        one, other = pair.one, pair.other
        if one.setup.dataset != dataset:
            continue
        samples = one.sample(), other.sample()
        rows.append(
            (
                *(f"{_name(one, pair)} ({_count(samples[0])})", result(samples[0])),
                *(f"{_name(other, pair)} ({_count(samples[1])})", result(samples[1])),
                *(signed(pair.verdict.difference) or "-", better(pair)),
                "; ".join(pair.deviations) or "-",
            )
        )
    header = (
        "one (runs)", "error", "other (runs)", "error", "difference", "better",
        "other deviations",
    )  # fmt: skip
    title = f"{dataset_title(dataset)}: beside each other"
    return Section(title, header, rows, (1, 3, 4))


def point_rows(item):
    """Yield the rows of a :class:`.points.PointByPoint`.

    Of many points those of some epochs, evenly spaced, and of these the last ones.
    """
    points = item.points
    if len(points) > _MOST_POINTS:
        last = {(point.epoch, point.measure): point for point in points}
        epochs = sorted({point.epoch for point in points})
        kept = epochs[:: -(-len(epochs) // 20)] + epochs[-1:]
        points = [last[key] for key in last if key[0] in kept]
    for point in points:
        place = f"epoch {point.epoch}" + (f", step {point.step}" if point.step else "")
        digits = 4 if point.measure == "train_loss" else 2
        ours, theirs = f"{point.ours.mean:.{digits}f}", f"{point.theirs:.{digits}f}"
        spread = "" if point.ours.std is None else f" ± {point.ours.std:.{digits}f}"
        half = "-" if point.half is None else f"±{point.half:.{digits}f}"
        within = {None: "-", True: "within", False: "outside"}[point.within]
        yield (
            *(place, POINT_MEASURES[point.measure], ours + spread, theirs),
            *(f"{point.difference:+.{digits}f}", half, within),
        )


def point_notes(item):
    """What is to be said of a :class:`.points.PointByPoint`, the joint verdict first."""
    kind, text = item.verdict.kind, item.verdict.text
    if kind == NO_VERDICT:
        yield f"no joint verdict: {text}"
    else:
        yield f"together: {JOINT_WORDS[kind]}: {text}"
    if len(item.points) > _MOST_POINTS:
        yield f"{len(item.points):,} points in all, which --json lists"
    if item.left_out:
        yield f"left out: {counted(item.left_out, 'run')} without means within epochs (--log-steps)"
    if item.test_images:
        yield (
            f"theirs were tested on {item.test_images} images, which the intervals of test errors "
            f"allow for"
        )
    if item.deviations:
        yield f"deviations: {'; '.join(item.deviations)}"


def _point_by_point(item):
    header = (
        "point", "measure", f"ours ({counted(len(item.runs), 'run')})", "theirs", "difference",
        "95% of one more run", "theirs is",
    )  # fmt: skip
    rows = list(point_rows(item))
    return Section(
        f"{item.title}, point by point", header, rows, (2, 3, 4, 5), [*point_notes(item)]
    )


def _name(group, pair):
    """With the epochs where both are of one network."""
    same = pair.one.setup.network == pair.other.setup.network
    return group.setup.network + (f", {group.setup.epochs} epochs" if same else "")


def _count(sample):
    return sample.count if sample else 0


def better(pair):
    """Which of two groups is better, and how sure that is."""
    kind = pair.verdict.kind
    if kind == NO_VERDICT:
        return f"not known: {pair.verdict.text}"
    if kind == CONSISTENT:
        return f"{NOT_DISTINGUISHED}: {reasoning(pair.verdict)}"
    winner = pair.one if kind == LOWER else pair.other
    return f"{winner.setup.network}: {reasoning(pair.verdict)}"


def _notes(comparison):
    """What a reader has to know of single runs, and of all tests together."""
    notes = []
    for group in comparison.groups:
        notes += [f"left out: {run.path}: {reason}" for run, reason in group.left_out]
        notes += [f"{group.title}: {remark}" for remark in group.remarks]
    notes += comparison.caveats
    if comparison.tests:
        notes.append(
            f"{comparison.tests} test{'s' * (comparison.tests > 1)} at the 5% level: where nothing "
            f"differs, {comparison.tests / 20:.2g} false alarms are to be expected"
        )
    return Section("Notes", notes=notes)


def relative(path, document):
    """A path as a document that lies elsewhere has to name it."""
    return os.path.relpath(path, os.path.dirname(os.path.abspath(document))).replace(os.sep, "/")
