"""Progress of a run: a bar on a terminal, plain lines elsewhere."""

import contextlib
import json
import os
import socket
import sys
import threading
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

#: Activities that a run's time is spent on: names in the log, and words.
SPENT = {
    "train": "training",
    "evaluate": "evaluation",
    "data": "waiting for data",
    "save": "saving",
    "log": "logging",
    "start": "starting",
}


def duration(seconds):
    """Format seconds as ``1:02:03`` or ``02:03``."""
    return tqdm.format_interval(seconds)


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
        self.shown, self.bar = shown, None
        if shown and sys.stderr and sys.stderr.isatty():  # None where it was closed
            self.bar = tqdm(
                total=total,
                initial=done,
                desc=title,
                unit=" images",
                leave=False,
                dynamic_ncols=True,
            )

    @property
    def rate(self):
        """Images per second."""
        return (self.done - self.before) / max(1e-9, time.monotonic() - self.started)

    def update(self, images, **figures):
        """Count images; show ``figures`` such as ``loss=0.3``."""
        self.done += images
        if self.bar is not None:
            if figures:
                self.bar.set_postfix(figures, refresh=False)
            self.bar.update(images)  # tqdm stays silent once the terminal is gone
            return
        now = time.monotonic()
        if self.shown and now - self.last_line >= _QUIET:
            self.last_line, rate = now, self.rate
            shown = "".join(f"  {name} {value}" for name, value in figures.items())
            left = duration((self.total - self.done) / rate)
            say(
                f"{self.title}: {self.done} of {self.total} images, {rate:.0f} per second, "
                f"{left} left{shown}"
            )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.bar is not None:
            self.bar.close()


def speed(rate):
    """Format images per second without rounding a slow network's to 0."""
    return f"{rate:.0f}" if rate >= 10 else f"{rate:.2g}"


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
    """Account for a run's time: each moment belongs to one activity.

    Parameters
    ----------
    began : float, optional
        ``time.monotonic()`` at the start; default: now.
    """

    def __init__(self, began=None):
        self.seconds = Counter()
        self._last = time.monotonic() if began is None else began

    def lap(self, what):
        """Assign the time since the last call to ``what``."""
        now = time.monotonic()
        self.seconds[what] += now - self._last
        self._last = now

    def take(self):
        """Return the seconds by activity, rounded, and reset them."""
        taken = {what: round(seconds, 3) for what, seconds in self.seconds.items()}
        self.seconds.clear()
        return taken


class Watch:
    """Warn when no step ends for minutes; MXNet itself says nothing.

    Parameters
    ----------
    run : str
        The run's folder, for the advice.
    patience : float
        Seconds. Slow steps get ten times the duration of the slowest so far.
    """

    def __init__(self, run, patience=300.0):
        self._run, self._patience, self._slowest = run, patience, 0.0
        self._since = None  # the end of the last step; None while paused
        self._over = threading.Event()

    def __enter__(self):
        threading.Thread(target=self._look, daemon=True).start()
        return self

    def __exit__(self, *_):
        self._over.set()

    def step(self):
        """Note that a step has ended, or that the first one begins."""
        now = time.monotonic()
        if self._since is not None:
            self._slowest = max(self._slowest, now - self._since)
        self._since = now

    def pause(self):
        """Expect no step for now."""
        self._since = None

    def _look(self):
        told = None
        while not self._over.wait(self._patience / 60):
            since, now = self._since, time.monotonic()
            if since in (None, told) or now - since < max(self._patience, 10 * self._slowest):
                continue
            told = since
            say(
                f"warning: no step has ended for {duration(now - since)}; are devices or workers "
                f"waiting for each other, or is the disk or another program slow? Still waiting; "
                f"if nothing moves, kill the run and continue with --run-dir {self._run} --resume",
                sys.stderr,
            )


class Heartbeat:
    """Write ``progress.json`` for ``dmr status`` every few seconds.

    Parameters
    ----------
    path : str
    epochs : int
    """

    def __init__(self, path, epochs):
        self.path, self.epochs, self._last = path, epochs, time.monotonic()

    def beat(self, now=False, **values):
        """Write ``epoch``, ``step``, ``steps``, ``train_loss`` and the time left."""
        if not now and time.monotonic() - self._last < _BEAT:
            return
        self._last = time.monotonic()
        stamp = {
            "time": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "pid": os.getpid(),
            "host": socket.gethostname(),
        }
        with contextlib.suppress(OSError):  # a training does not end because of it
            write_atomically(self.path, json.dumps({"epochs": self.epochs, **values, **stamp}))
