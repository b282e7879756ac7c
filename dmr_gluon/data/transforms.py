"""Turn decoded images into a network's input, with the paper's augmentation or none.

All randomness depends on seed, epoch and the image's position in the epoch alone, so an epoch is
bit-identical on any number of threads, devices and workers, and can be entered in the middle. A
transform is called with images (RGB, uint8), the number of their batch, their rows in it and the
array to fill, (n, 3, height, width) of float32.
"""

import cv2
import numpy as np

from ..standalone.predict_onnx import crop, scaled, scaled_size
from .random_crop import ATTEMPTS, random_part

#: Principal components of ImageNet's colours and the standard deviations along them (0-255):
#: RGB, Krizhevsky et al. 2012, as in fb.resnet.torch and MXNet.
_COLOUR_DEVIATIONS = np.array([55.46, 4.794, 1.148])
_COLOUR_COMPONENTS = np.array(
    [
        [-0.5675, 0.7192, 0.4009],
        [-0.5808, -0.0045, -0.8140],
        [-0.5836, -0.6948, 0.4203],
    ]
)
#: OpenCV's warpAffine accepts at most this many pixels per side.
_LONGEST = (1 << 15) - 2


class Draws:
    """The random numbers of one epoch, one row for each position in it.

    Parameters
    ----------
    count : int
        Images of the epoch.
    seed, epoch : int
    reshuffled_at : sequence of int
        Positions from which the rest of the epoch was drawn again, oldest first: a run continues
        in another order after a rollback.
    chunk : int, optional
        Shuffle only within consecutive chunks of this many records. Default: all.
    """

    def __init__(self, count, seed, epoch, reshuffled_at=(), chunk=None):
        self.count = count
        # The seeds of the whole epoch, and of each rest that was drawn again.
        starts = enumerate([0, *reshuffled_at])
        self._rests = [(at, (seed, epoch, i) if i else (seed, epoch)) for i, at in starts]
        self._columns = 0
        self.order = np.arange(count)
        for at, random in self._generators(0):
            for first in range(0, count, chunk or count):
                part = slice(max(first, at), max(first + (chunk or count), at))
                self.order[part] = random.permutation(self.order[part])

    def _generators(self, which):
        for at, seeds in self._rests:
            yield at, np.random.default_rng(np.random.SeedSequence(seeds, spawn_key=(which,)))

    def columns(self, draw):
        """Return ``draw(generator, n)``: an array with one row for every position."""
        rows = None
        self._columns += 1  # each call has a sequence of its own, independent of the others
        for at, random in self._generators(self._columns):
            drawn = draw(random, self.count - at)
            rows = drawn if rows is None else np.concatenate([rows[:at], drawn])
        return rows


class Normalise:
    """Compute (pixel - mean) / std only: the evaluation of unscaled images."""

    def __init__(self, prepared):
        self.mean = np.array(prepared.mean, np.float32).reshape(3, 1, 1)
        self.scale = 1 / np.array(prepared.std, np.float32).reshape(3, 1, 1)

    def __call__(self, images, batch, rows, out):
        self._normalise(_together(images), out)

    def _normalise(self, images, out, mean=None):
        # Channels last to channels first; several images are stacked vertically.
        planes = cv2.split(images.reshape(-1, *images.shape[-2:]))
        mean = self.mean if mean is None else mean
        for plane, target, shift, scale in zip(planes, np.moveaxis(out, -3, 0), mean, self.scale):
            np.subtract(plane.reshape(target.shape), shift, target)
            target *= scale


class PadCropMirror(Normalise):
    """Normalise, pad with zeros, crop at random, mirror half of them (section 4.1)."""

    def __init__(self, prepared, recipe, draws, places):
        super().__init__(prepared)
        self.pad, self.places = recipe.pad, places
        self.offsets = draws.columns(
            lambda random, n: random.integers(0, 2 * recipe.pad + 1, size=(n, 2))
        )
        mirrored = draws.columns(lambda random, n: random.integers(0, 2, size=n))
        self.mirrored = mirrored.astype(bool) & recipe.mirror

    def __call__(self, images, batch, rows, out):
        places = self.places[batch][rows]
        count, channels, height, width = out.shape
        inside = np.s_[:, :, self.pad : self.pad + height, self.pad : self.pad + width]
        padded = np.zeros((count, channels, height + 2 * self.pad, width + 2 * self.pad), out.dtype)
        self._normalise(_together(images), out)
        padded[inside] = out
        corners = self.offsets[places].tolist()
        for image, target, (top, left), mirrored in zip(
            padded, out, corners, self.mirrored[places].tolist()
        ):
            seen = image[:, top : top + height, left : left + width]
            target[...] = seen[:, :, ::-1] if mirrored else seen


class CentreCrop(Normalise):
    """Scale to a shorter side and crop the centre (section 4.5)."""

    def __init__(self, prepared, recipe):
        super().__init__(prepared)
        self.short_side, self.size = recipe.eval_short_side, recipe.image_size

    def __call__(self, images, batch, rows, out):
        for image, target in zip(images, out):
            self._normalise(crop(image, self.size, self.short_side), target)


class ScaleCropMirrorColour(Normalise):
    """ImageNet's augmentation, as in [7], as in the authors' code, or by random resized crops.

    Draw the shorter side, change the aspect ratio (authors), crop a square, mirror half of them,
    shift hue, saturation and lightness (authors), add colour noise ([7]). With ``crop_area``, a
    random part of the image is scaled to the square instead.
    """

    def __init__(self, prepared, recipe, draws, places):
        super().__init__(prepared)
        self.recipe, self.places = recipe, places
        # Shorter side, aspect ratio, top, left, mirroring, hue, saturation, lightness.
        self.uniform = draws.columns(lambda random, n: random.random((n, 8), dtype=np.float32))
        noise = draws.columns(lambda random, n: random.standard_normal((n, 3), dtype=np.float32))
        self.noise = (
            (recipe.pca_noise * noise * _COLOUR_DEVIATIONS) @ _COLOUR_COMPONENTS.T
        ).astype(np.float32)
        if recipe.crop_area:
            self.attempts = draws.columns(
                lambda random, n: random.random((n, ATTEMPTS, 2), dtype=np.float32)
            )

    def __call__(self, images, batch, rows, out):
        recipe, size = self.recipe, self.recipe.image_size
        for image, place, target in zip(images, self.places[batch][rows], out):
            side, stretch, top, left, mirror, *colour = self.uniform[place].tolist()
            low, high = recipe.train_short_side or (0, 0)
            if recipe.crop_area:
                part = random_part(
                    image, recipe.crop_area, self.attempts[place].tolist(), top, left
                )
                seen = scaled(part, size, size)
            elif recipe.aspect_change:
                seen = self._stretched(image, low + side * (high - low), stretch, top, left)
            else:
                height, width = scaled_size(image.shape, low + int(side * (high - low + 1)))
                # Scale only the part of the image that becomes the square.
                tops, sizes = _part(top, size, height, image.shape[0])
                lefts, widths = _part(left, size, width, image.shape[1])
                part = image[tops : tops + sizes, lefts : lefts + widths]
                seen = scaled(part, size, size)
            if mirror < 0.5 and recipe.mirror:
                seen = cv2.flip(seen, 1)
            if any(recipe.colour_shift):
                seen = self._move_colours(seen, colour)
            noise = self.noise[place].reshape(3, 1, 1)
            self._normalise(seen, target, self.mean - noise)

    def _stretched(self, image, short_side, stretch, top, left):
        """Scale the image, change its aspect ratio about its centre, and crop it, in one step.

        Interpolates bilinearly even if the image shrinks, as ImageRecordIter does. Uncovered
        pixels get the mean colour, which is 0 after normalisation.
        """
        size = self.recipe.image_size
        image = image[:_LONGEST, :_LONGEST]
        ratio = 1 + self.recipe.aspect_change * (2 * stretch - 1)
        across = 2 / (1 + ratio)
        scale = short_side / min(image.shape[:2])
        matrix = np.zeros((2, 3))
        # Horizontally, then vertically; the position of the crop is drawn.
        for axis, by, draw in ((1, across, left), (0, ratio * across, top)):
            length = scale * image.shape[axis]
            corner = int(draw * (int(length) - size + 1))
            matrix[1 - axis, [1 - axis, 2]] = scale * by, (1 - by) * length / 2 - corner
        grey = self.mean.ravel().tolist()
        return cv2.warpAffine(image, matrix, (size, size), flags=cv2.INTER_LINEAR, borderValue=grey)

    def _move_colours(self, image, colour):
        most = self.recipe.colour_shift
        hue, saturation, lightness = (m * (2 * c - 1) for m, c in zip(most, colour))
        # OpenCV's order and ranges: hue (0-180), lightness, saturation.
        shift = np.array([hue, lightness, saturation]).astype(int)
        table = np.clip(np.arange(256)[:, None] + shift, 0, (180, 255, 255)).astype(np.uint8)
        moved = cv2.LUT(cv2.cvtColor(image, cv2.COLOR_RGB2HLS), table[None])
        return cv2.cvtColor(moved, cv2.COLOR_HLS2RGB)


def _together(images):
    """Return images of one size as one array."""
    return images if isinstance(images, np.ndarray) else np.stack(images)


def _part(draw, size, scaled, original):
    """Return where a crop of a scaled side begins in the original, and its length there."""
    offset = int(draw * (scaled - size + 1))
    length = min(original, max(1, round(size * original / scaled)))
    return min(round(offset * original / scaled), original - length), length
