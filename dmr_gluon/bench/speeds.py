"""Speed, memory and start of networks of this project on this machine."""

import contextlib
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Optional, Tuple

import numpy as np
from tqdm import tqdm

from ..deploy.bundle import read_bundle
from ..deploy.bundle_writer import ExportOptions
from ..deploy.onnx_model import require_onnx
from ..deploy.parity import workers
from ..deploy.variants import INT8, ONNX, PLAIN
from ..errors import DMRError
from ..models.complexity import complexity_of, image_size
from ..models.names import network
from ..system.program import command
from ..system.timing import measure as measure_in_turn
from ..system.worker_process import Process
from . import KINDS
from .answering import BEGAN
from .floor import training_multiply_adds
from .random_bundle import random_bundle

#: The name of a network as it is in the process that made it.
LIVE = "live"
#: Those of a bundle that are measured.
_FORMS = (PLAIN, "fused", "int8", ONNX)
#: How often a program is started for the median.
_STARTS, _FIRST_STEPS = 5, 3
_CHECK_IMAGES = 64


@dataclass(frozen=True)
class BenchOptions:
    """What is measured, and for how long.

    Parameters
    ----------
    batch : int, optional
        Images of a step, and of the larger of two batches in inference; default: 64, of
        224x224 images 16.
    rounds : int
        The processes take turns so often.
    seconds : float
        For each process, batch size and round; one run at least.
    only : tuple of str
        Of ``KINDS``.
    gpu : str, optional
        A GPU's number; without it, the CPU.
    """

    batch: Optional[int] = None
    rounds: int = 5
    seconds: float = 0.5
    only: Tuple[str, ...] = KINDS
    gpu: Optional[str] = None

    def __post_init__(self):
        for name in ("batch", "rounds"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise DMRError(f"--{name} must be at least 1, not {value}")
        if not 0 < self.seconds < float("inf"):
            raise DMRError(f"--seconds must be above 0, not {self.seconds:g}")

    def batch_for(self, spec):
        """Images at a time."""
        return self.batch or (64 if image_size(spec) == 32 else 16)


@dataclass(frozen=True)
class Measured:
    """The speed of one network in one form.

    Attributes
    ----------
    network : str
    work : str
        ``training`` or ``inference``.
    form : str
        What was run, such as ``live`` or ``int8``.
    batch : int
    images_per_second : float
        The median of the rounds.
    share : float or None
        Of the arithmetic floor: time that the multiply-adds would take at the peak, by the time
        taken. None where the peak is not that of the form's arithmetic.
    seconds : list of float
        Of a run: the median of each round.
    """

    network: str
    work: str
    form: str
    batch: int
    images_per_second: float
    share: Optional[float]
    seconds: list


def start(kind, name, batch, gpu=None):
    """A process of :mod:`.worker`, not waited for.

    Parameters
    ----------
    kind : str
        ``train`` or ``infer``.
    name : str
        The network's.
    batch : int
    gpu : str, optional

    Returns
    -------
    Process
    """
    program = command("dmr_gluon.bench.worker", kind, name, "--batch", str(batch))
    program += ["--gpu", gpu] if gpu is not None else []
    return Process(f"{name} ({kind})", program, {BEGAN: repr(time.time())})


def measure_network(name, options, peak):
    """Everything that is wanted of one network.

    Parameters
    ----------
    name : str
    options : BenchOptions
    peak : Peak or None
        None where no speed is measured.

    Returns
    -------
    list of Measured, dict
        The speeds; and of training ``network``, ``batch``, and as far as wanted
        ``seconds_to_first`` (of each start), ``peak_bytes``, ``start_bytes``.
    """
    spec = network(name)
    complexity = complexity_of(spec)
    speeds, step = [], {"network": name, "batch": options.batch_for(spec)}
    if set(options.only) & {"training", "start", "memory"}:
        speeds += _training(spec, options, step, peak, training_multiply_adds(complexity))
    if "inference" in options.only:
        speeds += _inference(spec, options, peak, complexity.multiply_adds)
    return speeds, step


def _training(spec, options, step, peak, multiply_adds):
    """Speeds of training; what else is wanted goes into ``step``."""
    batch, firsts, found = step["batch"], [], {}
    starts = _FIRST_STEPS if "start" in options.only else 1
    for number in tqdm(range(starts), "start", unit=" starts", disable=None, leave=False):
        process = start("train", spec.name, batch, options.gpu)
        with contextlib.closing(process):
            firsts.append(process.wait()["seconds_to_first"])
            if number < starts - 1:
                continue
            if "training" in options.only:
                found = measure_in_turn({LIVE: process}, (batch,), options.rounds, options.seconds)
            if "memory" in options.only:
                process.seconds(batch, 0)  # a second step: it has all memory that a run takes
                step.update(process.ask({"do": "memory"}))
    if "start" in options.only:
        step["seconds_to_first"] = firsts
    return _measured(spec.name, "training", found, peak, multiply_adds)


def _inference(spec, options, peak, multiply_adds):
    batch = options.batch_for(spec)
    sizes = tuple(sorted({1, batch}))
    size = image_size(spec)
    images = np.random.RandomState(0).standard_normal((batch, 3, size, size))
    with contextlib.ExitStack() as stack:
        running = {LIVE: start("infer", spec.name, batch, options.gpu)}
        stack.callback(running[LIVE].close)
        running[LIVE].wait()
        if options.gpu is None:
            folder = stack.enter_context(tempfile.TemporaryDirectory())
            forms = _bundle_forms(spec.name, folder)
            running.update(stack.enter_context(workers(forms)))
            for form in forms:
                running[form].logits(images)
        found = measure_in_turn(running, sizes, options.rounds, options.seconds)
    return _measured(spec.name, "inference", found, peak, multiply_adds)


def _bundle_forms(name, folder):
    """Runtime and files of each form that can be made here."""
    forms = set(_FORMS)
    try:
        require_onnx()
    except DMRError:
        forms.remove(ONNX)
    # With random weights INT8 may answer what it likes.
    options = ExportOptions(
        tuple(forms), check_images=_CHECK_IMAGES, calibration_images=_CHECK_IMAGES, int8_limit=100
    )
    path = random_bundle(name, folder, options)
    return {
        form: (entry["runtime"], [os.path.join(path, file) for file in entry["files"]])
        for form, entry in read_bundle(path)["forms"].items()
    }


def _measured(name, work, found, peak, multiply_adds):
    return [
        Measured(
            name,
            work,
            form,
            batch,
            rate,
            None if form in INT8 else peak.share(multiply_adds, rate),
            [statistics.median(turn) for turn in speed.seconds[batch]],
        )
        for form, speed in found.items()
        for batch, rate in speed.images_per_second.items()
    ]


def measure_start():
    """Seconds until ``import dmr_gluon`` and ``dmr --help`` are done, medians of several starts.

    Returns
    -------
    dict of str to float
    """
    help_ = "import sys; sys.argv = ['dmr', '--help']; from dmr_gluon.cli.main import main; main()"
    programs = {
        "python -c pass": "pass",
        "import dmr_gluon": "import dmr_gluon",
        "dmr --help": help_,
    }
    found = {what: [] for what in programs}
    # -c looks in the working folder first, where anything may have the name of a library.
    beside = Path(__file__).parents[2]
    turns = [pair for _ in range(_STARTS) for pair in programs.items()]
    for what, code in tqdm(turns, "start", unit=" starts", disable=None, leave=False):
        began = time.perf_counter()
        subprocess.run(
            [sys.executable, "-c", code], cwd=beside, stdout=subprocess.DEVNULL, check=True
        )
        found[what].append(time.perf_counter() - began)
    return {what: statistics.median(seconds) for what, seconds in found.items()}
