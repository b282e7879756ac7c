"""Load a bundle, after verifying its hashes and running its worked example."""

import os
import warnings
from functools import partial
from typing import Any, Dict, List, Optional, Union

import numpy as np

from ..errors import DMRError, last_line
from ..models.network import load_arrays, misfit
from ..runtime import mx
from ..standalone.logits_worker import in_portions
from ..standalone.predict_onnx import Problem, onnx_logits, read_image, to_batch
from .bundle import read_bundle
from .variants import CPU_ONLY


class Bundle:
    """An exported network, ready to run; made by :func:`load_bundle`.

    Parameters
    ----------
    path : str
        The bundle's folder.
    description : dict
        Its ``bundle.json``, see :mod:`.bundle`.
    form : str
        The variant: one of ``description["forms"]``.
    device : mx.Context

    Raises
    ------
    DMRError
        If this MXNet or ONNX Runtime cannot run the variant.

    Attributes
    ----------
    description, form
        As above.
    net : mx.gluon.SymbolBlock or None
        The network on its device, for use in Gluon; None for ``onnx``.
    """

    def __init__(
        self, path: str, description: Dict[str, Any], form: str, device: mx.Context
    ) -> None:
        self.path, self.description, self.form = path, description, form
        self.net, self._device = None, device
        entry = description["forms"][form]
        files = [os.path.join(path, name) for name in entry["files"]]
        if entry["runtime"] == "onnxruntime":
            self._run = _onnx_session(*files)
        else:
            symbol, parameters = files
            self.net = _symbol_block(symbol, parameters, device)
            to_array = partial(mx.nd.array, ctx=device)
            if device.device_type == "cpu":
                self._run = lambda images: in_portions(self.net, images, to_array)
            else:
                self._run = lambda images: self.net(to_array(images)).asnumpy()

    @property
    def classes(self) -> List[str]:
        """The labels, in the order of the outputs."""
        return self.description["classes"]

    def logits(self, batch: np.ndarray) -> np.ndarray:
        """Run the network.

        Parameters
        ----------
        batch : numpy.ndarray
            Float32, as described by ``description["input"]``: (n, 3, height, width),
            normalised, or (n, height, width, 3), 0 to 255.

        Returns
        -------
        numpy.ndarray
            (n, classes), before the softmax.
        """
        return self._run(np.asarray(batch, np.float32))

    def check(self) -> None:
        """Run the worked example.

        Raises
        ------
        DMRError
            If the logits differ from those in the bundle.
        """
        entry = self.description["forms"][self.form]
        image = read_image(os.path.join(self.path, self.description["example"]["image"]))
        try:
            found = self.logits(to_batch([image], self.description["input"]))[0]
        except mx.base.MXNetError as error:
            raise DMRError(
                f"{self.path}: the form {self.form} cannot be run ({last_line(error)}); export the "
                f"run again"
            ) from error
        difference = np.abs(found - np.float32(entry["logits"]))
        # GPUs may compute convolutions with ten bits of precision (TF32).
        allowed = entry["tolerance"] * (1 if self._device.device_type == "cpu" else 100)
        if not (difference <= allowed).all():  # NaN too
            raise DMRError(
                f"{self.path}: the form {self.form} gives other logits for its worked example than "
                f"when it was exported (by {difference.max():g}, allowed are "
                f"{allowed:g}); export the run again on this machine"
            )


def load_bundle(
    path: Union[str, "os.PathLike[str]"], form: str = "plain", device: Optional[mx.Context] = None
) -> Bundle:
    """Load a bundle after verifying every file's hash, and run its worked example.

    Parameters
    ----------
    path : str
        The bundle's folder.
    form : str
        The variant: one of its ``description["forms"]``.
    device : mx.Context, optional
        Default: the CPU.

    Returns
    -------
    Bundle

    Raises
    ------
    DMRError
        For a missing or damaged file, by its name, and for a variant that is missing or gives
        other outputs than when it was exported.
    """
    path = os.fspath(path)
    description = read_bundle(path)
    if form not in description["forms"]:
        raise DMRError(
            f"{path} has no form {form!r}; it has {', '.join(description['forms'])} "
            f"(dmr export --forms)"
        )
    if device is not None and device.device_type != "cpu":
        _require_gpu(device, form)
    bundle = Bundle(path, description, form, device or mx.cpu())
    bundle.check()
    return bundle


def _require_gpu(device, form):
    if form in CPU_ONLY:
        raise DMRError(f"the form {form} runs on CPUs; load another one, such as folded")
    try:
        mx.nd.zeros(1, ctx=device).wait_to_read()
    except mx.base.MXNetError as error:
        reason = last_line(error)
        raise DMRError(f"{device} cannot be used ({reason}); leave out the device") from error


def _symbol_block(path, params, device):
    try:
        with open(path, encoding="utf-8") as file:
            symbol = mx.sym.load_json(file.read())
        arrays = {name.partition(":")[2]: array for name, array in load_arrays(params).items()}
    except mx.base.MXNetError as error:  # such as oneDNN's operators, in a build without it
        reason = last_line(error)
        raise DMRError(
            f"{path} cannot be loaded by this MXNet ({reason}); load another form, such as plain"
        ) from error
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # the file does not say the input's type
        net = mx.gluon.SymbolBlock(symbol, [mx.sym.var("data")])
    parameters = net.collect_params()
    fault = misfit(dict.fromkeys(parameters, ()), dict.fromkeys(arrays, ()))
    if fault:
        raise DMRError(f"{params} does not fit {path}: {fault}; export the run again")
    parameters.load_dict(arrays, device, cast_dtype=True, dtype_source="saved")
    net.hybridize(static_alloc=True, static_shape=True)
    return net


def _onnx_session(path):
    try:
        return onnx_logits(path)
    except ImportError as error:
        raise DMRError(
            "the form onnx needs onnxruntime; pip install onnxruntime (the extra [onnx])"
        ) from error
    except Problem as problem:
        raise DMRError(str(problem)) from None
