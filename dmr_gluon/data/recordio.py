"""What the files of a prepared set must look like: index, records, images.

RecordIO is a chain of records: the magic word, a word with 3 bits of kind and 29 of length,
then the content, filled up with zeros to 4 bytes. Content that holds the magic word at a
multiple of 4 is cut there into parts (kinds 1, 2, ..., 3; else 0), each without that word.

Whatever the bytes are, what reads records here stays within the file, takes no more memory than
what is in it, and raises nothing but :class:`Broken` and, of the disk, OSError. Nothing here needs
MXNet.
"""

import io
import re
import struct
import zlib

import cv2
import numpy as np

from ..standalone.predict_onnx import jpeg_frame

MAGIC = struct.pack("<I", 0xCED7230A)
_HEAD = struct.Struct("<4sI")
_HEADER = struct.Struct("<I4sQQ")  # MXNet's: flag, label (a float), number, a second number
_LABEL = struct.Struct("<f")
#: Bytes of a record without an image.
LEAST = _HEAD.size + _HEADER.size
MOST_PARTS = 1000  # of a record; an image hardly ever holds the magic word even once
_LARGEST = 1 << 29  # what a record's 29 bits of length can say
LARGEST_IMAGE = _LARGEST - 1 - _HEADER.size
_MOST_LABELS = 1 << 24  # whole numbers up to here are what a header's float can say
_INDEX_LINE = re.compile(rb"(0|[1-9][0-9]{0,17})\t(0|[1-9][0-9]{0,17})\n")
_BLOCK = 1 << 20
_PNG = b"\x89PNG\r\n\x1a\n"
_JPEG = b"\xff\xd8"
_EXIF = re.compile(rb"(?:Exif\0\0|eXIf)(II(?=\*\0)|MM(?=\0\*))")
_ORIENTATION = 0x112
_MOST_PIXELS_PER_BYTE = 2000  # a JPEG has at most about 500, a PNG of 8 bits 1032


class Broken(Exception):
    """Why no record can be read at a place."""


def record(label, number, image):
    """A record's bytes, as MXNet writes them.

    Parameters
    ----------
    label, number : int
    image : bytes
        An encoded image of at most ``LARGEST_IMAGE`` bytes.
    """
    content = _HEADER.pack(0, struct.pack("<f", label), number, 0) + image
    parts, begin, at = [], 0, content.find(MAGIC)
    while at >= 0:
        if at % 4 == 0:
            parts.append(content[begin:at])
            begin = at + 4
        at = content.find(MAGIC, at + 4)  # the word cannot overlap itself
    parts.append(content[begin:])
    kinds = [1, *[2] * (len(parts) - 2), 3] if parts[1:] else [0]
    return b"".join(
        _HEAD.pack(MAGIC, kind << 29 | len(part)) + part + bytes(-len(part) % 4)
        for kind, part in zip(kinds, parts)
    )


def index_line(number, offset):
    """The line of the index for a record."""
    return b"%d\t%d\n" % (number, offset)


def difference(found, wanted):
    """How a class histogram differs from the manifest's."""
    wrong = [label for label, counts in enumerate(zip(found, wanted)) if counts[0] != counts[1]]
    if not wrong:
        return f"{len(found)} classes, the manifest counts {len(wanted)}"
    label = wrong[0]
    others = f" ({len(wrong) - 1} other classes differ too)" if wrong[1:] else ""
    return f"{found[label]} records of class {label}, the manifest says {wanted[label]}{others}"


def index_lines(file):
    """(number of the line from 0, record, offset) of an index; None, None for another line."""
    for number, line in enumerate(iter(lambda: file.readline(64), b"")):
        match = _INDEX_LINE.fullmatch(line)
        yield (number, int(match[1]), int(match[2])) if match else (number, None, None)


def read_at(file, position, length):
    """Bytes of a file; fewer at its end."""
    file.seek(position)
    return file.read(max(0, length))


def find_record(file, position, limit):
    """Where a record ends, and (offset, length) of its parts.

    Raises
    ------
    Broken
        Where none begins there, or it goes beyond the limit.
    """
    parts, total = [], 0
    while True:
        head = read_at(file, position, min(_HEAD.size, limit - position))
        if head[:4] != MAGIC[: len(head)]:
            raise Broken("part of it is missing" if parts else "no record begins here")
        if len(head) < _HEAD.size:
            raise Broken("it is cut off")
        kind, length = _kind_and_length(head)
        if kind not in ((2, 3) if parts else (0, 1)) or (kind in (1, 2) and length % 4):
            raise Broken(f"the word of its length is damaged (kind {kind}, length {length})")
        parts.append((position + _HEAD.size, length))
        position += _HEAD.size + length + -length % 4
        total += length
        if position > limit:
            raise Broken(f"it is cut off, or its length {length} is damaged")
        if total > _LARGEST or len(parts) > MOST_PARTS:
            raise Broken(f"it has {len(parts)} parts and {total} bytes")
        if kind in (0, 3):
            break
    if parts[0][1] < _HEADER.size:
        raise Broken(f"its length {parts[0][1]} leaves no room for a header")
    return position, parts


def find_next(file, position, limit):
    """Where the next record seems to begin, at any byte; None if nowhere."""
    while position < limit:
        block = read_at(file, position, _BLOCK + LEAST)
        at = block.find(MAGIC)
        while 0 <= at < _BLOCK:
            if seems_to_begin(block[at : at + LEAST], limit - position - at):
                return position + at
            at = block.find(MAGIC, at + 1)
        position += _BLOCK
    return None


def seems_to_begin(head, room):
    """Do these bytes begin a record that fits into so many?"""
    if len(head) < LEAST or head[:4] != MAGIC:
        return False
    kind, length = _kind_and_length(head)
    return kind in (0, 1) and _HEADER.size <= length <= room - _HEAD.size


def _kind_and_length(head):
    word = _HEAD.unpack_from(head)[1]
    return word >> 29, word & (_LARGEST - 1)


def read_header(file, position):
    """MXNet's header of the record at a position: flag, label, number, second number."""
    return unpack_header(read_at(file, position + _HEAD.size, _HEADER.size))


def unpack_header(content):
    if len(content) < _HEADER.size:
        raise Broken("it is cut off")
    return _HEADER.unpack_from(content)


def read_content(file, parts):
    """Header and image of a record, and whether only zeros fill it up."""
    pieces = [read_at(file, offset, length) for offset, length in parts]
    offset, length = parts[-1]
    return MAGIC.join(pieces), not any(read_at(file, offset + length, -length % 4))


def split_record(record):
    """Label and encoded image (a view of its bytes) of a whole record's bytes.

    Raises
    ------
    Broken
        Where they are not one whole record.
    """
    if record[:4] != MAGIC or len(record) < LEAST:
        raise Broken("no record begins here")
    kind, length = _kind_and_length(record)
    if kind:
        end, parts = find_record(io.BytesIO(record), 0, len(record))
        content, _ = read_content(io.BytesIO(record), parts)
    else:
        end, content = _HEAD.size + length + -length % 4, record[_HEAD.size : _HEAD.size + length]
    if end != len(record):
        raise Broken(f"it has {end} bytes, but {len(record)} up to the next one")
    label = _LABEL.unpack_from(content, 4)[0]
    if not 0 <= label < _MOST_LABELS:  # or not a number
        raise Broken(f"its label {label:.7g} is none")
    return int(label), memoryview(content)[_HEADER.size :]


def image_of(content):
    return content[_HEADER.size :]


def label_codes(classes):
    """A header's bytes for each label."""
    return {struct.pack("<f", label): label for label in range(classes)}


def header_faults(header, codes):
    """Each thing that is wrong with a header, its number aside."""
    flag, code, _, second = header
    if flag:
        yield f"its header has the flag {flag}, not 0"
    if code not in codes:
        label = struct.unpack("<f", code)[0]
        yield f"its label {label:.7g} is not one of 0 to {len(codes) - 1}"
    if second:
        yield f"its header has {second} after its number, not 0"


def image_fault(image, size=None):
    """What is wrong with an encoded image, or None; ``size``: (height, width) that it must have."""
    if image[:8] == _PNG:
        fault = _png_fault(image)
        if fault:
            return fault
    elif image[:2] != _JPEG:
        return "its image is neither PNG nor JPEG"
    height, width = _declared_size(image)
    if height * width > max(1 << 20, _MOST_PIXELS_PER_BYTE * len(image)):
        return f"its image says it is {width}x{height}, too much for {len(image)} bytes"
    pixels = decode(image)
    if pixels is None:
        return "its image cannot be decoded"
    if size and pixels.shape[:2] != size:
        height, width = pixels.shape[:2]
        return f"its image is {width}x{height} instead of {size[1]}x{size[0]}"
    return None


def decode(image):
    """An encoded image's pixels, (height, width, 3) of uint8, BGR as OpenCV has it, or None.

    EXIF is ignored, as by ImageRecordIter and the reference pipelines: `dmr prepare` has turned
    what was to be turned.
    """
    try:
        flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
        return cv2.imdecode(np.frombuffer(image, np.uint8), flags)
    except (cv2.error, MemoryError):  # such as no bytes, or a size beyond OpenCV's limit
        return None


def scaled_size(shape, short_side):
    """(height, width) of an image that is scaled to a shorter side."""
    height, width = shape[:2]
    scale = short_side / min(height, width)
    return max(short_side, round(height * scale)), max(short_side, round(width * scale))


def resize(image, size):
    """To (height, width): area when shrinking, cubic when enlarging, as the authors' code."""
    if image.shape[:2] == size:
        return image
    smaller = size[0] * size[1] < image.shape[0] * image.shape[1]
    interpolation = cv2.INTER_AREA if smaller else cv2.INTER_CUBIC
    return cv2.resize(image, size[::-1], interpolation=interpolation)


def has_jpegs_end(image):
    """Is a JPEG's last marker there? That of a thumbnail before its frame header is another."""
    return image.find(b"\xff\xd9", jpeg_frame(image) or 0) >= 0


def orientation(image):
    """How EXIF says that a JPEG or a PNG lies: 1 (upright) to 8, as OpenCV reads it."""
    is_jpeg = image[:2] == _JPEG
    end = jpeg_frame(image) or 0 if is_jpeg else len(image) if image[:8] == _PNG else 0
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


def _png_fault(image):
    """A PNG's own checksums show every damaged byte; decoders let some pass."""
    position, kind = len(_PNG), b""
    while kind != b"IEND":
        if position + 12 > len(image):
            return "its PNG is cut off"
        length, kind = struct.unpack_from(">I4s", image, position)
        end = position + 12 + length
        if end > len(image):
            return "its PNG is cut off"
        wanted = struct.unpack_from(">I", image, end - 4)[0]
        if zlib.crc32(memoryview(image)[position + 4 : end - 4]) != wanted:
            return f"its PNG is damaged (checksum of the part at its byte {position})"
        position = end
    return "bytes follow the end of its PNG" if position != len(image) else None


def _declared_size(image):
    """(height, width) that a PNG or a JPEG says it has; (0, 0) where a JPEG does not."""
    if image[:8] == _PNG:
        return struct.unpack_from(">II", image, 16)[::-1] if len(image) >= 24 else (0, 0)
    frame = jpeg_frame(image)
    return (0, 0) if frame is None else struct.unpack_from(">HH", image, frame + 5)
