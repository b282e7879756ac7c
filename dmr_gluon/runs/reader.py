"""Read trainings from folders and logs. Needs no MXNet.

:mod:`.authors_log` reads the logs of the authors' code into the same form.
"""

import os
from dataclasses import dataclass, field
from typing import Any, Dict, Optional, Tuple

from ..errors import DMRError
from ..models.spec import CustomSpec, NetworkSpec, Spec
from ..paper.recipes import Recipe
from ..system.text_tables import counted
from . import log as runlog
from .directory import RunDirectory, find_runs, is_locked
from .log import EpochRecord

FINISHED, RUNNING, STOPPED, FAILED = "finished", "running", "stopped", "failed"
#: The formats of logs.
OURS, AUTHORS = "dmr_gluon", "authors"
#: What a damaged configuration may raise.
_DAMAGE = (DMRError, ValueError, KeyError, TypeError, AttributeError, OverflowError)
#: Parts of a run's configuration that are only shown in reports.
_ENVIRONMENT = ("versions", "devices", "workers", "threads", "command")


@dataclass(frozen=True)
class Setup:
    """What was trained.

    Parameters
    ----------
    dataset, network : str
        Names, such as ``cifar10``.
    spec : NetworkSpec, or CustomSpec for a user's own
    recipe : Recipe
    epochs : int
        Planned epochs.
    images : dict of str to int
        ``train`` and ``test``.
    bn_images : int, optional
        Number of images over which BN computes its statistics.
    seed : int, optional
    init_from : dict, optional
        The trained weights that it began from: ``named``, ``network``, ``sha256`` and others.
    known_by : str, optional
        How the images were identified as an official set: ``content``, ``archives`` (their MD5)
        or ``counts``; None if the log does not say.
    environment : dict
        Versions, devices and command, for reports.
    """

    dataset: str
    network: str
    spec: Spec
    recipe: Recipe
    epochs: int
    images: Dict[str, int] = field(default_factory=dict)
    bn_images: Optional[int] = None
    seed: Optional[int] = None
    init_from: Optional[Dict[str, Any]] = None
    known_by: Optional[str] = None
    environment: Dict[str, object] = field(default_factory=dict)

    @property
    def initial_weights(self):
        """What the training began from, in words."""
        if not self.init_from:
            return "random weights"
        network = self.init_from["network"] or self.init_from["named"]
        return f"trained weights {self.init_from['sha256'][:8]} ({network})"


@dataclass(frozen=True, repr=False)
class Run:
    """One training. Functions that take the path of a run accept it instead.

    Parameters
    ----------
    path : str
    format : str
        ``dmr_gluon`` or ``authors``.
    state : str
        ``finished`` (its last epoch is logged, or it stopped early), ``running``, ``stopped`` or
        ``failed``.
    setup : Setup
    epochs : dict of int to EpochRecord
        By epoch, from 1.
    points : dict of (int, int) to dict
        By epoch and step, both from 1: at least ``train_loss`` and ``train_error``, as means
        since the start of the epoch.
    changes : tuple of str
        Changes to its recipe at a resume.
    remarks : tuple of str
        Other events that may affect its result.
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
        """Name of the folder, or of the file without its extension."""
        path = os.path.abspath(self.path)
        return os.path.basename(path if os.path.isdir(path) else os.path.splitext(path)[0])

    @property
    def last(self):
        """Last completed epoch, or 0."""
        return max(self.epochs, default=0)

    @property
    def best(self) -> Optional[EpochRecord]:
        """The epoch with the lowest test error so far, the first of equals, or None."""
        measured = [row for row in self.epochs.values() if row.test_error is not None]
        return min(measured, key=lambda row: (row.test_error, row.epoch)) if measured else None

    def __fspath__(self) -> str:
        return self.path

    def __str__(self) -> str:
        return self.path

    def __repr__(self) -> str:
        error = self.epochs[self.last].test_error if self.epochs else None
        after = "" if error is None else f", test error {error:.2f}%"
        return f"<Run {self.path}: {self.state} after epoch {self.last}{after}>"

    def final(self, measure):
        """Return a measure after the last epoch of a finished run, as in the paper, or None."""
        if self.state != FINISHED:
            return None
        return getattr(self.epochs[self.last], measure)

    def series(self, measure):
        """Return the epochs that have a measure, and its values."""
        rows = [(n, getattr(row, measure)) for n, row in sorted(self.epochs.items())]
        rows = [(n, value) for n, value in rows if value is not None]
        return [number for number, _ in rows], [value for _, value in rows]


def read_runs(paths):
    """Read all runs in folders and files.

    Parameters
    ----------
    paths : sequence of str
        Folders of runs, folders that contain runs at any depth, log files of this package
        (``.jsonl``) or of the authors' code.

    Returns
    -------
    list of Run
        Each once.

    Raises
    ------
    DMRError
        If a path does not exist, contains no run or is damaged.
    """
    from .authors_log import read_authors_log

    runs = {}
    for path in map(os.fspath, paths):
        if os.path.isdir(path):
            found = [read_run(folder) for folder in find_runs([path])]
        elif os.path.basename(path) == "log.jsonl":  # its folder tells whether it is running
            found = [read_run(os.path.dirname(path) or os.curdir)]
        elif path.endswith(".jsonl"):
            found = [_run(path, runlog.read(path))]
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
        If there is no run, or its log is damaged.
    """
    running = is_locked(folder)  # before the log, lest a run that ends meanwhile seem stopped
    log = RunDirectory(folder).log
    return _run(folder, runlog.read(log) if os.path.exists(log) else [], running)


def _run(path, events, running=False):
    starts = [number for number, event in enumerate(events) if event["event"] == "start"]
    if starts:
        events = events[starts[-1] :]  # the folder was reused
    start = events[0] if starts else RunDirectory(path).config()
    changes, remarks = [], []
    try:
        recipe = dict(start["recipe"])
        for event in events:
            after = f"after epoch {event.get('epoch')}"
            for name, (old, new) in event.get("changes", {}).items():
                recipe[name] = new
                changes.append(f"{name} changed from {old} to {new} {after}")
            for old, new in event.get("moved", {}).values():
                remarks.append(f"continued on {new} instead of {old} {after}")
        setup = _setup({**start, "recipe": recipe})
    except _DAMAGE as error:
        raise DMRError(
            f"{path} does not say what was trained ({error!r}): its log or config.json is damaged, "
            f"or of another version; put the original back"
        ) from error
    epochs = [EpochRecord.of(event) for event in events if event["event"] == "epoch"]
    points = [event for event in events if event["event"] == "steps"]
    rollbacks = sum(event["event"] == "rollback" for event in events)
    if rollbacks:
        remarks.append(f"rolled back from a loss that was not finite: {counted(rollbacks, 'time')}")
    last = events[-1] if events else {}
    early = bool(last.get("stopped_early") and epochs)
    if early:
        remarks.append(
            f"stopped early, after epoch {epochs[-1].epoch}: its test error chose the end, and is "
            f"optimistic"
        )
    if early or any(record.epoch == setup.epochs for record in epochs):
        state = FINISHED
    elif running:
        state = RUNNING
    else:
        state = FAILED if last.get("event") == "failed" else STOPPED
    return Run(
        path=path,
        format=OURS,
        state=state,
        setup=setup,
        epochs={record.epoch: record for record in epochs},
        points={(point["epoch"], point["step"]): point for point in points},
        changes=tuple(changes),
        remarks=tuple(remarks),
        reason=last.get("reason") if state == FAILED else None,
        updated=last.get("time"),
    )


def _setup(config):
    spec, recipe = NetworkSpec.from_json(config["network"]), Recipe.from_json(config["recipe"])
    if isinstance(spec, NetworkSpec) and not spec.papers:  # registered in this process
        spec = CustomSpec(spec.name, spec.classes)
    dataset, devices = config["dataset"], config.get("devices") or [None]
    # With sync_bn, all devices of a process share their statistics.
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
        init_from=config.get("init_from"),
        known_by=(dataset.get("official") or {}).get("known_by"),
        environment={name: config[name] for name in _ENVIRONMENT if name in config},
    )
