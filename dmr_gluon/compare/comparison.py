"""Compare groups of runs with the paper's numbers and with each other. Needs no MXNet."""

import dataclasses
import os
from dataclasses import dataclass
from typing import Optional, Tuple

from ..models.names import name_of
from ..models.spec import CustomSpec
from ..paper.experiments import select
from ..runs.reader import AUTHORS
from .groups import RunGroup, dataset_title, grouped, published_name, shown
from .points import PointByPoint, point_by_point
from .statistics import NO_VERDICT, Sample, Verdict, beside_paper, between

#: Measures printed in the paper, by their names in the log.
MEASURES = {
    "test_error": "test error",
    "test_top5_error": "top-5 error",
    "train_error": "training error",
}


@dataclass(frozen=True)
class Row:
    """One group compared with one place in the paper.

    Parameters
    ----------
    group : RunGroup
    place : str
        ``Table 2, L=12``; empty if the paper has no such training.
    measure : str
        A key of :data:`MEASURES`.
    sample : Sample or None
        None if no run has finished.
    printed : str
        The number as printed in the paper; empty if there is none.
    verdict : Verdict
        Of kind ``none`` if the two are not comparable, with the reasons.
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
        Differences between the two trainings, apart from the network.
    verdict : Verdict
        ``lower`` if the first has the lower error.
    """

    one: RunGroup
    other: RunGroup
    deviations: Tuple[str, ...]
    verdict: Verdict


@dataclass(frozen=True)
class Comparison:
    """The contents of a report.

    Parameters
    ----------
    groups : tuple of RunGroup
        The groups compared with the paper, then those only in pairs.
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
        return list({os.path.realpath(run.path): run for run in runs}.values())

    @property
    def tests(self):
        """The number of statistical tests: at the 5% level, one in twenty is a false alarm."""
        verdicts = [item.verdict for item in (*self.rows, *self.pairs, *self.points)]
        return sum(verdict.p is not None or verdict.interval is not None for verdict in verdicts)


def compare(runs, others=None):
    """Compare runs with the paper and with other runs.

    Parameters
    ----------
    runs, others : list of Run
        If both lists have the same runs, every two groups are compared once.

    Returns
    -------
    Comparison
    """
    ours, theirs = grouped(runs), grouped(others or [])
    groups = {}
    for group in (*ours, *theirs):
        groups.setdefault(_paths(group.runs), group)
    return Comparison(
        tuple(groups.values()),
        tuple(row for group in ours for row in rows_of(group)),
        tuple(_pairs(ours, theirs)),
        tuple(filter(None, (_points(one, other) for one in ours for other in theirs))),
    )


def _paths(runs):
    return frozenset(os.path.realpath(run.path) for run in runs)


def rows_of(group):
    """Compare a group with every place in the paper that has its network.

    Returns
    -------
    list of Row
    """
    rows = []
    for cell in cells_of(group.setup):
        place = f"{cell.place.capitalize()}, {cell.row}"
        rows.append(_row(group, place, "test_error", cell.error, cell.deviation))
        if cell.top5_error:
            rows.append(_row(group, place, "test_top5_error", cell.top5_error))
            rows.append(_row(group, place, "train_error", cell.train_error))
    return rows or [_row(group, "", "test_error")]


def _row(group, place, measure, error=None, deviation=None):
    sample = group.sample(measure)
    if group.deviations:
        # The difference is a fact even where a verdict is not possible.
        difference = sample.mean - float(error) if sample and error else None
        text = "not comparable: " + "; ".join(group.deviations)
        verdict = Verdict(NO_VERDICT, text, difference)
    elif error:
        verdict = beside_paper(sample, Sample.published(error, deviation))
    else:
        verdict = Verdict(NO_VERDICT, "the paper prints no number for this network")
    printed = " ± ".join(filter(None, (error, deviation)))
    return Row(group, place, measure, sample, printed, verdict)


def cells_of(setup):
    """Return the places in the paper that have a training's network and data set.

    There are none for a training from trained weights.

    Parameters
    ----------
    setup : Setup

    Returns
    -------
    list of Cell
    """
    if isinstance(setup.spec, CustomSpec) or setup.init_from:
        return []  # whatever its name is
    # The grouped form is the same function (Figure 5).
    name = name_of(dataclasses.replace(setup.spec, form="branches"))
    wanted = name, published_name(setup.dataset)
    return [cell for cell in select() if (cell.network, cell.dataset) == wanted]


def _pairs(ours, theirs):
    seen = set()
    for one in ours:
        for other in theirs:
            both = frozenset((_paths(one.runs), _paths(other.runs)))
            if len(both) == 2 and both not in seen and one.setup.dataset == other.setup.dataset:
                seen.add(both)
                yield Pair(one, other, tuple(_deviations(one, other)), _pair_verdict(one, other))


def _pair_verdict(one, other):
    verdict = between(one.sample(), other.sample())
    images = [group.setup.images.get("test") for group in (one, other)]
    common = _paths(one.counted) & _paths(other.counted)
    if common:  # the tests need independent samples
        text = f"{len(common)} of the runs are on both sides"
    elif 0 in images:
        text = "trained without test images"
    elif None not in images and images[0] != images[1]:
        text = f"tested on {images[0]:,} and on {images[1]:,} images"
    else:
        return verdict
    return Verdict(NO_VERDICT, text, verdict.difference)


def _points(one, other):
    """Compare a group with a single run of the same training, or one logged by the authors."""
    ours, theirs = one.setup, other.setup
    deviations = tuple(_deviations(one, other))
    same = (
        len(other.runs) == 1
        and ours.network == theirs.network
        and ours.epochs == theirs.epochs
        and published_name(ours.dataset) == published_name(theirs.dataset)
        and not _paths(one.runs) & _paths(other.runs)
    )
    if same and (other.runs[0].format == AUTHORS or not deviations):
        return point_by_point(one, other.runs[0], deviations)
    return None


def _deviations(one, other):
    """Yield the differences between two trainings, apart from the network."""
    ours, theirs = one.setup, other.setup
    if ours.dataset != theirs.dataset:
        yield f"{dataset_title(ours.dataset)} and {dataset_title(theirs.dataset)}"
    if ours.initial_weights != theirs.initial_weights:
        yield f"from {ours.initial_weights} and from {theirs.initial_weights}"
    for name, value in vars(ours.recipe).items():
        its = getattr(theirs.recipe, name)
        if name == "shuffle_chunk" and one.runs[0].format != other.runs[0].format:
            if value == its:  # the number of the authors' records in 8 MB is unknown
                yield "one shuffled as a whole, the authors' in chunks of 8 MB of records"
        elif value != its and name not in ("model", "name", "epochs"):
            yield f"{name} {shown(value)} and {shown(its)}"
    if ours.epochs != theirs.epochs:
        yield f"{ours.epochs} and {theirs.epochs} epochs"
    for kind, count in ours.images.items():
        its = theirs.images.get(kind, count)
        if count != its:
            yield f"{count:,} and {its:,} {kind} images"
    if None not in (ours.bn_images, theirs.bn_images) and ours.bn_images != theirs.bn_images:
        yield f"BN over {ours.bn_images} and {theirs.bn_images} images"
    for which, group in (("one", one), ("the other", other)):
        yield from (f"in {which} {change}" for change in group.runs[0].changes)
