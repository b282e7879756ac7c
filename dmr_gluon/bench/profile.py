"""Where the time of a training step goes, or of inference, on CPUs.

Three sources, each for what it knows best. oneDNN writes a line for each of its primitives, with
its shape and time: convolutions, BN, ReLU, additions, FC, layout reorders. MXNet's profiler has
the time of its operators: of those that are not oneDNN's, and, of those that are, what they take
around their primitives. What is left of a step's time, measured in another process where nothing
is watched, lies between the operators: MXNet's engine and Python.
"""

import contextlib
import re
import statistics
from collections import Counter
from dataclasses import dataclass
from typing import Dict, Tuple

from tqdm import tqdm

from ..errors import DMRError
from ..system.program import command
from ..system.worker_process import Process
from .profile_worker import WATCHING

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


def measure_profile(kind, name, batch, rounds):
    """Profile a network on this machine's CPU.

    Parameters
    ----------
    kind : str
        ``train`` or ``infer``.
    name : str
        The network's.
    batch : int
    rounds : int
        Steps that are watched, and that are not; they take turns.

    Returns
    -------
    Profile

    Raises
    ------
    DMRError
        Where oneDNN writes nothing.
    """
    program = command("dmr_gluon.bench.profile_worker", kind, name, "--batch", str(batch))
    seconds, watched = [], []
    with contextlib.ExitStack() as stack:

        def start(environment=None):
            process = Process(f"{name} ({kind})", program, environment)
            stack.callback(process.close)
            process.wait()
            return process

        # One after the other: two that compute at a time spoil each other's first steps.
        plain, watching = start(), start(WATCHING)
        for _ in tqdm(range(rounds), "profile", unit=" steps", disable=None, leave=False):
            for process, found in ((plain, seconds), (watching, watched)):
                process.ask({"do": "step"})  # wakes up the threads
                found.append(process.ask({"do": "step"}))
    logs = [parse_log(answer["log"]) for answer in watched]
    if not all(logs):
        raise DMRError(
            "oneDNN writes no log here, so that a profile of this MXNet cannot be made; "
            "the wheel of MXNet 1.9.1 for x86 writes one"
        )
    operators = [answer["operators"] for answer in watched]
    return combine([answer["seconds"] for answer in seconds], logs, operators)


def shares_of_peak(convolutions, peak):
    """Of each its arithmetic by what the processor could do in its time.

    Parameters
    ----------
    convolutions : sequence of Convolutions
    peak : Peak
    """
    return [one.gigaflops * 1e9 / (2 * peak.multiply_adds) for one in convolutions]
