"""Images that exported networks are checked, calibrated and shown on."""

from dataclasses import replace

import cv2
import numpy as np

from ..data.iterators import evaluation_batches


def batch_size(image_size):
    """Images at a time: as many processes as there are forms hold one batch's activations."""
    return max(8, min(64, 2**19 // image_size**2))


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

    labelled = True

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
    shape : tuple of int
        (3, height, width).
    mean, std : sequence of float or None
        To normalise with; None: not at all.
    count : int
    """

    labelled = False

    def __init__(self, shape, mean, std, count):
        self.count, self._shape = count, shape
        self._mean = np.array([0, 0, 0] if mean is None else mean, np.float32).reshape(3, 1, 1)
        self._std = np.array([1, 1, 1] if std is None else std, np.float32).reshape(3, 1, 1)

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
        size = self._shape[2], self._shape[1]
        most = batch_size(max(size))
        for begin in range(0, count, most):
            blots = random.uniform(-40, 296, (min(most, count - begin), 6, 6, 3))
            images = [cv2.resize(one, size, interpolation=cv2.INTER_CUBIC) for one in blots]
            pixels = np.stack(images).clip(0, 255).round().astype(np.float32).transpose(0, 3, 1, 2)
            yield (pixels - self._mean) / self._std


def _first(batches, count):
    """The batches of the first images."""
    left = count
    for data, label in batches:
        yield data[:left], label[:left]
        left -= len(data)
        if left <= 0:
            return
