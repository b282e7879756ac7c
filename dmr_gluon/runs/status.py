"""The state of runs, read from their folders while they are trained. Needs no MXNet.

The training process holds an exclusive lock on ``RUN/lock`` and rewrites
``RUN/progress.json`` every few seconds; both are only read here.
"""

import json
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from typing import Optional

from ..errors import DMRError
from .directory import RunDirectory, is_locked
from .reader import RUNNING, STOPPED, read_run

UNREADABLE = "unreadable"


@dataclass(frozen=True)
class RunStatus:
    """The state of a run.

    Parameters
    ----------
    path : str
    state : str
        ``running``, ``stopped``, ``finished``, ``failed`` or ``unreadable``.
    reason : str, optional
        Why it failed or cannot be read, or why it may still be running.
    epoch, epochs : int, optional
        The current epoch of a running run, otherwise the last one that ended; and the planned ones.
    epoch_share : float, optional
        Completed share of a running run's epoch.
    train_loss : float, optional
        Mean since the beginning of the epoch; of a run that is not running, as last logged.
    test_error, best_error, top5_error : float, optional
        In percent; of the last epoch, the least, and the last epoch's top-5 error.
    images_per_second : float, optional
        In training.
    seconds_left : float, optional
        Until the end of the run; if it is not running, the time it would still take.
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
        """Return the seconds since the last activity, or None."""
        if self.last_activity is None:
            return None
        then = _time(self.last_activity)
        return max(0.0, (datetime.now(timezone.utc) - then).total_seconds())


def read_status(path):
    """Read the state of a run. A damaged run is a state, not an error.

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
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        reason = f"log.jsonl or progress.json has other fields than expected ({error!r})"
    return RunStatus(path, UNREADABLE, reason)


def _read(path):
    run = read_run(path)
    epochs, points = [run.epochs[number] for number in sorted(run.epochs)], sorted(run.points)
    values = {"epoch": run.last, "epochs": run.setup.epochs}
    if epochs:
        last = epochs[-1]
        values.update(
            train_loss=last.train_loss,
            test_error=last.test_error,
            best_error=min(record.test_error for record in epochs),
            top5_error=last.test_top5_error,
            images_per_second=last.images_per_second,
            seconds_left=mean_seconds(epochs) * (run.setup.epochs - last.epoch),
        )
    if points and points[-1][0] > run.last:
        values["train_loss"] = run.points[points[-1]]["train_loss"]
    times, reason = [run.updated], run.reason
    progress = _progress(RunDirectory(path).file("progress.json")) if run.state == RUNNING else None
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
    times = [_time(time) for time in times if time]
    if times:
        values["last_activity"] = max(times).isoformat(timespec="seconds")
    if run.state == STOPPED and is_locked(path) is None:
        reason = "may be running: its lock cannot be read"
    return RunStatus(path, run.state, reason, **values)


def mean_seconds(epochs):
    """Return the mean duration of the last few epochs, because a run may change its machine.

    Parameters
    ----------
    epochs : list of EpochRecord
    """
    recent = [sum(record.seconds.values()) for record in epochs[-5:]]
    return sum(recent) / len(recent)


def _progress(path):
    """Return the heartbeat, or None if there is none yet."""
    try:
        with open(path, encoding="utf-8") as file:
            return json.load(file)
    except FileNotFoundError:
        return None
    except (ValueError, RecursionError) as error:
        raise DMRError(
            f"{path} cannot be read: {error}; the training writes it again within seconds"
        ) from error


def _time(text):
    time = datetime.fromisoformat(text.replace("Z", "+00:00"))  # Python 3.8 reads no Z
    return time if time.tzinfo else time.replace(tzinfo=timezone.utc)
