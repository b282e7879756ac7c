"""Report the progress of a run: bars, lines, and where the time went."""

import sys
import time
from collections import Counter

from tqdm import tqdm

#: Seconds between two drawings of the bar without a terminal.
_QUIET = 60


def duration(seconds):
    """Format seconds as ``1:02:03`` or ``02:03``."""
    return tqdm.format_interval(seconds)


def speed(rate):
    """Format images per second without rounding a slow network's to 0."""
    return f"{rate:.0f}" if rate >= 10 else f"{rate:.2g}"


def progress_bar(title, total, done=0, shown=True):
    """Return a bar that counts images; without a terminal it is drawn once a minute.

    Parameters
    ----------
    title : str
    total : int
    done : int
        Images that were processed before.
    shown : bool
        Whether to show anything.
    """
    terminal = sys.stderr.isatty()
    return tqdm(
        desc=title,
        total=total,
        initial=done,
        unit=" images",
        leave=False,
        dynamic_ncols=True,
        disable=not shown,
        delay=0 if terminal else _QUIET,
        mininterval=0.1 if terminal else _QUIET,
    )


def epoch_line(values, epochs, seconds_left, top5=False):
    """Format one epoch's log event as a line."""
    tested = f"test error {values['test_error']:.2f}%  " if "test_error" in values else ""
    if tested and top5:
        tested += f"top-5 {values['test_top5_error']:.2f}%  "
    skipped = f"skipped {values['skipped_steps']}  " if values.get("skipped_steps") else ""
    return (
        f"epoch {values['epoch']:>{len(str(epochs))}}/{epochs}  lr {values['lr']:g}  "
        f"train loss {values['train_loss']:.4f} error {values['train_error']:.2f}%  "
        f"{tested}{skipped}"
        f"{speed(values['images_per_second_overall'])} img/s  left {duration(seconds_left)}"
    )


def last_error(record):
    """Name the error of an :class:`EpochRecord`: the test error if there is one."""
    if record.test_error is None:
        return f"training error {record.train_error:.2f}% (no test images)"
    return f"test error {record.test_error:.2f}%"


class Clock:
    """Account for the time of an epoch: each moment belongs to one activity.

    Attributes
    ----------
    seconds : Counter
        By activity. Whoever ends an epoch clears it.
    """

    def __init__(self):
        self.seconds, self._last = Counter(), time.monotonic()

    def lap(self, what):
        """Assign the time since the last call to ``what``."""
        now = time.monotonic()
        self.seconds[what] += now - self._last
        self._last = now

    def rounded(self):
        """Return the seconds by activity as a dict, to milliseconds."""
        return {what: round(seconds, 3) for what, seconds in self.seconds.items()}
