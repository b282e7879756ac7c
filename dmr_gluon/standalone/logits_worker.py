"""Run one form of a network in a process that imports only what the form needs.

    python logits_worker.py mxnet SYMBOL PARAMS      imports MXNet and NumPy
    python logits_worker.py onnxruntime FILE         imports onnxruntime and NumPy

Commands come on the standard input, a line of JSON each, and answers go to the standard output:

``{"do": "logits", "shape": [...]}`` and as many float32: the answer is a shape, then its float32
``{"do": "time", "batch": N, "seconds": S}``: the answer has the ``seconds`` of each run on N of the
    images that came last

:class:`dmr_gluon.deploy.parity.Worker` is the other side. Nothing of dmr_gluon is imported here.
"""

import json
import os
import sys
import time
import warnings

if sys.path and os.path.abspath(sys.path[0]) == os.path.dirname(os.path.abspath(__file__)):
    del sys.path[0]  # the modules beside this one are not for it

import numpy as np  # noqa: E402

_MOST_RUNS = 5000


def portion(count, side):
    """How many images of a batch are computed at a time on CPUs, where activations stay in caches.

    All portions are equal: MXNet lays out its memory anew for another number. Where that would
    make them small, the whole batch is one.

    Parameters
    ----------
    count : int
        Images.
    side : int
        Pixels.
    """
    most = 32 if side <= 64 else 16
    equal = max(n for n in range(1, most + 1) if count % n == 0)
    return equal if 2 * equal > most else count


def in_portions(net, images, to_array):
    """Logits of a batch, (n, ...) NumPy array to (n, classes), computed in portions.

    Parameters
    ----------
    net : function
        From an NDArray to an NDArray.
    images : numpy.ndarray
    to_array : function
        From a NumPy array to an NDArray.
    """
    step = portion(len(images), images.shape[2])
    starts = range(0, max(1, len(images)), step)
    found = [net(to_array(images[start : start + step])) for start in starts]
    return np.concatenate([logits.asnumpy() for logits in found])


def load_mxnet(symbol, params):
    """A function from an array of images to logits."""
    # MXNet 1.9.1 needs these names, which NumPy 1.24 removed.
    for name, value in {"bool": bool, "int": int, "float": float, "object": object}.items():
        if name not in vars(np):
            setattr(np, name, value)
    import mxnet as mx

    warnings.simplefilter("ignore", UserWarning)  # that the input's type is not in the file
    net = mx.gluon.SymbolBlock.imports(symbol, ["data"], params)
    net.hybridize(static_alloc=True, static_shape=True)
    return lambda images: in_portions(net, images, mx.nd.array)


def load_onnxruntime(path):
    """A function from an array of images to logits."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = int(os.environ.get("OMP_NUM_THREADS", "0"))
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda images: session.run(None, {"data": images})[0]


def main():
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print must not stand between the answers
    commands = sys.stdin.buffer
    kind, *files = sys.argv[1:]
    run = {"mxnet": load_mxnet, "onnxruntime": load_onnxruntime}[kind](*files)
    _answer(answers, {"ready": True})
    images = None
    for line in commands:
        command = json.loads(line)
        if command["do"] == "logits":
            images = _read(commands, command["shape"])
            logits = np.ascontiguousarray(run(images), np.float32)
            _answer(answers, {"shape": logits.shape}, logits.tobytes())
        else:
            batch = np.resize(images, (command["batch"], *images.shape[1:]))
            _answer(answers, {"seconds": timed(run, batch, command["seconds"])})


def timed(run, batch, seconds):
    """Seconds of each of as many runs as fit; of one at least."""
    run(batch)
    found, end = [], time.perf_counter() + seconds
    while not found or (time.perf_counter() < end and len(found) < _MOST_RUNS):
        began = time.perf_counter()
        run(batch)
        found.append(time.perf_counter() - began)
    return found


def _read(stream, shape):
    content = stream.read(4 * int(np.prod(shape)))
    return np.frombuffer(content, np.float32).reshape(shape)


def _answer(stream, values, content=b""):
    stream.write((json.dumps(values) + "\n").encode() + content)
    stream.flush()


if __name__ == "__main__":
    main()
