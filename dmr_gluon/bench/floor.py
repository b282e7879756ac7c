"""The time below which no implementation gets: all multiply-adds at the processor's peak.

    python -m dmr_gluon.bench.floor [--gpu N]

measures that peak, in float32 on all threads, in a process of its own. It answers as
:class:`.worker_process.Process` has it: ``{"peak": multiply-adds per second, "by": "..."}``.
"""

import json
import time
from dataclasses import dataclass

from ..system.program import command
from ..system.worker_process import Process

#: What is tried, and how often at least; the fastest run of all counts.
_SIDES = (2048, 4096)
_CHANNELS = (128, 256)
_BATCH, _PIXELS, _LAYERS = 64, 16, 4
_RUNS, _SECONDS = 3, 1.0


@dataclass(frozen=True)
class Peak:
    """What a processor can do at most.

    Attributes
    ----------
    multiply_adds : float
        For each second, in float32.
    by : str
        What it was measured with.
    """

    multiply_adds: float
    by: str

    def share(self, multiply_adds, images_per_second):
        """Time that an image's multiply-adds take at the peak, by the time that it takes."""
        return multiply_adds * images_per_second / self.multiply_adds


def training_multiply_adds(complexity):
    """Of one image in a training step.

    Forwards, and backwards once for each layer's weights and once for its input; only the
    images need no gradient.

    Parameters
    ----------
    complexity : Complexity

    Returns
    -------
    int
    """
    first = next(layer for layer in complexity.layers if layer.multiply_adds)
    return 3 * complexity.multiply_adds - first.multiply_adds


def measured_peak(gpu=None):
    """Measure it; takes some seconds.

    Parameters
    ----------
    gpu : str, optional
        A GPU's number; without it, the CPU.

    Returns
    -------
    Peak
    """
    program = command("dmr_gluon.bench.floor", *(("--gpu", gpu) if gpu else ()))
    process = Process("the measurement of the peak", program)
    try:
        found = process.wait()
    finally:
        process.close()
    return Peak(found["peak"], found["by"])


def _products(device, mx):
    """What is tried: its name, its multiply-adds, and a function that runs it."""
    for side in _SIDES:
        a, b = (mx.nd.random.normal(shape=(side, side), ctx=device) for _ in range(2))
        name = f"a product of {side}x{side} matrices"
        yield name, side**3, lambda a=a, b=b: mx.nd.dot(a, b)
    for channels in _CHANNELS:
        # Several in a row, so that bringing the input into oneDNN's layout counts for little.
        net = mx.gluon.nn.HybridSequential()
        for _ in range(_LAYERS):
            net.add(
                mx.gluon.nn.Conv2D(channels, 3, padding=1, use_bias=False, in_channels=channels)
            )
        net.initialize(mx.init.Xavier(), ctx=device)
        net.hybridize(static_alloc=True, static_shape=True)
        x = mx.nd.random.normal(shape=(_BATCH, channels, _PIXELS, _PIXELS), ctx=device)
        name = f"{_LAYERS} 3x3 convolutions of {channels} channels, batch {_BATCH}"
        count = _LAYERS * _BATCH * _PIXELS**2 * 9 * channels**2
        yield name, count, lambda net=net, x=x: net(x)


def _measure(device, mx):
    best = Peak(0.0, "")
    for name, count, run in _products(device, mx):
        run().wait_to_read()
        runs, end = 0, time.perf_counter() + _SECONDS
        while runs < _RUNS or time.perf_counter() < end:
            began = time.perf_counter()
            run().wait_to_read()
            rate = count / (time.perf_counter() - began)
            best = max(best, Peak(rate, name), key=lambda peak: peak.multiply_adds)
            runs += 1
    return best


def _main():
    from ..cli.program import Parser
    from ..devices import make_devices
    from ..runtime import mx
    from .answering import redirected

    parser = Parser(prog="dmr_gluon.bench.floor", description=__doc__.splitlines()[0])
    parser.add_argument("--gpu", metavar="N", help="without it, the CPU")
    answers = redirected()
    (device,) = make_devices(parser.parse_args().gpu)
    best = _measure(device, mx)
    print(json.dumps({"peak": best.multiply_adds, "by": best.by}), file=answers, flush=True)


if __name__ == "__main__":
    from ..cli.program import run

    run(_main)
