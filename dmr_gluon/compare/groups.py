"""Group runs that repeat one training, and list its deviations from the paper's.

Needs no MXNet.
"""

import dataclasses
import re
from dataclasses import dataclass
from typing import Optional, Tuple

from ..paper import recipes
from ..paper.dataset_facts import PUBLISHED
from ..runs.directory import natural
from ..runs.reader import AUTHORS, FINISHED, Run, Setup
from ..system.text_tables import counted
from .statistics import Sample

TITLES = {"cifar10": "CIFAR-10", "cifar100": "CIFAR-100", "svhn": "SVHN", "imagenet": "ImageNet"}
#: Images per GPU in the paper, over which BN computes its statistics (sections 4.2 and 4.5).
BN_IMAGES = 32


@dataclass(frozen=True)
class RunGroup:
    """Runs of one network with one recipe on one data set.

    Parameters
    ----------
    runs : tuple of Run
        All runs.
    counted : tuple of Run
        The finished ones, one per seed.
    left_out : tuple of (Run, str)
        The others, each with the reason.
    deviations : tuple of str
        Deviations from the paper's training. If there are any, the results are not comparable with
        the paper's.
    remarks : tuple of str
        Facts to know that do not prevent the comparison.
    """

    runs: Tuple[Run, ...]
    counted: Tuple[Run, ...]
    left_out: Tuple[Tuple[Run, str], ...]
    deviations: Tuple[str, ...]
    remarks: Tuple[str, ...]

    @property
    def setup(self) -> Setup:
        """The setup of the first run; the others differ in their seed."""
        return self.runs[0].setup

    @property
    def title(self):
        """Network and data set, for headings."""
        return f"{self.setup.network} on {dataset_title(self.setup.dataset)}"

    def sample(self, measure="test_error") -> Optional[Sample]:
        """Summarize a measure after the last epoch, over the runs that count."""
        return Sample.of(run.final(measure) for run in self.counted)


def grouped(runs):
    """Group runs that differ only in their seed.

    Parameters
    ----------
    runs : list of Run

    Returns
    -------
    list of RunGroup
        Sorted by data set, the paper's first, then by epochs and network.
    """
    found = {}
    for run in runs:
        found.setdefault(_key(run), []).append(run)
    return sorted(map(_group, found.values()), key=_order)


def published_name(dataset):
    """Return the paper's data set with whose name this one begins, or None.

    ``cifar10-jpeg`` is made from ``cifar10``; ``cifar101`` is not.
    """
    return next((name for name in PUBLISHED if re.match(name + r"(?![a-z0-9])", dataset)), None)


def dataset_title(dataset):
    """Return the name as written in prose, such as ``CIFAR-10-JPEG``."""
    name = published_name(dataset)
    return TITLES[name] + dataset[len(name) :].upper() if name else dataset


def deviations_of(run):
    """Return a run's deviations from the paper's training, including changes at a resume.

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
    name, found = published_name(setup.dataset), []
    if setup.init_from:
        found.append(f"began from {setup.initial_weights}")
    if name is None:
        return (f"the paper has no data set {setup.dataset}", *found)
    paper, published = recipes.OF_DATASET[name], PUBLISHED[name]
    # A recipe for another data set is compared with this one's.
    fields = recipes.deviations(dataclasses.replace(setup.recipe, name=paper.name))
    fields.pop("train_images", None)  # counted below
    if setup.epochs != paper.epochs:
        fields.pop("epochs", None)
        found.append(f"{counted(setup.epochs, 'epoch')} instead of {paper.epochs}")
    if setup.dataset != name:
        found.append(f"{dataset_title(setup.dataset)} instead of {TITLES[name]}")
    for kind in ("train", "test"):
        whole = getattr(published, f"{kind}_images")
        images = setup.images.get(kind, whole)
        if images != whole:
            found.append(f"{images:,} {kind} images instead of {whole:,}")
    found += [
        f"{field} {shown(ours)} instead of {shown(its)}" for field, (ours, its) in fields.items()
    ]
    return tuple(found)


def shown(value):
    """Format the value of a recipe's field."""
    if isinstance(value, tuple):
        return ", ".join(map(shown, value)) or "none"
    if value is None:
        return "none"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _group(runs):
    runs = sorted(runs, key=lambda run: (run.setup.seed is None, run.setup.seed or 0, run.path))
    counted, left_out = [], []
    for run in runs:
        reason = _why_left_out(run, counted)
        if reason:
            left_out.append((run, reason))
        else:
            counted.append(run)
    setup = runs[0].setup
    remarks = [f"{run.name}: {remark}" for run in runs for remark in run.remarks]
    if setup.images.get("test") == 0:
        remarks.append("trained without test images; there is no error to compare")
    if published_name(setup.dataset):
        if setup.bn_images not in (None, BN_IMAGES):
            remarks.insert(0, f"BN over {setup.bn_images} images, the paper's over {BN_IMAGES}")
        if runs[0].format != AUTHORS:
            known = {run.setup.known_by or "name" for run in runs} - {"content"}
            remarks += [
                f"its images are identified by {how}, not by content" for how in sorted(known)
            ]
    return RunGroup(
        tuple(runs), tuple(counted), tuple(left_out), deviations_of(runs[0]), tuple(remarks)
    )


def _why_left_out(run, counted):
    if run.state != FINISHED:
        reason = f": {run.reason}" if run.reason else ""
        return f"{run.state} after epoch {run.last} of {run.setup.epochs}{reason}"
    for other in counted:
        if run.epochs == other.epochs:
            return f"the same numbers as {other.path}"
        if other.setup.seed is not None and other.setup.seed == run.setup.seed:
            return f"seed {run.setup.seed} again, already counted in {other.path}"
    return None


def _key(run):
    """Return a key shared by the repetitions of one training."""
    setup = run.setup
    recipe = {**dataclasses.asdict(setup.recipe), "model": None}  # the network has several names
    data = (setup.dataset, sorted(setup.images.items()))
    began = setup.init_from and setup.init_from["sha256"]
    how = (setup.network, setup.spec, recipe, setup.epochs, setup.bn_images, began)
    return repr((run.format, data, how, run.changes))


def _order(group):
    setup = group.setup
    names = natural(setup.dataset), setup.epochs, natural(setup.network)
    return (published_name(setup.dataset) is None, *names, _key(group.runs[0]))
