"""Images that exported networks are checked, calibrated and shown on."""

from dataclasses import dataclass, replace
from typing import Optional, Tuple

import cv2
import numpy as np

from .loader import evaluation_batches


def batch_size(image_size):
    """Images at a time: as many processes as there are forms hold one batch's activations."""
    return max(8, min(64, 2**19 // image_size**2))


@dataclass(frozen=True)
class Preparation:
    """What becomes of an image before it goes into a network.

    Parameters
    ----------
    image_size : int
        Height and width of the input.
    mean, std : sequence of float or None
        R, G, B in 0-255; None where it is not known what the network was trained on.
    short_side : int or None
        What larger images are scaled to before the centre is cut out.
    """

    image_size: int
    mean: Optional[Tuple[float, ...]]
    std: Optional[Tuple[float, ...]]
    short_side: Optional[int] = None

    def describe(self, in_graph):
        """``input`` of ``bundle.json``."""
        size = self.image_size
        return {
            "name": "data",
            "layout": "NHWC" if in_graph else "NCHW",
            "channels": "RGB",
            "dtype": "float32",
            "shape": [size, size, 3] if in_graph else [3, size, size],
            "values": "pixels" if in_graph else "normalised",
            "short_side": self.short_side,
            "mean": self.mean and list(self.mean),
            "std": self.std and list(self.std),
            "formula": "pixel from 0 to 255" if in_graph else "(pixel from 0 to 255 - mean) / std",
        }

    def normalised(self, pixels):
        """What a network is given of pixels.

        Parameters
        ----------
        pixels : numpy.ndarray
            (n, height, width, 3), 0 to 255.

        Returns
        -------
        numpy.ndarray
            (n, 3, height, width).
        """
        mean, std = self._mean_and_std()
        return (pixels.transpose(0, 3, 1, 2) - mean) / std

    def pixels(self, data):
        """The pixels of what :meth:`normalised` gave.

        Parameters
        ----------
        data : numpy.ndarray
            (n, 3, height, width), normalised.

        Returns
        -------
        numpy.ndarray
            (n, height, width, 3), whole numbers as float32, 0 to 255.
        """
        mean, std = self._mean_and_std()
        return np.rint(data * std + mean).transpose(0, 2, 3, 1)

    def _mean_and_std(self):
        return (
            np.array(one, np.float32).reshape(3, 1, 1)
            for one in (self.mean or (0, 0, 0), self.std or (1, 1, 1))
        )


class PreparedImages:
    """Of a prepared set, as its evaluation takes them.

    Parameters
    ----------
    prepared : PreparedSet
        With the mean and std that the network was trained with.
    recipe : Recipe
        Its image sizes are used.
    count : int, optional
        Test images to compare on; default: all.
    """

    def __init__(self, prepared, recipe, count=None):
        self._prepared = prepared
        self._recipe = replace(recipe, batch_size=batch_size(recipe.image_size))
        whole = prepared.split("test").count
        self.count = whole if count is None else min(count, whole)

    def batches(self):
        """Yield (n, 3, height, width) of float32, normalised, and the labels."""
        return _first(evaluation_batches(self._prepared, self._recipe), self.count)

    def calibration(self, count):
        """Training images, without augmentation: (n, 3, height, width), normalised."""
        batches = evaluation_batches(self._prepared, self._recipe, "train")
        return np.concatenate([data for data, _ in _first(batches, count)])

    def example(self):
        """The first test image, (3, height, width), its label, and where it is from."""
        data, label = next(iter(self.batches()))
        return data[0], int(label[0]), f"the first test image of {self._prepared.name}"


class MadeImages:
    """Coloured blots, where there is no prepared set; the same ones every time.

    Parameters
    ----------
    preparation : Preparation
    count : int
    """

    def __init__(self, preparation, count):
        self._preparation, self.count = preparation, count

    def batches(self):
        """Yield (n, 3, height, width) of float32, and None for the labels."""
        return ((data, None) for data in self._made(self.count, seed=0))

    def calibration(self, count):
        """Other ones, to calibrate with."""
        return np.concatenate(list(self._made(count, seed=1)))

    def example(self):
        """The first one, None for its label, and that it was made up."""
        return next(self._made(1, seed=0))[0], None, "coloured blots, made up"

    def _made(self, count, seed):
        random = np.random.RandomState(seed)
        size = self._preparation.image_size
        most = batch_size(size)
        for begin in range(0, count, most):
            blots = random.uniform(-40, 296, (min(most, count - begin), 6, 6, 3))
            images = [cv2.resize(one, (size, size), interpolation=cv2.INTER_CUBIC) for one in blots]
            pixels = np.stack(images).clip(0, 255).round().astype(np.float32)
            yield self._preparation.normalised(pixels)


def _first(batches, count):
    """The batches of the first images."""
    left = count
    for data, label in batches:
        yield data[:left], label[:left]
        left -= len(data)
        if left <= 0:
            return
