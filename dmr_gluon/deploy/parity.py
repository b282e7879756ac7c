"""Compare the outputs and errors of exported variants with those of the network.

Each variant runs from the bundle's files, in a separate process that imports only what the
variant needs (:mod:`dmr_gluon.standalone.logits_worker`).
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

#: Largest difference of a float32 variant's logits, relative to the larger of 1 and the largest
#: logit of the image.
TOLERANCE = 1e-4


class Worker(Process):
    """Run one variant in a separate process.

    Parameters
    ----------
    name : str
        Name of the variant.
    runtime : str
        ``mxnet`` or ``onnxruntime``.
    files : list of str
        Symbol and parameters, or the ONNX model; in the same folder.
    """

    def __init__(self, name, runtime, files):
        what = f"{' and '.join(files)} (the form {name})"
        # Neither MXNet nor ONNX Runtime opens a path that is not UTF-8.
        command = [sys.executable, logits_worker.__file__, runtime, *map(os.path.basename, files)]
        super().__init__(what, command, folder=os.path.dirname(files[0]) or None)

    def logits(self, images):
        """Return logits, (n, classes) of float32, for (n, ...) images as the variant takes them."""
        images = np.ascontiguousarray(images, np.float32)
        shape = self.ask({"do": "logits", "shape": images.shape}, images.tobytes())["shape"]
        return np.frombuffer(self.read(4 * int(np.prod(shape))), np.float32).reshape(shape)


@contextlib.contextmanager
def workers(variants):
    """Start a worker for each of ``{name: (runtime, files)}``, and yield them by name."""
    with contextlib.ExitStack() as stack:
        started = {}
        for name, (runtime, files) in variants.items():
            worker = contextlib.closing(Worker(name, runtime, files))
            started[name] = stack.enter_context(worker)
        for worker in started.values():
            worker.wait()
        yield started


@dataclass
class Comparison:
    """Differences between a variant's outputs and the network's.

    Attributes
    ----------
    images : int
    difference : float
        Largest difference of logits.
    largest : float
        Largest absolute value of the network's logits.
    other_class : int
        Number of images with another predicted class.
    excess : float
        Largest difference of an image's logits, relative to the larger of 1 and its largest logit.
    wrong, network_wrong : int or None
        Number of images that the variant and the network classify wrongly; None without labels.
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
        """Whether it is the same function up to rounding."""
        return self.excess <= TOLERANCE

    @property
    def error(self):
        """Error in percent, or None without labels."""
        return None if self.wrong is None else 100 * self.wrong / self.images

    @property
    def more_error(self):
        """Additional error in percentage points; without labels, images of another class."""
        more = self.other_class if self.wrong is None else self.wrong - self.network_wrong
        return 100 * more / self.images

    def describe(self):
        """Return the entry for ``bundle.json``."""
        return {
            "images": self.images,
            "largest_difference": self.difference,
            "largest_logit": self.largest,
            "another_class": self.other_class,
            "error": self.error,
        }

    def add(self, expected, found, label=None):
        """Add a batch: logits (n, classes) of the network and of the variant."""
        if not np.isfinite(expected).all():
            raise DMRError("the network's outputs are not finite; export another epoch")
        difference = np.nan_to_num(np.abs(found - expected).max(axis=1), nan=np.inf, posinf=np.inf)
        largest = np.abs(expected).max(axis=1)
        first, others = expected.argmax(axis=1), found.argmax(axis=1)
        self.images += len(expected)
        self.difference = max(self.difference, float(difference.max()))
        self.largest = max(self.largest, float(largest.max()))
        self.excess = max(self.excess, float((difference / np.maximum(1, largest)).max()))
        self.other_class += int((first != others).sum())
        if label is not None:
            self.wrong = (self.wrong or 0) + int((others != label).sum())
            self.network_wrong = (self.network_wrong or 0) + int((first != label).sum())


def compare(running, batches, total):
    """Compare variants with their network on the same images.

    Parameters
    ----------
    running : dict of Worker
        By name.
    batches : iterable of (network's logits, variants' images, labels or None)
    total : int
        Number of images, for the progress bar.

    Returns
    -------
    dict of Comparison
        By name.

    Raises
    ------
    DMRError
        For logits of the network that are not finite.
    """
    found = {name: Comparison() for name in running}
    with tqdm(total=total, desc="compare", unit=" images", disable=None, leave=False) as progress:
        for expected, images, label in batches:
            for name, worker in running.items():
                found[name].add(expected, worker.logits(images), label)
            progress.update(len(images))
    return found
