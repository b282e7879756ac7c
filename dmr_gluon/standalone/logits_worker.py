"""Run one variant of a network in a process that imports only what the variant needs.

    python logits_worker.py mxnet SYMBOL PARAMS      imports MXNet and NumPy
    python logits_worker.py onnxruntime FILE         imports onnxruntime and NumPy

It reads commands from stdin, one line of JSON each, and writes answers to stdout:

``{"do": "logits", "shape": [...]}`` and the images as float32: answers a shape and float32 logits
``{"do": "time", "batch": N, "seconds": S}``: answers the ``seconds`` of each run on N of the last
    images

:class:`dmr_gluon.deploy.parity.Worker` is the client. Nothing of dmr_gluon is imported here.
"""

import json
import os
import sys
import time
import warnings

import numpy as np


def portion(count, side):
    """Return how many images of a batch to compute at a time, for activations to fit CPU caches.

    All portions are equal, as MXNet reallocates its memory for another number. If they would be
    small, the whole batch is one portion.

    Parameters
    ----------
    count : int
        Number of images.
    side : int
        Their height in pixels.
    """
    most = 32 if side <= 64 else 16
    equal = max(n for n in range(1, most + 1) if count % n == 0)
    return equal if 2 * equal > most else count


def in_portions(net, images, to_array):
    """Compute the logits (n, classes) of a batch (n, ...) in portions.

    Parameters
    ----------
    net : function
        Maps an NDArray to an NDArray.
    images : numpy.ndarray
    to_array : function
        Makes an NDArray of a NumPy array.
    """
    step = portion(len(images), images.shape[2])
    starts = range(0, max(1, len(images)), step)
    found = [net(to_array(images[start : start + step])) for start in starts]
    return np.concatenate([logits.asnumpy() for logits in found])


def load_mxnet(symbol, params):
    """Return a function from an array of images to logits."""
    # MXNet 1.9.1 needs these names, which NumPy 1.24 removed.
    for name, value in {"bool": bool, "int": int, "float": float, "object": object}.items():
        if name not in vars(np):
            setattr(np, name, value)
    import mxnet as mx

    warnings.simplefilter("ignore", UserWarning)  # the file does not say the input's type
    net = mx.gluon.SymbolBlock.imports(symbol, ["data"], params)
    net.hybridize(static_alloc=True, static_shape=True)
    return lambda images: in_portions(net, images, mx.nd.array)


def load_onnxruntime(path):
    """Return a function from an array of images to logits."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = int(os.environ.get("OMP_NUM_THREADS", "0"))
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda images: session.run(None, {"data": images})[0]


def main():
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # libraries must not print between the answers
    commands = sys.stdin.buffer
    kind, *files = sys.argv[1:]
    run = {"mxnet": load_mxnet, "onnxruntime": load_onnxruntime}[kind](*files)
    _answer(answers, {"ready": True})
    images = None
    for line in commands:
        command = json.loads(line)
        if command["do"] == "logits":
            shape = command["shape"]
            content = commands.read(4 * int(np.prod(shape)))
            images = np.frombuffer(content, np.float32).reshape(shape)
            logits = np.ascontiguousarray(run(images), np.float32)
            _answer(answers, {"shape": logits.shape}, logits.tobytes())
        else:
            batch = np.resize(images, (command["batch"], *images.shape[1:]))
            _answer(answers, {"seconds": timed(run, batch, command["seconds"])})


def timed(run, batch, seconds):
    """Return the seconds of each run, as many as fit but at least one."""
    run(batch)
    found, end = [], time.perf_counter() + seconds
    while not found or time.perf_counter() < end:
        began = time.perf_counter()
        run(batch)
        found.append(time.perf_counter() - began)
    return found


def _answer(stream, values, content=b""):
    stream.write((json.dumps(values) + "\n").encode() + content)
    stream.flush()


if __name__ == "__main__":
    main()
