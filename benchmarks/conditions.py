"""What a measurement ran on: the machine, its load, and the peak of its arithmetic.

    python benchmarks/conditions.py [--gpu N]

measures that peak in float32 on all threads, and prints it as a line of JSON.
"""

import itertools
import json
import os
import platform
import sys
import time
from dataclasses import dataclass

from dmr_gluon.cli.program import Parser, run
from dmr_gluon.errors import DMRError
from dmr_gluon.system.machine import processor, usable_cores
from dmr_gluon.system.worker_process import Process
from dmr_gluon.version import __version__

#: A load per core above which a measurement is too low.
_MOST_LOAD = 0.5
#: What is tried for the peak, and for how long; the fastest run counts.
_SIDES, _CHANNELS = (2048, 4096), (128, 256)
_BATCH, _PIXELS, _LAYERS = 64, 16, 4
_RUNS, _SECONDS = 3, 1.0


def machine():
    """Describe this machine, its software and its load as a dict for JSON."""
    import cv2
    import numpy

    from dmr_gluon.runtime import mx

    versions = {"dmr_gluon": __version__, "Python": platform.python_version()}
    versions.update(MXNet=mx.__version__, OpenCV=cv2.__version__, NumPy=numpy.__version__)
    return {
        "processor": processor(),
        "cores": usable_cores(),
        "threads": os.environ["OMP_NUM_THREADS"],
        "load": os.getloadavg()[0],
        "versions": versions,
    }


def describe(found):
    """Return the result of :func:`machine` in lines, with a warning if the load is high."""
    versions = ", ".join(f"{name} {version}" for name, version in found["versions"].items())
    lines = [
        f"{found['cores']} cores ({found['processor']}), {found['threads']} threads, "
        f"load {found['load']:.1f} before",
        versions,
    ]
    if found["load"] > _MOST_LOAD * found["cores"]:
        lines.append("note: something else is running; the numbers will be low")
    return lines


def check_writable(path):
    """Refuse a file that cannot be written, before a measurement costs time."""
    folder = os.path.dirname(path or "") or "."
    if path and (os.path.isdir(path) or not os.access(folder, os.W_OK)):
        raise DMRError(f"{path} cannot be written; name a file in an existing folder")


def print_conditions():
    print("\n".join("- " + line for line in describe(machine())) + "\n", flush=True)


@dataclass(frozen=True)
class Peak:
    """The most float32 multiply-adds per second that a processor reached, and in what."""

    multiply_adds: float
    by: str

    def share(self, multiply_adds, images_per_second):
        """Return the share of the peak that images of so many multiply-adds reach."""
        return multiply_adds * images_per_second / self.multiply_adds


def training_multiply_adds(complexity):
    """Count the multiply-adds of a training step for one image.

    A convolution is computed once forwards and twice backwards, for its weights and for its input;
    only the images need no gradient.
    """
    first = next(layer for layer in complexity.layers if layer.multiply_adds)
    return 3 * complexity.multiply_adds - first.multiply_adds


def measured_peak(gpu=None):
    """Measure the peak of the CPU, or of a GPU, in a process of its own; takes some seconds."""
    command = [sys.executable, os.path.abspath(__file__), *(("--gpu", gpu) if gpu else ())]
    process = Process("the measurement of the peak", command)
    try:
        return Peak(**process.wait())
    finally:
        process.close()


def _products(device, mx):
    """Yield a name, a number of multiply-adds, and a function that computes them."""
    for side in _SIDES:
        a, b = (mx.nd.random.normal(shape=(side, side), ctx=device) for _ in range(2))
        name = f"a product of {side}x{side} matrices"
        yield name, side**3, lambda a=a, b=b: mx.nd.dot(a, b)
    for channels in _CHANNELS:
        # Several in a row, so that the conversion of the input to oneDNN's layout matters little.
        net = mx.gluon.nn.HybridSequential()
        for _ in range(_LAYERS):
            net.add(
                mx.gluon.nn.Conv2D(channels, 3, padding=1, use_bias=False, in_channels=channels)
            )
        net.initialize(mx.init.Xavier(), ctx=device)
        net.hybridize(static_alloc=True, static_shape=True)
        x = mx.nd.random.normal(shape=(_BATCH, channels, _PIXELS, _PIXELS), ctx=device)
        name = f"{_LAYERS} 3x3 convolutions of {channels} channels, batch {_BATCH}"
        yield name, _LAYERS * _BATCH * _PIXELS**2 * 9 * channels**2, lambda net=net, x=x: net(x)


def random_bundle(name, folder, options):
    """Export a network with random weights to ``folder/NAME``, and return that folder."""
    import numpy as np

    from dmr_gluon.data.preprocessing import MadeImages, Preparation
    from dmr_gluon.deploy.bundle_writer import write_bundle
    from dmr_gluon.models.complexity import image_size
    from dmr_gluon.models.names import get_spec
    from dmr_gluon.models.network import Network
    from dmr_gluon.paper.dataset_facts import PUBLISHED
    from dmr_gluon.runtime import mx

    net = Network(get_spec(name))
    net.initialize()
    net.hybridize()
    size = image_size(net.spec)
    facts = PUBLISHED["cifar10" if size == 32 else "imagenet"]
    preparation = Preparation(size, facts.mean, facts.std)
    images = MadeImages(preparation, options.check_images)
    # Random weights have no training images; INT8 may lose what it likes.
    images.calibration = lambda count: np.concatenate([data for data, _ in images.batches()])
    # Training passes give BN its running statistics; in small portions, because of their memory.
    for data, _ in itertools.islice(images.batches(), 8):
        for begin in range(0, len(data), 4):
            with mx.autograd.record():
                net(mx.nd.array(data[begin : begin + 4])).backward()
            mx.nd.waitall()
    classes = [str(label) for label in range(net.spec.classes)]
    path = os.path.join(folder, name)
    write_bundle(net, path, preparation, options, images, epochs=0, classes=classes)
    return path


def main():
    from answering import redirected

    parser = Parser(description=__doc__.splitlines()[0])
    parser.add_argument("--gpu", metavar="N", help="default: the CPU")
    answers = redirected()
    options = parser.parse_args()

    from dmr_gluon.devices import make_devices
    from dmr_gluon.runtime import mx

    (device,) = make_devices(options.gpu)
    best = Peak(0.0, "")
    for name, count, compute in _products(device, mx):
        compute().wait_to_read()
        runs, end = 0, time.perf_counter() + _SECONDS
        while runs < _RUNS or time.perf_counter() < end:
            began = time.perf_counter()
            compute().wait_to_read()
            rate = count / (time.perf_counter() - began)
            best = max(best, Peak(rate, name), key=lambda peak: peak.multiply_adds)
            runs += 1
    print(json.dumps(vars(best)), file=answers, flush=True)


if __name__ == "__main__":
    run(main)
