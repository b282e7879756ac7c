"""Stand-ins for decoding and scaling, importable by the processes that read."""

import os
import time
from pathlib import Path

import cv2
import numpy as np

from dmr_gluon.data.transforms import Normalise


class Asleep:
    """Sleep as long as a photograph's decoding takes, then do the rest of ImageNet's augmentation.

    Parameters
    ----------
    transform : ScaleCropMirrorColour
    seconds : float
        For each image.
    size : int
        Height and width of the crop.
    """

    def __init__(self, transform, seconds, size):
        self.transform, self.seconds = transform, seconds
        self.photograph = photograph(size)

    def __call__(self, images, batch, rows, out):
        rest = self.transform
        for place, target in zip(rest.places[batch][rows], out):
            time.sleep(self.seconds)
            mirror, seen = rest.uniform[place].tolist()[4], self.photograph
            if mirror < 0.5:
                seen = cv2.flip(seen, 1)
            rest._normalise(seen, target, rest.mean - rest.noise[place].reshape(3, 1, 1))


class Evaluation(Normalise):
    """The same for an evaluation, of which only normalising is left."""

    def __init__(self, prepared, seconds, size):
        super().__init__(prepared)
        self.seconds, self.photograph = seconds, photograph(size)

    def __call__(self, images, batch, rows, out):
        for target in out:
            time.sleep(self.seconds)
            self._normalise(self.photograph, target)


def photograph(size):
    return np.random.RandomState(0).randint(0, 256, (size, size, 3), np.uint8)


def let_readers_import():
    """Let processes that are started from now on find this module."""
    folders = [str(Path(__file__).resolve().parent), os.environ.get("PYTHONPATH", "")]
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, folders))
