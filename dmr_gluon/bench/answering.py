"""Answers of a timed program to :class:`.worker_process.Process`: lines of JSON.

First it runs once, and says ``{"ready": true, "seconds_to_first": S}``, counted from
``time.time()`` in DMR_BENCH_BEGAN, which the starter sets. Then:

``{"do": "time", "batch": N, "seconds": S}``: the answer has the ``seconds`` of each run on N images
``{"do": "memory"}``: the answer has ``peak_bytes`` of the process's memory until now

Needs no MXNet: peers' programs use it too.
"""

import json
import os
import sys
import time

from ..standalone.logits_worker import timed

#: When this was imported, for a process that was started without DMR_BENCH_BEGAN.
_IMPORTED = time.time()

BEGAN = "DMR_BENCH_BEGAN"


def peak_bytes():
    """The most memory that this process has had.

    Not ``ru_maxrss``: that also counts what the process that started this one had.
    """
    with open("/proc/self/status") as file:
        (line,) = (line for line in file if line.startswith("VmHWM:"))
    return 1024 * int(line.split()[1])


def redirected():
    """Where answers go; what libraries print must not stand between them."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    return answers


def serve(answers, run, batch, sizes, others=None, settle=lambda: None, memory=dict):
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
    others : dict of function, optional
        For other commands, by ``do``: from the arrays in the .npz that the command names as
        ``given`` to a dict of arrays, written into the one that it names as ``to``.
    settle : function
        Waits for what a run has left to do, before it would run on into another's turn.
    memory : function
        To a dict of what is to be said of memory beside the peak.
    """
    ready = None
    for size in sizes:
        run(*batch(size))
        settle()
        ready = ready or time.time() - float(os.environ.get(BEGAN, _IMPORTED))
    _write(answers, {"ready": True, "seconds_to_first": ready})
    for line in sys.stdin:
        command = json.loads(line)
        if command["do"] == "time":
            made = batch(command["batch"])
            found = {"seconds": timed(lambda pair: run(*pair), made, command["seconds"])}
        elif command["do"] == "memory":
            found = {"peak_bytes": peak_bytes(), **memory()}
        else:
            import numpy as np

            with np.load(command["given"]) as given:
                arrays = others[command["do"]](**given)
            np.savez(command["to"], **arrays)
            found = {}
        settle()
        _write(answers, found)


def _write(answers, values):
    answers.write(json.dumps(values) + "\n")
    answers.flush()
