"""Small lossless images as PNGs of one plain form, decoded a whole block at a time.

8-bit RGB, not interlaced, one part with the pixels, without filters and stored, not deflated:
inflating an image of 32x32 would take longer than all else that is done with it, for a quarter
of its bytes. Every PNG decoder reads them. No MXNet.
"""

import struct
import zlib
from functools import lru_cache

import numpy as np

#: Pixels up to which images are encoded here: beyond, files would become too large.
MOST_PIXELS = 64 * 64
_FILTER = 0  # none; stands before every row
_LEVEL = 0  # stored
_PART = struct.Struct(">I4s")  # length and kind, before the content and its checksum


def _part(kind, content):
    checked = kind + content
    length, checksum = len(content), zlib.crc32(checked)
    return struct.pack(">I", length) + checked + struct.pack(">I", checksum)


def _beginning(height, width):
    return b"\x89PNG\r\n\x1a\n" + _part(
        b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    )


_END = _part(b"IEND", b"")
_ZLIB = zlib.compress(b"", _LEVEL)[:2]
_BEGINNING = len(_beginning(1, 1))


def encode(image):
    """A PNG file.

    Parameters
    ----------
    image : numpy.ndarray
        (height, width, 3) of uint8, RGB.

    Returns
    -------
    bytes
    """
    height, width = image.shape[:2]
    rows = np.full((height, 1 + 3 * width), _FILTER, np.uint8)
    rows[:, 1:] = image.reshape(height, 3 * width)
    return _beginning(height, width) + _part(b"IDAT", zlib.compress(rows, _LEVEL)) + _END


def rows_of(encoded):
    """What an image of that form holds: its rows, each behind the number of its filter.

    Damage shows: zlib's own checksum covers every row.

    Parameters
    ----------
    encoded : bytes or memoryview

    Returns
    -------
    (height, width), bytes
        Or None, None for anything else, whole or damaged.
    """
    other = None, None
    begin, end = _BEGINNING + _PART.size, len(encoded) - len(_END) - 4
    if end < begin or encoded[-len(_END) :] != _END:
        return other
    size = _size(bytes(encoded[:_BEGINNING]))
    if size is None or _PART.unpack_from(encoded, _BEGINNING) != (end - begin, b"IDAT"):
        return other
    # Those of other encoders need not be inflated to see that they are not of this form.
    if encoded[begin : begin + len(_ZLIB)] != _ZLIB:
        return other
    height, row = size[0], 1 + 3 * size[1]
    stream = zlib.decompressobj()
    try:
        rows = stream.decompress(encoded[begin:end], height * row + 1)  # whatever it would grow to
    except zlib.error:
        return other
    if not stream.eof or len(rows) != height * row or rows[::row].count(_FILTER) != height:
        return other
    return size, rows


@lru_cache(maxsize=64)
def _size(beginning):
    """(height, width) that a PNG's first bytes declare, None for those of another form."""
    width, height = struct.unpack_from(">II", beginning, 16)
    ours = width * height <= MOST_PIXELS and beginning == _beginning(height, width)
    return (height, width) if ours else None


def pixels(rows, size):
    """Several images of one size.

    Parameters
    ----------
    rows : sequence of bytes
        From ``rows_of``.
    size : (height, width)

    Returns
    -------
    numpy.ndarray
        (images, height, width, 3) of uint8, RGB.
    """
    height, width = size
    rows = np.frombuffer(b"".join(rows), np.uint8).reshape(len(rows), height, 1 + 3 * width)
    return rows[:, :, 1:].reshape(len(rows), height, width, 3)
