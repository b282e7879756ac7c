"""Predict with an exported network, without MXNet and without dmr_gluon.

    python predict_onnx.py IMAGE [IMAGE ...]

Part of every bundle with ``model.onnx``. Needs Python 3.8 or later, numpy, onnxruntime and OpenCV.
Reads images as ``dmr prepare`` and ``dmr predict`` do: drops alpha, and turns photographs upright
as EXIF says, unless ``--ignore-orientation`` is given.
"""

import argparse
import csv
import hashlib
import json
import os
import re
import sys
from concurrent.futures import ThreadPoolExecutor

BUNDLE = "bundle.json"
BUNDLE_FORMAT = 1
#: The last field of bundle.json: the file's hash with zeros in place of this field.
_SEAL = re.compile(rb'"sha256": "([0-9a-f]{64})"\s*}\s*\Z')
_TAKEN = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".ppm", ".pgm", ".tif", ".tiff")
EXTENSIONS = (*_TAKEN, ".heic", ".heif", ".avif")  # in folders: to be refused by name
#: Magic numbers; of PPM and PGM also width, height and largest value.
_IMAGE = re.compile(
    rb"\xff\xd8\xff|\x89PNG\r\n\x1a\n|BM|RIFF....WEBP|II\*\0|MM\0\*|P[2356]"
    + rb"(?:\s|#[^\n]*\n)+(\d{1,9})" * 3,
    re.S,
)
#: How an image becomes square.
FITS = ("crop", "pad", "stretch")
_MOST_ASPECT = 8  # of what is scaled; in evaluations too
_DAMAGED = "is damaged (its hash is not its own); copy it again, or export to another folder"
_BROKEN = "is damaged, or not an image that OpenCV can read; copy it again, or convert it to PNG"


class Problem(Exception):
    """A problem that the user can fix, in one line."""


def read_bundle(folder, others=True, form=None):
    """Read a folder's ``bundle.json`` as a dict, verifying its hash and, by default, all others.

    With ``form``, those of its files and of the example only. Raises Problem with the name of the
    first damaged file.
    """
    path = os.path.join(folder, BUNDLE)
    text = _content(path)
    found = _SEAL.search(text)
    zeroed = found and text[: found.start(1)] + b"0" * 64 + text[found.end(1) :]
    if not found or hashlib.sha256(zeroed).hexdigest().encode() != found.group(1):
        raise Problem(f"{path} {_DAMAGED}")
    content = json.loads(text)
    if content.get("format") != BUNDLE_FORMAT:
        raise Problem(f"{path} was written by another version of dmr-gluon; export the run again")
    names = content["files"] if others else ()
    if form and form in content["forms"]:
        names = [*content["forms"][form]["files"], content["example"]["image"]]
    for name in names:
        path = os.path.join(folder, name)
        if hashlib.sha256(_content(path)).hexdigest() != content["files"][name]["sha256"]:
            raise Problem(f"{path} {_DAMAGED}")
    return content


def _content(path):
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise Problem(f"{path} cannot be read ({error.strerror}); export it again") from None


def find_images(arguments):
    """Return the paths of all images, each once, from files and folders.

    Includes folders that cannot be listed. Raises Problem for an argument without images.
    """
    found = {}
    for argument in arguments:
        paths = _images_below(argument) if os.path.lexists(argument) else []
        if not paths:
            raise Problem(f"{shown(argument)}: no such file, or no images in it; see --help")
        found.update({os.path.normpath(path): path for path in paths})
    return list(found.values())


def _images_below(path):
    if not os.path.isdir(path):
        return [path]
    found = []
    for folder, folders, names in os.walk(path, onerror=lambda error: found.append(error.filename)):
        folders[:] = [name for name in folders if not name.startswith(".")]
        images = [name for name in names if name.lower().endswith(EXTENSIONS)]
        found.extend(os.path.join(folder, name) for name in images if not name.startswith("."))
    return sorted(found)


def read_image(path, upright=True):
    """Read an image as (height, width, 3) of uint8, RGB; if ``upright``, turned as EXIF says.

    Raises Problem as :func:`decode` does, and for files that are damaged or no images.
    """
    try:
        with open(path, "rb") as file:
            data = file.read()
    except OSError as error:
        raise Problem(f"cannot be read ({error.strerror}); check its name and rights") from None
    pixels = decode(data, upright)
    # Decoders fill up a JPEG without its end with grey.
    if pixels is None or (data[:1] == b"\xff" and not is_complete_jpeg(data)):
        raise Problem(_BROKEN)
    return pixels


def decode(data, upright):
    """Decode an image to RGB of uint8, turned as EXIF says if ``upright``; None if damaged.

    Raises Problem for images that OpenCV would darken or blend with black.
    """
    import cv2
    import numpy as np

    found, content = _IMAGE.match(data), np.frombuffer(data, np.uint8)
    if not found:
        return None
    flags = cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH
    try:
        pixels = cv2.imdecode(content, flags | (0 if upright else cv2.IMREAD_IGNORE_ORIENTATION))
        odd = pixels.dtype != np.uint8 or int(found[3] or 255) != 255
        if data[:1] in b"IM":  # a TIFF
            odd = odd or cv2.imdecode(content, cv2.IMREAD_UNCHANGED).shape[2:] == (4,)
    except (cv2.error, MemoryError, AttributeError):  # OpenCV returns None, which has no dtype
        return None
    if odd:
        raise Problem("is not 8-bit, or is a TIFF with alpha or CMYK; convert it to an 8-bit PNG")
    return cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)


def is_complete_jpeg(data):
    """Return whether a JPEG has its end marker, not counting that of a thumbnail in its head."""
    return data.find(b"\xff\xd9", jpeg_frame(data) or 0) >= 0


def jpeg_frame(data):
    """Return the offset of a JPEG's frame header (size and colours), or None."""
    at = 2
    while at + 9 < len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            return at
        at += 1 if marker == 0xFF else 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return None


def fitted(image, size, short_side=None, fit="crop"):
    """Bring an image to ``size`` x ``size``: ``crop``, ``pad`` (with black) or ``stretch``."""
    import numpy as np

    if fit == "crop":
        return crop(image, size, short_side)
    height, width = image.shape[:2]
    if fit == "pad":
        # The smallest square around the image, which is in its centre.
        side = max(height, width)
        square = np.zeros((side, side, 3), np.uint8)
        top, left = (side - height) // 2, (side - width) // 2
        square[top : top + height, left : left + width] = image
        image = square
    return scaled(image, size, size)


def scaled(image, height, width):
    """Scale an image, by area averaging when shrinking, else with cubic interpolation."""
    import cv2

    smaller = height * width < image.shape[0] * image.shape[1]
    method = cv2.INTER_AREA if smaller else cv2.INTER_CUBIC
    return cv2.resize(image, (width, height), interpolation=method)


def scaled_size(shape, short_side):
    """Return the (height, width) of an image scaled to a shorter side."""
    scale = short_side / min(shape[:2])
    return tuple(max(short_side, round(side * scale)) for side in shape[:2])


def crop(image, size, short_side=None):
    """Scale an image to a shorter side (default: ``size``) and crop a square from its centre."""
    (height, width), short_side = image.shape[:2], short_side or size
    top = max(0, (height - _MOST_ASPECT * width) // 2)
    left = max(0, (width - _MOST_ASPECT * height) // 2)
    image = image[top : height - top, left : width - left]
    image = scaled(image, *scaled_size(image.shape, short_side))
    top, left = ((side - size) // 2 for side in image.shape[:2])
    return image[top : top + size, left : left + size]


def squared(image, about):
    """Return an image of any size as bundle.json's ``input`` describes it: square, pixels."""
    return fitted(image, max(about["shape"]), about["short_side"], about.get("fit") or "crop")


def to_batch(images, about):
    """Stack images (height, width, 3) into the batch described by bundle.json's ``input``."""
    import numpy as np

    batch = np.stack(images).astype(np.float32)
    if about["values"] == "normalised":
        batch = (batch - np.float32(about["mean"] or 0)) * (1 / np.float32(about["std"] or 1))
    return np.ascontiguousarray(batch if about["layout"] == "NHWC" else batch.transpose(0, 3, 1, 2))


def probabilities(squares, about, logits):
    """Return (n, classes) for images from :func:`squared`; ``logits`` maps a batch to (n, classes).

    Softmax, in double precision.
    """
    import numpy as np

    found = logits(to_batch(squares, about)).astype(np.float64)
    found = np.exp(found - found.max(axis=1, keepdims=True))
    return found / found.sum(axis=1, keepdims=True)


def predictions(paths, about, logits, options):
    """Yield for every image its path, its probabilities or None, and what is wrong with it.

    ``logits`` maps a batch to (n, classes).
    """

    def read(path):
        try:
            return squared(read_image(path, not options.ignore_orientation), about), None
        except Problem as problem:
            return None, str(problem)

    size = options.batch_size
    batches = [paths[start : start + size] for start in range(0, len(paths), size)]
    # Threads read the next batch meanwhile, as OpenCV does not hold Python's lock.
    with ThreadPoolExecutor(_readers()) as pool:
        reading = []
        try:
            reading += [pool.submit(read, path) for path in paths[:size]]
            for batch, following in zip(batches, [*batches[1:], []]):
                found = [reading.pop(0).result() for _ in batch]
                reading += [pool.submit(read, path) for path in following]
                images = [image for image, fault in found if not fault]
                shares = iter(probabilities(images, about, logits) if images else ())
                for path, (_, fault) in zip(batch, found):
                    yield path, None if fault else next(shares), fault
        finally:  # Ctrl-C, or nobody reads on: the pool waits for what has begun only
            for one in reading:
                one.cancel()


def _readers():
    """Return how many threads read images; each holds a whole photograph in memory."""
    usable = getattr(os, "sched_getaffinity", None)
    return min(8, len(usable(0)) if usable else os.cpu_count() or 1)


def write(results, classes, options, report):
    """Write predictions to stdout as they come; report failures and return their number."""
    sys.stdout.reconfigure(encoding="utf-8", errors="backslashreplace")
    table = csv.writer(sys.stdout, quoting=csv.QUOTE_NONNUMERIC, lineterminator="\n")
    if options.csv:
        table.writerow(["file", "rank", "label", "probability"])
    failed = 0
    for total, (path, probabilities, fault) in enumerate(results, 1):  # noqa: B007
        failed += bool(fault)
        best = [] if fault else (-probabilities).argsort(kind="stable")[: options.top]
        top = [(classes[i], round(float(probabilities[i]), 6)) for i in best]
        if fault:
            report(f"{shown(path)}: {fault}")
        if options.csv:
            table.writerows([path, rank, *pair] for rank, pair in enumerate(top, 1))
        elif options.json:
            found = [{"label": label, "probability": value} for label, value in top]
            print(json.dumps({"file": path, **({"error": fault} if fault else {"top": found})}))
        elif not fault:
            print("\n".join([shown(path)] + [f"  {p:7.2%}  {shown(label)}" for label, p in top]))
        sys.stdout.flush()
    if failed:
        report(f"{failed} of {total} images could not be predicted")
    return failed


def shown(text):
    """Escape characters that would break a line of text."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def add_arguments(parser):
    """Add the arguments of ``dmr predict`` and of this program."""
    parser.add_argument("images", metavar="IMAGE", nargs="+", help="image, or folder of images")
    forms = parser.add_mutually_exclusive_group()
    forms.add_argument("--csv", action="store_true", help="as CSV: file, rank, label, probability")
    forms.add_argument("--json", action="store_true", help="as JSON lines: file, top (or error)")
    parser.add_argument("--top", type=int, default=5, metavar="K", help="labels shown (default: 5)")
    parser.add_argument("--batch-size", type=int, default=32, help="images per batch (default: 32)")
    parser.add_argument("--ignore-orientation", action="store_true", help="do not rotate by EXIF")
    parser.epilog = (
        "Exit status: 0 if all images were predicted; 1 if some could not be, each with a line on "
        "stderr; 2 if nothing was done."
    )


def check_arguments(options, description):
    """Refuse options that do not fit a bundle."""
    for flag, value in (("--top", options.top), ("--batch-size", options.batch_size)):
        if value < 1:
            raise Problem(f"{flag} must be at least 1, not {value}")
    if description["input"]["mean"] is None:
        raise Problem(
            "the training data of this network are unknown, and so is its normalisation; make the "
            "bundle again with dmr import-authors --dataset"
        )


def onnx_logits(path):
    """Load an ONNX model as a function from a batch to logits."""
    import onnxruntime

    onnxruntime.set_default_logger_severity(3)
    try:
        session = onnxruntime.InferenceSession(_content(path), providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime does not export its classes
        reason = " ".join(str(error).split())
        raise Problem(f"onnxruntime cannot load {path} ({reason}); upgrade it") from None
    return lambda batch: session.run(None, {session.get_inputs()[0].name: batch})[0]


def check_example(folder, description, form, logits, factor=1):
    """Run a bundle's example. Raises Problem if the logits differ by ``factor`` tolerances."""
    import numpy as np

    facts, image = description["forms"][form], description["example"]["image"]
    found = logits(to_batch([read_image(os.path.join(folder, image))], description["input"]))
    difference = float(np.abs(found[0] - np.float32(facts["logits"])).max())
    if not difference <= factor * facts["tolerance"]:  # NaN too
        raise Problem(
            f"{folder}: {' and '.join(facts['files'])} (the form {form}) gives other logits for "
            f"{image} than when it was exported (by {difference:g}, allowed are "
            f"{factor * facts['tolerance']:g}); export it again on this machine, or use another "
            f"version of its runtime"
        )


class _Parser(argparse.ArgumentParser):
    def error(self, message):
        raise Problem(f"{message}; see --help")


def _main():
    folder = os.path.dirname(os.path.abspath(__file__))
    description = read_bundle(folder, form="onnx")
    parser = _Parser(description="Predict with the network of this folder.", allow_abbrev=False)
    add_arguments(parser)
    options = parser.parse_args()
    check_arguments(options, description)
    paths = find_images(options.images)
    try:
        logits = onnx_logits(os.path.join(folder, *description["forms"]["onnx"]["files"]))
        check_example(folder, description, "onnx", logits)
    except ImportError as error:
        raise Problem(f"{error}; pip install onnxruntime opencv-python-headless") from None
    results = predictions(paths, description["input"], logits, options)
    return write(results, description["classes"], options, lambda x: print(x, file=sys.stderr)) > 0


if __name__ == "__main__":
    try:
        sys.exit(_main())
    except Problem as problem:
        sys.exit(print(f"error: {problem}", file=sys.stderr) or 2)  # whole, or not at all
    except KeyboardInterrupt:
        sys.exit(130)
    except OSError as error:  # whoever read the output has gone, or the disk is full
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):
            sys.exit(141)
        sys.exit(print(f"error: {error}", file=sys.stderr) or 2)
