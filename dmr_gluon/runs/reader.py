"""Read trainings from their folders and logs. Needs no MXNet.

:mod:`.authors_log` reads the logs of the authors' code into the same form.
"""

import dataclasses
import os
from dataclasses import dataclass, field
from typing import Dict, Optional, Tuple

from ..errors import DMRError
from ..models.spec import NetworkSpec
from ..paper.recipes import Recipe
from ..system.text_tables import counted, one_line
from . import log as runlog
from .directory import RunDirectory, find_runs, is_locked
from .log import EpochRecord

FINISHED, RUNNING, STOPPED, FAILED = "finished", "running", "stopped", "failed"
#: The formats of logs.
OURS, AUTHORS = "dmr_gluon", "authors"
#: What a configuration may raise if it is damaged.
_DAMAGE = (DMRError, ValueError, KeyError, TypeError, AttributeError, OverflowError)
#: The parts of a run's configuration that only reports show.
_ENVIRONMENT = ("versions", "devices", "workers", "threads", "command")


@dataclass(frozen=True)
class Setup:
    """What was trained.

    Parameters
    ----------
    dataset, network : str
        Names, such as ``cifar10``.
    spec : NetworkSpec
    recipe : Recipe
    epochs : int
        Planned epochs.
    images : dict of str to int
        ``train`` and ``test``.
    bn_images : int, optional
        Images over which BN takes its statistics.
    seed : int, optional
    known_by : str, optional
        How the images are known to be an official set's: ``content``, ``archives`` (their MD5) or
        ``counts``; None if the log does not say.
    environment : dict
        Versions, devices and command, for reports.
    """

    dataset: str
    network: str
    spec: NetworkSpec
    recipe: Recipe
    epochs: int
    images: Dict[str, int] = field(default_factory=dict)
    bn_images: Optional[int] = None
    seed: Optional[int] = None
    known_by: Optional[str] = None
    environment: Dict[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class Run:
    """One training.

    Parameters
    ----------
    path : str
    format : str
        ``dmr_gluon`` or ``authors``.
    state : str
        ``finished``: its last epoch is logged; ``running``, ``stopped`` or ``failed``.
    setup : Setup
    epochs : dict of int to EpochRecord
        By epoch, from 1.
    points : dict of (int, int) to dict
        Within epochs: by epoch and step, both from 1, ``train_loss`` and ``train_error`` as means
        since the beginning of the epoch.
    changes : tuple of str
        Changes to its recipe while it ran.
    remarks : tuple of str
        Other events that may bear on its result.
    reason : str, optional
        Why it failed.
    updated : str, optional
        Time of the last event.
    """

    path: str
    format: str
    state: str
    setup: Setup
    epochs: Dict[int, EpochRecord] = field(default_factory=dict)
    points: Dict[Tuple[int, int], dict] = field(default_factory=dict)
    changes: Tuple[str, ...] = ()
    remarks: Tuple[str, ...] = ()
    reason: Optional[str] = None
    updated: Optional[str] = None

    @property
    def name(self):
        """A short name for legends: the folder's, or the file's without its extension."""
        path = os.path.abspath(self.path)
        return os.path.basename(path if os.path.isdir(path) else os.path.splitext(path)[0])

    @property
    def last(self):
        """The last epoch that has ended, or 0."""
        return max(self.epochs, default=0)

    def final(self, measure):
        """Return a measure after the last epoch of a finished run, as the paper does, or None."""
        if self.state != FINISHED:
            return None
        return getattr(self.epochs[self.setup.epochs], measure)

    def series(self, measure):
        """Return epochs and values of a measure."""
        rows = [(n, getattr(row, measure)) for n, row in sorted(self.epochs.items())]
        rows = [(n, value) for n, value in rows if value is not None]
        return [number for number, _ in rows], [value for _, value in rows]


def read_runs(paths):
    """Read all runs of folders and files.

    Parameters
    ----------
    paths : sequence of str
        Folders of runs, folders that hold runs at any depth, log files of this package
        (``.jsonl``) or of the authors' code.

    Returns
    -------
    list of Run
        Each once.

    Raises
    ------
    DMRError
        If a path does not exist, holds no run or is damaged.
    """
    from .authors_log import read_authors_log

    runs = {}
    for path in map(os.fspath, paths):
        if os.path.isdir(path):
            found = [read_run(folder) for folder in find_runs([path])]
        elif not os.path.isfile(path):
            raise DMRError(f"{path} does not exist; name a run, a folder that holds runs, or a log")
        elif os.path.basename(path) in ("log.jsonl", "config.json"):
            # The folder says more: whether it is being trained, and the recipe after a change.
            found = [read_run(os.path.dirname(path) or os.curdir)]
        elif path.endswith(".jsonl"):
            found = [_run(path, path)]
        else:
            found = [read_authors_log(path)]
        for run in found:
            runs.setdefault(os.path.realpath(run.path), run)
    return list(runs.values())


def read_run(folder):
    """Read the run in a folder.

    Raises
    ------
    DMRError
        If its log or configuration is damaged.
    """
    run = RunDirectory(folder)
    config = run.config() if run.exists() else None
    # Before the log: a run that ends between the two is then finished, not stopped.
    return _run(folder, run.log, config, is_locked(folder))


def _run(path, log, config=None, running=False):
    events = runlog.read(log) if config is None or os.path.exists(log) else []
    starts = [number for number, event in enumerate(events) if event["event"] == "start"]
    if starts:
        events = events[starts[-1] :]  # the folder was used again without its config.json
    sources = {"config.json": config, "the log's start": events[0] if starts else None}
    try:
        setups = [_setup(source) for source in sources.values() if source is not None]
        changes = [change for event in events for change in _changes(event)]
        moves = [move for event in events for move in _moves(event)]
    except _DAMAGE as error:
        raise DMRError(
            f"{path} does not say what was trained ({error!r}): config.json or {log} is damaged, "
            f"or of another version; put the original back"
        ) from error
    if not setups:
        raise DMRError(
            f"{log} does not say what was trained: it has no start, and there is no config.json "
            f"beside it; put either back"
        )
    setup, texts = setups[0], [text for _, text in changes]
    if len(setups) == 2:
        texts += _contradictions(*setups, {name for name, _ in changes})
    epochs = [EpochRecord.of(event) for event in events if event["event"] == "epoch"]
    last = events[-1] if events else {"event": None}
    if any(record.epoch == setup.epochs for record in epochs):
        state = FINISHED
    elif running:
        state = RUNNING
    else:
        state = FAILED if last["event"] == "failed" else STOPPED
    rollbacks = sum(event["event"] == "rollback" for event in events)
    if rollbacks:
        moves.append(f"rolled back from a loss that was not finite: {counted(rollbacks, 'time')}")
    return Run(
        path=path,
        format=OURS,
        state=state,
        setup=setup,
        epochs={record.epoch: record for record in epochs if record.epoch <= setup.epochs},
        points={
            (event["epoch"], event["step"]): {
                name: event[name] for name in ("train_loss", "train_error")
            }
            for event in events
            if event["event"] == "steps"
        },
        changes=tuple(texts),
        remarks=tuple(moves),
        reason=one_line(str(last.get("reason")), 200) if state == FAILED else None,
        updated=last.get("time"),
    )


def _changes(event):
    """Yield the recipe's changes at a resume: field, and the change in words."""
    for name, (old, new) in event.get("changes", {}).items():
        yield name, f"{name} changed from {old} to {new} after epoch {event['epoch']}"


def _moves(event):
    """Yield changes of devices and workers at a resume, in words."""
    for old, new in event.get("moved", {}).values():
        yield f"continued on {new} instead of {old} after epoch {event['epoch']}"


def _contradictions(config, start, changed):
    """Yield where the log is of another training than config.json, and no resume says why."""
    names = ("dataset", "network", "spec", "images", "seed", "epochs")
    pairs = {name: (getattr(config, name), getattr(start, name)) for name in names}
    for item in dataclasses.fields(Recipe):
        pairs[item.name] = tuple(getattr(setup.recipe, item.name) for setup in (config, start))
    for name, (ours, its) in pairs.items():
        if ours != its and name not in changed:
            yield f"{name} {ours!r} in config.json, {its!r} at the log's start"


def _setup(config):
    spec, recipe = NetworkSpec.from_json(config["network"]), Recipe.from_json(config["recipe"])
    dataset, devices = config["dataset"], config.get("devices") or [None]
    # With sync_bn the devices of a process take them together.
    parts = (1 if recipe.sync_bn else len(devices)) * recipe.accumulate * config.get("workers", 1)
    return Setup(
        dataset=dataset["name"],
        network=spec.name,
        spec=spec,
        recipe=recipe,
        epochs=int(config.get("epochs") or recipe.epochs),
        images={name: dataset[f"{name}_images"] for name in ("train", "test")},
        bn_images=max(1, recipe.batch_size // parts),
        seed=config.get("seed"),
        known_by=(dataset.get("official") or {}).get("known_by"),
        environment={name: config[name] for name in _ENVIRONMENT if name in config},
    )
