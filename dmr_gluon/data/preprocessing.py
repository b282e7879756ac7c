"""Preprocess images, and provide those on which exported networks are verified and calibrated."""

from dataclasses import dataclass, replace
from typing import Optional, Tuple

import cv2
import numpy as np

from .loader import evaluation_batches


def batch_size(image_size):
    """Return images per batch: one process per variant holds a batch's activations."""
    return max(8, min(64, 2**19 // image_size**2))


@dataclass(frozen=True)
class Preparation:
    """How an image is preprocessed for a network.

    Parameters
    ----------
    image_size : int
        Height and width of the input.
    mean, std : sequence of float or None
        R, G, B in 0-255; None if the network's training data is unknown.
    short_side : int or None
        Larger images are scaled to this shorter side before the centre is cropped.
    """

    image_size: int
    mean: Optional[Tuple[float, ...]]
    std: Optional[Tuple[float, ...]]
    short_side: Optional[int] = None

    def describe(self, in_graph):
        """Return the entry ``input`` of ``bundle.json``."""
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
        """Turn pixels into a network's input.

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
        """Turn a network's input back into pixels: the inverse of :meth:`normalised`.

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
    """Images of a prepared set, preprocessed as in evaluation.

    Parameters
    ----------
    prepared : RecordDataset
        With the mean and std that the network was trained with.
    recipe : Recipe
        Provides the image sizes.
    count : int, optional
        Number of test images; default: all.
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
        """Return training images without augmentation: (n, 3, height, width), normalised."""
        batches = evaluation_batches(self._prepared, self._recipe, "train")
        return np.concatenate([data for data, _ in _first(batches, count)])

    def example(self):
        """Return the first test image, (3, height, width), its label, and its origin."""
        data, label = next(iter(self.batches()))
        return data[0], int(label[0]), f"the first test image of {self._prepared.name}"


class MadeImages:
    """Synthetic coloured blots, deterministic, for networks without a prepared set.

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
        """Return other blots, to calibrate with."""
        return np.concatenate(list(self._made(count, seed=1)))

    def example(self):
        """Return the first image, None for its label, and its origin."""
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
    """Yield batches with the first ``count`` images."""
    left = count
    for data, label in batches:
        yield data[:left], label[:left]
        left -= len(data)
        if left <= 0:
            return
