"""Load batches of images from RecordIO, for training and for exact evaluation.

An epoch is a permutation of the images and a row of random numbers for each position, both drawn
from seed and epoch alone. So it is bit-identical for any number of readers, devices and workers;
each worker reads only its shard of every batch; and a run resumes in the middle of an epoch
without reading the first half again. MXNet's ImageRecordIter offers none of this.
"""

from collections import namedtuple

import numpy as np

from ..errors import DMRError
from .reader import Reading, batches
from .transforms import CentreCrop, Draws, Normalise, PadCropMirror, ScaleCropMirrorColour

#: One worker's shard of the data: ``index`` from 0, of ``count``.
Shard = namedtuple("Shard", "index count")
WHOLE = Shard(0, 1)


def training_batches(
    prepared, recipe, seed, epoch, start=0, shard=WHOLE, reshuffled_at=(), reading=Reading()
):
    """Yield one epoch of training batches: every image once, in the epoch's own order.

    Parameters
    ----------
    prepared : RecordDataset
    recipe : Recipe
    seed, epoch : int
        Determine the order and the augmentation.
    start : int
        Batches to skip: those already trained on.
    shard : Shard
        Which worker's part of every batch.
    reshuffled_at : sequence of int
        Batches after which the rest of the epoch is drawn again; see :class:`Draws`.
    reading : Reading
        The threads or processes that read and augment; the result does not depend on them.

    Yields
    ------
    Batch
        This worker's shard of ``recipe.batch_size`` images; the last batch of an epoch may be
        smaller. See :data:`dmr_gluon.data.reader.Batch`.

    Raises
    ------
    DMRError
        If images do not have the recipe's size, or a record is damaged.
    """
    check_image_size(prepared, recipe)
    split = prepared.split("train")
    size = recipe.batch_size
    reshuffled_at = [size * step for step in reshuffled_at]
    draws = Draws(split.count, seed, epoch, reshuffled_at, recipe.shuffle_chunk)
    places = [
        np.arange(first, split.count)[share_of(min(size, split.count - first), shard)]
        for first in range(start * size, split.count, size)
    ]
    whole = recipe.eval_short_side is None
    transform = (PadCropMirror if whole else ScaleCropMirrorColour)(prepared, recipe, draws, places)
    numbers = [draws.order[place] for place in places]
    return batches(split, numbers, _shape(recipe), transform, reading)


def evaluation_batches(prepared, recipe, split="test", shard=WHOLE, reading=Reading()):
    """Yield each image of a split, or of a worker's shard of it, once, in the file's order.

    Parameters
    ----------
    prepared : RecordDataset
    recipe : Recipe
        Provides image sizes and batch size.
    split : str
    shard : Shard
    reading : Reading
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
    check_image_size(prepared, recipe)
    found = prepared.split(split)
    mine = np.arange(found.count)[share_of(found.count, shard)]
    numbers = [mine[i : i + recipe.batch_size] for i in range(0, len(mine), recipe.batch_size)]
    scaled = recipe.eval_short_side is not None
    transform = CentreCrop(prepared, recipe) if scaled else Normalise(prepared)
    return batches(found, numbers, _shape(recipe), transform, reading)


def share_of(count, shard):
    """Return a shard's slice of ``count`` items; shards are contiguous and differ by at most 1."""
    return slice(count * shard.index // shard.count, count * (shard.index + 1) // shard.count)


def check_image_size(prepared, recipe):
    """Refuse images of the wrong size for a recipe that does not scale them.

    Parameters
    ----------
    prepared : RecordDataset
    recipe : Recipe

    Raises
    ------
    DMRError
    """
    height, width = prepared.image_size or (0, 0)
    if recipe.eval_short_side is not None or height == width == recipe.image_size:
        return
    size = f"{recipe.image_size}x{recipe.image_size}"
    remedy = f"give --image-size {height}"
    if height != width or not height:
        remedy = (
            f"make it again from the images with 'dmr prepare folder SRC --resize {size} "
            f"--out DIR', or scale and crop them with train_imagenet.py"
        )
    found = f"of {width}x{height}" if height else "of different sizes"
    raise DMRError(
        f"{prepared.directory} has images {found}, but the recipe expects {size}, unscaled; "
        f"{remedy}"
    )


def _shape(recipe):
    return 3, recipe.image_size, recipe.image_size
