"""``dmr predict``: what a bundle's network says about images."""

import os
import sys

from tqdm import tqdm

from ..devices import make_devices
from ..errors import DMRError
from ..standalone import predict_onnx
from .load import load_bundle


def predict(bundle, options, form, gpu=None):
    """Write what a network says about images to stdout.

    Parameters
    ----------
    bundle : str
        A folder that ``dmr export`` wrote.
    options : argparse.Namespace
        What :func:`.predict_onnx.add_arguments` reads.
    form : str
        One of the bundle's.
    gpu : str, optional
        Its number.

    Returns
    -------
    int
        Images that could not be predicted; a line on stderr says why.

    Raises
    ------
    DMRError
        Where nothing can be predicted.
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
    # Not through what is being written to the same terminal.
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
            raise DMRError(f"what was predicted cannot be written: {error.strerror}") from error
