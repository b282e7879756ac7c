"""Store small lossless images as uncompressed PNGs, decoded a whole block at a time.

8-bit RGB, not interlaced, one IDAT chunk, no filters, stored instead of deflated: inflating a
32x32 image would take longer than everything else done with it, to save a quarter of its bytes.
Every PNG decoder reads them. Needs no MXNet.
"""

import struct
import zlib
from functools import lru_cache

import numpy as np

#: Larger images are compressed by OpenCV: uncompressed files would become too large.
MOST_PIXELS = 64 * 64
_FILTER = 0  # none; precedes every row
_LEVEL = 0  # stored
_CHUNK = struct.Struct(">I4s")  # length and kind, before the content and its checksum


def _chunk(kind, content):
    checksum = struct.pack(">I", zlib.crc32(kind + content))
    return _CHUNK.pack(len(content), kind) + content + checksum


def _beginning(height, width):
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header)


_END = _chunk(b"IEND", b"")
_ZLIB = zlib.compress(b"", _LEVEL)[:2]
_BEGINNING = len(_beginning(1, 1))


def encode(image):
    """Encode an image as a PNG file.

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
    return _beginning(height, width) + _chunk(b"IDAT", zlib.compress(rows, _LEVEL)) + _END


def rows_of(encoded):
    """Return the rows of an image that :func:`encode` encoded, each preceded by its filter number.

    Detects damage: zlib's checksum covers every row.

    Parameters
    ----------
    encoded : bytes or memoryview

    Returns
    -------
    (height, width), bytes
        None, None for any other image, and for a damaged one.
    """
    other = None, None
    begin, end = _BEGINNING + _CHUNK.size, len(encoded) - len(_END) - 4
    if end < begin or encoded[-len(_END) :] != _END:
        return other
    size = _size(bytes(encoded[:_BEGINNING]))
    if size is None or _CHUNK.unpack_from(encoded, _BEGINNING) != (end - begin, b"IDAT"):
        return other
    # Other encoders' PNGs are recognised without inflating them.
    if encoded[begin : begin + len(_ZLIB)] != _ZLIB:
        return other
    height, row = size[0], 1 + 3 * size[1]
    stream = zlib.decompressobj()
    try:
        rows = stream.decompress(encoded[begin:end], height * row + 1)  # bounded
    except zlib.error:
        return other
    if not stream.eof or len(rows) != height * row or rows[::row].count(_FILTER) != height:
        return other
    return size, rows


@lru_cache(maxsize=64)
def _size(beginning):
    """Return the (height, width) in a PNG's first bytes; None for another encoder's PNG."""
    width, height = struct.unpack_from(">II", beginning, 16)
    ours = width * height <= MOST_PIXELS and beginning == _beginning(height, width)
    return (height, width) if ours else None


def pixels(rows, size):
    """Return the pixels of several images of one size.

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
