"""Encode images for RecordIO: on all cores, in a fixed order, with statistics."""

import itertools
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Callable, Dict, Optional, Tuple

import cv2
import numpy as np
from tqdm import tqdm

from ..data import png
from ..data import recordio as form
from ..errors import DMRError
from ..standalone.predict_onnx import Problem, decode
from ..system.machine import usable_cores

#: Seed of the order in which a split's images are written: fixed, so that preparing twice gives
#: the same bytes, and shuffled, so that every contiguous chunk of the file holds all classes.
_ORDER_SEED = 0
_TURNED = "turned upright, as EXIF says"
_LEFT_LYING = "to be shown turned, says EXIF, which is ignored"
#: Stop looking for images that cannot be encoded after this many.
MAX_FAULTS = 20
_AHEAD = 256  # images that are read before their turn


@dataclass(frozen=True)
class Encoding:
    """How images are stored.

    Parameters
    ----------
    resize : tuple of int or int, optional
        (height, width) exactly, or the length of the shorter side; None: unchanged.
    format : str
        ``auto`` (JPEG if the source is JPEG, else PNG), ``png`` or ``jpeg``.
    quality : int, optional
        Encode all JPEGs again with this quality, 1 to 100; None: keep those that can be kept, and
        encode the others with 95.
    upright : bool
        Turn photographs upright as EXIF says.
    """

    # A set's fingerprint contains this class's repr: a new field makes all sets other ones.
    resize: Any = None
    format: str = "auto"
    quality: Optional[int] = None
    upright: bool = True


@dataclass(frozen=True)
class Source:
    """One image: its origin and its label."""

    name: str
    label: int
    read: Callable[[], Any]  # bytes of an image file, or an RGB array (H, W, 3) of uint8
    remedy: str = "remove or replace it"


@dataclass(frozen=True)
class Encoded:
    """One image as it is stored, with its share of the statistics.

    Parameters
    ----------
    label : int
    data : bytes
        JPEG or PNG.
    size : (height, width)
    total, squares : numpy.ndarray
        Sums over all pixels of their values and of their squares: R, G, B.
    oddities : tuple of str
        What is unusual about the source, for the manifest.
    """

    label: int
    data: bytes
    size: Tuple[int, int]
    total: np.ndarray
    squares: np.ndarray
    oddities: Tuple[str, ...] = ()


def encode_all(images, encoding, split, faults):
    """Encode images in the fixed shuffled order on all cores, a bounded number ahead.

    After an image that cannot be encoded nothing more is yielded; the others are only checked, so
    that all faulty images are named at once. An image that the disk fails to read ends the work.

    Parameters
    ----------
    images : list of Source
    encoding : Encoding
    split : str
        Name for the progress bar.
    faults : list
        Receives (name, DMRError) of each image that cannot be encoded, up to ``MAX_FAULTS``.

    Yields
    ------
    Encoded

    Raises
    ------
    DMRError
        From an OSError, if an image cannot be read.
    """
    positions = np.random.RandomState(_ORDER_SEED).permutation(len(images))
    order = (images[position] for position in positions)
    progress = tqdm(total=len(images), desc=split, unit=" images", disable=None)
    with progress, ThreadPoolExecutor(usable_cores()) as pool:
        waiting = deque()

        def submit(count):
            for source in itertools.islice(order, count):
                waiting.append((source, pool.submit(_encode, source, encoding)))

        try:
            submit(_AHEAD)
            while waiting:
                source, future = waiting.popleft()
                try:
                    encoded = future.result()
                except DMRError as error:
                    if isinstance(error.__cause__, OSError):
                        raise
                    if not faults:
                        print(f"note: {error}; checking the other images before refusing the set")
                    faults.append((source.name, error))
                    if len(faults) >= MAX_FAULTS:
                        return
                else:
                    if not faults:
                        yield encoded
                submit(1)
                progress.update()
        finally:  # or the pool finishes everything that waits before Ctrl-C takes effect
            for _, future in waiting:
                future.cancel()


def _encode(source, encoding):
    try:
        content = source.read()
    except OSError as error:
        raise DMRError(
            f"{source.name!r} cannot be read ({error.strerror}); {source.remedy}"
        ) from error
    pixels = content
    if isinstance(content, bytes):
        try:
            pixels = decode(content, encoding.upright)
        except Problem as problem:
            raise DMRError(f"{source.name!r} {problem}") from None
        if pixels is None:
            raise DMRError(f"{source.name!r} is not an image that can be read; {source.remedy}")
    try:
        return _encoded(source, content, np.ascontiguousarray(pixels), encoding)
    except cv2.error:  # one side exceeds the limits of OpenCV or of the format
        height, width = pixels.shape[:2]
        raise DMRError(
            f"{source.name!r} is {width}x{height}, too long to be resized and encoded as asked "
            f"for; {source.remedy}"
        ) from None


def _encoded(source, content, pixels, encoding):
    resized = _resize(pixels, encoding.resize)
    keep = encoding.quality is None and resized is pixels
    from_jpeg, oddities = False, []
    if isinstance(content, bytes):
        from_jpeg = form.is_jpeg(content)
        if from_jpeg and _jpeg_components(content) == 4:  # not every decoder knows it
            oddities.append("CMYK, encoded anew as RGB")
            keep = False
        if from_jpeg and not form.is_complete_jpeg(content):
            oddities.append("a JPEG without its end")
        if form.orientation(content) != 1:
            oddities.append(_TURNED if encoding.upright else _LEFT_LYING)
            keep = keep and not encoding.upright
        if not from_jpeg and source.name.lower().endswith((".jpg", ".jpeg")):
            oddities.append("named JPEG, but of another format")
    as_jpeg = encoding.format == "jpeg" or (encoding.format == "auto" and from_jpeg)
    if as_jpeg and from_jpeg and keep:
        data = content
    elif not as_jpeg and resized.shape[0] * resized.shape[1] <= png.MOST_PIXELS:
        data = png.encode(resized)
    else:
        data = _compressed(resized, as_jpeg, encoding.quality)
    if len(data) > form.LARGEST_IMAGE:
        raise DMRError(f"{source.name!r} has {len(data):,} bytes, too many for a record; remove it")
    mean, std = (part[:, 0] for part in cv2.meanStdDev(resized))
    count = resized.shape[0] * resized.shape[1]
    return Encoded(
        label=source.label,
        data=data,
        size=resized.shape[:2],
        total=count * mean,
        squares=count * (std**2 + mean**2),
        oddities=tuple(oddities),
    )


def _compressed(pixels, as_jpeg, quality):
    """Return a JPEG, or a deflated PNG."""
    options = [cv2.IMWRITE_JPEG_QUALITY, quality or 95]
    if not as_jpeg:
        options = [cv2.IMWRITE_PNG_COMPRESSION, 9]
    extension = ".jpg" if as_jpeg else ".png"
    done, data = cv2.imencode(extension, cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), options)
    if not done:
        raise DMRError(f"OpenCV cannot encode a {pixels.shape} image as {extension}")
    return data.tobytes()


def _resize(pixels, resize):
    if resize is None:
        return pixels
    by_side = isinstance(resize, int)
    return form.resize(pixels, form.scaled_size(pixels.shape, resize) if by_side else tuple(resize))


def _jpeg_components(data) -> Optional[int]:
    """Return the number of colour components that a JPEG's frame header declares."""
    frame = form.jpeg_frame(data)
    return None if frame is None else data[frame + 9]


@dataclass
class Statistics:
    """Statistics over the images of a split, as numbers that JSON keeps exactly.

    ``sizes`` has the (height, width) of the first image, and one that differs.
    """

    pixels: int = 0
    total: Tuple[float, ...] = (0.0, 0.0, 0.0)
    squares: Tuple[float, ...] = (0.0, 0.0, 0.0)
    sizes: list = field(default_factory=list)
    oddities: Dict[str, int] = field(default_factory=dict)

    def add(self, encoded):
        """Add one image."""
        self.pixels += encoded.size[0] * encoded.size[1]
        self.total = tuple((self.total + encoded.total).tolist())
        self.squares = tuple((self.squares + encoded.squares).tolist())
        if len(self.sizes) < 2 and list(encoded.size) not in self.sizes:
            self.sizes.append(list(encoded.size))
        for oddity in encoded.oddities:
            self.oddities[oddity] = self.oddities.get(oddity, 0) + 1

    def mean_and_std(self):
        """Return the mean and the standard deviation of each channel."""
        mean = np.array(self.total) / self.pixels
        variance = np.maximum(np.array(self.squares) / self.pixels - mean**2, 0)
        # A constant channel is not scaled.
        std = np.where(variance > 0, np.sqrt(variance), 1.0)
        return [round(float(v), 3) for v in mean], [round(float(v), 3) for v in std]
