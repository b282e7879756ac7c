"""The log of a run: JSON lines, one event each. The format is defined here and only here.

==========  ====================================================================
event       fields
==========  ====================================================================
``start``   the run's configuration (recipe, network, data set, seed, versions)
``resume``  ``epoch``: the last one that had ended, ``step`` (updates so far);
            ``changes``: [old, new] of each field of the recipe that was changed;
            ``moved``: the same of devices and workers; ``processor`` and
            ``threads``, as in ``start``
``stop``    ``signal``, ``epoch`` (ended), ``step``: saved and stopped by a signal
``rollback``  ``reason``: what was not finite; ``at``: updates until then, ``step``:
            updates up to the restored checkpoint
``steps``   means since the beginning of an epoch (``--log-steps``): ``epoch`` (from 1),
            ``step`` (of the epoch, from 1), ``images``, ``train_loss``, ``train_error``
``epoch``   the fields of :class:`EpochRecord`; in float16 also ``loss_scale`` and
            ``skipped_steps``, whose gradients were not finite
``end``     ``epochs``, ``seconds``, ``seconds_by`` activity and
            ``images_per_second_overall`` of all epochs together, ``test_error`` of the
            last, ``best``: epoch and error of the best
``failed``  ``reason``: why the training process ended; ``dmr train`` writes it
==========  ====================================================================

Every line has ``event`` and ``time`` (UTC, ISO 8601). Nothing here needs MXNet.
"""

import json
import math
import os
from dataclasses import dataclass, field, fields
from datetime import datetime, timezone
from typing import Dict, Optional

from ..errors import DMRError
from ..system.files import write_atomically

EVENTS = ("start", "resume", "stop", "rollback", "steps", "epoch", "end", "failed")
#: What a line of steps must have.
_STEPS = ("epoch", "step", "images", "train_loss", "train_error")
#: What a line of an epoch must have; earlier versions did not write the rest.
_EPOCH = ("epoch", "images", "train_loss", "train_error", "test_loss", "test_error")


@dataclass(frozen=True)
class EpochRecord:
    """Results of one epoch; None where a log does not have them.

    Parameters
    ----------
    epoch : int
        Counted from 1.
    step : int, optional
        Updates so far.
    lr : float, optional
        Learning rate of the last update.
    images : int
        Images trained on.
    train_loss, test_loss : float, optional
        Mean cross-entropy.
    train_error, test_error, test_top5_error : float, optional
        In percent.
    parameters_sha256 : str, optional
        Hash of the parameters and running statistics, by which eval and export recognise them.
    seconds : dict of str to float
        Time by activity: ``train``, ``data`` (waiting for it), ``evaluate``, ``save``, ``log``,
        ``start`` (up to the first step).
    images_per_second, images_per_second_overall : float, optional
        Training alone, and training images over all seconds.
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
        """Return the record of an ``epoch`` event, which may have further fields."""
        names = {item.name for item in fields(cls)}
        return cls(**{name: value for name, value in event.items() if name in names})


def append(path, event, **values):
    """Append one event."""
    now = datetime.now(timezone.utc).isoformat(timespec="seconds")
    with open(path, "a", encoding="utf-8") as file:
        file.write(json.dumps({"event": event, "time": now, **values}) + "\n")


def read(path):
    """Read all events of a log.

    A last line that was cut off while being written is left out.

    Parameters
    ----------
    path : str

    Returns
    -------
    list of dict
        In the order of the file. Each has ``event``; epochs and steps have their numbers.

    Raises
    ------
    DMRError
        If the log cannot be read or a line is damaged.
    """
    try:
        with open(path, "rb") as file:
            lines = file.read().split(b"\n")
    except OSError as error:
        raise DMRError(
            f"{path} cannot be read ({error.strerror}); name a run's folder or log"
        ) from error
    events = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            event = json.loads(line.decode("utf-8"))
        except (ValueError, RecursionError):
            if number == len(lines):
                break
            raise _damage(path, number, "is not JSON") from None
        problem = _problem(event)
        if problem:
            raise _damage(path, number, problem)
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


def _problem(event):
    """Say what is wrong with an event, or return None."""
    if not isinstance(event, dict) or event.get("event") not in EVENTS:
        return "is not an event of a log"
    if event["event"] not in ("epoch", "steps"):
        return None
    numbers = {name: event.get(name) for name in (_STEPS if event["event"] == "steps" else _EPOCH)}
    optional = ("test_top5_error", "lr", "images_per_second")
    numbers.update((name, event[name]) for name in optional if event.get(name) is not None)
    if event["event"] == "epoch":
        seconds = event.get("seconds")
        numbers.update(seconds if isinstance(seconds, dict) else {"seconds": None})
    wrong = [name for name, value in numbers.items() if not _is_measure(name, value)]
    return f"has no usable {' and '.join(wrong)}" if wrong else None


def _is_measure(name, value):
    if name in ("epoch", "step"):
        return type(value) is int and value >= 1
    most = 100 if name.endswith("error") else math.inf
    return type(value) in (int, float) and math.isfinite(value) and 0 <= value <= most


def _damage(path, number, what):
    return DMRError(f"line {number} of {path} {what}; the log is damaged: take that line out")


def forget_after(path, epoch, steps=0, keep_end=False):
    """Drop what was logged after ``steps`` of the epoch that follows ``epoch``.

    It will be logged again. The end is dropped too, unless ``keep_end``. A missing log is begun.

    Returns
    -------
    bool
        Whether the log has an end.
    """
    events = read(path) if os.path.exists(path) else []
    kept = [
        event
        for event in events
        if (keep_end or event["event"] != "end")
        and not (event["event"] == "epoch" and event["epoch"] > epoch)
        and not (event["event"] == "steps" and (event["epoch"], event["step"]) > (epoch + 1, steps))
    ]
    write_atomically(path, "\n".join(json.dumps(event) for event in kept))
    return any(event["event"] == "end" for event in kept)
