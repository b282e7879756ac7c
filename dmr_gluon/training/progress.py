"""Report the progress of a run: a bar on a terminal, plain lines elsewhere, a file for others."""

import contextlib
import json
import os
import socket
import sys
import time
from collections import Counter
from datetime import datetime, timezone

from tqdm import tqdm

from ..system.files import write_atomically
from ..system.signals import say

#: Seconds between two progress lines within an epoch without a terminal.
_QUIET = 60
#: Seconds between two updates of ``progress.json``.
_BEAT = 5


def duration(seconds):
    """Format seconds as ``1:02:03`` or ``02:03``."""
    return tqdm.format_interval(seconds)


def speed(rate):
    """Format images per second without rounding a slow network's to 0."""
    return f"{rate:.0f}" if rate >= 10 else f"{rate:.2g}"


class Progress:
    """Show the progress of one phase (training or evaluation) of an epoch.

    Parameters
    ----------
    title : str
    total : int
        Images.
    done : int
        Images that were processed before.
    shown : bool
        Whether to show anything.
    """

    def __init__(self, title, total, done=0, shown=True):
        self.title, self.total, self.done, self.before = title, total, done, done
        self.started = self.last_line = time.monotonic()
        self.shown = shown
        self.bar = tqdm(
            desc=title,
            total=total,
            initial=done,
            unit=" images",
            leave=False,
            dynamic_ncols=True,
            disable=not (shown and sys.stderr.isatty()),
        )

    @property
    def rate(self):
        """Images per second."""
        return (self.done - self.before) / max(1e-9, time.monotonic() - self.started)

    def update(self, images, loss=""):
        """Count images, and show their mean loss."""
        self.done += images
        self.bar.set_postfix_str(loss, refresh=False)
        self.bar.update(images)
        now = time.monotonic()
        if self.shown and self.bar.disable and now - self.last_line >= _QUIET:
            self.last_line = now
            left = duration((self.total - self.done) / self.rate)
            say(
                f"{self.title}: {self.done} of {self.total} images, {self.rate:.0f} per second, "
                f"{left} left  {loss}"
            )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.bar.close()


def epoch_line(values, epochs, seconds_left, top5=False):
    """Format one epoch's log event as a line."""
    top5 = f"top-5 {values['test_top5_error']:.2f}%  " if top5 else ""
    skipped = f"skipped {values['skipped_steps']}  " if values.get("skipped_steps") else ""
    return (
        f"epoch {values['epoch']:>{len(str(epochs))}}/{epochs}  lr {values['lr']:g}  "
        f"train loss {values['train_loss']:.4f} error {values['train_error']:.2f}%  "
        f"test error {values['test_error']:.2f}%  {top5}{skipped}"
        f"{speed(values['images_per_second_overall'])} img/s  left {duration(seconds_left)}"
    )


class Clock:
    """Account for the time of an epoch: each moment belongs to one activity.

    Parameters
    ----------
    began : float, optional
        ``time.monotonic()`` at the start; default: now.

    Attributes
    ----------
    seconds : Counter
        By activity. Whoever ends an epoch clears it.
    """

    def __init__(self, began=None):
        self.seconds = Counter()
        self._last = time.monotonic() if began is None else began

    def lap(self, what):
        """Assign the time since the last call to ``what``."""
        now = time.monotonic()
        self.seconds[what] += now - self._last
        self._last = now

    def rounded(self):
        """Return the seconds by activity as a dict, to milliseconds."""
        return {what: round(seconds, 3) for what, seconds in self.seconds.items()}


class Heartbeat:
    """Write ``progress.json`` for ``dmr status`` every few seconds."""

    def __init__(self, path):
        self.path, self._last = path, time.monotonic()

    def beat(self, now=False, **values):
        """Write values with time, process and host: every few seconds, or ``now``."""
        if not now and time.monotonic() - self._last < _BEAT:
            return
        self._last = time.monotonic()
        stamp = {
            "time": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "pid": os.getpid(),
            "host": socket.gethostname(),
        }
        with contextlib.suppress(OSError):  # a training does not end because of it
            write_atomically(self.path, json.dumps({**values, **stamp}))
