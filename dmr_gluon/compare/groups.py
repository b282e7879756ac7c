"""Runs that are repetitions of one training, and in what that training is unlike the paper's.

Needs no MXNet.
"""

import dataclasses
import json
import re
from dataclasses import dataclass
from typing import Optional, Tuple

from ..paper.dataset_facts import PUBLISHED
from ..paper.recipes import OF_DATASET, differences
from ..runs.status import natural
from ..runs.training_run import AUTHORS, FAILED, FINISHED, RUNNING, Run, Setup, counted
from .statistics import Sample

TITLES = {"cifar10": "CIFAR-10", "cifar100": "CIFAR-100", "svhn": "SVHN", "imagenet": "ImageNet"}
#: What is to be said of how a set's images are known to be the official one's.
_HOW_KNOWN = {
    "content": "",
    "archives": "its images are known by the published MD5 of their archives and their number, not "
    "one by one",
    "counts": "its images are known by their number alone: no published MD5 of their archives was "
    "found",
    None: "nothing says whether its images are the official ones",
}
#: Images over which the paper's GPUs take BN's statistics (sections 4.2 and 4.5).
_BN_IMAGES = 32


@dataclass(frozen=True)
class Group:
    """Runs of one network with one recipe on one data set.

    Parameters
    ----------
    runs : tuple of Run
        All of them.
    counted : tuple of Run
        The finished ones, each seed once.
    left_out : tuple of (Run, str)
        The others, with the reason.
    departures : tuple of str
        In what the training is unlike the paper's: where there are any, its results cannot
        be set beside the paper's.
    remarks : tuple of str
        What does not stand in the way of that, but a reader should know.
    """

    runs: Tuple[Run, ...]
    counted: Tuple[Run, ...]
    left_out: Tuple[Tuple[Run, str], ...]
    departures: Tuple[str, ...]
    remarks: Tuple[str, ...]

    @property
    def setup(self) -> Optional[Setup]:
        """What was trained; of the first run, whose seed is its own."""
        return self.runs[0].setup

    @property
    def reasons(self):
        """Why a run is left out, by its path."""
        return {run.path: reason for run, reason in self.left_out}

    @property
    def title(self):
        return f"{self.setup.network} on {dataset_title(self.setup.dataset)}"

    def sample(self, measure="test_error") -> Optional[Sample]:
        """Of the last epochs of the runs that count."""
        values = (run.final(measure) for run in self.counted)
        return Sample.of(value for value in values if value is not None)


def grouped(runs):
    """Runs as groups, those of one data set together.

    Parameters
    ----------
    runs : list of Run
        Those without a setup belong to none.

    Returns
    -------
    list of Group
    """
    found = {}
    for run in runs:
        if run.setup is not None:
            found.setdefault(_key(run), []).append(run)
    return sorted(map(_group, found.values()), key=_order)


def published_name(dataset):
    """The paper's data set that one is, or was made from: ``cifar10`` for ``cifar10-jpeg``.

    None where its name does not begin with one of them.
    """
    fits = [name for name in PUBLISHED if re.match(re.escape(name) + r"(?![a-z0-9])", dataset)]
    return max(fits, key=len, default=None)


def dataset_title(dataset):
    """As it is written in a text: ``CIFAR-10-JPEG``."""
    name = published_name(dataset)
    if name is None:
        return dataset
    rest = dataset[len(name) :]
    return TITLES[name] + (rest.upper() if re.fullmatch(r"[-_]?\w*", rest) else rest)


def departures_of(run):
    """In what a run is not the paper's training, with what was changed while it ran.

    Parameters
    ----------
    run : Run

    Returns
    -------
    tuple of str
    """
    if run.setup is None:
        return ("nothing says what was trained",)
    return departures(run.setup) + run.changes


def departures(setup):
    """In what a training is not the paper's, each in a few words.

    Parameters
    ----------
    setup : Setup

    Returns
    -------
    tuple of str
    """
    name = published_name(setup.dataset)
    if name is None:
        return (f"the paper has no data set {setup.dataset}",)
    found = []
    paper, unlike = OF_DATASET[name], unlike_the_paper(setup)
    epochs = unlike.pop("epochs", None)
    unlike.pop("train_images", None)  # counted below
    if setup.epochs != paper.epochs:
        found.append(f"{counted(setup.epochs, 'epoch')} instead of {paper.epochs}")
    elif epochs:  # with the recipe's steps it made as many epochs as the paper
        found.append(f"a recipe of {epochs[0]} epochs instead of {epochs[1]}")
    if setup.dataset != name:
        found.append(f"{dataset_title(setup.dataset)} instead of {TITLES[name]}")
    published = PUBLISHED[name]
    for kind, whole in (("train", published.train_images), ("test", published.test_images)):
        images = setup.images.get(kind, whole)
        if images != whole:
            found.append(f"{images:,} {kind} images instead of {whole:,}")
    found += [
        f"{field} {shown(ours)} instead of {shown(its)}" for field, (ours, its) in unlike.items()
    ]
    return tuple(found)


def unlike_the_paper(setup):
    """What of a training's recipe is unlike the paper's for its data set.

    Parameters
    ----------
    setup : Setup

    Returns
    -------
    dict of str to tuple
        By field, the recipe's value and the paper's; empty where the log does not say the recipe.
    """
    if setup.recipe is None:
        return {}
    paper = OF_DATASET.get(published_name(setup.dataset))
    # Another data set's recipe is compared with this one's, not with its own.
    return differences(
        dataclasses.replace(setup.recipe, name=paper.name) if paper else setup.recipe
    )


def shown(value):
    """A recipe's value in a few words."""
    if isinstance(value, tuple):
        return ", ".join(map(shown, value)) or "none"
    if value is None:
        return "none"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _group(runs):
    runs = sorted(runs, key=lambda run: (run.setup.seed is None, run.setup.seed or 0, run.path))
    counted, left_out = [], []
    for run in runs:
        reason = _why_left_out(run) or _repeats(run, counted)
        if reason:
            left_out.append((run, reason))
        else:
            counted.append(run)
    setup = runs[0].setup
    remarks = [f"{run.name}: {remark}" for run in runs for remark in run.remarks]
    if setup.recipe is None:
        remarks.insert(0, "the log says nothing of the recipe: taken to be the paper's")
    elif published_name(setup.dataset) and setup.bn_images not in (None, _BN_IMAGES):
        remarks.insert(0, f"BN over {setup.bn_images} images, the paper's over {_BN_IMAGES}")
    if published_name(setup.dataset) and runs[0].format != AUTHORS:
        known = dict.fromkeys(_HOW_KNOWN.get(r.setup.known_by, _HOW_KNOWN[None]) for r in runs)
        remarks += filter(None, known)
    return Group(
        tuple(runs),
        tuple(counted),
        tuple(left_out),
        departures_of(runs[0]),
        tuple(remarks),
    )


def _why_left_out(run):
    if run.state == FINISHED:
        return None
    at = f"after epoch {run.last} of {run.setup.epochs}"
    if run.state == FAILED:
        return f"failed {at}: {run.reason}"
    return f"still running, {at}" if run.state == RUNNING else f"stopped {at}"


def _repeats(run, counted):
    for other in counted:
        if _same_numbers(other, run):
            return f"the same numbers as {other.path}"
        if other.setup.seed is not None and other.setup.seed == run.setup.seed:
            return f"seed {run.setup.seed} again, which {other.path} has too"
    return None


def _same_numbers(one, other):
    """Whether one is a copy of the other, of which parts may be damaged."""
    pairs = [
        (row[name], other.epochs[number][name])
        for number, row in one.epochs.items()
        if number in other.epochs
        for name in row
        if name in other.epochs[number] and name != "lr"
    ]
    return bool(pairs) and all(first == second for first, second in pairs)


def _key(run):
    """Equal for repetitions of one training."""
    setup = run.setup
    recipe = dataclasses.asdict(setup.recipe) if setup.recipe else {}
    recipe.pop("model", None)
    spec = dataclasses.asdict(setup.spec) if setup.spec else {}
    what = [
        *(run.format, setup.dataset, sorted(setup.images.items()), setup.network, spec, recipe),
        *(setup.epochs, setup.bn_images, list(run.changes)),
    ]
    return json.dumps(what, sort_keys=True)


def _order(group):
    setup = group.setup
    name = published_name(setup.dataset)
    known = list(PUBLISHED).index(name) if name else len(PUBLISHED)
    return known, setup.dataset, setup.epochs, natural(setup.network), _key(group.runs[0])
