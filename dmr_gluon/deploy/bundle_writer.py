"""Write a bundle, after comparing every variant of the network with the network itself."""

import contextlib
import functools
import glob
import os
import shutil
import signal
import tempfile
import threading
from dataclasses import asdict, dataclass
from typing import Optional, Tuple

import cv2
import numpy as np
from tqdm import tqdm

from ..data.preprocessing import MadeImages
from ..errors import DMRError
from ..models.serialization import save_symbol
from ..models.spec import unknown
from ..runs.directory import RunDirectory
from ..runtime import installed_wheels, mx
from ..standalone import predict_onnx
from ..system.files import write_atomically
from ..system.machine import lock
from ..system.signals import ENDING, handled
from ..system.timing import measure
from ..version import __version__
from .bundle import BUNDLE, read_description, write_description
from .onnx_model import require_onnx, write_onnx
from .parity import TOLERANCE, compare, workers
from .table import variants_table
from .variants import INT8, ONNX, PLAIN, VARIANTS, available, make, require_variant

#: Tolerance of the worked example, relative to the largest logit: INT8 depends on the processor.
_INT8_TOLERANCE = 0.1
TABLE = "forms.md"


@dataclass(frozen=True)
class ExportOptions:
    """What a bundle holds and how it is checked.

    Parameters
    ----------
    forms : tuple of str
        Of :data:`dmr_gluon.deploy.variants.VARIANTS`; ``plain`` is always included.
    preprocess : bool
        Include normalisation in the graph, which then takes (n, height, width, 3) pixels.
    measured : bool
        Write all variants that the network has, measure their speed and add a table;
        ``grouped`` is kept only if it is faster than ``folded``.
    check_images : int, optional
        Number of images on which variants are compared with the network. Default: 256, with
        INT8 10,000, and all test images if speed is measured.
    calibration_images : int
        Number of training images for INT8.
    int8_limit : float
        Percentage points of error that INT8 may add.
    """

    forms: Tuple[str, ...] = (PLAIN,)
    preprocess: bool = False
    measured: bool = False
    check_images: Optional[int] = None
    calibration_images: int = 512
    int8_limit: float = 0.5

    def __post_init__(self):
        for name in self.forms:
            if name not in VARIANTS:
                raise DMRError(unknown("form", name, VARIANTS))
        for name in ("check_images", "calibration_images"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise DMRError(f"--{name.replace('_', '-')} must be at least 1, not {value}")
        if not 0 <= self.int8_limit <= 100:
            raise DMRError(f"--int8-limit must be 0 to 100 points, not {self.int8_limit:g}")


def write_bundle(
    net,
    out,
    epochs,
    classes,
    preparation,
    options=ExportOptions(),
    images=None,
    dataset=None,
    training=None,
    texts=None,
    **others,
):
    """Compare every variant with the network, then write the bundle.

    Parameters
    ----------
    net : Network
    out : str
        The bundle's folder; created if missing.
    epochs : int
        Number of epochs it was trained.
    classes : list of str
    preparation : Preparation
    options : ExportOptions
    images : PreparedImages or MadeImages, optional
        The images to compare on. Default: random ones.
    dataset : str, optional
        The data set's name.
    training : dict, optional
        The training log's line of that epoch.
    texts : dict of str to str, optional
        Further files for the bundle, by name.
    **others
        Further fields of ``bundle.json``.

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
    if options.preprocess and preparation.mean is None:
        raise DMRError("--preprocess: the mean and std of what it was trained on are not known")
    wanted = [name for name in VARIANTS if name in (PLAIN, *options.forms)]
    if options.measured:
        wanted = list(available(net.spec))
    for name in wanted:
        require_variant(name, net.spec)
    if ONNX in wanted:
        require_onnx()
    if images is None:
        for name in set(INT8) & set(wanted):
            raise DMRError(
                f"the form {name} needs training images to find its ranges with; name the "
                f"prepared set with --data-dir"
            )
        images = MadeImages(preparation, options.check_images or 64)
    description = {
        "network": asdict(net.spec),
        "epochs": epochs,
        "classes": classes,
        "input": preparation.describe(options.preprocess),
        "output": "logits, one per class; softmax gives probabilities",
        "dataset": dataset,
        "training": training,
        "versions": {"dmr_gluon": __version__, **installed_wheels()},
        **others,
    }
    new = not os.path.exists(out)
    try:
        os.makedirs(out, exist_ok=True)
        with _held(out), tempfile.TemporaryDirectory(prefix=".export-", dir=out) as folder:
            old = _files_in(out)
            writer = _Writer(net, folder, preparation, options, images, description)
            _move_in(folder, writer.write(wanted, texts or {}), out, old)
    except OSError as error:
        raise DMRError(f"cannot write to {out}: {error.strerror or error}") from error
    finally:
        if new:
            with contextlib.suppress(OSError):  # after a success it is not empty
                os.rmdir(out)
    return writer.description


def _move_in(folder, names, out, old):
    """Move a new bundle's files to ``out``, over those of an older bundle (``old``).

    If it is killed at any moment, the bundle left behind is refused as damaged, and its
    ``bundle.json`` tells the next export which files it may replace.
    """
    for name in names:
        path = os.path.join(out, name)
        if os.path.isdir(path) or (os.path.lexists(path) and name not in old):
            raise DMRError(f"{path} is there and not of a bundle; choose another --out")
    # For these milliseconds signals are ignored, except in threads, which cannot do so.
    in_main_thread = threading.current_thread() is threading.main_thread()
    with handled(signal.SIG_IGN, ENDING if in_main_thread else ()):
        for name in old - set(names):
            with contextlib.suppress(OSError):
                os.remove(os.path.join(out, name))
        for name in [BUNDLE, *names]:
            os.replace(os.path.join(folder, name), os.path.join(out, name))


def _files_in(out):
    """Return the names of an existing bundle's files, complete or not; empty without a bundle."""
    path = os.path.join(out, BUNDLE)
    if not os.path.lexists(path):
        return set()
    try:
        return set(read_description(out)["files"])
    except DMRError as error:
        raise DMRError(
            f"{path} is there and is another program's, or damaged; remove it, or choose another "
            f"--out"
        ) from error


@contextlib.contextmanager
def _held(out):
    """Lock ``out`` against other exports, and remove what killed ones left."""
    folder = os.open(out, os.O_RDONLY)
    try:
        if lock(folder) is False:
            raise DMRError(f"another process is exporting into {out}; wait for it")
        for left in glob.glob(os.path.join(glob.escape(out), ".export-*")):
            shutil.rmtree(left, ignore_errors=True)
        yield
    finally:
        os.close(folder)


class _Writer:
    """Writes all files of a bundle into a temporary folder."""

    def __init__(self, net, folder, preparation, options, images, description):
        self.net, self.folder, self.preparation = net, folder, preparation
        self.options, self.images, self.description = options, images, description

    def write(self, wanted, texts):
        """Write everything; return the names of all files but ``bundle.json``."""
        for name, text in texts.items():
            write_atomically(self._path(name), text)
        making = tqdm(wanted, "make", unit=" forms", disable=None, leave=False)
        files = {name: self._write_variant(name) for name in making}
        runtimes = {name: "onnxruntime" if name == ONNX else "mxnet" for name in wanted}
        processes = {name: (runtimes[name], list(map(self._path, files[name]))) for name in wanted}
        with workers(processes) as running:
            compared = compare(self._logits, running, self._batches(), self.images.count)
            for name, found in compared.items():
                self._require(name, found)
            speeds = measure(running) if self.options.measured else {}
            image, example = self._write_example()
            logits = {name: running[name].logits(image)[0].tolist() for name in running}
        entries = self.description["forms"] = {}
        for name, found in compared.items():
            scale = max(1.0, max(map(abs, logits[name])))
            entries[name] = {
                "files": files[name],
                "runtime": runtimes[name],
                "logits": logits[name],
                "tolerance": scale * (_INT8_TOLERANCE if name in INT8 else TOLERANCE),
                "compared": found.describe(),
                "megabytes": sum(os.path.getsize(self._path(one)) for one in files[name]) / 1e6,
            }
            if name in speeds:
                entries[name]["speed"] = speeds[name].describe(speeds[PLAIN])
        names = [example["image"], *texts]
        if speeds:
            names.append(TABLE)
            network = self.description["network"]["name"]
            write_atomically(self._path(TABLE), variants_table(network, entries))
            if "grouped" in speeds and not _is_faster(speeds["grouped"], speeds["folded"]):
                del entries["grouped"]  # its row in the table says so
        if ONNX in entries:
            names.append("predict_onnx.py")
            shutil.copyfile(predict_onnx.__file__, self._path(names[-1]))
        names += [one for entry in entries.values() for one in entry["files"]]
        self.description["example"] = example
        write_description(self.folder, self.description, names)
        return names

    def _path(self, name):
        return os.path.join(self.folder, name)

    def _write_variant(self, name):
        """Make a variant and write its files; return their names."""
        preprocessing = calibration = None
        if self.options.preprocess:
            preprocessing = self.preparation.mean, self.preparation.std
        if name in INT8:
            calibration = self._calibration
        variant = make(name, self.net, preprocessing, calibration)
        stem = "model" if name == PLAIN else name
        if name == ONNX:
            shape, classes = self.description["input"]["shape"], len(self.description["classes"])
            write_onnx(variant, self._path("model.onnx"), shape, classes)
            return ["model.onnx"]
        arrays = {key: mx.nd.array(one, dtype=one.dtype) for key, one in variant.arrays.items()}
        save_symbol(variant.symbol, arrays, self._path(stem))
        return [f"{stem}-symbol.json", f"{stem}-0000.params"]

    @functools.cached_property
    def _calibration(self):
        return self._taken(self.images.calibration(self.options.calibration_images))

    def _taken(self, data):
        """Convert normalised images to the graph's input."""
        return self.preparation.pixels(data) if self.options.preprocess else data

    def _batches(self):
        for data, label in self.images.batches():
            yield data, self._taken(data), label

    def _logits(self, data):
        return self.net(mx.nd.array(data)).asnumpy()

    def _require(self, name, found):
        """Refuse a variant that does not compute what the network does."""
        if name in INT8:
            if found.more_error > self.options.int8_limit:
                errors = "" if found.wrong is None else f"{found.error:.2f}% instead of "
                errors += f"{found.error - found.more_error:.2f}% " if errors else ""
                raise DMRError(
                    f"{name} makes {found.more_error:.2f} percentage points more errors than the "
                    f"network ({errors}of {found.images} images), allowed are "
                    f"{self.options.int8_limit:g}; nothing was written. Try the other INT8 form, "
                    f"more --check-images, or allow it with --int8-limit"
                )
        elif not found.equal:
            raise DMRError(
                f"the form {name} gives other outputs than the network (difference "
                f"{found.difference:g}, another class for {found.other_class} of {found.images} "
                f"images); nothing was written. Please report this"
            )

    def _write_example(self):
        """Write the example's image; return it as the graph's input, and its description."""
        data, label, origin = self.images.example()
        pixels = self.preparation.pixels(data[None])[0].astype(np.uint8)
        done, content = cv2.imencode(".png", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))
        assert done
        write_atomically(self._path("example.png"), content.tobytes())
        classes = self.description["classes"]
        facts = {"image": "example.png", "label": None if label is None else classes[label]}
        return self._taken(data[None]), {**facts, "from": origin}


def _is_faster(one, other):
    """Return whether one is faster beyond noise at one batch size, and slower at none."""
    ratios = one.by(other).values()
    return max(ratios) > 1.03 and min(ratios) > 0.97
