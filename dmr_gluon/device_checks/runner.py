"""Run the checks in sections, each in a process of its own with a time limit.

A crash or a hang costs only its section. As a program, this module runs one section in an empty
working folder and writes each check to stdout as a line of JSON:
``python -m dmr_gluon.device_checks.runner kvstores gpu 0,1``.
"""

import json
import os
import sys
import tempfile
import traceback
from dataclasses import asdict, dataclass, field, replace
from typing import Callable, Dict

from ..runtime import mx
from ..system.cuda import have_tf32
from ..system.program import command
from ..system.worker_process import answers_of
from .arithmetic import check_arithmetic, check_tf32
from .checks import FAILED, Check
from .data_parallel import check_float16, check_kvstores, check_sync_bn, check_workers
from .whole_run import check_run, check_speed

#: Seconds for each section. GPUs load kernels at their first use, which may take minutes.
PATIENCE = 600


@dataclass(frozen=True)
class Section:
    """Checks that share a process.

    Parameters
    ----------
    name, title : str
    check : function
        Maps a list of contexts to an iterator of Check.
    advice : str
        For a check that fails, and a process that raises, crashes or hangs.
    environment : dict of str to str
        Variables to set for the process.
    """

    name: str
    title: str
    check: Callable
    advice: str
    environment: Dict[str, str] = field(default_factory=dict)


_NO_TF32 = {"NVIDIA_TF32_OVERRIDE": "0"}
_DETERMINISTIC = {"MXNET_ENFORCE_DETERMINISM": "1", "MXNET_CUDNN_AUTOTUNE_DEFAULT": "0", **_NO_TF32}
#: SyncBatchNorm holds a thread of the engine until all devices have arrived.
_THREADS = {"MXNET_GPU_WORKER_NTHREADS": "8", "MXNET_CPU_WORKER_NTHREADS": "8", **_NO_TF32}

_OTHER_RESULT = "try MXNET_USE_FUSION=0, MXNET_CUDNN_AUTOTUNE_DEFAULT=0, another driver or cuDNN"
_LOST_SUM = "try another --kv-store, NCCL_P2P_DISABLE=1 (nccl) or MXNET_ENABLE_GPU_P2P=0 (device)"
_LOST_WORKER = "dist_sync loses sums or cannot connect: see docs/machines.md, try PS_VERBOSE=1"
_NO_FLOAT16 = "use --dtype float32, or see docs/gpus.md"
_NO_SYNC_BN = "train without --sync-bn; if it hangs, MXNET_GPU_WORKER_NTHREADS is too small"
_NO_RESUME = "do not rely on --resume or on predictions on this device, and please report it"
#: Added if a process does not end well.
_CRASH = "; see dmr doctor, and run with MXNET_ENGINE_TYPE=NaiveEngine to find the cause"

SECTIONS = (
    Section("arithmetic", "against float64 on the CPU", check_arithmetic, _OTHER_RESULT, _NO_TF32),
    Section("tf32", "the same with TF32", check_tf32, _OTHER_RESULT),
    Section("kvstores", "several devices", check_kvstores, _LOST_SUM, _NO_TF32),
    Section("workers", "several workers", check_workers, _LOST_WORKER, _NO_TF32),
    Section("float16", "half precision", check_float16, _NO_FLOAT16),
    Section("sync-bn", "synchronised BN", check_sync_bn, _NO_SYNC_BN, _THREADS),
    Section("run", "a run", check_run, _NO_RESUME, _DETERMINISTIC),
    Section("speed", "speed", check_speed, _LOST_SUM),
)


def check_devices(kind, numbers, patience=PATIENCE):
    """Run all sections, without TF32 unless a GPU has it, and without sums on a single device.

    Parameters
    ----------
    kind : str
        ``gpu`` or ``cpu``.
    numbers : list of int
    patience : float
        Seconds for each section.

    Yields
    ------
    Section, iterator of Check
        Checks arrive as they are made.
    """
    left_out = {"kvstores", "sync-bn"} if len(numbers) == 1 else set()
    if kind == "cpu" or not have_tf32(numbers):
        left_out.add("tf32")
    for section in SECTIONS:
        if section.name not in left_out:
            yield section, _run(section, kind, numbers, patience)


def _run(section, kind, numbers, patience):
    """Yield the checks of a section, and a failure if its process does not end well."""
    arguments = section.name, kind, ",".join(map(str, numbers))
    program = command("dmr_gluon.device_checks.runner", *arguments)
    environment = {**os.environ, **section.environment}
    with tempfile.TemporaryDirectory(prefix="dmr-verify-") as folder:
        for answer in answers_of(program, patience, cwd=folder, env=environment):
            if "error" in answer:
                yield Check(section.title, answer["error"], FAILED, section.advice + _CRASH)
                return
            check = Check(**answer)
            yield replace(check, advice=section.advice) if check.verdict == FAILED else check


def main(name, kind, numbers):
    """Run the section of a name on devices such as ``gpu`` and ``0,1``."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # everything else that is printed explains a failure
    devices = [mx.Context(kind, int(number)) for number in numbers.split(",")]
    (section,) = (section for section in SECTIONS if section.name == name)
    try:
        for check in section.check(devices):
            print(json.dumps(asdict(check)), file=answers, flush=True)
    except Exception:
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)  # after an error, MXNet may hang at the end of the process


if __name__ == "__main__":
    main(*sys.argv[1:])
