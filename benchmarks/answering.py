"""Answer the commands of a benchmark in a timed process. Needs no MXNet: peers use it too.

The process runs once on a batch of each size, then prints ``{"ready": true,
"seconds_to_first": S}``, with S counted from ``time.time()`` in DMR_BENCH_BEGAN. Each command is a
line of JSON:

``{"do": "time", "batch": N, "seconds": S}``: answer the ``seconds`` of each run on N images
``{"do": "memory"}``: answer the ``peak_bytes`` of the process
``{"do": NAME, "given": FILE.npz, "to": FILE.npz}``: call another function, arrays to arrays
"""

import json
import os
import re
import sys
import time

import numpy as np

from dmr_gluon.models.complexity import image_size
from dmr_gluon.models.names import get_spec
from dmr_gluon.standalone.logits_worker import timed

#: The import time of this module, for a process that was started without DMR_BENCH_BEGAN.
_IMPORTED = time.time()

BEGAN = "DMR_BENCH_BEGAN"

_NAME = re.compile(
    r"(?:(stage\d+_block\d+)_)?(\w+?)_(weight|bias|gamma|beta|running_mean|running_var)"
)


def twin_name(name):
    """Return the name of one of our parameters in the ``state_dict`` of PyTorch's twin.

    ``stage2_block1_branch1_bn1_gamma`` becomes ``stage2_block1.branch1.bn1.weight``.
    """
    block, place, kind = _NAME.fullmatch(name).groups()
    kind = {"gamma": "weight", "beta": "bias"}.get(kind, kind)
    return ".".join(filter(None, (block, *place.split("_"), kind)))


def batch_of(name, count):
    """Return random images and labels for a network, always the same."""
    spec = get_spec(name)
    size = image_size(spec)
    random = np.random.RandomState(0)
    images = random.standard_normal((count, 3, size, size)).astype(np.float32)
    return images, random.randint(0, spec.classes, count)


def weights_from(path):
    """Read arrays by our parameters' names."""
    with np.load(path) as arrays:
        return {name: arrays[name] for name in arrays.files}


def peak_bytes(pid="self"):
    """Return the peak memory of a process.

    ``ru_maxrss`` would include the peak of the process that started this one.
    """
    with open(f"/proc/{pid}/status") as file:
        return 1024 * int(re.search(r"VmHWM:\s+(\d+)", file.read())[1])


def redirected():
    """Return the stream for answers, and redirect the output of libraries to stderr."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    return answers


def serve(answers, run, batch, sizes, others=None, settle=lambda: None):
    """Run once on a batch of each size, report readiness, and answer until the input ends.

    Parameters
    ----------
    answers : file
        The result of :func:`redirected`.
    run : function
        The timed function, called with the images and labels of a batch.
    batch : function
        Makes a batch of a number of images.
    sizes : list of int
    others : dict of function, optional
        Further commands by name, from keyword arrays to a dict of arrays.
    settle : function
        Waits for asynchronous work, which would otherwise run on into another process's turn.
    """
    ready = None
    for size in sizes:
        run(*batch(size))
        settle()
        ready = ready or time.time() - float(os.environ.get(BEGAN, _IMPORTED))
    _write(answers, {"ready": True, "seconds_to_first": ready})
    for line in sys.stdin:
        asked = json.loads(line)
        if asked["do"] == "time":
            made = batch(asked["batch"])
            found = {"seconds": timed(lambda pair: run(*pair), made, asked["seconds"])}
        elif asked["do"] == "memory":
            found = {"peak_bytes": peak_bytes()}
        else:
            np.savez(asked["to"], **others[asked["do"]](**weights_from(asked["given"])))
            found = {}
        settle()
        _write(answers, found)


def _write(answers, values):
    answers.write(json.dumps(values) + "\n")
    answers.flush()
