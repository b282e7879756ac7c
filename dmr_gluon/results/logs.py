"""Reading finished, running and broken trainings from their logs. Needs no MXNet.

A log may be damaged anywhere: what can be read of it is used, and what was passed over is
named. :mod:`.authors_log` reads the logs of the authors' code into the same form.
"""

import json
import os

from ..errors import DMRError
from ..recipes import Recipe
from ..report import runlog
from ..report.status import find_runs, is_locked
from ..spec import NetworkSpec
from .authors_log import is_authors_log, read_authors_log
from .run import FAILED, FINISHED, MOST_EPOCHS, RUNNING, STOPPED, Epochs, Run, Setup, short, times

#: What a log's start or config.json may raise where it is damaged.
_DAMAGE = (DMRError, ValueError, KeyError, TypeError, AttributeError, OverflowError)


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
    runs = []
    for path in paths:
        if os.path.isdir(path):
            runs += [read_run(folder) for folder in find_runs([path])]
        elif not os.path.exists(path):
            raise DMRError(f"{path} is not there; name a run, a folder that holds runs, or a log")
        elif is_authors_log(path):
            runs.append(read_authors_log(path, dataset, network, epochs))
        else:
            runs.append(_read(path, path, None, []))
    once = {os.path.realpath(run.path): run for run in reversed(runs)}
    return list(reversed(list(once.values())))


def read_run(folder):
    """The run in a folder; what cannot be read is named in it."""
    problems, config = [], None
    try:
        with open(os.path.join(folder, "config.json"), "rb") as file:
            config = json.loads(file.read().decode("utf-8"))
    except FileNotFoundError:
        pass  # the log's first line has it too
    except (OSError, ValueError, RecursionError) as error:
        problems.append(f"config.json cannot be read ({short(error)})")
    # Before the log: a run that ends between the two is then finished, not stopped.
    running = is_locked(folder)
    return _read(folder, os.path.join(folder, "log.jsonl"), config, problems, running)


def _read(path, log, config, problems, running=False):
    events = list(_events(log, problems))
    setup = _first_setup(config, events, problems)
    epochs, failed = Epochs(problems), None
    for event in events:
        if event["event"] == "epoch":
            epochs.add(event.get("epoch"), event)
        elif event["event"] == "failed":
            failed = short(event.get("reason", "no reason given"), 200)
        elif event["event"] != "end":  # it went on
            failed = None
    rows = epochs.finish(setup.epochs if setup else MOST_EPOCHS)
    if setup and "test_error" in rows.get(setup.epochs, {}):
        state = FINISHED
    elif running:
        state = RUNNING
    elif failed:
        state = FAILED
    else:
        state = STOPPED
    if state == STOPPED and any(event["event"] == "end" for event in events):
        problems.append("the log has an end, but not the last epoch's test error")
    return Run(
        path=path,
        format="dmr_gluon",
        state=state,
        setup=setup,
        epochs=rows,
        problems=tuple(problems),
        changes=tuple(_changes(events)),
        remarks=tuple(_remarks(events)),
        reason=failed if state == FAILED else None,
    )


def _events(path, problems):
    """Those that can be read, in the order of the file."""
    try:
        with open(path, "rb") as file:
            lines = file.read().split(b"\n")
    except OSError as error:
        problems.append(f"{os.path.basename(path)} cannot be read ({error.strerror})")
        return
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            event = json.loads(line.decode("utf-8"))
        except (ValueError, RecursionError):
            what = "cut off" if number == len(lines) else "not JSON"
            problems.append(f"line {number} is {what}; it was passed over")
            continue
        kind = event.get("event") if isinstance(event, dict) else None
        if not isinstance(kind, str) or kind not in runlog.EVENTS:
            problems.append(f"line {number} is no event that a log has; it was passed over")
            continue
        yield event


def _first_setup(config, events, problems):
    """From config.json, which knows of changes, or else from the log's first line."""
    sources = {"config.json": config} if config is not None else {}
    for event in events:
        if event["event"] == "start":
            sources["the log's start"] = event
    for where, source in sources.items():
        try:
            return _setup(source)
        except _DAMAGE as error:
            problems.append(f"{where} does not say what was trained ({short(error)})")
    if not sources:
        problems.append("nothing says what was trained: neither config.json nor the log's start")
    return None


def _setup(config):
    spec, recipe = NetworkSpec.from_json(config["network"]), Recipe.from_json(config["recipe"])
    dataset, seed = config["dataset"], config.get("seed")
    processes = len(config.get("devices") or [0]) * int(config.get("workers") or 1)
    epochs = int(config.get("epochs") or recipe.epochs)
    if not 1 <= epochs <= MOST_EPOCHS:
        raise ValueError(f"{epochs} epochs")
    return Setup(
        dataset=_text(dataset["name"]),
        network=_text(spec.name),
        spec=spec,
        recipe=recipe,
        epochs=epochs,
        images={name: int(dataset[f"{name}_images"]) for name in ("train", "test")},
        bn_images=recipe.batch_size // max(1, processes * recipe.accumulate),
        seed=None if seed is None else int(seed),
        environment={
            name: config[name]
            for name in ("versions", "devices", "workers", "threads", "command")
            if name in config
        },
    )


def _text(value):
    if not isinstance(value, str) or not value:
        raise TypeError(f"{short(value)} is not a name")
    return value


def _changes(events):
    """What of the recipe was changed at a resume."""
    for event in events:
        changes = event.get("changes") if event["event"] == "resume" else None
        if isinstance(changes, dict):
            for name, pair in changes.items():
                old, new = pair if isinstance(pair, list) and len(pair) == 2 else ("?", pair)
                when = f"after epoch {short(event.get('epoch', '?'))}"
                yield f"{short(name)} changed from {short(old)} to {short(new)} {when}"


def _remarks(events):
    back = sum(event["event"] == "rollback" for event in events)
    if back:
        yield f"went back {times(back)} from a loss that was not finite"
