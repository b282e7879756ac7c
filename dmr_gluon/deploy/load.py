"""Load a bundle, after verifying the hashes of what is loaded and running its worked example.

MXNet is imported only for the forms that it runs.
"""

import os
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Dict, List, Optional, Tuple, Union

import numpy as np

from ..data.datasets import RecordDataset
from ..data.preprocessing import Preparation
from ..errors import DMRError, last_line
from ..paper.recipes import Recipe
from ..runs.bundles import are_labels, named_bundle
from ..standalone import predict_onnx
from ..standalone.logits_worker import in_portions
from .bundle import CPU_ONLY, problems_as_errors, read_bundle

if TYPE_CHECKING:
    from ..runtime import mx


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
    device : mx.Context or None
        None: the CPU.

    Attributes
    ----------
    description, form
        As above.
    net : mx.gluon.SymbolBlock or None
        The network on its device, for use in Gluon; None for ``onnx``.
    """

    def __init__(
        self, path: str, description: Dict[str, Any], form: str, device: "Optional[mx.Context]"
    ) -> None:
        self.path, self.description, self.form = path, description, form
        self.net, self._on_gpu = None, device is not None and device.device_type == "gpu"
        entry = description["forms"][form]
        files = [os.path.join(path, name) for name in entry["files"]]
        if entry["runtime"] == "onnxruntime":
            self._run = predict_onnx.onnx_logits(*files)
        else:
            from ..runtime import mx

            symbol, parameters = files
            device = device or mx.cpu()
            self.net = _symbol_block(symbol, parameters, device)
            to_array = partial(mx.nd.array, ctx=device)
            if self._on_gpu:
                self._run = lambda images: self.net(to_array(images)).asnumpy()
            else:
                self._run = lambda images: in_portions(self.net, images, to_array)

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

    def predict(
        self, image: Union[str, "os.PathLike[str]", np.ndarray], top: int = 5
    ) -> List[Tuple[str, float]]:
        """Classify one image, preprocessed as in training.

        Parameters
        ----------
        image : str or numpy.ndarray
            The path of an image file; or pixels (height, width, 3) of uint8, RGB, of any size.
        top : int
            Number of labels to return.

        Returns
        -------
        list of (str, float)
            The most probable labels with their probabilities.

        Raises
        ------
        DMRError
            If the file cannot be read or is not an image.
        """
        about = self.description["input"]
        if not isinstance(image, np.ndarray):
            path = os.fspath(image)
            try:
                image = predict_onnx.read_image(path)
            except predict_onnx.Problem as problem:
                raise DMRError(f"{path} {problem}") from None
        squares = [predict_onnx.squared(image, about)]
        (shares,) = predict_onnx.probabilities(squares, about, self.logits)
        best = (-shares).argsort(kind="stable")[:top]
        return [(self.classes[i], float(shares[i])) for i in best]

    def classify(self, data: "mx.nd.NDArray") -> "mx.nd.NDArray":
        """Map normalised images (n, 3, height, width) to logits, also if the graph normalises."""
        from ..runtime import mx

        images = data.asnumpy()
        if self.description["input"]["values"] == "pixels":
            images = self._preparation().pixels(images)
        return mx.nd.array(self.logits(images))

    def recipe(self) -> Recipe:
        """Return a recipe with the image sizes of the network's evaluation."""
        return self._preparation().recipe()

    def _preparation(self):
        return Preparation.of(self.description["input"])

    def check(self) -> None:
        """Run the worked example.

        Raises
        ------
        DMRError
            If the logits differ from those in the bundle.
        """
        # GPUs may compute convolutions with ten bits of precision (TF32).
        factor = 100 if self._on_gpu else 1
        with problems_as_errors():
            predict_onnx.check_example(self.path, self.description, self.form, self.logits, factor)


def as_trained(prepared: RecordDataset, description: Dict[str, Any]) -> RecordDataset:
    """Return a prepared set with the mean and std of the training that a bundle describes.

    Raises
    ------
    DMRError
        If the set has other classes.
    """
    if not are_labels(description["classes"], prepared.classes):
        raise DMRError(
            f"{prepared.directory} has other classes than the bundle; name the right set with "
            f"--data-dir"
        )
    about = Preparation.of(description["input"])
    return replace(prepared, mean=about.mean or (0,) * 3, std=about.std or (1,) * 3)


def load_bundle(
    path: Union[str, "os.PathLike[str]"],
    form: str = "plain",
    device: "Optional[mx.Context]" = None,
) -> Bundle:
    """Load a bundle after verifying the hashes of the form's files, and run its worked example.

    Parameters
    ----------
    path : str
        The bundle's folder, or a name as for :func:`dmr_gluon.runs.bundles.named_bundle`.
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
    path = named_bundle(path) or os.fspath(path)
    description = read_bundle(path, form=form)
    if form not in description["forms"]:
        raise DMRError(
            f"{path} has no form {form!r}; it has {', '.join(description['forms'])} "
            f"(dmr export --forms)"
        )
    if form in CPU_ONLY and device is not None and device.device_type != "cpu":
        raise DMRError(f"the form {form} runs on CPUs; load another one, such as folded")
    try:
        with problems_as_errors():
            bundle = Bundle(path, description, form, device)
        bundle.check()
    except (RuntimeError, ImportError, AssertionError) as error:
        # No such GPU (a RuntimeError of MXNet), no onnxruntime, or an MXNet without oneDNN.
        raise DMRError(
            f"{path}: the form {form} cannot be run on {device or 'cpu(0)'} "
            f"({last_line(error)}); install what is missing, or choose another form or device"
        ) from error
    return bundle


def _symbol_block(path, params, device):
    from ..models.custom import symbol_block
    from ..models.network import load_arrays

    net = symbol_block(path)
    net.collect_params().load_dict(
        load_arrays(params), device, cast_dtype=True, dtype_source="saved"
    )
    net.hybridize(static_alloc=True, static_shape=True)
    return net
