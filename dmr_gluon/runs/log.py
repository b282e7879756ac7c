"""The log of a run: JSON lines, one event each. The format is defined here and only here.

==========  ====================================================================
event       fields
==========  ====================================================================
``start``   the run's configuration (recipe, network, data set, seed, versions)
``resume``  ``epoch``: the last one that had ended, ``step`` (updates so far); where a
            field of the recipe was changed on purpose, ``changes``: [old, new] by name;
            where it went on on other devices or workers, ``moved``: the same; ``processor``
            and ``threads``, as in ``start``
``stop``    ``signal``, ``epoch`` (ended), ``step``: saved and stopped by a signal
``rollback``  ``reason``: what was not finite; ``at``: updates until then, ``step``: updates
            up to the checkpoint that was gone back to
``steps``   means since the beginning of an epoch (``--log-steps``): ``epoch`` (from 1),
            ``step`` (of the epoch, from 1), ``images``, ``train_loss``, ``train_error``
``epoch``   ``epoch`` (from 1), ``step`` (updates so far), ``lr`` (of the last
            update), ``train_loss``, ``train_error``, ``test_loss``,
            ``test_error``, ``test_top5_error`` (errors in percent), ``parameters_sha256``
            (of the parameters and running statistics, by which eval and export recognise them),
            ``images`` (trained on), ``seconds`` by what they went into (``train``,
            ``data``: waiting for it, ``evaluate``, ``save``, ``log``, ``start``: from
            the program's start to the first step), ``images_per_second`` (training alone),
            ``images_per_second_overall`` (training images over all seconds); in float16
            ``loss_scale`` and ``skipped_steps``, whose gradients were not finite
``end``     ``epochs``, ``seconds``, ``seconds_by`` what they went into and
            ``images_per_second_overall`` of all epochs together, ``test_error`` of the
            last, ``best``: epoch and error of the best
``failed``  ``reason``: why the training process ended; ``dmr train`` writes it
==========  ====================================================================

Every line has ``event`` and ``time`` (UTC, ISO 8601). Nothing here needs MXNet.
"""

import json
import os
from datetime import datetime, timezone

from ..errors import DMRError
from ..system.files import write_atomically

EVENTS = ("start", "resume", "stop", "rollback", "steps", "epoch", "end", "failed")


def append(path, event, **values):
    """Append one event."""
    now = datetime.now(timezone.utc).isoformat(timespec="seconds")
    with open(path, "a", encoding="utf-8") as file:
        file.write(json.dumps({"event": event, "time": now, **values}) + "\n")


def read(path):
    """All events of a log.

    A last line that was cut off while being written is left out.

    Parameters
    ----------
    path : str

    Returns
    -------
    list of dict
        In the order of the file. Each has ``event``, and where that is ``epoch`` its number.

    Raises
    ------
    DMRError
        Where the log cannot be read, or a line is none of a log.
    """
    return [event for _, event in _numbered(path)]


def epochs(path):
    """The events of the epochs alone, with all that is drawn and added up of them.

    Raises
    ------
    DMRError
        As :func:`read`, and for an epoch without its numbers.
    """
    found = [(number, event) for number, event in _numbered(path) if event["event"] == "epoch"]
    for number, event in found:
        seconds = event.get("seconds")
        parts = seconds.values() if isinstance(seconds, dict) else [None]
        if not all(map(_is_number, (*(event.get(name) for name in _ADDED_UP), *parts))):
            raise _damage(path, number, "lacks numbers of its epoch")
    return [event for _, event in found]


#: What a line of steps has beside its event and time.
_STEPS = ("epoch", "step", "images", "train_loss", "train_error")
#: Numbers of an epoch that training and pictures use, beside its ``seconds``.
_ADDED_UP = ("images", "train_loss", "test_error")


def _numbered(path):
    """(line's number, event) for every event."""
    try:
        with open(path, "rb") as file:
            lines = file.read().split(b"\n")
    except OSError as error:
        raise DMRError(f"{path} cannot be read ({error.strerror}); is this a run?") from error
    found = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            event = json.loads(line.decode("utf-8"))
        except (ValueError, RecursionError):
            if number < len(lines):
                raise _damage(path, number, "is not JSON") from None
            continue
        if not isinstance(event, dict) or not isinstance(event.get("event"), str):
            raise _damage(path, number, "is no event")
        if event["event"] == "epoch" and not _is_number(event.get("epoch")):
            raise _damage(path, number, "is an epoch without a number")
        if event["event"] == "steps" and not all(map(_is_number, map(event.get, _STEPS))):
            raise _damage(path, number, "lacks numbers of its steps")
        found.append((number, event))
    return found


def _is_number(value):
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _damage(path, number, what):
    return DMRError(f"line {number} of {path} {what}; the log is damaged: take that line out")


def forget_after(path, epoch, steps=0, keep_end=False):
    """Drop what was logged after ``steps`` of the epoch that follows ``epoch``: it will come again.

    So does any end, which stays with ``keep_end``. A log that is lost is begun anew.

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
        and not (event["event"] == "steps" and _place(event) > (epoch + 1, steps))
    ]
    write_atomically(path, "\n".join(json.dumps(event) for event in kept))
    return any(event["event"] == "end" for event in kept)


def _place(event):
    return event["epoch"], event["step"]
