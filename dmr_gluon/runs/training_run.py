"""One training, as its log tells, and what reading a damaged log needs. Needs no MXNet."""

import errno
import math
import os
import stat
from dataclasses import dataclass, field
from typing import Dict, Optional, Tuple

from ..models.spec import NetworkSpec
from ..paper.recipes import Recipe

FINISHED, RUNNING, STOPPED, FAILED = "finished", "running", "stopped", "failed"
#: What a run that was read from a log of the authors' code has as its format.
AUTHORS = "authors"
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
#: Steps of an epoch, the same.
MOST_STEPS = 1_000_000_000
#: Bytes that no line of a log has, nor config.json: the longest holds the names of all classes.
LONGEST = 1 << 24
#: What some editors put before a text.
BOM = b"\xef\xbb\xbf"


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
        None for a log of the authors' time that does not say.
    epochs : int, optional
        That the training was to have.
    images : dict of str to int
        ``train`` and ``test``.
    bn_images : int, optional
        Images over which BN takes its statistics.
    seed : int, optional
    known_by : str, optional
        By what the images are known to be an official set's: ``content``, ``archives`` (their
        MD5) or ``counts``; None where the log does not say.
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
    known_by: Optional[str] = None
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
    points : dict of (int, int) to dict
        Within epochs: by epoch and step, both from 1, ``train_loss`` and ``train_error`` as means
        since the epoch's beginning.
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
    points: Dict[Tuple[int, int], dict] = field(default_factory=dict)
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


class Problems:
    """What could not be read of a log: of many things of one kind the first few, and their number.

    A log of a million damaged lines is told in a few.
    """

    #: Things of one kind that are told one by one.
    MOST = 5

    def __init__(self):
        self._kinds = {}

    def add(self, text, kind=None, number=None):
        """Tell of one thing.

        Parameters
        ----------
        text : str
        kind : str, optional
            What several like it are called, such as ``lines that are not JSON``.
        number : int, optional
            Of its line or epoch; needed with ``kind``.
        """
        texts, rest = self._kinds.setdefault(kind or text, ([], Ranges()))
        if len(texts) < self.MOST:
            texts.append(text)
        elif kind:
            rest.add(number)

    def told(self):
        """Each in one line."""
        lines = []
        for kind, (texts, rest) in self._kinds.items():
            lines += texts
            if rest.count:
                lines.append(f"{rest.count:,} more {kind}: {rest}")
        return tuple(lines)


class Ranges:
    """Numbers as ``1-3, 7``; of many ranges the first ones.

    Parameters
    ----------
    numbers : iterable of int
        Each larger than the one before, to be put together.
    """

    #: Ranges that are shown, and kept.
    MOST = 10

    def __init__(self, numbers=()):
        self.count, self._parts = 0, []
        for number in numbers:
            self.add(number)

    def add(self, number):
        self.count += 1
        if self._parts and number == self._parts[-1][1] + 1:
            self._parts[-1][1] = number
        elif len(self._parts) <= self.MOST:
            self._parts.append([number, number])

    def __str__(self):
        shown = [str(a) if a == b else f"{a}-{b}" for a, b in self._parts[: self.MOST]]
        if len(self._parts) > self.MOST:
            shown.append(f"... ({self.count:,} in all)")
        return ", ".join(shown)


class Epochs:
    """The epochs of a log while it is read, with what had to be passed over.

    Parameters
    ----------
    problems : Problems
        Told of each thing that was.
    """

    def __init__(self, problems):
        self.rows, self._problems = {}, problems

    def add(self, number, values, expected=()):
        """Take those of an epoch's values that can be true.

        Parameters
        ----------
        number : int
            As :func:`epoch_number` gives it.
        values : dict
            By measure.
        expected : sequence of str
            Measures that the log has of every epoch, all at once. Without, they come one by one.
        """
        row, wrong = {}, []
        for name, most in MEASURES.items():
            if name not in values:
                wrong += [f"no {name}"] * (name in expected)
            elif _is_number(values[name]) and 0 <= values[name] <= most:
                row[name] = float(values[name])
            else:
                wrong.append(f"{name} {short(values[name])}")
        if wrong:
            self._problems.add(
                f"epoch {number} has {', '.join(wrong)}; passed over",
                "epochs with values that were passed over",
                number,
            )
        if row:
            self.rows[number] = self._chosen(number, row, whole=bool(expected))

    def _chosen(self, number, row, whole):
        """Of what there was of an epoch and what there is now."""
        before = self.rows.get(number, {})
        if all(row.get(name, value) == value for name, value in before.items()):
            return {**before, **row}
        # What is damaged must not take the place of what is whole.
        keep = whole and len(before) > len(row)
        self._problems.add(
            f"epoch {number} stands there twice; the {'fuller' if keep else 'later'} one was taken",
            "epochs that stand there twice",
            number,
        )
        if keep:
            return before
        return row if whole else {**before, **row}

    def forget_after(self, last, line):
        """Drop what was read of later epochs: at this line the training went back there."""
        later = sorted(number for number in self.rows if number > last)
        for number in later:
            del self.rows[number]
        if later:
            back = f"goes on after epoch {last}" if last else "begins anew"
            self._problems.add(
                f"at line {line} the training {back}; what stands before it of epochs "
                f"{Ranges(later)} was passed over",
                "lines at which it begins anew",
                line,
            )

    def finish(self, last):
        """Name what is missing, and drop what is beyond the last epoch; returns the rows."""
        beyond = sorted(number for number in self.rows if number > last)
        for number in beyond:
            del self.rows[number]
        if beyond:
            self._problems.add(f"epochs after the last one were passed over: {Ranges(beyond)}")
        missing = Ranges(n for n in range(1, max(self.rows, default=0)) if n not in self.rows)
        if missing.count:
            self._problems.add(f"epochs are missing: {missing}")
        return self.rows


def epoch_number(value):
    """A value as the number of an epoch; ValueError says what is wrong with it."""
    if type(value) is not int or not 1 <= value <= MOST_EPOCHS:
        raise ValueError(f"is of an epoch with the number {short(value)}")
    return value


def _is_number(value):
    return type(value) in (int, float) and abs(value) < 1e300


def lines_of(path, problems):
    """The lines of a log, as they are asked for.

    Parameters
    ----------
    path : str
    problems : Problems

    Yields
    ------
    number, line, whole : int, bytes, bool
        Counted from 1; ``whole``: the line has its end, which only the last may lack.
    """
    name = os.path.basename(path)
    try:
        with open_log(path) as file:
            number = 0
            while True:
                line = file.readline(LONGEST)
                if not line:
                    return
                number, whole = number + 1, line.endswith(b"\n")
                if number == 1 and line.startswith(BOM):
                    line = line[len(BOM) :]
                if len(line) < LONGEST or whole:
                    yield number, line, whole
                    continue
                while line and not line.endswith(b"\n"):
                    line = file.readline(LONGEST)
                problems.add(
                    f"line {number} is longer than {LONGEST >> 20} MB; it was passed over",
                    "lines that are too long",
                    number,
                )
    except OSError as error:
        problems.add(f"{name} cannot be read ({error.strerror})")


def open_log(path):
    """Open what is a file, to read bytes; a pipe or device could keep one waiting for ever.

    Raises
    ------
    OSError
    """
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise OSError(errno.EINVAL, "it is no file", path)
    return open(path, "rb")


def by_epoch(runs, measure):
    """The values of several runs, by the epochs that at least one of them has, in order."""
    found = {}
    for run in runs:
        for number, row in run.epochs.items():
            if measure in row:
                found.setdefault(number, []).append(row[measure])
    return dict(sorted(found.items()))


def counted(count, what):
    """``1 run``, ``2 runs``."""
    return f"{count} {what}{'' if count == 1 else 's'}"


def times(number):
    return {1: "once", 2: "twice"}.get(number, f"{number} times")


def short(value, most=60):
    """A value as a few words in one line, whatever it is; a text with quotation marks."""
    try:
        text = repr(value) if isinstance(value, str) else str(value)
    except (RecursionError, ValueError):  # lists in lists, and numbers of thousands of digits
        text = f"a {type(value).__name__} that cannot be shown"
    return one_line(text, most)


def one_line(text, most=60, ending="..."):
    """A text in which every character can be seen, with ``ending`` where it was cut.

    What cannot be printed is written as Python writes it: control characters, characters that
    turn the direction of the text around them, and bytes of file names that are not UTF-8.
    """
    text = text if len(text) <= most else text[: most - len(ending)] + ending
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)
