"""``dmr predict``: classify images with a bundle's network."""

import os
import sys

from tqdm import tqdm

from ..devices import make_devices
from ..errors import DMRError
from ..standalone import predict_onnx
from .load import load_bundle


def predict(bundle, options, form, gpu=None):
    """Write a network's predictions for images to stdout.

    Parameters
    ----------
    bundle : str
        The folder of a bundle.
    options : argparse.Namespace
        The arguments of :func:`.predict_onnx.add_arguments`.
    form : str
        One of the bundle's variants.
    gpu : str, optional
        The GPU's number.

    Returns
    -------
    int
        Number of images that could not be predicted; each has a line on stderr.

    Raises
    ------
    DMRError
        If nothing can be predicted.
    """
    device = None
    if gpu is not None:
        if not gpu.isdigit():
            raise DMRError(f"--gpu must be the number of one GPU, not {gpu!r}")
        (device,) = make_devices(gpu)
    try:
        paths = predict_onnx.find_images(options.images)
        network = load_bundle(bundle, form, device)
        about, classes = network.description["input"], network.description["classes"]
        predict_onnx.check_arguments(options, network.description)
    except predict_onnx.Problem as problem:
        raise DMRError(str(problem)) from None
    results = predict_onnx.predictions(paths, about, network.logits, options)
    # A progress bar would mix with output on the same terminal.
    hidden = True if sys.stdout.isatty() else None
    with tqdm(results, "predict", len(paths), unit=" images", disable=hidden) as progress:
        try:
            return predict_onnx.write(
                progress, classes, options, lambda line: tqdm.write(line, file=sys.stderr)
            )
        except BrokenPipeError:
            raise
        except OSError as error:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # it would fail again
            raise DMRError(f"the predictions cannot be written: {error.strerror}") from error
