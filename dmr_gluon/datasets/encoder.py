"""Encoding images for RecordIO: on all cores, in a fixed order, with statistics."""

from collections import Counter, deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Callable, Optional, Tuple

import cv2
import numpy as np
from tqdm import tqdm

from ..data import png
from ..data import recordio as form
from ..errors import DMRError
from ..standalone.predict_onnx import Problem, decode
from ..system.machine import usable_cores

#: The order in which a split's images are written; fixed, so that a set prepared twice is
#: the same, and shuffled, so that a contiguous part of a file holds every class.
_ORDER_SEED = 0
_TURNED = "turned upright, as EXIF says"
_LEFT_LYING = "to be shown turned, says EXIF, which is ignored"
#: So many images that cannot be encoded are looked for before a set is refused.
MOST_FAULTS = 20


@dataclass(frozen=True)
class Encoding:
    """How images are stored.

    Parameters
    ----------
    resize : tuple of int or int, optional
        (height, width) exactly, or the length of the shorter side; None: as they are.
    format : str
        ``auto`` (JPEG for a source that is JPEG, else PNG), ``png`` or ``jpeg``.
    quality : int, optional
        Encode all JPEGs anew with it, 1 to 100; None: keep those that can be kept, and
        encode the others with 95.
    upright : bool
        Turn photographs as EXIF says that they are to be shown.
    """

    resize: object = None
    format: str = "auto"
    quality: Optional[int] = None
    upright: bool = True


@dataclass(frozen=True)
class Source:
    """One image: where it comes from and what it shows."""

    name: str
    label: int
    read: Callable[[], object]  # bytes of an image file, or an RGB array (H, W, 3) of uint8
    remedy: str = "remove or replace it"


@dataclass(frozen=True)
class Encoded:
    """One image as it is stored, and what statistics need.

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


def encode_all(images, encoding, split, done, faults):
    """Encode in the fixed shuffled order on all cores, a bounded number ahead.

    After an image that cannot be encoded nothing more is yielded: the others are only looked at, so
    that all that are wrong can be named at once. One that the disk does not give just now ends the
    work instead, which may go on later.

    Parameters
    ----------
    images : list of Source
    encoding : Encoding
    split : str
        For the progress.
    done : int
        So many at the beginning of that order are left out.
    faults : list
        Gets (name, DMRError) of each image that cannot be encoded, up to ``MOST_FAULTS``.

    Yields
    ------
    Encoded

    Raises
    ------
    DMRError
        From an OSError, for an image that cannot be read.
    """
    order = np.random.RandomState(_ORDER_SEED).permutation(len(images))[done:]
    progress = tqdm(total=len(images), initial=done, desc=split, unit=" images", disable=None)
    with progress, ThreadPoolExecutor(usable_cores()) as pool:
        waiting = deque()

        def submitted():
            for position in order:
                source = images[position]
                waiting.append((source, pool.submit(_encode, source, encoding)))
                if len(waiting) > 256:
                    yield waiting.popleft()
            while waiting:
                yield waiting.popleft()

        try:
            for source, future in submitted():
                try:
                    encoded = future.result()
                except DMRError as error:
                    if isinstance(error.__cause__, OSError):
                        raise
                    if not faults:
                        print(f"note: {error}; the others are looked at before the set is refused")
                    faults.append((source.name, error))
                    if len(faults) >= MOST_FAULTS:
                        return
                else:
                    if not faults:
                        yield encoded
                progress.update()
        finally:  # or the pool works off all that waits before an error or Ctrl-C is seen
            for _, future in waiting:
                future.cancel()


def _encode(source, encoding):
    try:
        content = source.read()
    except OSError as error:
        raise DMRError(
            f"{source.name!r} cannot be read ({error.strerror}); {source.remedy}"
        ) from error
    if isinstance(content, bytes):
        try:
            pixels = decode(content, encoding.upright)
        except Problem as problem:
            raise DMRError(f"{source.name!r} {problem}") from None
        if pixels is None:
            raise DMRError(f"{source.name!r} is not an image that can be read; {source.remedy}")
        is_jpeg = content[:2] == b"\xff\xd8"
    else:
        pixels, is_jpeg = np.ascontiguousarray(content), False
    image = cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)
    try:
        return _encoded(source, content, image, is_jpeg, encoding)
    except cv2.error:  # one side is then beyond what OpenCV or the format can do
        height, width = image.shape[:2]
        raise DMRError(
            f"{source.name!r} is of {width}x{height}, too long to be resized and encoded as asked "
            f"for; {source.remedy}"
        ) from None


def _encoded(source, content, image, is_jpeg, encoding):
    resized = _resize(image, encoding.resize)
    as_jpeg = encoding.format == "jpeg" or (encoding.format == "auto" and is_jpeg)
    keep = encoding.quality is None and resized is image
    oddities = []
    if is_jpeg and _jpeg_components(content) == 4:  # not every decoder knows it
        oddities.append("CMYK, encoded anew as RGB")
        keep = False
    if is_jpeg and not form.has_jpegs_end(content):
        oddities.append("a JPEG without its end")
    if isinstance(content, bytes) and form.orientation(content) != 1:
        oddities.append(_TURNED if encoding.upright else _LEFT_LYING)
        keep = keep and not encoding.upright
    if not is_jpeg and source.name.lower().endswith((".jpg", ".jpeg")):
        oddities.append("named JPEG, but of another format")
    if as_jpeg and is_jpeg and keep:
        data = content
    elif not as_jpeg and resized.shape[0] * resized.shape[1] <= png.MOST_PIXELS:
        data = png.encode(cv2.cvtColor(resized, cv2.COLOR_BGR2RGB))
    else:
        data = _compressed(resized, as_jpeg, encoding.quality)
    if data.count(form.MAGIC) >= form.MOST_PARTS:  # so many parts of a record are taken for damage
        oddities.append("full of RecordIO's magic word, encoded anew")
        data = _compressed(resized, as_jpeg, encoding.quality)
    if len(data) > form.LARGEST_IMAGE:
        raise DMRError(f"{source.name!r} has {len(data):,} bytes, too many for a record; remove it")
    mean, std = (part[::-1, 0] for part in cv2.meanStdDev(resized))
    pixels = resized.shape[0] * resized.shape[1]
    return Encoded(
        label=source.label,
        data=data,
        size=resized.shape[:2],
        total=pixels * mean,
        squares=pixels * (std**2 + mean**2),
        oddities=tuple(oddities),
    )


def _compressed(image, as_jpeg, quality):
    """A JPEG, or a deflated PNG."""
    options = [cv2.IMWRITE_JPEG_QUALITY, quality or 95]
    if not as_jpeg:
        options = [cv2.IMWRITE_PNG_COMPRESSION, 9]
    extension = ".jpg" if as_jpeg else ".png"
    done, data = cv2.imencode(extension, image, options)
    if not done:
        raise DMRError(f"OpenCV cannot encode a {image.shape} image as {extension}")
    return data.tobytes()


def _resize(image, resize):
    if resize is None:
        return image
    by_side = isinstance(resize, int)
    return form.resize(image, form.scaled_size(image.shape, resize) if by_side else tuple(resize))


def _jpeg_components(data) -> Optional[int]:
    """Colour components that a JPEG's frame header declares."""
    frame = form.jpeg_frame(data)
    return None if frame is None else data[frame + 9]


class Statistics:
    """Of all images of a split: mean and standard deviation by channel, sizes, oddities.

    Sums are made in the order of the images and can be taken out and put back exactly, so that
    a preparation that was stopped ends with the same numbers.
    """

    def __init__(self):
        self.pixels, self.total, self.squares = 0, np.zeros(3), np.zeros(3)
        self.sizes = []  # (height, width) of the first image, and one that differs
        self.oddities = Counter()

    def add(self, encoded):
        self.pixels += encoded.size[0] * encoded.size[1]
        self.total += encoded.total
        self.squares += encoded.squares
        if len(self.sizes) < 2 and encoded.size not in self.sizes:
            self.sizes.append(encoded.size)
        self.oddities.update(encoded.oddities)

    def mean_and_std(self):
        mean = self.total / self.pixels
        variance = np.maximum(self.squares / self.pixels - mean**2, 0)
        # A channel without any variation is left unscaled.
        std = np.where(variance > 0, np.sqrt(variance), 1.0)
        return [round(float(v), 3) for v in mean], [round(float(v), 3) for v in std]

    def to_json(self):
        return {
            "pixels": self.pixels,
            "total": self.total.tolist(),
            "squares": self.squares.tolist(),
            "sizes": self.sizes,
            "oddities": self.oddities,
        }

    @classmethod
    def from_json(cls, saved):
        self = cls()
        self.pixels = saved["pixels"]
        self.total, self.squares = np.array(saved["total"]), np.array(saved["squares"])
        self.sizes = [tuple(size) for size in saved["sizes"]]
        self.oddities = Counter(saved["oddities"])
        return self
