"""``dmr predict``: classify images with a bundle's network."""

import sys

from tqdm import tqdm

from ..errors import DMRError
from ..standalone import predict_onnx
from ..system.signals import to_nowhere
from .bundle import problems_as_errors
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
    gpu : int, optional
        The GPU's number. Default: the CPU.

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
        from ..devices import make_devices  # imports MXNet, which ONNX does not need

        (device,) = make_devices(str(gpu))
    with problems_as_errors():
        paths = predict_onnx.find_images(options.images)
        network = load_bundle(bundle, form, device)
        predict_onnx.check_arguments(options, network.description)
    about = network.description["input"]
    results = predict_onnx.predictions(paths, about, network.logits, options)
    # A progress bar would mix with output on the same terminal.
    hidden = True if sys.stdout.isatty() else None
    with tqdm(results, "predict", len(paths), unit=" images", disable=hidden) as progress:
        try:
            return predict_onnx.write(
                progress, network.classes, options, lambda line: tqdm.write(line, file=sys.stderr)
            )
        except BrokenPipeError:
            raise
        except OSError as error:
            to_nowhere(sys.stdout)  # flushing it would fail again
            raise DMRError(f"the predictions cannot be written: {error.strerror}") from error
