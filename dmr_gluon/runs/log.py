"""The log of a run: JSON lines, one event each. This module alone defines the format.

============  ==================================================================
event         fields
============  ==================================================================
``start``     the run's configuration (recipe, network, data set, seed, versions)
``resume``    ``epoch``: the last completed epoch; ``step``: updates so far;
              ``changes``: [old, new] for each changed field of the recipe;
              ``moved``: the same for devices and workers; ``processor`` and
              ``threads`` as in ``start``
``stop``      saved and stopped after ``epoch`` and ``step``, by ``signal`` or ``by`` a
              callback
``rollback``  ``reason``: what was not finite; ``at``: updates until then;
              ``step``: updates up to the restored checkpoint
``steps``     means since the start of an epoch (``--log-steps``): ``epoch``
              (from 1), ``step`` (within the epoch, from 1), ``images``,
              ``train_loss``, ``train_error``
``epoch``     the fields of :class:`EpochRecord`, without those of tests if there are
              no test images; in float16 also ``loss_scale`` and ``skipped_steps``,
              whose gradients were not finite
``end``       totals over all epochs: ``epochs``, ``seconds``, ``seconds_by``
              activity, ``images_per_second_overall``; ``test_error`` of the last
              epoch; ``best``: epoch and error of the best one (of the last one, and
              null, without test images); ``stopped_early`` if epochs without a lower
              test error ended it
``failed``    ``reason``: why the training process ended; written by ``dmr train``
============  ==================================================================

Every line has ``event`` and ``time`` (UTC, ISO 8601). Needs no MXNet.
"""

import json
import math
import os
from dataclasses import dataclass, field, fields
from datetime import datetime, timezone
from typing import Dict, Optional

from ..errors import DMRError
from ..system.files import write_atomically

#: Numbers required on a line; earlier versions did not write the other fields.
_REQUIRED = {
    "steps": ("epoch", "step", "images", "train_loss", "train_error"),
    "epoch": ("epoch", "images", "train_loss", "train_error"),
}


@dataclass(frozen=True)
class EpochRecord:
    """Results of one epoch; None for what the log does not say.

    Parameters
    ----------
    epoch : int
        Counted from 1.
    step : int, optional
        Updates so far.
    lr : float, optional
        Learning rate of the last update.
    images : int
        Number of training images seen.
    train_loss, test_loss : float, optional
        Mean cross-entropy.
    train_error, test_error, test_top5_error : float, optional
        In percent.
    parameters_sha256 : str, optional
        Hash of the parameters and running statistics; eval and export check it.
    seconds : dict of str to float
        Time by activity: ``train``, ``data`` (waiting for batches), ``evaluate``, ``save``,
        ``log``, ``callbacks``, ``start`` (from program start to the first step).
    images_per_second, images_per_second_overall : float, optional
        Training images per second of training, and of the whole epoch.
    """

    epoch: int
    step: Optional[int] = None
    lr: Optional[float] = None
    images: int = 0
    train_loss: Optional[float] = None
    train_error: Optional[float] = None
    test_loss: Optional[float] = None
    test_error: Optional[float] = None
    test_top5_error: Optional[float] = None
    parameters_sha256: Optional[str] = None
    seconds: Dict[str, float] = field(default_factory=dict)
    images_per_second: Optional[float] = None
    images_per_second_overall: Optional[float] = None

    @classmethod
    def of(cls, event):
        """Make a record from an ``epoch`` event, ignoring further fields."""
        names = {item.name for item in fields(cls)}
        return cls(**{name: value for name, value in event.items() if name in names})


def append(path, event, **values):
    """Append one event."""
    now = datetime.now(timezone.utc).isoformat(timespec="seconds")
    with open(path, "a", encoding="utf-8") as file:
        file.write(json.dumps({"event": event, "time": now, **values}) + "\n")


def read_lines(path):
    """Return the lines of a text file as bytes; the last one is empty or was cut off.

    Raises
    ------
    DMRError
        If the file cannot be read.
    """
    try:
        with open(path, "rb") as file:
            return file.read().split(b"\n")
    except OSError as error:
        raise DMRError(
            f"{path} cannot be read ({error.strerror}); name a run's folder or log"
        ) from error


def read(path):
    """Read all events of a log, except a last line that was cut off while being written.

    Parameters
    ----------
    path : str

    Returns
    -------
    list of dict
        In file order. Each has ``event``; epochs and steps have their numbers.

    Raises
    ------
    DMRError
        If the log cannot be read or a line is damaged.
    """
    lines, events = read_lines(path), []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            event = json.loads(line.decode("utf-8"))
        except (ValueError, RecursionError):
            if number == len(lines):
                break
            event = None
        if not _is_event(event):
            raise DMRError(f"line {number} of {path} is damaged: take that line out")
        events.append(event)
    return events


def epochs(path):
    """Read the epochs of a log.

    Parameters
    ----------
    path : str

    Returns
    -------
    list of EpochRecord

    Raises
    ------
    DMRError
        As :func:`read`.
    """
    return [EpochRecord.of(event) for event in read(path) if event["event"] == "epoch"]


def _is_event(event):
    """Return whether an event has a kind and all numbers that readers rely on."""
    if not isinstance(event, dict) or not isinstance(event.get("event"), str):
        return False
    numbers = [event.get(name) for name in _REQUIRED.get(event["event"], ())]
    if event["event"] == "epoch":
        if "test_loss" in event or "test_error" in event:
            numbers += event.get("test_loss"), event.get("test_error")
        seconds = event.get("seconds")
        numbers += seconds.values() if isinstance(seconds, dict) else [None]
    return all(type(n) in (int, float) and math.isfinite(n) and n >= 0 for n in numbers)


def write(path, events):
    """Replace a log's content."""
    write_atomically(path, "\n".join(map(json.dumps, events)))


def forget_after(path, epoch, steps=0, keep_end=False):
    """Drop events after step ``steps`` of the epoch that follows ``epoch``; they will recur.

    A missing log is created.

    Parameters
    ----------
    path : str
    epoch, steps : int
        Completed epochs, and steps of the next one.
    keep_end : bool
        Keep an ``end``.

    Returns
    -------
    bool
        Whether the log has an ``end``.
    """
    kept = [
        event
        for event in (read(path) if os.path.exists(path) else [])
        if (keep_end or event["event"] != "end")
        and not (event["event"] == "epoch" and event["epoch"] > epoch)
        and not (event["event"] == "steps" and (event["epoch"], event["step"]) > (epoch + 1, steps))
    ]
    write(path, kept)
    return any(event["event"] == "end" for event in kept)
