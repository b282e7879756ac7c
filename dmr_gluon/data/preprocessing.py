"""Preprocess images, and provide those that exported networks are verified and calibrated with."""

from dataclasses import dataclass, replace
from typing import Any, Dict, Optional, Tuple

import cv2
import numpy as np

from ..paper.recipes import CIFAR, Recipe
from .loader import evaluation_batches


def batch_size(image_size):
    """Return the images per batch: one process per variant holds a batch's activations."""
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
        Images are scaled to this shorter side before the centre is cropped; None: to image_size.
    fit : str
        How an image becomes square: ``crop``, ``pad`` or ``stretch``, as its training set's.
    """

    image_size: int
    mean: Optional[Tuple[float, ...]]
    std: Optional[Tuple[float, ...]]
    short_side: Optional[int] = None
    fit: str = "crop"

    @classmethod
    def of(cls, about: Dict[str, Any]) -> "Preparation":
        """Return what the entry ``input`` of ``bundle.json`` describes."""
        mean, std, short_side = (about[name] for name in ("mean", "std", "short_side"))
        return cls(max(about["shape"]), mean, std, short_side, about.get("fit") or "crop")

    def describe(self, in_graph: bool) -> Dict[str, Any]:
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
            "fit": self.fit,
            "mean": self.mean and list(self.mean),
            "std": self.std and list(self.std),
            "formula": "pixel from 0 to 255" if in_graph else "(pixel from 0 to 255 - mean) / std",
        }

    def recipe(self) -> Recipe:
        """Return a recipe with these image sizes, for evaluation."""
        sides = (self.short_side,) * 2 if self.short_side else None
        return replace(
            CIFAR,
            image_size=self.image_size,
            pad=0,
            train_short_side=sides,
            eval_short_side=self.short_side,
        )

    def normalised(self, pixels: np.ndarray) -> np.ndarray:
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

    def pixels(self, data: np.ndarray) -> np.ndarray:
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
        statistics = self.mean or (0, 0, 0), self.std or (1, 1, 1)
        return (np.array(one, np.float32).reshape(3, 1, 1) for one in statistics)


class PreparedImages:
    """Images of a prepared set, preprocessed as in evaluation.

    Without a test split, training images are used instead.

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
        self._test, kind = ("test", "test") if prepared.count("test") else ("train", "training")
        whole = prepared.count(self._test)
        self.count = whole if count is None else min(count, whole)
        self.origin = f"the first {kind} image of {prepared.name}"

    def batches(self):
        """Yield (n, 3, height, width) of float32, normalised, and the labels."""
        return self._first(self.count, self._test)

    def calibration(self, count):
        """Return training images: (n, 3, height, width), normalised."""
        return np.concatenate([data for data, _ in self._first(count, "train")])

    def _first(self, count, split):
        for data, labels in evaluation_batches(self._prepared, self._recipe, split):
            yield data[:count], labels[:count]
            count -= len(data)
            if count <= 0:
                return


class MadeImages:
    """Synthetic coloured blots, deterministic, for networks without a prepared set.

    Parameters
    ----------
    preparation : Preparation
    count : int
    """

    origin = "coloured blots, made up"

    def __init__(self, preparation, count):
        self._preparation, self.count = preparation, count

    def batches(self):
        """Yield (n, 3, height, width) of float32, normalised, and None for the labels."""
        random, size = np.random.RandomState(0), self._preparation.image_size
        most = batch_size(size)
        for begin in range(0, self.count, most):
            blots = random.uniform(-40, 296, (min(most, self.count - begin), 6, 6, 3))
            images = [cv2.resize(one, (size, size), interpolation=cv2.INTER_CUBIC) for one in blots]
            pixels = np.stack(images).clip(0, 255).round().astype(np.float32)
            yield self._preparation.normalised(pixels), None
