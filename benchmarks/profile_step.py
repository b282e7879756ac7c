"""Show where the time of a training step, or of inference, goes on CPUs.

    python benchmarks/profile_step.py cifar_dmrnet56
    python benchmarks/profile_step.py cifar_dmrnet56 --infer

Two processes take turns. In one, nothing is observed: its median is the whole step. In the other,
oneDNN logs each of its primitives (DNNL_VERBOSE), and MXNet's profiler times its operators, which
run one by one there. The rest of the step is spent between operators: in MXNet's engine and Python.
docs/performance.md says which part of the table comes from which source.
"""

import contextlib
import json
import os
import re
import shutil
import statistics
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from typing import Dict, Tuple

from answering import batch_of
from conditions import measured_peak, print_conditions
from ours import make_run
from tqdm import tqdm

from dmr_gluon.cli.program import Parser, run
from dmr_gluon.errors import DMRError
from dmr_gluon.models.complexity import image_size
from dmr_gluon.models.names import get_spec
from dmr_gluon.system.text_tables import text_table
from dmr_gluon.system.worker_process import Process

#: Variables of the observed process; they must be set before MXNet is loaded.
WATCHING = {
    "DNNL_VERBOSE": "1",
    "MKLDNN_VERBOSE": "1",
    "MXNET_EXEC_BULK_EXEC_TRAIN": "0",
    "MXNET_EXEC_BULK_EXEC_INFERENCE": "0",
}
#: The first steps choose kernels and lay out memory.
_WARM_UP = 3
#: The copy of images from NumPy; the profiler lists it with the calls, not with the operators.
_COPY_IN = "MXNDArraySyncCopyFromCPU"

DIVISION, POOLING, LOSS = "merge's division and factors", "pooling", "loss"
OPTIMISER, COPIES, OTHERS = "optimiser", "copies", "other operators"
AROUND, BETWEEN = "around oneDNN's primitives", "between operators"

#: By oneDNN's primitive and direction; None: any direction.
_OF_PRIMITIVE = {
    ("convolution", "forward"): "convolution, forward",
    ("convolution", "backward_data"): "convolution, gradient of inputs",
    ("convolution", "backward_weights"): "convolution, gradient of weights",
    ("batch_normalization", "forward"): "BN, forward",
    ("batch_normalization", "backward"): "BN, backward",
    ("eltwise", None): "ReLU",
    ("sum", None): "additions",
    ("binary", None): "additions",
    ("pooling", None): POOLING,
    ("inner_product", None): "fully connected",
    ("softmax", None): LOSS,
    ("logsoftmax", None): LOSS,
    ("reorder", None): "layout reorders",
}

#: The engine's own, which do not compute.
_ENGINE = ("WaitForVar", "DeleteVariable")

#: What MXNet's operators are for, in the networks and the loss of this package; without leading
#: underscores, and as their backward passes. Those AROUND are in oneDNN's log.
_OF_OPERATOR = {
    **dict.fromkeys(
        (
            *("Convolution", "FullyConnected", "BatchNorm", "contrib_BatchNormWithReLU"),
            *("Activation", "elemwise_add", "add_n", "log_softmax", "Reorder", "Concat"),
        ),
        AROUND,
    ),
    "full": DIVISION,
    "mul_scalar": DIVISION,
    "mean": POOLING,
    "Pooling": POOLING,
    "MXNDArraySyncCopyFromCPU": COPIES,
    "CopyCPU2CPU": COPIES,
    "copy": COPIES,
    **dict.fromkeys(
        (
            *("pick", "sum", "argmax", "not_equal", "negative", "SetValueOp"),
            *("zeros_without_dtype", "ones_like", "zeros_like"),
        ),
        LOSS,
    ),
    **dict.fromkeys(_ENGINE, BETWEEN),
}

#: oneDNN's own description of a convolution.
_SHAPE = re.compile(
    r"(?:g(?P<g>\d+))?mb(?P<mb>\d+)_ic(?P<ic>\d+)oc(?P<oc>\d+)"
    r"_ih(?P<ih>\d+)oh(?P<oh>\d+)kh(?P<kh>\d+)sh(?P<sh>\d+)\w*"
    r"_iw(?P<iw>\d+)ow(?P<ow>\d+)kw(?P<kw>\d+)"
)


@dataclass(frozen=True)
class Primitive:
    """A line of oneDNN's log.

    Parameters
    ----------
    name : str
        Such as ``convolution``.
    direction : str
        ``forward``, ``backward``, ``backward_data``, ``backward_weights`` or ``undef``.
    problem : str
        Its sizes as oneDNN writes them.
    milliseconds : float
    """

    name: str
    direction: str
    problem: str
    milliseconds: float

    @property
    def sizes(self):
        """Of a convolution: mb, g, ic, oc, ih, oh, kh, ... as numbers; else None."""
        match = _SHAPE.match(self.problem) if self.name == "convolution" else None
        if match is None:
            return None
        return {name: int(number or 1) for name, number in match.groupdict().items()}

    @property
    def kind(self):
        """What the table calls it."""
        sizes = self.sizes
        if sizes and sizes["kh"] == 1 and sizes["g"] == sizes["ic"] == sizes["oc"] > 1:
            return DIVISION  # a factor for each channel
        for direction in (self.direction, None):
            if (self.name, direction) in _OF_PRIMITIVE:
                return _OF_PRIMITIVE[self.name, direction]
        return OTHERS

    @property
    def multiply_adds(self):
        """Of a convolution; those of all directions are as many."""
        s = self.sizes
        return s["mb"] * s["oc"] * s["oh"] * s["ow"] * s["ic"] // s["g"] * s["kh"] * s["kw"]


@dataclass(frozen=True)
class Convolutions:
    """All of one shape and direction in a step.

    Parameters
    ----------
    what : str
        Such as ``convolution, forward``.
    shape : str
        Such as ``16 to 32, 3x3/2, 32x32``.
    count : int
    multiply_adds : int
        Of all together.
    milliseconds : float
        Of all together, the median.
    """

    what: str
    shape: str
    count: int
    multiply_adds: int
    milliseconds: float

    @property
    def gigaflops(self):
        """A second; a multiply-add is two operations."""
        return 2 * self.multiply_adds / self.milliseconds / 1e6


@dataclass(frozen=True)
class Profile:
    """Where a step's time goes; medians over steps, in milliseconds.

    Parameters
    ----------
    step : float
        A whole step where nothing is watched.
    parts : dict of float
        By kind, the longest first; their sum is ``step``. ``AROUND`` and ``BETWEEN`` are
        differences, which noise can make negative.
    convolutions : tuple of Convolutions
        The longest first.
    """

    step: float
    parts: Dict[str, float]
    convolutions: Tuple[Convolutions, ...]

    def share(self, kind):
        """Of a step, from 0 to 1."""
        return self.parts[kind] / self.step


def parse_log(text):
    """The primitives in what oneDNN has written.

    Parameters
    ----------
    text : str
        Other lines are skipped.

    Returns
    -------
    list of Primitive
    """
    found = []
    for line in text.splitlines():
        fields = line.split(",")
        if fields[0] not in ("dnnl_verbose", "mkldnn_verbose") or fields[1:2] != ["exec"]:
            continue
        direction = "forward" if fields[5].startswith("forward") else fields[5]
        found.append(Primitive(fields[3], direction, fields[-2], float(fields[-1])))
    return found


def kind_of_operator(name):
    """What an operator of MXNet is for, by its name in the profiler."""
    name = re.sub("^_(backward_)?", "", name)
    return OPTIMISER if name.endswith("_update") else _OF_OPERATOR.get(name, OTHERS)


def combine(seconds, logs, operators):
    """One profile from several steps.

    Parameters
    ----------
    seconds : list of float
        Of steps where nothing was watched.
    logs : list of list of Primitive
        Of other steps, the primitives.
    operators : list of dict of float
        Of the same other steps, the milliseconds by operator.

    Returns
    -------
    Profile
    """
    watched = []
    for log, step in zip(logs, operators):
        spent = _summed((one.kind, one.milliseconds) for one in log)
        logged = sum(spent.values())
        spent.update(_summed((kind_of_operator(name), value) for name, value in step.items()))
        spent[AROUND] -= logged
        watched.append(spent)
    parts = Counter(_medians(watched))
    step = 1000 * statistics.median(seconds)
    parts[BETWEEN] = 0.0
    parts[BETWEEN] = step - sum(parts.values())
    return Profile(step, dict(parts.most_common()), _convolutions(logs))


def _convolutions(logs):
    pairs = [(one.kind, one.problem) for one in logs[0] if one.sizes and one.kind != DIVISION]
    medians = _medians(
        [_summed(((one.kind, one.problem), one.milliseconds) for one in log) for log in logs]
    )
    found = []
    for (kind, problem), count in Counter(pairs).items():
        one = Primitive("convolution", "forward", problem, medians[kind, problem])
        work = count * one.multiply_adds
        found.append(Convolutions(kind, _describe(one.sizes), count, work, one.milliseconds))
    return tuple(sorted(found, key=lambda shape: -shape.milliseconds))


def _describe(sizes):
    stride = f"/{sizes['sh']}" if sizes["sh"] > 1 else ""
    groups = f" in {sizes['g']} groups" if sizes["g"] > 1 else ""
    return (
        f"{sizes['ic']} to {sizes['oc']}, {sizes['kh']}x{sizes['kw']}{stride}{groups}, "
        f"{sizes['ih']}x{sizes['iw']}"
    )


def _summed(pairs):
    total = Counter()
    for name, value in pairs:
        total[name] += value
    return total


def _medians(counters):
    names = {name for counter in counters for name in counter}
    return {name: statistics.median(counter[name] for counter in counters) for name in names}


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
    """Redirect the output of libraries to a file; :meth:`new` returns what was added."""

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


def measure_profile(kind, name, batch, rounds):
    """Profile a network on the CPU, from so many steps of each process.

    Returns
    -------
    Profile
    """
    command = [sys.executable, os.path.abspath(__file__), name, "--step", kind]
    command += ["--batch", str(batch)]
    seconds, watched = [], []
    with contextlib.ExitStack() as stack:

        def start(environment=None):
            process = Process(f"{name} ({kind})", command, environment)
            stack.callback(process.close)
            process.wait()
            return process

        # One after the other: two that start at a time slow each other down.
        plain, watching = start(), start(WATCHING)
        for _ in tqdm(range(rounds), "profile", unit=" steps", disable=None, leave=False):
            for process, found in ((plain, seconds), (watching, watched)):
                process.ask({"do": "step"})  # wakes up the threads
                found.append(process.ask({"do": "step"}))
    logs = [parse_log(answer["log"]) for answer in watched]
    if not all(logs):
        raise DMRError("oneDNN of this MXNet writes no log; use the wheel of MXNet 1.9.1 for x86")
    return combine([one["seconds"] for one in seconds], logs, [one["operators"] for one in watched])


def answer_steps(kind, name, batch):
    """Run a step for each line of input, and answer its seconds and what was observed."""
    answers = os.fdopen(os.dup(1), "w")
    log = _Log()

    from dmr_gluon.runtime import mx

    _, run_once = make_run(kind, name, [mx.cpu()])
    made = batch_of(name, batch)

    def step():
        began = time.perf_counter()
        run_once(*made)
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
        # MXNet removes and rewrites this file: never name a device such as os.devnull.
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
    # At a usual exit MXNet's profiler writes its file, and now and then MXNet hangs.
    os._exit(0)


def main():
    parser = Parser(description=__doc__.splitlines()[0])
    parser.add_argument("network", help="a name, such as cifar_dmrnet56")
    parser.add_argument("--infer", action="store_true", help="profile inference, not training")
    parser.add_argument("--batch", type=int, help="images (default: 64; of 224x224 pixels, 16)")
    parser.add_argument("--rounds", type=int, default=5, help="steps of each process (5)")
    parser.add_argument("--step", choices=("train", "infer"), help="used by the program itself")
    options = parser.parse_args()
    if options.rounds < 1 or (options.batch or 1) < 1:
        parser.error("--batch and --rounds must be above 0")
    spec = get_spec(options.network)
    batch = options.batch or (64 if image_size(spec) == 32 else 16)
    if options.step:
        answer_steps(options.step, spec.name, batch)
    print_conditions()
    peak = measured_peak()
    kind = "infer" if options.infer else "train"
    print_profile(
        f"{spec.name}, {'inference' if options.infer else 'training step'}, batch {batch}",
        measure_profile(kind, spec.name, batch, options.rounds),
        peak,
    )


def print_profile(title, found, peak):
    rows = [
        (part, f"{spent:.2f}", f"{100 * found.share(part):.1f}%")
        for part, spent in found.parts.items()
    ]
    rows.append(("whole step", f"{found.step:.2f}", "100.0%"))
    print(text_table((title, "ms", "share"), rows, (1, 2)))
    print(f"\npeak: {2 * peak.multiply_adds / 1e9:,.0f} GFLOP/s, by {peak.by}\n")
    rows = [
        (
            *(one.what.split(", ")[1], one.shape, one.count, f"{one.milliseconds:.2f}"),
            f"{one.gigaflops:,.0f}",
            f"{100 * one.gigaflops * 1e9 / (2 * peak.multiply_adds):.0f}%",
        )
        for one in found.convolutions
    ]
    header = ("convolution", "shape", "number", "ms", "GFLOP/s", "of the peak")
    print(text_table(header, rows, (2, 3, 4, 5)))
    print(
        f"\nMedians of steps. A multiply-add is two operations. The parts {AROUND!r} and "
        f"{BETWEEN!r} are differences, which noise can make negative."
    )


if __name__ == "__main__":
    run(main)
