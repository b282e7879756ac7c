"""Batches of images from RecordIO, for training and for exact evaluation.

Two ways of reading, by recipe. Images that are *taken whole* (32x32) are decoded and
shuffled by MXNet's ImageRecordIter as bytes; normalising, padding, cropping and mirroring
are done here, from random numbers that depend only on seed, epoch and position, because
ImageRecordIter pads with white before normalising and repeats its augmentation. Images that
are *scaled and cropped* (ImageNet) are augmented by ImageRecordIter itself.
"""

import contextlib
from collections import namedtuple

import numpy as np

from ..errors import DMRError
from ..runtime import mx, on_a_passing_thread, usable_cores

#: ``data``: NDArray or array of float32, (n, 3, height, width), normalised.
#: ``label``: array of int64, (n,). Both may be overwritten when the next batch is read.
Batch = namedtuple("Batch", "data label")

#: The arguments of ImageRecordIter that are used here. It ignores names that it does not
#: know, so a misspelt one would silently do nothing.
_ARGUMENTS = frozenset(
    [
        "path_imgrec",
        "path_imgidx",
        "data_shape",
        "batch_size",
        "shuffle",
        "seed",
        "round_batch",
        "preprocess_threads",
        "dtype",
        "device_id",
        "verbose",
        "resize",
        "rand_crop",
        "rand_mirror",
        "min_random_scale",
        "max_random_scale",
        "pca_noise",
        "inter_method",
        "mean_r",
        "mean_g",
        "mean_b",
        "std_r",
        "std_g",
        "std_b",
    ]
)


def training_batches(prepared, recipe, seed, epoch):
    """One epoch of training batches: every image once, in an order of its own.

    Parameters
    ----------
    prepared : PreparedSet
    recipe : Recipe
    seed, epoch : int
        Decide the order and the augmentation. For images that are scaled and cropped,
        ImageRecordIter's threads make the augmentation differ from run to run.

    Yields
    ------
    Batch
        Of ``recipe.batch_size`` images; the last one of an epoch has the rest.
    """
    shuffle_seed, augment_seed = np.random.SeedSequence([seed, epoch]).spawn(2)
    arguments = {
        "path_imgidx": prepared.split("train").index,
        "shuffle": True,
        "seed": int(shuffle_seed.generate_state(1)[0] >> 1),
    }
    if recipe.train_short_side is None:
        augment = _PadCropMirror(prepared, recipe, np.random.default_rng(augment_seed))
        return _whole_images(prepared, recipe, "train", arguments, augment)
    shortest, longest = recipe.train_short_side
    arguments.update(
        resize=longest,
        min_random_scale=shortest / longest,
        max_random_scale=1.0,
        rand_crop=True,
        rand_mirror=recipe.mirror,
        pca_noise=recipe.pca_noise,
    )
    return _scaled_images(prepared, recipe, "train", arguments)


def evaluation_batches(prepared, recipe, split="test"):
    """All images of a split, once each, in the order of the file.

    Yields
    ------
    Batch
    """
    if recipe.eval_short_side is None:
        return _whole_images(prepared, recipe, split, {}, _Normalise(prepared))
    return _scaled_images(prepared, recipe, split, {"resize": recipe.eval_short_side})


def check_image_size(prepared, recipe):
    """Refuse images that a recipe cannot take whole."""
    size = (recipe.image_size, recipe.image_size)
    if recipe.train_short_side is not None or prepared.image_size == size:
        return
    found = "of different sizes"
    if prepared.image_size is not None:
        found = "of {1}x{0}".format(*prepared.image_size)
    raise DMRError(
        f"{prepared.directory} has images {found}, the recipe takes whole images of "
        f"{size[1]}x{size[0]}; prepare it again with --resize {size[1]}x{size[0]}, or set "
        f"--image-size"
    )


def _whole_images(prepared, recipe, split, arguments, transform):
    check_image_size(prepared, recipe)
    raw = _read(prepared, recipe, split, {"dtype": "uint8", **arguments})
    with contextlib.closing(raw):
        for data, label in raw:
            yield Batch(transform(data.asnumpy()), label)


def _scaled_images(prepared, recipe, split, arguments):
    names = [f"{what}_{channel}" for what in ("mean", "std") for channel in "rgb"]
    arguments = {
        "inter_method": 9,  # area when shrinking, cubic when enlarging, as the authors' code
        **dict(zip(names, (*prepared.mean, *prepared.std))),
        **arguments,
    }
    raw = _read(prepared, recipe, split, arguments)
    with contextlib.closing(raw):
        for data, label in raw:
            yield Batch(data, label)


def _read(prepared, recipe, split, arguments):
    """ImageRecordIter over one split, cut to exactly its images.

    The last batch of ``round_batch=False`` is filled up with old rows and its ``pad`` says
    nothing of it, so the images are counted here.
    """
    remaining = prepared.split(split).count
    try:
        iterator = _image_record_iter(
            path_imgrec=prepared.split(split).records,
            data_shape=(3, recipe.image_size, recipe.image_size),
            batch_size=recipe.batch_size,
            round_batch=False,
            preprocess_threads=usable_cores(),
            device_id=-1,
            verbose=False,
            **arguments,
        )
        while remaining > 0:
            batch = next(iterator)
            count = min(remaining, recipe.batch_size)
            remaining -= count
            data = batch.data[0]
            label = batch.label[0].asnumpy()[:count].astype(np.int64)
            yield (data if count == recipe.batch_size else data[:count]), label
    except (mx.base.MXNetError, StopIteration) as error:
        lines = str(error).strip().splitlines() or [f"it ends {remaining} images early"]
        raise DMRError(
            f"{prepared.split(split).records} is damaged ({lines[-1]}); prepare the data set again"
        ) from error


def _image_record_iter(**arguments):
    unknown = set(arguments) - _ARGUMENTS
    if unknown:
        raise TypeError(f"ImageRecordIter would ignore {', '.join(sorted(unknown))}")
    return on_a_passing_thread(mx.io.ImageRecordIter, **arguments)


class _Normalise:
    """uint8 to float32, (x - mean) / std per channel; NCHW."""

    def __init__(self, prepared):
        self.mean = np.array(prepared.mean, np.float32).reshape(1, 3, 1, 1)
        self.scale = 1 / np.array(prepared.std, np.float32).reshape(1, 3, 1, 1)

    def __call__(self, images):
        normalised = images.astype(np.float32)
        normalised -= self.mean
        normalised *= self.scale
        return normalised


class _PadCropMirror(_Normalise):
    """Normalise, pad with zeros, crop at a random place, mirror half (section 4.1)."""

    def __init__(self, prepared, recipe, random):
        super().__init__(prepared)
        count = prepared.split("train").count
        self.pad = recipe.pad
        # All numbers of the epoch at once: they depend on the position, not on the batches.
        self.offsets = random.integers(0, 2 * recipe.pad + 1, size=(count, 2))
        self.mirrored = random.integers(0, 2, size=count).astype(bool) & recipe.mirror
        self.position = 0

    def __call__(self, images):
        count, _, height, width = images.shape
        here = slice(self.position, self.position + count)
        self.position += count
        normalised = super().__call__(images)
        if self.pad:
            padded = np.pad(normalised, ((0, 0), (0, 0), (self.pad,) * 2, (self.pad,) * 2))
            for i, (top, left) in enumerate(self.offsets[here]):
                normalised[i] = padded[i, :, top : top + height, left : left + width]
        mirrored = self.mirrored[here]
        normalised[mirrored] = normalised[mirrored, :, :, ::-1]
        return normalised
