"""How runs stand, read from their folders while they are trained. Needs no MXNet.

The training process holds an exclusive lock on ``RUN/lock`` and rewrites
``RUN/progress.json`` every few seconds; both are only read here.
"""

import fcntl
import json
import os
import re
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from typing import Optional

from ..errors import DMRError
from . import log as runlog
from .directory import RunDirectory

RUNNING, STOPPED, FINISHED, FAILED = "running", "stopped", "finished", "failed"
UNREADABLE = "unreadable"


@dataclass(frozen=True)
class RunStatus:
    """How a run stands.

    Parameters
    ----------
    path : str
    state : str
        ``running``, ``stopped``, ``finished``, ``failed`` or ``unreadable``.
    reason : str, optional
        Why it failed or cannot be read, or may be running all the same.
    epoch, epochs : int, optional
        The epoch it is in (running) or that has ended, and how many there are to be.
    epoch_share : float, optional
        Of a running one: which share of its epoch's steps is done.
    train_loss : float, optional
        Mean since the epoch's beginning; of a run that is not running, as last logged.
    test_error, best_error, top5_error : float, optional
        In percent; of the last epoch, the least, and the last epoch's top-5 error.
    images_per_second : float, optional
        In training.
    seconds_left : float, optional
        Of the whole run; of a run that is not running, what it would still take.
    last_activity : str, optional
        ISO 8601, UTC.
    """

    path: str
    state: str
    reason: Optional[str] = None
    epoch: Optional[int] = None
    epochs: Optional[int] = None
    epoch_share: Optional[float] = None
    train_loss: Optional[float] = None
    test_error: Optional[float] = None
    best_error: Optional[float] = None
    top5_error: Optional[float] = None
    images_per_second: Optional[float] = None
    seconds_left: Optional[float] = None
    last_activity: Optional[str] = None

    def to_json(self):
        return asdict(self)

    def idle_seconds(self):
        """Seconds since the last activity, or None."""
        if self.last_activity is None:
            return None
        then = _time(self.last_activity)
        return max(0.0, (datetime.now(timezone.utc) - then).total_seconds())


def find_runs(paths):
    """Folders of runs: those named, and all at any depth below those that are none.

    Raises
    ------
    DMRError
        For a folder that isn't there, or in which there is no run.
    """
    found = []
    for path in map(os.fspath, paths):
        if not os.path.isdir(path):
            raise DMRError(f"{path} is not a folder; name a run, or a folder that holds runs")
        runs, seen = [], set()
        for folder, below, files in os.walk(path, followlinks=True):
            place = os.path.realpath(folder)
            if place in seen:  # a link that leads back
                below.clear()
                continue
            seen.add(place)
            if "config.json" in files or "log.jsonl" in files:
                runs.append(folder)
                below.clear()  # its checkpoints are no runs
            below.sort(key=natural)
        if not runs:
            raise DMRError(
                f"there is no run in {path}; name a folder that a training has written (--run-dir)"
            )
        found += runs
    return list(dict.fromkeys(map(os.path.normpath, found)))


def is_locked(path):
    """Whether another process is training this run; None where that cannot be told."""
    try:
        with open(os.path.join(path, "lock"), "rb") as file:
            # A shared lock is refused while a training holds its exclusive one, and two that
            # only look don't get into each other's way. Closing the file gives it back.
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    except OSError:  # a file system without locks, or another user's file
        return None
    return False


def read_status(path):
    """How one run stands; what cannot be read is a state, not an error.

    Parameters
    ----------
    path : str

    Returns
    -------
    RunStatus
    """
    try:
        return _read(path)
    except DMRError as error:
        reason = str(error)
    except OSError as error:
        reason = f"{error.strerror} ({error.filename})"
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        reason = f"log.jsonl or progress.json has other fields than expected ({error!r})"
    return RunStatus(path, UNREADABLE, reason)


def _read(path):
    run = RunDirectory(path)
    config = run.config()
    epochs = int(config.get("epochs") or config["recipe"]["epochs"])
    # Before the log: a run that ends between the two is then finished, not stopped.
    running = is_locked(path)
    events = runlog.read(run.log)
    done = [event for event in events if event["event"] == "epoch"]
    last = events[-1]["event"] if events else None
    values = {"epoch": done[-1]["epoch"] if done else 0, "epochs": epochs}
    losses = [event["train_loss"] for event in events if "train_loss" in event]
    if losses:
        values["train_loss"] = float(losses[-1])
    if done:
        top5 = done[-1].get("test_top5_error")
        values.update(
            test_error=float(done[-1]["test_error"]),
            best_error=min(float(event["test_error"]) for event in done),
            top5_error=None if top5 is None else float(top5),
            images_per_second=float(done[-1]["images_per_second"]),
            seconds_left=_mean_seconds(done) * (epochs - done[-1]["epoch"]),
        )
    times = [event["time"] for event in events[-1:]]
    state = RUNNING if running else FAILED if last == "failed" else STOPPED
    if done and any(event["event"] == "end" for event in events):
        state = FINISHED
    if state == RUNNING:
        progress = _progress(run.file("progress.json"))
        if progress:
            values["epoch"] = int(progress["epoch"])
            if progress["steps"]:
                values["epoch_share"] = round(progress["step"] / progress["steps"], 4)
            if progress.get("train_loss") is not None:  # else the epoch has only begun
                values["train_loss"] = float(progress["train_loss"])
            if progress["seconds_left"] is not None:  # else it has only begun again
                values.update(
                    images_per_second=float(progress["images_per_second"]),
                    seconds_left=float(progress["seconds_left"]),
                )
            times.append(progress["time"])
    if times:
        values["last_activity"] = max(map(_time, times)).isoformat(timespec="seconds")
    reason = events[-1]["reason"] if state == FAILED else None
    if state == STOPPED and running is None:
        reason = "may be running: its lock cannot be asked"
    return RunStatus(path, state, reason, **values)


def _mean_seconds(epochs):
    """Of the last few, because a run may go on on another machine."""
    recent = [sum(event["seconds"].values()) for event in epochs[-5:]]
    return sum(recent) / len(recent)


def _progress(path):
    """The heartbeat, or None where there is none yet."""
    try:
        with open(path, encoding="utf-8") as file:
            return json.load(file)
    except FileNotFoundError:
        return None
    except (ValueError, RecursionError) as error:
        raise DMRError(f"{path} cannot be read: {error}") from error


def _time(text):
    time = datetime.fromisoformat(text.replace("Z", "+00:00"))  # Python 3.8 reads no Z
    return time if time.tzinfo else time.replace(tzinfo=timezone.utc)


def natural(name):
    """A key to sort names by, so that seed2 comes before seed10."""
    # Texts and numbers take turns. Of numbers, too long for int as they may be, the longer one
    # is the larger.
    parts = re.split(r"([0-9]+)", name)
    parts[1::2] = (part.lstrip("0") for part in parts[1::2])
    return [(len(part) * (i % 2), part) for i, part in enumerate(parts)]
