"""What the programs that are compared with ours have in common: how they answer.

The protocol is that of :mod:`dmr_gluon.bench.worker`; arrays go through .npz files, whose names
are in the commands as ``given`` and ``to``:

``{"do": "time", "batch": N, "seconds": S}``, ``{"do": "memory"}``: as there
``{"do": "logits"}``: from ``images`` (n, 3, height, width) to ``logits``, in the form that is timed
``{"do": "step"}``: the weights as they were loaded, then one training step on ``images`` and
    ``labels``; the answer has its ``loss``
"""

import json
import os
import sys
import time

import numpy as np

from dmr_gluon.bench.worker import BEGAN, peak_bytes
from dmr_gluon.deploy.worker import timed
from dmr_gluon.networks import network

_IMPORTED = time.time()


def batch_of(name, count, size=None):
    """Random images and labels, as :mod:`dmr_gluon.bench.worker` has them."""
    spec = network(name)
    size = size or (32 if spec.stem == "cifar" else 224)
    random = np.random.RandomState(0)
    images = random.standard_normal((count, 3, size, size)).astype(np.float32)
    return images, random.randint(0, spec.classes, count)


def weights_from(path):
    """Arrays by our parameters' names."""
    with np.load(path) as arrays:
        return {name: arrays[name] for name in arrays.files}


def redirected():
    """Where answers go; what libraries print must not stand between them."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    return answers


def serve(answers, run, batch, sizes, others, settle=lambda: None):
    """Run once on a batch of each size, say so, and answer until the input ends.

    Parameters
    ----------
    answers : file
        Of :func:`redirected`.
    run : function
        Of what ``batch`` gives: what is timed.
    batch : function
        Of a number of images.
    sizes : list of int
    others : dict of function
        For other commands, by ``do``: from the arrays given to a dict of arrays.
    settle : function
        Waits for what a run has left to do, before it would run on into another's turn.
    """
    ready = None
    for size in sizes:
        run(*batch(size))
        ready = ready or time.time() - float(os.environ.get(BEGAN, _IMPORTED))
    _write(answers, {"ready": True, "seconds_to_first": ready})
    for line in sys.stdin:
        command = json.loads(line)
        if command["do"] == "time":
            made = batch(command["batch"])
            found = {"seconds": timed(lambda pair: run(*pair), made, command["seconds"])}
        elif command["do"] == "memory":
            found = {"peak_bytes": peak_bytes()}
        else:
            with np.load(command["given"]) as given:
                arrays = others[command["do"]](**given)
            np.savez(command["to"], **arrays)
            found = {}
        settle()
        _write(answers, found)


def _write(answers, values):
    answers.write(json.dumps(values) + "\n")
    answers.flush()
