"""Forms of a network against the network itself: outputs, errors and speed.

Each form runs in a process of its own that imports only what the form needs
(:mod:`.worker`), from the files that will be given away.
"""

import contextlib
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from typing import Optional

import numpy as np
from tqdm import tqdm

from ..errors import DMRError
from ..runtime import library_folders

#: Of an image's logits, by the larger of 1 and the largest: how far float32 forms may be off.
TOLERANCE = 1e-4
_WORKER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "worker.py")
#: Seconds between two turns, in which the threads of the last one go to sleep.
_PAUSE = 0.05


class Worker:
    """One form in a process of its own.

    Parameters
    ----------
    name : str
        The form's.
    runtime : str
        ``mxnet`` or ``onnxruntime``.
    files : list of str
        Symbol and parameters, or the ONNX model.
    """

    def __init__(self, name, runtime, files):
        self.name, self._what = name, " and ".join(files)
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115
        environment = dict(os.environ)
        folders = [*library_folders(), *environment.get("LD_LIBRARY_PATH", "").split(":")]
        environment["LD_LIBRARY_PATH"] = ":".join(filter(None, folders))
        self._process = subprocess.Popen(
            [sys.executable, _WORKER, runtime, *files],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env=environment,
        )

    def wait(self):
        """Until it has loaded the form; the others may do so at the same time."""
        self._answer()

    def logits(self, images):
        """(n, ...) images as the form takes them to (n, classes) of float32."""
        images = np.ascontiguousarray(images, np.float32)
        shape = self._ask({"do": "logits", "shape": images.shape}, images.tobytes())["shape"]
        content = self._process.stdout.read(4 * int(np.prod(shape)))
        if len(content) < 4 * np.prod(shape):
            self._fail()
        return np.frombuffer(content, np.float32).reshape(shape)

    def seconds(self, batch, seconds):
        """How long each run on a batch takes, for so many seconds; of images that it has had."""
        return self._ask({"do": "time", "batch": batch, "seconds": seconds})["seconds"]

    def packages(self):
        """What its process has imported."""
        return set(self._ask({"do": "modules"})["names"])

    def close(self):
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()
        self._errors.close()

    def _ask(self, command, content=b""):
        try:
            self._process.stdin.write((json.dumps(command) + "\n").encode() + content)
            self._process.stdin.flush()
        except OSError:
            self._fail()
        return self._answer()

    def _answer(self):
        line = self._process.stdout.readline()
        if not line:
            self._fail()
        return json.loads(line)

    def _fail(self):
        status = self._process.wait()
        if status < 0:
            raise DMRError(
                f"the process of the form {self.name} was ended by {signal.Signals(-status).name}; "
                f"if memory ran out, try fewer forms at a time"
            )
        self._errors.seek(0)
        said = self._errors.read().decode(errors="replace").strip().splitlines()
        raise DMRError(
            f"{self._what} (the form {self.name}) cannot be run: "
            f"{said[-1] if said else f'status {status}'}"
        )


@contextlib.contextmanager
def workers(forms):
    """A worker for each of ``{name: (runtime, files)}``, by name."""
    started = {}
    try:
        for name, (runtime, files) in forms.items():
            started[name] = Worker(name, runtime, files)
        for worker in started.values():
            worker.wait()
        yield started
    finally:
        for worker in started.values():
            worker.close()


@dataclass
class Comparison:
    """A form's outputs beside the network's.

    Attributes
    ----------
    images : int
    difference : float
        Largest, of logits.
    largest : float
        Of the network's logits, their largest absolute value.
    other_class : int
        Images for which another class comes first.
    excess : float
        Largest difference of an image's logits, as a part of what is tolerated.
    wrong, network_wrong : int or None
        Images for which the right class does not come first, in this form and in the network;
        None where the right ones are not known.
    """

    images: int = 0
    difference: float = 0.0
    largest: float = 0.0
    other_class: int = 0
    excess: float = 0.0
    wrong: Optional[int] = None
    network_wrong: Optional[int] = None

    @property
    def equal(self):
        """Is it the same function up to rounding?"""
        return self.excess <= 1

    @property
    def error(self):
        """Percent, or None."""
        return None if self.wrong is None else 100 * self.wrong / self.images

    @property
    def more_error(self):
        """Percentage points by which the form is worse than the network.

        Where the right classes are not known: how many images get another one.
        """
        more = self.other_class if self.wrong is None else self.wrong - self.network_wrong
        return 100 * more / self.images

    def describe(self):
        """For ``bundle.json``."""
        return {
            "images": self.images,
            "largest_difference": self.difference,
            "largest_logit": self.largest,
            "another_class": self.other_class,
            "error": self.error,
        }

    def add(self, expected, found, label=None):
        """Count a batch: logits (n, classes) of the network and of the form."""
        if found.shape != expected.shape:
            raise DMRError(f"gives {found.shape} where the network gives {expected.shape}")
        self.images += len(expected)
        if not np.isfinite(expected).all():
            raise DMRError("the network gives values that are not finite; export another epoch")
        difference = np.abs(found.astype(np.float64) - expected).max(axis=1)
        difference[~np.isfinite(difference)] = np.inf
        largest = np.abs(expected).max(axis=1)
        self.difference = max(self.difference, float(difference.max()))
        self.largest = max(self.largest, float(largest.max()))
        allowed = TOLERANCE * np.maximum(1, largest)
        self.excess = max(self.excess, float((difference / allowed).max()))
        first, others = expected.argmax(axis=1), found.argmax(axis=1)
        self.other_class += int((first != others).sum())
        if label is not None:
            self.wrong = (self.wrong or 0) + int((others != label).sum())
            self.network_wrong = (self.network_wrong or 0) + int((first != label).sum())


def compare(network, running, batches, total):
    """Run a network and its forms on the same images.

    Parameters
    ----------
    network : function
        From a batch as ``batches`` has it to logits, (n, classes).
    running : dict of Worker
        By name.
    batches : iterable of (for the network, for the forms, labels or None)
    total : int
        Images, for the progress.

    Returns
    -------
    dict of Comparison
        By name.
    """
    found = {name: Comparison() for name in running}
    with tqdm(total=total, desc="compare", unit=" images", disable=None, leave=False) as progress:
        for data, images, label in batches:
            expected = network(data)
            for name, worker in running.items():
                found[name].add(expected, worker.logits(images), label)
            progress.update(len(data))
    return found


@dataclass(frozen=True)
class Speed:
    """Of one form on this machine.

    Attributes
    ----------
    seconds : dict of int to list of list of float
        By batch size: of each run, by rounds.
    """

    seconds: dict

    @property
    def images_per_second(self):
        """By batch size, the median over the rounds."""
        return {size: statistics.median(self._rates(size)) for size in self.seconds}

    def by(self, other):
        """How many times as fast as another form, by batch size: round by round, the median."""
        return {
            size: statistics.median(a / b for a, b in zip(self._rates(size), other._rates(size)))
            for size in self.seconds
        }

    @property
    def latency(self):
        """Milliseconds that one image takes: median and 95th percentile."""
        p50, p95 = np.percentile(np.concatenate(self.seconds[1]), (50, 95))
        return 1000 * float(p50), 1000 * float(p95)

    def describe(self, plain):
        """For ``bundle.json``; ``ratio`` is to another form's speed."""
        p50, p95 = self.latency
        rates, ratio = self.images_per_second, self.by(plain)
        return {"images_per_second": rates, "ratio": ratio, "p50": p50, "p95": p95}

    def _rates(self, size):
        return [size / statistics.median(turn) for turn in self.seconds[size]]


def measure(running, batch_sizes=(1, 32), rounds=5, seconds=0.5):
    """Speed of forms that have had images, in turn, so that a busy moment meets them all.

    Parameters
    ----------
    running : dict of Worker
        By name.
    batch_sizes : tuple of int
        With 1 among them.
    rounds : int
    seconds : float
        For each form, batch size and round; one run at least.

    Returns
    -------
    dict of Speed
        By name.
    """
    times = {name: {size: [] for size in batch_sizes} for name in running}
    turns = [(name, size) for _ in range(rounds) for name in running for size in batch_sizes]
    for name, size in tqdm(turns, "measure", unit=" turns", disable=None, leave=False):
        time.sleep(_PAUSE)
        times[name][size].append(running[name].seconds(size, seconds))
    return {name: Speed(times[name]) for name in running}
