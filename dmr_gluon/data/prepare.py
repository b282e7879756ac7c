"""From images to a prepared data set: RecordIO, index and manifest.

Every kind of source gives the same thing, a list of :class:`Source` per split; what
follows (encoding, statistics, writing, the manifest) is one code path.
"""

import contextlib
import hashlib
import json
import os
import sys
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Callable, Dict, List, Optional, Tuple

import cv2
import numpy as np
from tqdm import tqdm

from .. import __version__
from ..errors import DMRError
from ..runtime import installed_wheels, usable_cores
from .datasets import MANIFEST, MANIFEST_FORMAT, PUBLISHED, open_prepared, read_manifest
from .records import RecordWriter

#: The order in which a split's images are written; fixed, so that a set prepared twice is
#: the same, and shuffled, so that a contiguous part of a file holds every class.
_ORDER_SEED = 0

_JPEG = (".jpg", ".jpeg")
_EXTENSIONS = _JPEG + (".png", ".bmp", ".ppm", ".pgm", ".tif", ".tiff", ".webp")


@dataclass(frozen=True)
class Encoding:
    """How images are stored.

    Parameters
    ----------
    resize : tuple of int or int, optional
        (height, width) exactly, or the length of the shorter side; None: as they are.
    format : str
        ``auto`` (JPEG for a source that is JPEG, else PNG), ``png`` or ``jpeg``.
    quality : int
        Of JPEGs that are encoded anew, 1 to 100.
    """

    resize: object = None
    format: str = "auto"
    quality: int = 95


@dataclass(frozen=True)
class Source:
    """One image: where it comes from and what it shows."""

    name: str
    label: int
    read: Callable[[], object]  # bytes of an image file, or an RGB array (H, W, 3) of uint8


@dataclass(frozen=True)
class _Encoded:
    label: int
    data: bytes
    size: Tuple[int, int]
    total: np.ndarray
    squares: np.ndarray


def prepare_digits(out, overwrite=False):
    """The 1,797 handwritten digits that scikit-learn carries, as 32x32 RGB.

    They are 8x8 grey values from 0 to 16, enlarged four times with cubic interpolation.
    1,437 are for training and 360 for testing, in equal shares of each digit.

    Returns
    -------
    PreparedSet
    """
    try:
        from sklearn.datasets import load_digits
        from sklearn.model_selection import train_test_split
    except ImportError as error:
        raise DMRError(
            "the digits come with scikit-learn, which is not installed; pip install scikit-learn"
        ) from error
    digits = load_digits()
    split = dict(
        zip(
            ("train", "test"),
            train_test_split(
                range(len(digits.target)), test_size=360, stratify=digits.target, random_state=0
            ),
        )
    )

    def enlarge(position):
        grey = np.rint(digits.images[position] * (255 / 16)).astype(np.uint8)
        large = cv2.resize(grey, (32, 32), interpolation=cv2.INTER_CUBIC)
        return np.repeat(large[:, :, None], 3, axis=2)

    sources = {
        name: [
            Source(f"digit {i}", int(digits.target[i]), lambda i=i: enlarge(i)) for i in positions
        ]
        for name, positions in split.items()
    }
    classes = [str(digit) for digit in range(10)]
    return _prepare("digits", classes, sources, out, Encoding(), "1", overwrite)


def prepare_folder(source, out, name=None, encoding=Encoding(), overwrite=False):
    """Any tree of ``train/<class>/*`` and ``test/<class>/*`` images.

    Images that are JPEG already are taken as they are unless they are to be resized;
    others become lossless PNG.

    Parameters
    ----------
    source, out : str
        The tree, and the folder to write to.
    name : str, optional
        The data set's name in logs and results; the source folder's by default.
    encoding : Encoding
    overwrite : bool
        Replace another prepared set that is in ``out``.

    Returns
    -------
    PreparedSet

    Raises
    ------
    DMRError
        For a tree of another form, an unreadable image, or an ``out`` that holds
        something else.
    """
    source = os.path.abspath(source)
    name = name or os.path.basename(source)
    if name in PUBLISHED or name == "digits":
        raise DMRError(
            f"the name {name!r} is kept for the official data set, so that results are never "
            f"mistaken for one another; give another with --name"
        )
    classes = _subfolders(os.path.join(source, "train"))
    fingerprint = hashlib.sha256(repr(encoding).encode())
    sources: Dict[str, List[Source]] = {}
    for split in ("train", "test"):
        folder = os.path.join(source, split)
        unknown = sorted(set(_subfolders(folder)) - set(classes))
        if unknown:
            raise DMRError(f"{folder}/{unknown[0]} is a class that train/ does not have")
        sources[split] = []
        for label, class_name in enumerate(classes):
            for path in _images(os.path.join(folder, class_name)):
                relative = os.path.relpath(path, source)
                fingerprint.update(f"{relative}\0{os.path.getsize(path)}\0".encode())
                sources[split].append(Source(relative, label, lambda path=path: _read(path)))
        if not sources[split]:
            raise DMRError(f"{folder} has no images ({', '.join(_EXTENSIONS)}) in its folders")
    return _prepare(name, classes, sources, out, encoding, fingerprint.hexdigest(), overwrite)


def _subfolders(folder):
    try:
        names = sorted(entry.name for entry in os.scandir(folder) if entry.is_dir())
    except OSError as error:
        raise DMRError(
            f"{folder} cannot be read ({error.strerror}); images belong in "
            f"SRC/train/<class>/* and SRC/test/<class>/*"
        ) from None
    if not names:
        raise DMRError(f"{folder} has no folders; images belong in {folder}/<class>/*")
    return names


def _images(folder):
    if not os.path.isdir(folder):
        return []
    return sorted(
        entry.path for entry in os.scandir(folder) if entry.name.lower().endswith(_EXTENSIONS)
    )


def _read(path):
    with open(path, "rb") as file:
        return file.read()


def _prepare(name, classes, sources, out, encoding, fingerprint, overwrite):
    """Write every split and then the manifest, unless that very set is there already."""
    existing = read_manifest(out)
    if existing and not overwrite:
        if (existing.get("dataset"), existing.get("fingerprint")) == (name, fingerprint):
            print(f"{out} holds this data set already; nothing to do")
            return open_prepared(out)
        raise DMRError(
            f"{out} holds the data set {existing.get('dataset')!r} made from other images or in "
            f"another way; choose another --out, or replace it with --overwrite"
        )
    with _readable_refusals(out):
        os.makedirs(out, exist_ok=True)
        manifest_path = os.path.join(out, MANIFEST)
        if existing:
            os.remove(manifest_path)
        splits, train_statistics, sizes = {}, None, set()
        for split, images in sources.items():
            statistics = _Statistics()
            with RecordWriter(out, split, len(classes)) as writer:
                for encoded in _encode_all(images, encoding, split):
                    writer.write(encoded.label, encoded.data)
                    statistics.add(encoded)
                    sizes.add(encoded.size)
            splits[split] = writer.manifest()
            train_statistics = train_statistics or statistics
        mean, std = train_statistics.mean_and_std()
        manifest = {
            "format": MANIFEST_FORMAT,
            "dataset": name,
            "fingerprint": fingerprint,
            "classes": classes,
            "image_size": list(sizes.pop()) if len(sizes) == 1 else None,
            "mean": mean,
            "std": std,
            "splits": splits,
            "command": " ".join(["dmr", *sys.argv[1:]]),
            "versions": {
                "dmr_gluon": __version__,
                "numpy": np.__version__,
                "opencv": cv2.__version__,
                **installed_wheels(),
            },
        }
        with open(manifest_path + ".part", "w", encoding="utf-8") as file:
            json.dump(manifest, file, indent=1)
            file.write("\n")
        os.replace(manifest_path + ".part", manifest_path)
    return open_prepared(out)


@contextlib.contextmanager
def _readable_refusals(out):
    try:
        yield
    except OSError as error:
        raise DMRError(
            f"cannot write to {out}: {error.strerror or error}; free some space or choose "
            f"another --out"
        ) from error


def _encode_all(images, encoding, split):
    """Encode in the fixed shuffled order on all cores, a bounded number ahead."""
    order = np.random.RandomState(_ORDER_SEED).permutation(len(images))
    progress = tqdm(total=len(images), desc=split, unit=" images", disable=None)
    with progress, ThreadPoolExecutor(usable_cores()) as pool:
        waiting = deque()
        for position in order:
            waiting.append(pool.submit(_encode, images[position], encoding))
            if len(waiting) > 256:
                yield waiting.popleft().result()
                progress.update()
        while waiting:
            yield waiting.popleft().result()
            progress.update()


def _encode(source, encoding):
    content = source.read()
    if isinstance(content, bytes):
        # ImageRecordIter ignores the EXIF rotation too.
        flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
        image = cv2.imdecode(np.frombuffer(content, np.uint8), flags) if content else None
        if image is None:
            raise DMRError(f"{source.name} is not an image that can be read; remove or replace it")
        is_jpeg = content[:2] == b"\xff\xd8"
    else:
        image, is_jpeg = cv2.cvtColor(content, cv2.COLOR_RGB2BGR), False
    resized = _resize(image, encoding.resize)
    as_jpeg = encoding.format == "jpeg" or (encoding.format == "auto" and is_jpeg)
    if as_jpeg and is_jpeg and resized is image and _jpeg_components(content) != 4:
        data = content  # CMYK (4 components) is encoded anew: not every decoder knows it.
    elif as_jpeg:
        data = _imencode(".jpg", resized, [cv2.IMWRITE_JPEG_QUALITY, encoding.quality])
    else:
        data = _imencode(".png", resized, [cv2.IMWRITE_PNG_COMPRESSION, 9])
    pixels = resized.reshape(-1, 3)[:, ::-1].astype(np.float64)
    return _Encoded(
        label=source.label,
        data=data,
        size=resized.shape[:2],
        total=pixels.sum(axis=0),
        squares=(pixels**2).sum(axis=0),
    )


def _imencode(extension, image, options):
    done, data = cv2.imencode(extension, image, options)
    if not done:
        raise DMRError(f"OpenCV cannot encode a {image.shape} image as {extension}")
    return data.tobytes()


def _resize(image, resize):
    if resize is None:
        return image
    height, width = image.shape[:2]
    if isinstance(resize, int):
        scale = resize / min(height, width)
        target = (max(resize, round(height * scale)), max(resize, round(width * scale)))
    else:
        target = tuple(resize)
    if target == (height, width):
        return image
    smaller = target[0] * target[1] < height * width
    interpolation = cv2.INTER_AREA if smaller else cv2.INTER_CUBIC
    return cv2.resize(image, target[::-1], interpolation=interpolation)


def _jpeg_components(data) -> Optional[int]:
    """Colour components that a JPEG's frame header declares."""
    position = 2
    while position + 9 < len(data) and data[position] == 0xFF:
        marker = data[position + 1]
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            return data[position + 9]
        position += 2 + int.from_bytes(data[position + 2 : position + 4], "big")
    return None


class _Statistics:
    """Mean and standard deviation over all pixels of all images, per channel."""

    def __init__(self):
        self.pixels, self.total, self.squares = 0, np.zeros(3), np.zeros(3)

    def add(self, encoded):
        self.pixels += encoded.size[0] * encoded.size[1]
        self.total += encoded.total
        self.squares += encoded.squares

    def mean_and_std(self):
        mean = self.total / self.pixels
        variance = np.maximum(self.squares / self.pixels - mean**2, 0)
        # A channel without any variation is left unscaled.
        std = np.where(variance > 0, np.sqrt(variance), 1.0)
        return [round(float(v), 3) for v in mean], [round(float(v), 3) for v in std]
