"""Batches of images from RecordIO, for training and for exact evaluation.

An epoch is a permutation of the images and a row of random numbers for each place in it, both
from seed and epoch alone. So it is the same for any number of threads, devices and workers, each
worker reads just its share of every batch, and a run goes on in the middle of an epoch without
reading what it has had. MXNet's ImageRecordIter can do none of this.
"""

from collections import namedtuple

import numpy as np

from ..errors import DMRError
from .reader import batches
from .transforms import CentreCrop, Draws, Normalise, PadCropMirror, ScaleCropMirrorColour

#: Which worker's share: ``index`` from 0, of ``count``.
Part = namedtuple("Part", "index count")
WHOLE = Part(0, 1)


def training_batches(prepared, recipe, seed, epoch, start=0, part=WHOLE, fresh=(), threads=None):
    """One epoch of training batches: every image once, in an order of its own.

    Parameters
    ----------
    prepared : PreparedSet
    recipe : Recipe
    seed, epoch : int
        Decide the order and the augmentation.
    start : int
        Batches that have been trained on already.
    part : Part
        A worker's number and how many there are. Each gets its share of every batch.
    fresh : sequence of int
        Batches after which the rest of the epoch is drawn anew, see :class:`Draws`.
    threads : int, optional
        That read and augment; nothing else depends on it. Default: one for each core.

    Yields
    ------
    Batch
        Of ``recipe.batch_size`` images; the last one of an epoch has the rest. With several
        workers: of this one's share. See :data:`dmr_gluon.data.reader.Batch`.

    Raises
    ------
    DMRError
        For images of another size than the recipe takes, or a damaged record.
    """
    check_image_size(prepared, recipe)
    split = prepared.split("train")
    size = recipe.batch_size
    fresh = [size * step for step in fresh]
    draws = Draws(split.count, seed, epoch, fresh, recipe.shuffle_chunk)
    places = [
        np.arange(first, split.count)[share_of(min(size, split.count - first), part)]
        for first in range(start * size, split.count, size)
    ]
    whole = recipe.train_short_side is None
    transform = (PadCropMirror if whole else ScaleCropMirrorColour)(prepared, recipe, draws, places)
    numbers = [draws.order[place] for place in places]
    return batches(split, numbers, _shape(recipe), transform, threads)


def evaluation_batches(prepared, recipe, split="test", part=WHOLE, threads=None):
    """All images of a split, once each, in the order of the file; or a worker's share of them.

    Parameters
    ----------
    prepared : PreparedSet
    recipe : Recipe
        Its image sizes and its batches' size are used.
    split : str
    part : Part
    threads : int, optional
        As for :func:`training_batches`.

    Yields
    ------
    Batch
        Without augmentation.

    Raises
    ------
    DMRError
        As :func:`training_batches`.
    """
    whole = recipe.eval_short_side is None
    if whole:
        check_image_size(prepared, recipe)
    found = prepared.split(split)
    mine = np.arange(found.count)[share_of(found.count, part)]
    numbers = [mine[i : i + recipe.batch_size] for i in range(0, len(mine), recipe.batch_size)]
    transform = Normalise(prepared) if whole else CentreCrop(prepared, recipe)
    return batches(found, numbers, _shape(recipe), transform, threads)


def share_of(count, part):
    """The slice of so many things that is a part's: near-equal parts, in order."""
    return slice(count * part.index // part.count, count * (part.index + 1) // part.count)


def check_image_size(prepared, recipe):
    """Refuse images that a recipe cannot take whole.

    Parameters
    ----------
    prepared : PreparedSet
    recipe : Recipe

    Raises
    ------
    DMRError
    """
    size = f"{recipe.image_size}x{recipe.image_size}"
    height, width = prepared.image_size or (0, 0)
    if recipe.train_short_side is not None or height == width == recipe.image_size:
        return
    found = f"of {width}x{height}" if height else "of different sizes"
    remedy = f"give --image-size {height}"
    if height != width or not height:
        remedy = (
            f"make it again from the images with 'dmr prepare folder SRC --resize {size} "
            f"--out DIR', or scale and crop them with train_imagenet.py"
        )
    raise DMRError(
        f"{prepared.directory} has images {found}, but the recipe takes whole images of "
        f"{size}; {remedy}"
    )


def _shape(recipe):
    return 3, recipe.image_size, recipe.image_size
