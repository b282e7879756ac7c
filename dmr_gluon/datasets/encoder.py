"""Encode images for RecordIO: on all cores, in a fixed order, with statistics."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Callable, Optional, Tuple

import cv2
import numpy as np
from tqdm import tqdm

from ..data import png
from ..data import recordio as form
from ..errors import DMRError
from ..standalone import predict_onnx
from ..system.machine import usable_cores

#: Seed of the order in which a split's images are written: fixed, so that preparing twice gives
#: the same bytes, and shuffled, so that every contiguous chunk of the file holds all classes.
_ORDER_SEED = 0
_TURNED = "turned upright, as EXIF says"
_LYING = "to be shown turned, says EXIF, which is ignored"
#: Stop once this many images cannot be encoded.
_MAX_FAULTS = 20
_BLOCK = 256  # images that are encoded at a time


@dataclass(frozen=True)
class Encoding:
    """How images are stored.

    Parameters
    ----------
    resize : tuple of int or int, optional
        Exact (height, width), or the length of the shorter side. Default: unchanged.
    format : str
        ``auto`` (JPEG if the source is JPEG, else PNG) or ``jpeg``.
    quality : int, optional
        Encode all JPEGs again with this quality, 1 to 100. Default: keep those that can be kept,
        and encode the others with 95.
    upright : bool
        Rotate photographs upright as EXIF says.
    fit : str
        How an image gets an exact size, which is square unless it is stretched: ``crop`` its
        centre, ``pad`` it with black, or ``stretch`` it.
    """

    # The repr of this class is part of a set's fingerprint: a new field changes all of them.
    resize: Any = None
    format: str = "auto"
    quality: Optional[int] = None
    upright: bool = True
    fit: str = field(default="crop", repr=False)

    def __post_init__(self):
        if self.fit not in predict_onnx.FITS:
            raise DMRError(f"fit must be {', '.join(predict_onnx.FITS)}, not {self.fit!r}")
        if self.exact and self.fit != "stretch" and len(set(self.resize)) > 1:
            raise DMRError("--resize: cropping gives squares; name a square, or add --fit stretch")

    @property
    def exact(self):
        """Whether all images get one size."""
        return isinstance(self.resize, tuple)


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
        Sums of the pixels' values and of their squares: R, G, B.
    oddities : tuple of str
        What is unusual about the source, for the manifest.
    """

    label: int
    data: bytes
    size: Tuple[int, int]
    total: np.ndarray
    squares: np.ndarray
    oddities: Tuple[str, ...] = ()


def encode_all(images, encoding, split):
    """Encode images in the fixed shuffled order on all cores, a block at a time.

    After an image that cannot be encoded, nothing more is yielded. The others are still checked,
    so that the refusal names all faulty images.

    Parameters
    ----------
    images : list of Source
    encoding : Encoding
    split : str
        Label of the progress bar.

    Yields
    ------
    Encoded

    Raises
    ------
    DMRError
        At the end, or after 20 images that cannot be encoded.
    """
    order, faults = np.random.RandomState(_ORDER_SEED).permutation(len(images)), []

    def attempt(number):
        try:
            return _encode(images[number], encoding)
        except DMRError as error:
            return error

    progress = tqdm(total=len(images), desc=split, unit=" images", disable=None)
    with progress, ThreadPoolExecutor(usable_cores()) as pool:
        for first in range(0, len(images), _BLOCK):
            for result in pool.map(attempt, order[first : first + _BLOCK]):
                progress.update()
                if isinstance(result, DMRError):
                    if not faults:
                        print(f"note: {result}; checking the other images before refusing the set")
                    faults.append(result)
                elif not faults:
                    yield result
            if len(faults) >= _MAX_FAULTS:
                break
    if faults:
        raise DMRError("; ".join(map(str, faults[:_MAX_FAULTS])))


def _encode(source, encoding):
    try:
        content = pixels = source.read()
        if isinstance(content, bytes):
            pixels = predict_onnx.decode(content, encoding.upright)
        if pixels is not None:
            return _encoded(source, content, np.ascontiguousarray(pixels), encoding)
        reason = "is not a readable image"
    except OSError as error:
        reason = f"cannot be read ({error.strerror})"
    except predict_onnx.Problem as problem:
        raise DMRError(f"{source.name!r} {problem}") from None
    except cv2.error:  # it exceeds the limits of OpenCV, of the format, or of a record
        reason = "is too large to be resized and encoded like this"
    raise DMRError(f"{source.name!r} {reason}; {source.remedy}")


def _encoded(source, content, pixels, encoding):
    size = encoding.resize
    if isinstance(size, int):
        size = predict_onnx.scaled_size(pixels.shape, size)
    if size is None or size == pixels.shape[:2]:
        resized = pixels
    elif encoding.exact and encoding.fit != "stretch":
        resized = predict_onnx.fitted(pixels, size[0], fit=encoding.fit)
    else:
        resized = predict_onnx.scaled(pixels, *size)
    keep = encoding.quality is None and resized is pixels
    from_jpeg, oddities = False, []
    if isinstance(content, bytes):
        from_jpeg = form.is_jpeg(content)
        frame = predict_onnx.jpeg_frame(content) if from_jpeg else None
        if frame is not None and content[frame + 9] == 4:  # colour components
            oddities.append("CMYK, encoded anew as RGB")  # not every decoder reads CMYK
            keep = False
        oddities += oddities_of(content, encoding.upright)
        keep = keep and _TURNED not in oddities
        if not from_jpeg and source.name.lower().endswith((".jpg", ".jpeg")):
            oddities.append("named JPEG, but of another format")
    count = resized.shape[0] * resized.shape[1]
    # A small image in an exact size is kept as prediction would see it.
    lossless = encoding.exact and not keep and count <= png.MOST_PIXELS
    as_jpeg = encoding.format == "jpeg" or (from_jpeg and not lossless)
    if as_jpeg and from_jpeg and keep:
        data = content
    elif as_jpeg:
        data = _compressed(resized, ".jpg", cv2.IMWRITE_JPEG_QUALITY, encoding.quality or 95)
    elif count > png.MOST_PIXELS:
        data = _compressed(resized, ".png", cv2.IMWRITE_PNG_COMPRESSION, 9)
    else:
        data = png.encode(resized)
    return measured(source.label, data, resized, oddities)


def oddities_of(content, upright):
    """Return the oddities of an image file, for the manifest."""
    oddities = []
    if form.is_jpeg(content) and not predict_onnx.is_complete_jpeg(content):
        oddities.append("a JPEG without its end")
    if form.orientation(content) != 1:
        oddities.append(_TURNED if upright else _LYING)
    return oddities


def measured(label, data, pixels, oddities):
    """Return an encoded image with the statistics of its pixels (height, width, 3)."""
    count = pixels.shape[0] * pixels.shape[1]
    mean, std = (part[:, 0] for part in cv2.meanStdDev(pixels))
    squares = count * (std**2 + mean**2)
    return Encoded(label, data, pixels.shape[:2], count * mean, squares, tuple(oddities))


def _compressed(pixels, extension, *options):
    done, data = cv2.imencode(extension, cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), options)
    if not done or len(data) > form.LARGEST_IMAGE:
        raise cv2.error
    return data.tobytes()
