"""Read and write RecordIO: records, their index, and the images inside them.

A record is the magic word, a word with 3 bits of kind and 29 bits of length, and the content,
padded with zeros to 4 bytes. Content that contains the magic word at a multiple of 4 is split
there into parts (kinds 1, 2, ..., 3; a whole record has kind 0), each without that word.

Reading stays within the file, whatever its bytes, and raises only :class:`Broken` and OSError.
Needs no MXNet.
"""

import io
import re
import struct

import numpy as np

from ..standalone import predict_onnx

MAGIC = struct.pack("<I", 0xCED7230A)
_HEAD = struct.Struct("<4sI")
_HEADER = struct.Struct("<IfQQ")  # MXNet's: flag, label, number, a second number
#: Bytes of the smallest record: one without an image.
SMALLEST_RECORD = _HEAD.size + _HEADER.size
_MAX_LENGTH = (1 << 29) - 1
LARGEST_IMAGE = _MAX_LENGTH - _HEADER.size
_MAX_LABEL = 1 << 24  # float32 holds every whole number up to here
_PNG = b"\x89PNG\r\n\x1a\n"
_JPEG = b"\xff\xd8"
_EXIF = re.compile(rb"(?:Exif\0\0|eXIf)(II(?=\*\0)|MM(?=\0\*))")
_ORIENTATION = 0x112


class Broken(Exception):
    """A record or an index cannot be read, for this reason."""


def record(label, number, image):
    """Return a record's bytes, as MXNet writes them.

    Parameters
    ----------
    label, number : int
    image : bytes
        An encoded image of at most ``LARGEST_IMAGE`` bytes.

    Returns
    -------
    bytes
    """
    content = _HEADER.pack(0, label, number, 0) + image
    parts, begin = [], 0
    for found in re.finditer(re.escape(MAGIC), content):  # the word cannot overlap itself
        if found.start() % 4 == 0:
            parts.append(content[begin : found.start()])
            begin = found.end()
    parts.append(content[begin:])
    kinds = [1, *[2] * (len(parts) - 2), 3] if parts[1:] else [0]
    return b"".join(
        _HEAD.pack(MAGIC, kind << 29 | len(part)) + part + bytes(-len(part) % 4)
        for kind, part in zip(kinds, parts)
    )


def index_line(number, offset):
    """Return a record's line of the index."""
    return b"%d\t%d\n" % (number, offset)


def read_index(path):
    """Return the numbers and the offsets of the records from an index.

    Parameters
    ----------
    path : str

    Returns
    -------
    numpy.ndarray, numpy.ndarray
        int64; the offsets are increasing.

    Raises
    ------
    Broken
        If the lines are not a number and an offset each, in the order of the file.
    OSError
    """
    with open(path, "rb") as file:
        content = file.read()
    if content.translate(None, b"0123456789\t\n"):
        raise Broken(f"{path} is damaged")
    numbers = np.fromstring(content, np.int64, sep=" ")
    keys, offsets = numbers[::2], numbers[1::2]
    whole = len(keys) == len(offsets) == content.count(b"\n")
    if not whole or (np.diff(offsets) <= 0).any():
        raise Broken(f"{path} is damaged")
    return keys, offsets


def read_at(file, position, length):
    """Return bytes of a file; fewer at its end."""
    file.seek(position)
    return file.read(max(0, length))


def find_record(file, position, limit):
    """Find where a record ends and where its parts are, reading only the parts' heads.

    Parameters
    ----------
    file : file
    position : int
        Where the record begins.
    limit : int
        Where it must end at the latest.

    Returns
    -------
    int, list of (offset, length)

    Raises
    ------
    Broken
    """
    parts, kind = [], None
    while kind not in (0, 3):
        head = read_at(file, position, min(_HEAD.size, limit - position))
        magic, word = _HEAD.unpack(head) if len(head) == _HEAD.size else (b"", 0)
        kind, length = word >> 29, word & _MAX_LENGTH
        expected = kind in ((2, 3) if parts else (0, 1))
        whole_words = kind in (0, 3) or length % 4 == 0
        parts.append((position + _HEAD.size, length))
        position += _HEAD.size + length + -length % 4
        if magic != MAGIC or not (expected and whole_words) or position > limit:
            raise Broken("its head is damaged, or it is cut off")
    if parts[0][1] < _HEADER.size:
        raise Broken(f"its length {parts[0][1]} leaves no room for a header")
    return position, parts


def read_header(file, position):
    """Return the number and the label in a record's header, after checking the header.

    Parameters
    ----------
    file : file
    position : int
        Where the record begins; :func:`find_record` has found it.

    Returns
    -------
    int, int

    Raises
    ------
    Broken
        If the record has several labels, or its label is no class.
    """
    content = read_at(file, position + _HEAD.size, _HEADER.size)
    flag, label, number, second = _HEADER.unpack(content)
    if second or number >> 63 or flag >> 16:
        raise Broken("its header is damaged")
    if flag:
        raise Broken("it has a list of labels (--pack-label of im2rec) instead of one")
    return number, _class_of(label)


def _class_of(label):
    if not (0 <= label < _MAX_LABEL and label == int(label)):  # NaN fails too
        raise Broken(f"its label {label:.7g} is not a whole number from 0 on")
    return int(label)


def split_record(record):
    """Split the bytes of one record into its label and its encoded image (a view).

    Raises
    ------
    Broken
        If the bytes are not one whole record.
    """
    if len(record) < SMALLEST_RECORD:
        raise Broken("it is cut off")
    magic, word = _HEAD.unpack_from(record)
    end, content = _HEAD.size + word + -word % 4, record[_HEAD.size : _HEAD.size + word]
    if magic != MAGIC or word > _MAX_LENGTH:  # damaged, or in several parts
        file = io.BytesIO(record)
        end, parts = find_record(file, 0, len(record))
        content = MAGIC.join(read_at(file, *part) for part in parts)
    if end != len(record):
        raise Broken(f"it has {end} bytes, but {len(record)} up to the next one")
    return _class_of(_HEADER.unpack_from(content)[1]), memoryview(content)[_HEADER.size :]


def decode(image, upright=False):
    """Decode an image.

    Parameters
    ----------
    image : bytes-like
    upright : bool
        Rotate it as EXIF says. Default: ignore EXIF, because ``dmr prepare`` has already rotated
        the images that it writes.

    Returns
    -------
    numpy.ndarray
        (height, width, 3) of uint8, RGB.

    Raises
    ------
    Broken
    """
    try:
        pixels = predict_onnx.decode(image, upright)
    except predict_onnx.Problem as problem:
        raise Broken(f"its image {problem}") from None
    if pixels is None:
        raise Broken("its image cannot be decoded")
    return pixels


def is_jpeg(image):
    """Return whether an encoded image is a JPEG."""
    return image[:2] == _JPEG


def orientation(image):
    """Return the EXIF orientation of a JPEG or PNG, 1 (upright) to 8, as OpenCV reads it."""
    end = len(image) if image[:8] == _PNG else 0
    if is_jpeg(image):
        end = predict_onnx.jpeg_frame(image) or 0
    found = _EXIF.search(image, 0, end)
    if found:
        tiff, order = image[found.start(1) :], "little" if found[1] == b"II" else "big"
        first = int.from_bytes(tiff[4:8], order)  # a count of entries, then 12 bytes each
        count = int.from_bytes(tiff[first : first + 2], order)
        for at in range(first + 2, first + 2 + 12 * count, 12):
            tag, value = (int.from_bytes(tiff[i : i + 2], order) for i in (at, at + 8))
            if tag == _ORIENTATION:
                return value if 1 <= value <= 8 else 1
    return 1
