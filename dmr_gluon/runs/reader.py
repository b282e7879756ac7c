"""Reading finished, running and broken trainings from their logs. Needs no MXNet.

A log may be damaged anywhere: what can be read of it is used, and what was passed over is
named. :mod:`.authors_log` reads the logs of the authors' code into the same form.
"""

import dataclasses
import json
import os

from ..errors import DMRError
from ..models.spec import NetworkSpec
from ..paper.recipes import Recipe
from . import log as runlog
from .authors_log import is_authors_log, read_authors_log
from .status import find_runs, is_locked
from .training_run import (
    BOM,
    FAILED,
    FINISHED,
    LONGEST,
    MEASURES,
    MOST_EPOCHS,
    MOST_STEPS,
    RUNNING,
    STOPPED,
    Epochs,
    Problems,
    Run,
    Setup,
    epoch_number,
    lines_of,
    one_line,
    open_log,
    short,
    times,
)

#: What a log's start or config.json may raise where it is damaged.
_DAMAGE = (
    *(DMRError, ValueError, KeyError, TypeError, AttributeError, OverflowError),
    RecursionError,
)
#: What of a run's configuration is for reports, with its type.
_ENVIRONMENT = {"versions": dict, "devices": list, "workers": int, "threads": str, "command": str}


def read_runs(paths, dataset=None, network=None, epochs=None):
    """All runs of folders and files.

    Parameters
    ----------
    paths : sequence of str
        Runs' folders, folders that hold runs at any depth, log files of this package
        (``.jsonl``) or of the authors' code.
    dataset, network, epochs : optional
        What :func:`.authors_log.read_authors_log` is to take for logs that do not say it.

    Returns
    -------
    list of Run
        Each once.

    Raises
    ------
    DMRError
        For a path that is not there, holds no run, or is no log.
    """
    runs = {}
    for path in map(os.fspath, paths):
        if os.path.isdir(path):
            found = [read_run(folder) for folder in find_runs([path])]
        elif not os.path.exists(path):
            raise DMRError(f"{path} is not there; name a run, a folder that holds runs, or a log")
        elif os.path.basename(path) in ("log.jsonl", "config.json"):
            # The folder says more: whether it is being trained, and the recipe after a change.
            found = [read_run(os.path.dirname(path) or os.curdir)]
        elif is_authors_log(path):
            found = [read_authors_log(path, dataset, network, epochs)]
        else:
            found = [_read(path, path, None, Problems())]
        for run in found:
            runs.setdefault(os.path.realpath(run.path), run)
    return list(runs.values())


def read_run(folder):
    """The run in a folder; what cannot be read is named in it."""
    problems, config = Problems(), None
    try:
        config = _read_config(os.path.join(folder, "config.json"))
    except FileNotFoundError:
        pass  # the log's first line has it too
    except (OSError, ValueError, RecursionError) as error:
        problems.add(f"config.json cannot be read ({short(error)})")
    # Before the log: a run that ends between the two is then finished, not stopped.
    running = is_locked(folder)
    return _read(folder, os.path.join(folder, "log.jsonl"), config, problems, running)


def _read_config(path):
    with open_log(path) as file:
        content = file.read(LONGEST)
    config = json.loads(content[len(BOM) * content.startswith(BOM) :].decode("utf-8"))
    if not isinstance(config, dict):
        raise ValueError("it holds no object")
    return config


def _read(path, log, config, problems, running=False):
    found = _Log(log, problems)
    said = _setups(config, found.start, problems)
    setup = said[0] or said[1]
    changes = [text for _, text in found.changes]
    if all(said):
        changes += _contradictions(*said, {name for name, _ in found.changes})
    rows = found.epochs.finish(setup.epochs if setup else MOST_EPOCHS)
    if setup and "test_error" in rows.get(setup.epochs, {}):
        state = FINISHED
    elif running:
        state = RUNNING
    elif found.failed:
        state = FAILED
    else:
        state = STOPPED
    if state == STOPPED and running is None:
        problems.add("it may be running: its lock cannot be asked")
    if state == STOPPED and found.ended:
        problems.add("the log has an end, but not the last epoch's test error")
    remarks = found.moves
    if found.rollbacks:
        remarks.append(f"went back {times(found.rollbacks)} from a loss that was not finite")
    return Run(
        path=path,
        format="dmr_gluon",
        state=state,
        setup=setup,
        epochs=rows,
        points=found.points,
        problems=problems.told(),
        changes=tuple(changes),
        remarks=tuple(remarks),
        reason=found.failed if state == FAILED else None,
    )


class _Log:
    """What a log says, event by event.

    Parameters
    ----------
    path : str
    problems : Problems
    """

    def __init__(self, path, problems):
        self.start, self.failed, self.ended, self.rollbacks = None, None, False, 0
        self.changes, self.moves = [], []  # (field of the recipe, in words); in words
        self.epochs, self.points = Epochs(problems), {}
        for number, event in _events(path, problems):
            try:
                self._take(number, event)
            except ValueError as error:
                _pass_over(problems, number, str(error), "lines with such numbers")

    def _take(self, number, event):
        kind = event["event"]
        if kind == "start":
            if self.start is not None:  # config.json was removed, and the folder used again
                self.epochs.forget_after(0, number)
                self.changes, self.moves, self.ended, self.rollbacks = [], [], False, 0
                self.points = {}
            self.start = event
        elif kind == "steps":
            epoch, step = epoch_number(event.get("epoch")), event.get("step")
            row = {name: event.get(name) for name in ("train_loss", "train_error")}
            if (
                type(step) is not int
                or not 1 <= step <= MOST_STEPS
                or not all(
                    type(value) in (int, float) and 0 <= value <= MEASURES[name]
                    for name, value in row.items()
                )
            ):
                raise ValueError("has no means of its steps")
            self.points[epoch, step] = row
        elif kind == "epoch":
            values = {name: event[name] for name in MEASURES if name in event}
            self.epochs.add(epoch_number(event.get("epoch")), values, expected=MEASURES)
        elif kind == "resume":
            self.changes += _changes(event)
            self.moves += _moves(event)
        self.rollbacks += kind == "rollback"
        if kind == "end":
            self.ended = True
        elif kind == "failed":
            reason = event.get("reason", "no reason given")
            self.failed = one_line(reason, 200) if isinstance(reason, str) else short(reason, 200)
        else:  # it went on
            self.failed = None


def _events(path, problems):
    """(number of the line, event) for those that can be read, in the order of the file."""
    for number, line, whole in lines_of(path, problems):
        if not line.strip():
            continue
        try:
            event = json.loads(line.decode("utf-8"))
        except (ValueError, RecursionError):
            what = "is not JSON" if whole else "is cut off"
            _pass_over(problems, number, what, "lines that are not JSON")
            continue
        kind = event.get("event") if isinstance(event, dict) else None
        if isinstance(kind, str) and kind in runlog.EVENTS:
            yield number, event
        else:
            what = "is no event that a log has"
            _pass_over(problems, number, what, "lines that are no event that a log has")


def _pass_over(problems, number, what, kind):
    problems.add(f"line {number} {what}; it was passed over", kind, number)


def _changes(event):
    """What of the recipe was changed at a resume: (field, in words)."""
    changes, when = event.get("changes"), _when(event)
    if changes is None:
        return
    if not isinstance(changes, dict):
        yield "?", f"something of the recipe changed {when}: {short(changes)}"
        return
    for name, pair in changes.items():
        old, new = pair if isinstance(pair, list) and len(pair) == 2 else ("?", pair)
        shown = name if name.isidentifier() else short(name)
        yield name, f"{shown} changed from {short(old)} to {short(new)} {when}"


def _moves(event):
    """That a run went on on other devices, in words."""
    moved = event.get("moved")
    for pair in moved.values() if isinstance(moved, dict) else ():
        old, new = map(short, pair if isinstance(pair, list) and len(pair) == 2 else ("?", pair))
        yield f"went on on {new} instead of {old} {_when(event)}"


def _when(event):
    return f"after epoch {short(event['epoch'])}" if "epoch" in event else "at a resume"


def _setups(config, start, problems):
    """By config.json, which knows of changes, and by the log's start; None where there is none."""
    found = []
    for where, source in (("config.json", config), ("the log's start", start)):
        setup = None
        try:
            setup = None if source is None else _setup(source)
        except _DAMAGE as error:
            what = f"no {error}" if isinstance(error, KeyError) else short(error, 200)
            problems.add(f"{where} does not say what was trained ({what})")
        found.append(setup)
    if config is None and start is None:
        problems.add("nothing says what was trained: neither config.json nor the log's start")
    return found


def _contradictions(config, start, changed):
    """Where the log is of another training than config.json, and no resume says why."""
    names = ("dataset", "network", "spec", "images", "seed", "epochs")
    pairs = {name: (getattr(config, name), getattr(start, name)) for name in names}
    for field in dataclasses.fields(Recipe):
        pairs[field.name] = tuple(getattr(setup.recipe, field.name) for setup in (config, start))
    for name, (ours, its) in pairs.items():
        if ours != its and name not in changed:
            yield f"{name} {short(ours)} in config.json, {short(its)} at the log's start"


def _setup(config):
    spec, recipe = NetworkSpec.from_json(config["network"]), Recipe.from_json(config["recipe"])
    dataset, devices = config["dataset"], config.get("devices") or [None]
    workers, epochs, seed = (config.get(name) for name in ("workers", "epochs", "seed"))
    if not isinstance(devices, list):
        raise TypeError(f"devices {short(devices)}")
    # With sync_bn the devices of a process take them together.
    parts = (1 if recipe.sync_bn else len(devices)) * recipe.accumulate
    parts *= 1 if workers is None else _whole("workers", workers)
    return Setup(
        dataset=_text(dataset["name"]),
        network=_text(spec.name),
        spec=spec,
        recipe=recipe,
        epochs=_whole("epochs", recipe.epochs if epochs is None else epochs, most=MOST_EPOCHS),
        images={name: _whole(name, dataset[f"{name}_images"]) for name in ("train", "test")},
        bn_images=max(1, recipe.batch_size // parts),
        seed=None if seed is None else _whole("seed", seed, least=0),
        known_by=_known_by(dataset.get("official")),
        environment={
            name: config[name]
            for name, kind in _ENVIRONMENT.items()
            if type(config.get(name)) is kind
        },
    )


def _known_by(official):
    found = official.get("known_by") if isinstance(official, dict) else None
    return found if isinstance(found, str) else None


def _whole(name, value, least=1, most=10**12):
    if type(value) is not int or not least <= value <= most:
        raise ValueError(f"{name} {short(value)}")
    return value


def _text(value):
    if not isinstance(value, str) or not value or not value.isprintable():
        raise TypeError(f"{short(value)} is not a name")
    return value
