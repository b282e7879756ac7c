"""Compare groups of runs with the paper's numbers, and with each other. Needs no MXNet."""

import dataclasses
import functools
import os
from dataclasses import dataclass
from typing import Optional, Tuple

from ..errors import DMRError
from ..models.names import name_of
from ..paper.experiments import select
from ..paper.numbers import TABLE4
from ..paper.recipes import Recipe
from ..runs.reader import AUTHORS
from .groups import RunGroup, grouped, published_name, shown
from .points import PointByPoint, point_by_point
from .statistics import NO_VERDICT, Sample, Verdict, beside_paper, between

#: What the paper prints beside the test error, by the measure that the log has of it.
MEASURES = {
    "test_error": "test error",
    "test_top5_error": "top-5 error",
    "train_error": "training error",
}
#: What Table 4 prints of training: the authors' own ResNet-101, then DMRNet.
_TABLE4_TRAINING = dict(zip(("resnet", "dmrnet"), TABLE4["top-1 training error"][1:]))


@dataclass(frozen=True)
class Row:
    """One group at one place of the paper.

    Parameters
    ----------
    group : RunGroup
    place : str
        ``Table 2, L=12``; empty where the paper has no such training.
    measure : str
        A key of :data:`MEASURES`.
    sample : Sample or None
        None: no run has finished.
    printed : str
        The paper's number, as it prints it; empty where it prints none.
    verdict : Verdict
        Of what is not comparable it is ``none``, with the reasons.
    """

    group: RunGroup
    place: str
    measure: str
    sample: Optional[Sample]
    printed: str
    verdict: Verdict


@dataclass(frozen=True)
class Pair:
    """Two groups on one data set.

    Parameters
    ----------
    one, other : RunGroup
    deviations : tuple of str
        How the two trainings differ, apart from the network.
    verdict : Verdict
        ``lower``: the first has the lower error.
    """

    one: RunGroup
    other: RunGroup
    deviations: Tuple[str, ...]
    verdict: Verdict


@dataclass(frozen=True)
class Comparison:
    """Everything that a report shows.

    Parameters
    ----------
    groups : tuple of RunGroup
        Those compared with the paper first, then the others that pairs have.
    rows : tuple of Row
    pairs : tuple of Pair
    points : tuple of PointByPoint
    """

    groups: Tuple[RunGroup, ...]
    rows: Tuple[Row, ...]
    pairs: Tuple[Pair, ...]
    points: Tuple[PointByPoint, ...]

    @property
    def runs(self):
        """All runs, each once."""
        runs = [run for group in self.groups for run in group.runs]
        return list({_place(run): run for run in runs}.values())

    @property
    def tests(self):
        """The number of verdicts that rest on a test: at 5%, one in twenty is wrong by chance."""
        verdicts = [item.verdict for item in (*self.rows, *self.pairs)]
        joint = sum(item.verdict.p is not None for item in self.points)
        return joint + sum(verdict.interval is not None for verdict in verdicts)

    @property
    def caveats(self):
        """Unknowns of the paper's own trainings with which rows are compared."""
        compared = {row.group.setup.dataset for row in self.rows if row.verdict.kind != NO_VERDICT}
        return (_IMAGES,) if compared & {"cifar10", "cifar100"} else ()


#: Of CIFAR; docs/results.md has the trainings.
_IMAGES = (
    "whether the paper's CIFAR images were lossless or JPEGs of quality 95 is not known: the "
    "training that its authors show agrees with both (docs/results.md)"
)


def compare(runs, others=None):
    """Compare runs with the paper, and with other runs.

    Parameters
    ----------
    runs, others : list of Run
        ``others`` may be the same: then each pair of their groups is compared once.

    Returns
    -------
    Comparison
    """
    ours = grouped(runs)
    theirs = grouped(others) if others is not None else []
    groups = {}
    for group in (*ours, *theirs):
        # The same paths may be on both sides; each group is shown once.
        groups.setdefault(_identity(group), group)
    return Comparison(
        tuple(groups.values()),
        tuple(row for group in ours for row in rows_of(group)),
        tuple(_pairs(ours, theirs)),
        tuple(filter(None, (_points(one, other) for one in ours for other in theirs))),
    )


def _place(run):
    return os.path.realpath(run.path)


def rows_of(group):
    """Compare a group with every place of the paper that has its network.

    Returns
    -------
    list of Row
    """
    cells = cells_of(group.setup)
    if not cells:
        return [_row(group, "", "test_error", None)]
    rows = []
    for cell in cells:
        place = cell.place.capitalize() + f", {cell.row}"
        printed = (cell.error, cell.deviation) if cell.error else None
        rows.append(_row(group, place, "test_error", printed))
        if cell.top5_error:
            rows.append(_row(group, place, "test_top5_error", (cell.top5_error, None)))
        if cell.place == "table 4":
            training = (_TABLE4_TRAINING[cell.column], None)
            rows.append(_row(group, place, "train_error", training))
    return rows


def _row(group, place, measure, printed):
    sample = group.sample(measure)
    text = " ± ".join(filter(None, printed)) if printed else ""
    if group.deviations:
        verdict = Verdict(NO_VERDICT, "not comparable: " + "; ".join(group.deviations))
        if sample and printed:  # a difference is a fact, a verdict is not
            verdict = dataclasses.replace(verdict, difference=sample.mean - float(printed[0]))
    elif printed:
        verdict = beside_paper(sample, Sample.published(*printed))
    elif place:
        verdict = Verdict(NO_VERDICT, "the paper draws it and prints no number")
    else:
        verdict = Verdict(NO_VERDICT, "the paper has no such network on this data set")
    return Row(group, place, measure, sample, text, verdict)


def cells_of(setup):
    """Return the places of the paper that have a training's network on its data set.

    Parameters
    ----------
    setup : Setup

    Returns
    -------
    list of Cell
    """
    dataset = published_name(setup.dataset)
    if dataset is None:
        return []
    # The grouped form is the same function (Figure 5).
    name = name_of(dataclasses.replace(setup.spec, form="branches"))
    cells = _cells().get((name, dataset), [])
    layers, rest = divmod(setup.spec.depth - 2, 2)
    if not cells and dataset == "cifar10" and not rest and layers % 3 == 0:
        # Figure 6 has a network for every L, of which only some are listed.
        try:
            lengths = select("figure 6", rows=[f"L={layers}"])
        except DMRError:  # the figure's networks do not all exist in this length
            lengths = []
        cells = [cell for cell in lengths if cell.network == name]
    return cells


@functools.lru_cache(maxsize=None)
def _cells():
    found = {}
    for cell in select():
        found.setdefault((cell.network, cell.dataset), []).append(cell)
    return found


def _pairs(ours, theirs):
    seen = set()
    for one in ours:
        for other in theirs:
            both = frozenset((_identity(one), _identity(other)))
            if len(both) == 1 or both in seen or one.setup.dataset != other.setup.dataset:
                continue
            seen.add(both)
            verdict = between(one.sample(), other.sample())
            tests = [group.setup.images.get("test") for group in (one, other)]
            if None not in tests and tests[0] != tests[1]:
                text = f"tested on {tests[0]:,} and on {tests[1]:,} images"
                verdict = Verdict(NO_VERDICT, text, verdict.difference)
            common = len({*map(_place, one.counted)} & {*map(_place, other.counted)})
            if common:  # the tests are for runs that have nothing to do with each other
                text = f"{common} of the runs are on both sides"
                verdict = Verdict(NO_VERDICT, text, verdict.difference)
            yield Pair(one, other, tuple(_deviations(one, other)), verdict)


def _points(one, other):
    if {*map(_place, one.runs)} & {*map(_place, other.runs)}:
        return None
    deviations = tuple(_deviations(one, other))
    # Our own trainings only if they do not differ at all; others are compared as pairs.
    alike = one.setup.dataset == other.setup.dataset and not deviations
    if other.runs[0].format != AUTHORS and not alike:
        return None
    return point_by_point(one, other, deviations)


def _identity(group):
    return tuple(sorted(map(_place, group.runs)))


def _deviations(one, other):
    """Yield how two trainings differ, apart from the network."""
    formats = one.runs[0].format, other.runs[0].format
    for field in dataclasses.fields(Recipe):
        ours, theirs = (getattr(group.setup.recipe, field.name) for group in (one, other))
        if field.name == "shuffle_chunk" and AUTHORS in formats:
            if ours == theirs:  # their records, and so how many make 8 MB, are not known
                yield "one shuffled as a whole, the authors' in chunks of 8 MB of records"
        elif ours != theirs and field.name not in ("model", "name", "epochs"):
            yield f"{field.name} {shown(ours)} and {shown(theirs)}"
    if one.setup.epochs != other.setup.epochs:
        yield f"{one.setup.epochs} and {other.setup.epochs} epochs"
    for kind, ours in one.setup.images.items():
        theirs = other.setup.images.get(kind, ours)
        if ours != theirs:
            yield f"{ours:,} and {theirs:,} {kind} images"
    over = one.setup.bn_images, other.setup.bn_images
    if None not in over and over[0] != over[1]:
        yield f"BN over {over[0]} and {over[1]} images"
    yield from (f"in one {change}" for change in one.runs[0].changes)
    yield from (f"in the other {change}" for change in other.runs[0].changes)
