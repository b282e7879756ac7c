"""What a run says while it goes on: a bar on a terminal, plain lines elsewhere."""

import sys
import time

from tqdm import tqdm

#: Seconds between two lines of progress within an epoch where there is no terminal.
_QUIET = 60


def duration(seconds):
    """``1:02:03`` or ``02:03``."""
    return tqdm.format_interval(seconds)


class Progress:
    """Progress over the images of one phase (training or evaluation) of an epoch.

    Parameters
    ----------
    title : str
    total : int
        Images.
    """

    def __init__(self, title, total):
        self.title, self.total, self.done = title, total, 0
        self.started = self.last_line = time.monotonic()
        on_terminal = sys.stderr.isatty()
        self.bar = (
            tqdm(total=total, desc=title, unit=" images", leave=False, dynamic_ncols=True)
            if on_terminal
            else None
        )

    def update(self, images, **figures):
        """Count images; ``figures`` (such as ``loss=0.3``) are shown beside."""
        self.done += images
        if self.bar is not None:
            if figures:
                self.bar.set_postfix(figures, refresh=False)
            self.bar.update(images)
            return
        now = time.monotonic()
        if now - self.last_line >= _QUIET:
            self.last_line = now
            rate = self.done / (now - self.started)
            shown = "".join(f"  {name} {value}" for name, value in figures.items())
            left = duration((self.total - self.done) / rate)
            print(
                f"{self.title}: {self.done} of {self.total} images, {rate:.0f} per second, "
                f"{left} left{shown}",
                flush=True,
            )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.bar is not None:
            self.bar.close()


def epoch_line(values, epochs, seconds_left):
    """One line for one epoch, from the fields of its log event."""
    return (
        f"epoch {values['epoch']:>{len(str(epochs))}}/{epochs}  lr {values['lr']:g}  "
        f"train loss {values['train_loss']:.4f} error {values['train_error']:.2f}%  "
        f"test error {values['test_error']:.2f}%  "
        f"{values['images_per_second_overall']:.0f} img/s  left {duration(seconds_left)}"
    )
