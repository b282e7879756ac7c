"""Make steps of a network in a process of its own, and say what they consisted of.

    python -m dmr_gluon.bench.profile_worker train NETWORK --batch 64

Started with the variables ``WATCHING``, oneDNN writes a line for each of its primitives, and MXNet
runs its operators one by one, so that its profiler can tell them apart; without them a step takes
the time that it takes.
:mod:`dmr_gluon.bench.worker` says what a step is. ``{"ready": true}`` comes after a few steps.
Commands and answers are as :class:`dmr_gluon.system.worker_process.Process` has them:

``{"do": "step"}``: the answer has its ``seconds``; with ``WATCHING`` also the ``log`` that
oneDNN has written, and ``operators``, the milliseconds of each by its name
"""

import json
import os
import shutil
import sys
import tempfile
import time

#: They must be there before MXNet is loaded.
WATCHING = {
    "DNNL_VERBOSE": "1",
    "MKLDNN_VERBOSE": "1",
    "MXNET_EXEC_BULK_EXEC_TRAIN": "0",
    "MXNET_EXEC_BULK_EXEC_INFERENCE": "0",
}

#: The first steps choose kernels and lay out memory.
_WARM_UP = 3

#: What copies images from NumPy; the profiler has it among the calls, not the operators.
_COPY_IN = "MXNDArraySyncCopyFromCPU"


def operators_of(profile):
    """Milliseconds by operator, from the text of MXNet's profiler.

    Parameters
    ----------
    profile : str
        ``mx.profiler.dumps(format="json")``.

    Returns
    -------
    dict of float
    """
    times = json.loads(profile)["Time"]
    found = {name: entry["Total"] for name, entry in times.get("operator", {}).items()}
    if _COPY_IN in times.get("MXNET_C_API", {}):
        found[_COPY_IN] = times["MXNET_C_API"][_COPY_IN]["Total"]
    return found


class _Log:
    """What libraries print from now on, in a file; :meth:`new` is what came since the last time."""

    def __init__(self):
        self._file = tempfile.TemporaryFile("w+")  # noqa: SIM115
        os.dup2(self._file.fileno(), 1)

    def new(self):
        # oneDNN flushes after each line.
        self._file.seek(0)
        text = self._file.read()
        self._file.seek(0)
        self._file.truncate()
        return text


def main(arguments=None):
    answers = os.fdopen(os.dup(1), "w")
    log = _Log()
    options = _parser().parse_args(arguments)

    from ..runtime import mx
    from .worker import make_run

    run, batch = make_run(options.kind, options.network, [mx.cpu()])
    made = batch(options.batch)

    def step():
        began = time.perf_counter()
        run(*made)
        mx.nd.waitall()
        return time.perf_counter() - began

    def answer(values):
        answers.write(json.dumps(values) + "\n")
        answers.flush()

    for _ in range(_WARM_UP):
        step()
    log.new()
    watched = all(os.environ.get(name) == value for name, value in WATCHING.items())
    if watched:
        # MXNet removes and rewrites this file: never a device such as os.devnull, which is
        # lost to the whole machine if the user may remove it.
        folder = tempfile.mkdtemp(prefix="dmr-profile-")
        mx.profiler.set_config(
            profile_symbolic=True, profile_imperative=True, profile_api=True,
            aggregate_stats=True, filename=os.path.join(folder, "profile.json"),
        )  # fmt: skip
    answer({"ready": True})
    for _ in sys.stdin:
        if not watched:
            answer({"seconds": step()})
            continue
        mx.profiler.set_state("run")
        found = {"seconds": step()}
        mx.profiler.set_state("stop")
        found["operators"] = operators_of(mx.profiler.dumps(reset=True, format="json"))
        answer({**found, "log": log.new()})
    if watched:
        shutil.rmtree(folder, ignore_errors=True)
    # At the usual end MXNet's profiler writes its file, and MXNet now and then never ends.
    os._exit(0)


def _parser():
    from ..cli.program import Parser

    parser = Parser(prog="dmr_gluon.bench.profile_worker", description=__doc__.splitlines()[0])
    parser.add_argument("kind", choices=("train", "infer"))
    parser.add_argument("network", help="a name, such as cifar_dmrnet56")
    parser.add_argument("--batch", type=int, required=True)
    return parser


if __name__ == "__main__":
    from ..cli.program import run as run_program

    run_program(main)
