"""One training, as its log tells, and what reading a damaged log needs. Needs no MXNet."""

import math
import os
from dataclasses import dataclass, field
from typing import Dict, Optional, Tuple

from ..recipes import Recipe
from ..spec import NetworkSpec

FINISHED, RUNNING, STOPPED, FAILED = "finished", "running", "stopped", "failed"
#: What is kept of an epoch, with the largest value that makes sense.
MEASURES = {
    "train_loss": math.inf,
    "train_error": 100.0,
    "test_loss": math.inf,
    "test_error": 100.0,
    "test_top5_error": 100.0,
    "lr": math.inf,
}
#: Epochs beyond any use, within which a damaged number is not taken for one.
MOST_EPOCHS = 1_000_000


@dataclass(frozen=True)
class Setup:
    """What was trained, as far as the log says.

    Parameters
    ----------
    dataset : str
        Its name, such as ``cifar10``.
    network : str
    spec : NetworkSpec, optional
    recipe : Recipe, optional
        None in the authors' format, which does not say.
    epochs : int
        That the training was to have.
    images : dict of str to int
        ``train`` and ``test``.
    bn_images : int, optional
        Images over which BN takes its statistics.
    seed : int, optional
    environment : dict
        Versions, devices and command, for reports.
    """

    dataset: str
    network: str
    spec: Optional[NetworkSpec] = None
    recipe: Optional[Recipe] = None
    epochs: Optional[int] = None
    images: Dict[str, int] = field(default_factory=dict)
    bn_images: Optional[int] = None
    seed: Optional[int] = None
    environment: Dict[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class Run:
    """One training.

    Parameters
    ----------
    path : str
    format : str
        ``dmr_gluon`` or ``authors``.
    state : str
        ``finished``, ``running``, ``stopped`` or ``failed``.
    setup : Setup, optional
        None where nothing says what was trained.
    epochs : dict of int to dict
        By epoch, from 1, the values of :data:`MEASURES`; one that could not be read is not in it.
    problems : tuple of str
        What could not be read, and what was passed over.
    changes : tuple of str
        What of its recipe was changed while it ran.
    remarks : tuple of str
        What else happened in the training and may bear on its result.
    reason : str, optional
        Why it failed.
    """

    path: str
    format: str
    state: str
    setup: Optional[Setup] = None
    epochs: Dict[int, dict] = field(default_factory=dict)
    problems: Tuple[str, ...] = ()
    changes: Tuple[str, ...] = ()
    remarks: Tuple[str, ...] = ()
    reason: Optional[str] = None

    @property
    def name(self):
        """Short, for legends: the folder's, or the file's without its ending."""
        path = os.path.abspath(self.path)
        return os.path.basename(path if os.path.isdir(path) else os.path.splitext(path)[0])

    @property
    def last(self):
        """The last epoch that could be read; 0 where none could."""
        return max(self.epochs, default=0)

    def final(self, measure):
        """A measure after the last epoch of a finished run, as the paper takes it; else None."""
        if self.state != FINISHED:
            return None
        return self.epochs.get(self.setup.epochs, {}).get(measure)

    def series(self, measure):
        """Epochs and values of one measure."""
        found = [(n, row[measure]) for n, row in sorted(self.epochs.items()) if measure in row]
        return [number for number, _ in found], [value for _, value in found]


class Epochs:
    """The epochs of a log while it is read, with what had to be passed over.

    Parameters
    ----------
    problems : list of str
        Gets a line for each thing that was.
    """

    def __init__(self, problems):
        self.rows, self._problems = {}, problems

    def add(self, number, values):
        """Take those of an epoch's values that can be true.

        Parameters
        ----------
        number : int
            From 1.
        values : dict
            By measure; None for what is not there.
        """
        if type(number) is not int or not 1 <= number <= MOST_EPOCHS:
            self._problems.append(f"an epoch has the number {short(number)}; it was passed over")
            return
        row, wrong = {}, []
        for name, most in MEASURES.items():
            value = values.get(name)
            if value is None:
                continue
            if _is_number(value) and 0 <= value <= most:
                row[name] = float(value)
            else:
                wrong.append(f"{name} {short(value)}")
        if wrong:
            self._problems.append(f"epoch {number} has {', '.join(wrong)}; passed over")
        if not row:
            return
        if self.rows.get(number, row) != row:
            self._problems.append(f"epoch {number} stands there twice; the later one was taken")
        self.rows[number] = row

    def finish(self, last):
        """Name what is missing, and drop what is beyond the last epoch; returns the rows."""
        beyond = sorted(number for number in self.rows if number > last)
        for number in beyond:
            del self.rows[number]
        if beyond:
            self._problems.append(f"epochs after the last one were passed over: {ranges(beyond)}")
        missing = [n for n in range(1, max(self.rows, default=0)) if n not in self.rows]
        if missing:
            self._problems.append(f"epochs are missing: {ranges(missing)}")
        return self.rows


def _is_number(value):
    return type(value) in (int, float) and abs(value) < 1e300


def times(number):
    return {1: "once", 2: "twice"}.get(number, f"{number} times")


def ranges(numbers):
    """[1, 2, 3, 7] as ``1-3, 7``."""
    parts = []
    for number in numbers:
        if parts and number == parts[-1][1] + 1:
            parts[-1][1] = number
        else:
            parts.append([number, number])
    return ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in parts)


def short(value, most=60):
    """A value as a few words, whatever it is."""
    text = repr(value) if isinstance(value, str) else str(value)
    return text if len(text) <= most else text[: most - 3] + "..."
