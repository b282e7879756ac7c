"""Who takes part in the comparison: programs that are started, asked and timed alike."""

import os
import sys
import tempfile
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Callable, Tuple

import numpy as np
from answering import BEGAN
from deployment import export_by_mxnet

from dmr_gluon.deploy.bundle import read_bundle
from dmr_gluon.deploy.parity import Worker
from dmr_gluon.system.machine import cpu_environment
from dmr_gluon.system.worker_process import Process

HERE = Path(__file__).resolve().parent
OURS, AUTHORS, PYTORCH, ONNXRUNTIME = "ours", "authors", "pytorch", "onnxruntime"
#: As on the paper's two GPUs for CIFAR: BN over halves of the batch, which no other one does.
SIDE_BY_SIDE = "ours, 2 contexts"
FORMS = ("eager", "compiled", "traced", "compiled-cpp")
PRECISIONS = ("float32", "bfloat16")
#: (form, layout, dtype) of PyTorch. bfloat16 is meant to be used channels last.
TRAINING_FORMS = (
    ("eager", "nchw", "float32"),
    ("eager", "channels_last", "float32"),
    ("compiled", "nchw", "float32"),
    ("compiled", "channels_last", "float32"),
    ("eager", "channels_last", "bfloat16"),
    ("compiled", "channels_last", "bfloat16"),
)
INFERENCE_FORMS = (
    *TRAINING_FORMS,
    ("traced", "nchw", "float32"),
    ("traced", "channels_last", "float32"),
    ("compiled-cpp", "channels_last", "float32"),
    ("compiled-cpp", "channels_last", "bfloat16"),
)
#: The C library's allocator keeps what is freed. Otherwise it now and then gives hundreds of
#: megabytes back to the system at the end of every step, and PyTorch trains a quarter slower. Ours
#: lays its memory out once and does not depend on it.
KEEP_MEMORY = {"MALLOC_TRIM_THRESHOLD_": str(10**11), "MALLOC_MMAP_THRESHOLD_": str(2**25)}
#: Of ours in inference, with the precision of each.
OUR_FORMS = {"plain": "float32", "fused": "float32", "int8": "int8", "onnx": "float32"}


@dataclass(frozen=True)
class Contestant:
    """One program.

    Attributes
    ----------
    name : str
        For tables.
    side : str
        Whose it is: ``OURS``, ``AUTHORS``, ``PYTORCH`` or ``ONNXRUNTIME``.
    dtype : str
        ``float32``, ``bfloat16`` or ``int8``.
    start : function
        Without arguments; to a Process that is not yet waited for.
    compiles : bool
        Its second start is quicker, by what the first left in a cache.
    runtime : str
        ``mxnet``, ``onnxruntime`` or ``pytorch``.
    """

    name: str
    side: str
    dtype: str
    start: Callable
    compiles: bool = False
    runtime: str = "mxnet"


@dataclass(frozen=True)
class Case:
    """A network, and what its programs are started with.

    Attributes
    ----------
    network : str
    weights : str
        .npz with our parameters by name.
    folder : str
        For passing files.
    peer_python : str
        The interpreter that has PyTorch.
    forms, precisions : tuple of str
        Of PyTorch, that take part.
    """

    network: str
    weights: str
    folder: str
    peer_python: str
    forms: Tuple[str, ...] = FORMS
    precisions: Tuple[str, ...] = PRECISIONS

    def of_pytorch(self, forms):
        """Those of (form, layout, dtype) that take part."""
        return [one for one in forms if one[0] in self.forms and one[2] in self.precisions]


class Peer(Process):
    """A program that answers as :mod:`answering` says."""

    def __init__(self, name, command, environment=None):
        super().__init__(name, command, {BEGAN: repr(time.time()), **(environment or {})})

    def compute(self, what, **given):
        """The arrays that it answers to ``logits``, ``step`` or ``double``."""
        with tempfile.TemporaryDirectory() as folder:
            files = {
                "given": os.path.join(folder, "given.npz"),
                "to": os.path.join(folder, "to.npz"),
            }
            np.savez(files["given"], **given)
            self.ask({"do": what, **files})
            with np.load(files["to"]) as arrays:
                return {name: arrays[name] for name in arrays.files}

    def logits(self, images):
        return self.compute("logits", images=images)["logits"]


def our_side(case, kind, sizes):
    """The process that says what is right."""
    return Peer("our network", _command("ours.py", case, kind, sizes))


def twin(case, kind):
    """PyTorch's as it is written."""
    return _pytorch(case, kind, (1,), "eager", "nchw", "float32").start()


def training(case, batch):
    """All that train a network; ours first."""
    program = _command("ours.py", case, "train", (batch,))
    halves = Peer, SIDE_BY_SIDE, [*program, "--cpus", "2"], cpu_environment(2)
    return [
        Contestant("ours", OURS, "float32", lambda: Peer("ours", program)),
        Contestant(SIDE_BY_SIDE, OURS, "float32", partial(*halves)),
        _authors(case, "train", (batch,)),
        *(_pytorch(case, "train", (batch,), *one) for one in case.of_pytorch(TRAINING_FORMS)),
    ]


def inference(case, bundle, sizes):
    """All that answer; ours first.

    Parameters
    ----------
    case : Case
    bundle : str
        With ``OUR_FORMS``.
    sizes : sequence of int
        Of batches.
    """
    found = read_bundle(bundle)
    entries = {
        name: (entry["runtime"], [os.path.join(bundle, file) for file in entry["files"]])
        for name, entry in found["forms"].items()
    }
    raw = os.path.join(case.folder, "raw.onnx")
    export_by_mxnet(*entries["plain"][1], found["input"]["shape"], raw)
    all_of_them = [
        _worker(f"ours, {name}", OURS, dtype, *entries[name]) for name, dtype in OUR_FORMS.items()
    ]
    return [
        *all_of_them,
        _authors(case, "infer", sizes),
        _worker("ONNX Runtime, MXNet's export", ONNXRUNTIME, "float32", "onnxruntime", [raw]),
        *(_pytorch(case, "infer", sizes, *one) for one in case.of_pytorch(INFERENCE_FORMS)),
    ]


def _worker(name, side, dtype, runtime, files):
    return Contestant(name, side, dtype, lambda: Worker(name, runtime, files), runtime=runtime)


def _authors(case, kind, sizes):
    name = "authors' way"
    command = _command("authors_way.py", case, kind, sizes)
    return Contestant(name, AUTHORS, "float32", lambda: Peer(name, command))


def _pytorch(case, kind, sizes, form, layout, dtype):
    name = f"PyTorch {form}, {layout}" + (f", {dtype}" if dtype != "float32" else "")
    command = _command("pytorch_worker.py", case, kind, sizes, case.peer_python)
    command += ["--form", form, "--layout", layout, "--dtype", dtype]
    # No packages of ours, whose NumPy is too old; a cache that is empty at first.
    cache = os.path.join(case.folder, "cache", name.replace(" ", "_"))
    environment = {"PYTHONPATH": "", "TORCHINDUCTOR_CACHE_DIR": cache, **KEEP_MEMORY}
    return Contestant(
        name,
        PYTORCH,
        dtype,
        lambda: Peer(name, command, environment),
        compiles=form.startswith("compiled"),
        runtime="pytorch",
    )


def _command(program, case, kind, sizes, python=sys.executable):
    sizes = [str(size) for size in sorted(sizes, reverse=True)]  # memory is planned for the largest
    command = [python, str(HERE / program), kind, case.network, "--batch", *sizes]
    return [*command, "--weights", case.weights]
