"""Forms of a network against the network itself: their outputs and errors.

Each form runs in a process of its own that imports only what the form needs
(:mod:`.worker`), from the files that will be given away.
"""

import contextlib
import os
import sys
from dataclasses import dataclass
from typing import Optional

import numpy as np
from tqdm import tqdm

from ..errors import DMRError
from ..standalone import logits_worker
from ..system.worker_process import Process

#: Of an image's logits, by the larger of 1 and the largest: how far float32 forms may be off.
TOLERANCE = 1e-4
_WORKER = logits_worker.__file__


class Worker(Process):
    """One form in a process of its own.

    Parameters
    ----------
    name : str
        The form's.
    runtime : str
        ``mxnet`` or ``onnxruntime``.
    files : list of str
        Symbol and parameters, or the ONNX model; in the same folder.
    """

    def __init__(self, name, runtime, files):
        what = f"{' and '.join(files)} (the form {name})"
        # Neither MXNet nor ONNX Runtime opens a path that is not UTF-8.
        names = map(os.path.basename, files)
        command = [sys.executable, _WORKER, runtime, *names]
        super().__init__(what, command, folder=os.path.dirname(files[0]) or None)

    def logits(self, images):
        """(n, ...) images as the form takes them to (n, classes) of float32."""
        images = np.ascontiguousarray(images, np.float32)
        shape = self.ask({"do": "logits", "shape": images.shape}, images.tobytes())["shape"]
        return np.frombuffer(self.read(4 * int(np.prod(shape))), np.float32).reshape(shape)


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

    Raises
    ------
    DMRError
        For outputs of another shape, or a network whose own are not finite.
    """
    found = {name: Comparison() for name in running}
    with tqdm(total=total, desc="compare", unit=" images", disable=None, leave=False) as progress:
        for data, images, label in batches:
            expected = network(data)
            for name, worker in running.items():
                logits = worker.logits(images)
                if logits.shape != expected.shape:
                    raise DMRError(
                        f"the form {name} gives {logits.shape} where the network gives "
                        f"{expected.shape}; nothing was written. Please report this"
                    )
                found[name].add(expected, logits, label)
            progress.update(len(data))
    return found
