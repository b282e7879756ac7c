"""Groups of runs that repeat one training, and how that training deviates from the paper's.

Needs no MXNet.
"""

import dataclasses
import json
import re
from dataclasses import dataclass
from typing import Optional, Tuple

from ..paper.dataset_facts import PUBLISHED
from ..paper.recipes import OF_DATASET
from ..paper.recipes import deviations as differences
from ..runs.directory import natural
from ..runs.reader import AUTHORS, FAILED, FINISHED, RUNNING, Run, Setup
from ..system.text_tables import counted
from .statistics import Sample

TITLES = {"cifar10": "CIFAR-10", "cifar100": "CIFAR-100", "svhn": "SVHN", "imagenet": "ImageNet"}
#: Remarks on how a set's images are known to be the official ones.
_HOW_KNOWN = {
    "content": "",
    "archives": "its images are identified by the published MD5 of their archives and their "
    "number, not one by one",
    "counts": "its images are identified by their number alone: no archive with a published MD5 "
    "was found",
    None: "nothing says whether its images are the official ones",
}
#: Images over which the paper's GPUs take BN's statistics (sections 4.2 and 4.5).
_BN_IMAGES = 32


@dataclass(frozen=True)
class RunGroup:
    """Runs of one network with one recipe on one data set.

    Parameters
    ----------
    runs : tuple of Run
        All of them.
    counted : tuple of Run
        The finished ones, each seed once.
    left_out : tuple of (Run, str)
        The others, with the reason.
    deviations : tuple of str
        How the training deviates from the paper's. If there are any, its results cannot be
        compared with the paper's.
    remarks : tuple of str
        What does not prevent the comparison, but a reader should know.
    """

    runs: Tuple[Run, ...]
    counted: Tuple[Run, ...]
    left_out: Tuple[Tuple[Run, str], ...]
    deviations: Tuple[str, ...]
    remarks: Tuple[str, ...]

    @property
    def setup(self) -> Setup:
        """The setup of the first run, whose seed is its own."""
        return self.runs[0].setup

    @property
    def reasons(self):
        """Why runs are left out, by path."""
        return {run.path: reason for run, reason in self.left_out}

    @property
    def title(self):
        return f"{self.setup.network} on {dataset_title(self.setup.dataset)}"

    def sample(self, measure="test_error") -> Optional[Sample]:
        """Return the results after the last epochs of the runs that count."""
        values = (run.final(measure) for run in self.counted)
        return Sample.of(value for value in values if value is not None)


def grouped(runs):
    """Group runs, those of one data set together.

    Parameters
    ----------
    runs : list of Run

    Returns
    -------
    list of RunGroup
    """
    found = {}
    for run in runs:
        found.setdefault(_key(run), []).append(run)
    return sorted(map(_group, found.values()), key=_order)


def published_name(dataset):
    """Return the paper's data set that this one is or was made from, or None.

    It begins with that name: ``cifar10`` for ``cifar10-jpeg``.
    """
    fits = [name for name in PUBLISHED if re.match(re.escape(name) + r"(?![a-z0-9])", dataset)]
    return max(fits, key=len, default=None)


def dataset_title(dataset):
    """Return the name as it is written in a text: ``CIFAR-10-JPEG``."""
    name = published_name(dataset)
    if name is None:
        return dataset
    rest = dataset[len(name) :]
    return TITLES[name] + (rest.upper() if re.fullmatch(r"[-_]?\w*", rest) else rest)


def deviations_of(run):
    """Return a run's deviations from the paper's training, including changes while it ran.

    Parameters
    ----------
    run : Run

    Returns
    -------
    tuple of str
    """
    return deviations(run.setup) + run.changes


def deviations(setup):
    """Return a training's deviations from the paper's, each in a few words.

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
    paper, fields = OF_DATASET[name], recipe_deviations(setup)
    epochs = fields.pop("epochs", None)
    fields.pop("train_images", None)  # counted below
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
        f"{field} {shown(ours)} instead of {shown(its)}" for field, (ours, its) in fields.items()
    ]
    return tuple(found)


def recipe_deviations(setup):
    """Return the fields of a training's recipe that deviate from the paper's for its data set.

    Parameters
    ----------
    setup : Setup

    Returns
    -------
    dict of str to tuple
        By field, the recipe's value and the paper's.
    """
    paper = OF_DATASET.get(published_name(setup.dataset))
    # Another data set's recipe is compared with this one's, not with its own.
    return differences(
        dataclasses.replace(setup.recipe, name=paper.name) if paper else setup.recipe
    )


def shown(value):
    """Return a recipe's value in a few words."""
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
    if published_name(setup.dataset) and setup.bn_images not in (None, _BN_IMAGES):
        remarks.insert(0, f"BN over {setup.bn_images} images, the paper's over {_BN_IMAGES}")
    if published_name(setup.dataset) and runs[0].format != AUTHORS:
        known = dict.fromkeys(_HOW_KNOWN.get(r.setup.known_by, _HOW_KNOWN[None]) for r in runs)
        remarks += filter(None, known)
    return RunGroup(
        tuple(runs), tuple(counted), tuple(left_out), deviations_of(runs[0]), tuple(remarks)
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
    """Tell whether one is a copy of the other."""
    names = ("train_loss", "train_error", "test_loss", "test_error")
    pairs = [
        [[getattr(row, name) for name in names] for row in (one.epochs[n], other.epochs[n])]
        for n in one.epochs
        if n in other.epochs
    ]
    return bool(pairs) and all(first == second for first, second in pairs)


def _key(run):
    """Return a key that repetitions of one training share."""
    setup = run.setup
    recipe, spec = dataclasses.asdict(setup.recipe), dataclasses.asdict(setup.spec)
    recipe.pop("model")
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
