"""Write a bundle after comparing every variant with the network."""

import contextlib
import os
import shutil
import tempfile
from dataclasses import asdict, dataclass
from typing import Optional, Tuple

import cv2
import numpy as np
from tqdm import tqdm

from ..data.preprocessing import MadeImages
from ..errors import DMRError
from ..models.serialization import save_symbol
from ..runs.directory import RunDirectory
from ..runtime import installed_wheels, mx
from ..standalone import predict_onnx
from ..system.files import write_atomically
from ..system.timing import measure
from ..version import __version__
from .bundle import BUNDLE, read_bundle, write_description
from .onnx_model import require_onnx, write_onnx
from .parity import TOLERANCE, compare, workers
from .table import variants_table
from .variants import INT8, ONNX, PLAIN, VARIANTS, make

#: Tolerance of the worked example, relative to the largest logit: INT8 depends on the processor.
_INT8_TOLERANCE = 0.1
#: Number of training images on which INT8 is calibrated.
_CALIBRATION_IMAGES = 512
TABLE = "forms.md"


@dataclass(frozen=True)
class ExportOptions:
    """Contents of a bundle, and how they are checked.

    Parameters
    ----------
    forms : tuple of str
        Of :data:`dmr_gluon.deploy.variants.VARIANTS`; ``plain`` is always included.
    preprocess : bool
        Include normalisation in the graph, which then takes (n, height, width, 3) pixels.
    measured : bool
        Write all variants, measure their speed and add a table.
    check_images : int, optional
        Number of images on which variants are compared with the network. Default: 256, with
        INT8 10,000, and all test images if speed is measured.
    int8_limit : float
        Percentage points of error that INT8 may add.
    """

    forms: Tuple[str, ...] = (PLAIN,)
    preprocess: bool = False
    measured: bool = False
    check_images: Optional[int] = None
    int8_limit: float = 0.5

    def __post_init__(self):
        if self.check_images is not None and self.check_images < 1:
            raise DMRError(f"--check-images must be at least 1, not {self.check_images}")


def write_bundle(net, out, preparation, options=ExportOptions(), images=None, texts=None, **facts):
    """Compare every variant with the network, then write the bundle.

    Parameters
    ----------
    net : Network
    out : str
        The bundle's folder; created if missing.
    preparation : Preparation
    options : ExportOptions
    images : PreparedImages or MadeImages, optional
        The images to compare on. Default: random ones.
    texts : dict of str to str, optional
        Further files for the bundle, by name.
    **facts
        Fields of ``bundle.json``: ``epochs`` and ``classes``, and optionally ``dataset``,
        ``training`` and ``imported_from``; see :mod:`.bundle`.

    Returns
    -------
    dict
        ``bundle.json`` without ``format``, ``files`` and ``sha256``.

    Raises
    ------
    DMRError
        As :func:`dmr_gluon.export`.
    """
    if RunDirectory(out).exists():
        raise DMRError(f"{out} is a run, whose files would be overwritten; choose another --out")
    for name in options.forms:
        if name not in VARIANTS:
            raise DMRError(f"there is no form {name!r}; there are {', '.join(VARIANTS)}")
    wanted = [name for name in VARIANTS if options.measured or name in (PLAIN, *options.forms)]
    if ONNX in wanted:
        require_onnx()  # before the other variants take their time
    if images is None:
        if INT8 in wanted:
            raise DMRError(
                "INT8 needs training images to find its ranges with; name the prepared set with "
                "--data-dir"
            )
        images = MadeImages(preparation, options.check_images or 64)
    description = {
        "network": asdict(net.spec),
        "input": preparation.describe(options.preprocess),
        "output": "logits, one per class; softmax gives probabilities",
        "dataset": None,
        "training": None,
        **facts,
        "versions": {"dmr_gluon": __version__, **installed_wheels()},
    }
    old = {}
    if os.path.lexists(os.path.join(out, BUNDLE)):
        old = read_bundle(out, others=False)["files"]
    try:
        os.makedirs(out, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".export-", dir=out) as folder:
            writer = _Writer(net, folder, preparation, options, images, description)
            _move_in(folder, writer.write(wanted, texts or {}), out, old)
    except OSError as error:
        raise DMRError(f"cannot write to {out}: {error.strerror or error}") from error
    finally:
        with contextlib.suppress(OSError):  # after a success it is not empty
            os.rmdir(out)
    return description


def _move_in(folder, names, out, old):
    """Move a new bundle's files to ``out``, over those of an older bundle (``old``).

    If this is interrupted, the bundle left behind is refused as damaged, and its ``bundle.json``
    tells the next export which files it may replace.
    """
    for name in set(names) - set(old):
        path = os.path.join(out, name)
        if os.path.lexists(path):
            raise DMRError(f"{path} exists and belongs to no bundle; choose another --out")
    for name in set(old) - set(names):
        with contextlib.suppress(OSError):
            os.remove(os.path.join(out, name))
    for name in [BUNDLE, *names]:
        os.replace(os.path.join(folder, name), os.path.join(out, name))


class _Writer:
    """Write all files of a bundle to a temporary folder."""

    def __init__(self, net, folder, preparation, options, images, description):
        self.net, self.folder, self.preparation = net, folder, preparation
        self.options, self.images, self.description = options, images, description

    def write(self, wanted, texts):
        """Write everything; return the names of all files except ``bundle.json``."""
        making = tqdm(wanted, "make", unit=" forms", disable=None, leave=False)
        entries = {name: self._write_variant(name) for name in making}
        paths = {name: list(map(self._path, entry["files"])) for name, entry in entries.items()}
        with workers({name: (entries[name]["runtime"], paths[name]) for name in wanted}) as running:
            compared = compare(running, self._batches(), self.images.count)
            for name, found in compared.items():
                self._require(name, found)
            speeds = measure(running) if self.options.measured else {}
            image, example = self._write_example()
            for name, entry in entries.items():
                logits = running[name].logits(image)[0].tolist()
                tolerance = _INT8_TOLERANCE if name == INT8 else TOLERANCE
                entry["logits"] = logits
                entry["tolerance"] = tolerance * max(1.0, *map(abs, logits))
                entry["compared"] = compared[name].describe()
                entry["megabytes"] = sum(map(os.path.getsize, paths[name])) / 1e6
                if speeds:
                    entry["speed"] = speeds[name].describe(speeds[PLAIN])
        self.description.update(forms=entries, example=example)
        if speeds:
            texts = {**texts, TABLE: variants_table(self.net.spec.name, entries)}
        for name, text in texts.items():
            write_atomically(self._path(name), text)
        names = [example["image"], *texts]
        if ONNX in entries:
            names.append("predict_onnx.py")
            shutil.copyfile(predict_onnx.__file__, self._path(names[-1]))
        names += [one for entry in entries.values() for one in entry["files"]]
        write_description(self.folder, self.description, names)
        return names

    def _path(self, name):
        return os.path.join(self.folder, name)

    def _write_variant(self, name):
        """Make a variant and write its files; return its entry for ``bundle.json``."""
        preprocessing = calibration = None
        if self.options.preprocess:
            preprocessing = self.preparation.mean, self.preparation.std
        if name == INT8:
            calibration = self._taken(self.images.calibration(_CALIBRATION_IMAGES))
        symbol, arrays = make(name, self.net, preprocessing, calibration)
        if name == ONNX:
            shape, classes = self.description["input"]["shape"], len(self.description["classes"])
            write_onnx(symbol, arrays, self._path("model.onnx"), shape, classes)
            return {"files": ["model.onnx"], "runtime": "onnxruntime"}
        stem = "model" if name == PLAIN else name
        arrays = {key: mx.nd.array(one, dtype=one.dtype) for key, one in arrays.items()}
        save_symbol(symbol, arrays, self._path(stem))
        return {"files": [f"{stem}-symbol.json", f"{stem}-0000.params"], "runtime": "mxnet"}

    def _taken(self, data):
        """Convert normalised images to the graph's input."""
        return self.preparation.pixels(data) if self.options.preprocess else data

    def _batches(self):
        for data, label in self.images.batches():
            yield self.net(mx.nd.array(data)).asnumpy(), self._taken(data), label

    def _require(self, name, found):
        """Refuse a variant that computes another function than the network."""
        if name == INT8:
            if found.more_error > self.options.int8_limit:
                raise DMRError(
                    f"{name} makes {found.more_error:.2f} percentage points more errors than the "
                    f"network on {found.images} images, allowed are {self.options.int8_limit:g}; "
                    f"nothing was written. Raise --int8-limit"
                )
        elif not found.equal:
            raise DMRError(
                f"the form {name} gives other outputs than the network (difference "
                f"{found.difference:g}, another class for {found.other_class} of {found.images} "
                f"images); nothing was written. Please report this"
            )

    def _write_example(self):
        """Write the example's image; return it as the graph's input, and its description."""
        data, labels = next(self.images.batches())
        pixels = self.preparation.pixels(data[:1])[0].astype(np.uint8)
        _, content = cv2.imencode(".png", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))
        write_atomically(self._path("example.png"), content.tobytes())
        label = None if labels is None else self.description["classes"][labels[0]]
        example = {"image": "example.png", "label": label, "from": self.images.origin}
        return self._taken(data[:1]), example
