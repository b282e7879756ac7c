"""The state of runs, read from their folders while they are being trained. Needs no MXNet.

The training process locks ``RUN/lock`` and rewrites ``RUN/progress.json`` every few seconds.
"""

import json
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Optional

from ..errors import DMRError
from .directory import RunDirectory
from .reader import RUNNING, read_run

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
        Why it failed or cannot be read.
    epoch, epochs : int, optional
        Current epoch of a running run, otherwise the last completed one; and their planned number.
    epoch_share : float, optional
        Completed fraction of a running run's epoch.
    train_loss : float, optional
        Mean since the start of a running run's epoch, otherwise of the last completed epoch.
    test_error, best_error, top5_error : float, optional
        In percent: after the last epoch, the lowest, and the top-5 error after the last epoch.
    images_per_second : float, optional
        During training.
    seconds_left : float, optional
        Estimated time to the end of the run.
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

    def idle_seconds(self):
        """Return the seconds since the last activity of a run that has had one."""
        idle = datetime.now(timezone.utc) - datetime.fromisoformat(self.last_activity)
        return max(0.0, idle.total_seconds())


def read_status(path):
    """Read the state of a run. Damage is a state, not an error.

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
        return RunStatus(path, UNREADABLE, str(error))


def _read(path):
    run = read_run(path)
    records = [run.epochs[number] for number in sorted(run.epochs)]
    values = {"epoch": run.last, "epochs": run.setup.epochs, "last_activity": run.updated}
    if records:
        last = records[-1]
        values.update(
            train_loss=last.train_loss,
            test_error=last.test_error,
            best_error=run.best and run.best.test_error,
            top5_error=last.test_top5_error,
            images_per_second=last.images_per_second,
            seconds_left=mean_seconds(records) * (run.setup.epochs - last.epoch),
        )
    if run.state == RUNNING:
        values.update(_progress(RunDirectory(path).file("progress.json")))
    return RunStatus(path, run.state, run.reason, **values)


def mean_seconds(epochs):
    """Return the mean duration of the last few epochs, as a run may change its machine.

    Parameters
    ----------
    epochs : list of EpochRecord
    """
    recent = [sum(record.seconds.values()) for record in epochs[-5:]]
    return sum(recent) / len(recent)


def _progress(path):
    """Return what the heartbeat knows better than the log."""
    try:
        with open(path, encoding="utf-8") as file:
            heartbeat = json.load(file)
        steps = heartbeat["steps"]
        values = {
            "epoch": heartbeat["epoch"],
            "last_activity": heartbeat["time"],
            "epoch_share": round(heartbeat["step"] / steps, 4) if steps else None,
            "train_loss": heartbeat.get("train_loss"),  # None at the start of an epoch
            "images_per_second": heartbeat["images_per_second"] or None,  # 0 if not yet measured
            "seconds_left": heartbeat["seconds_left"],
        }
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DMRError(
            f"{path} cannot be read ({error!r}); the training rewrites it within seconds"
        ) from error
    return {name: value for name, value in values.items() if value is not None}
