"""Runs the sections one after the other, each with a time limit."""

import contextlib
import json
import os
import queue
import signal
import subprocess
import tempfile
import threading
import time
from dataclasses import dataclass, field, replace
from typing import Dict

from ..system import program as child
from ..system.cuda import have_tf32
from .checks import FAILED, Check

#: Seconds that a section may take. GPUs load kernels at their first use, for minutes at worst.
PATIENCE = 600


@dataclass(frozen=True)
class Section:
    """A name of :data:`.section.CHECKS`, its title, and variables to set.

    Parameters
    ----------
    name, title : str
    environment : dict of str to str
    advice : str
        Where it crashes, raises or does not end.
    """

    name: str
    title: str
    environment: Dict[str, str] = field(default_factory=dict)
    advice: str = "see dmr doctor; run it again with MXNET_ENGINE_TYPE=NaiveEngine for the cause"


_WITHOUT_TF32 = {"NVIDIA_TF32_OVERRIDE": "0"}
#: A SyncBatchNorm holds a thread of the engine until all devices are there; CPU contexts wait for
#: each other's memory too.
_FOR_SYNC_BN = {
    **_WITHOUT_TF32,
    "MXNET_GPU_WORKER_NTHREADS": "8",
    "MXNET_CPU_WORKER_NTHREADS": "8",
    "MXNET_CPU_TEMP_COPY": "64",
}
#: Seconds in which a section may end that is told to.
GRACE = 10
_DIST = "processes do not reach each other: see docs/machines.md, and PS_VERBOSE=1"
_HANGS = "sums over devices hang: use --kv-store device; NCCL_P2P_DISABLE=1; MXNET_ENABLE_GPU_P2P=0"

SECTIONS = (
    Section("arithmetic", "beside the CPU in double precision", _WITHOUT_TF32),
    Section("tf32", "the same with TF32, as GPUs of compute capability 8 compute float32"),
    Section("kvstores", "several devices, beside one that computes their parts", _WITHOUT_TF32),
    Section("workers", "several workers", _WITHOUT_TF32, _DIST),
    Section("float16", "half precision"),
    Section("sync-bn", "synchronised BN", _FOR_SYNC_BN, "train without --sync-bn"),
    Section("run", "a run", {**_WITHOUT_TF32, "MXNET_ENFORCE_DETERMINISM": "1"}),
    Section("speed", "speed", advice=_HANGS),
)


def check_devices(kind, numbers, patience=PATIENCE):
    """All sections.

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
        The checks as they are made.
    """
    for section in SECTIONS:
        if section.name != "tf32" or (kind == "gpu" and have_tf32(numbers)):
            yield section, _run(section, kind, numbers, patience)


def _run(section, kind, numbers, patience):
    """The checks of one section, and a failure where its process does not end well."""
    numbers = ",".join(map(str, numbers))
    deadline = time.monotonic() + patience
    with tempfile.TemporaryDirectory(
        prefix="dmr-verify-"
    ) as folder, tempfile.TemporaryFile() as said:
        process = subprocess.Popen(
            child.command("dmr_gluon.device_checks.section", section.name, kind, numbers, folder),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=said,
            env={**os.environ, **section.environment},
            start_new_session=True,  # with all that it starts
        )
        lines = queue.Queue()
        threading.Thread(target=_read, args=(process.stdout, lines), daemon=True).start()
        trouble = None
        try:
            while True:
                line = lines.get(timeout=max(0, deadline - time.monotonic()))
                if line is None:
                    break
                check = Check(**json.loads(line))
                unexplained = check.verdict == FAILED and not check.advice
                yield replace(check, advice=section.advice) if unexplained else check
            # It has said all, but may still hang while MXNet ends.
            if process.wait(max(0, deadline - time.monotonic())):
                said.seek(0)
                words = said.read().decode(errors="replace").strip().splitlines()
                end = -process.returncode
                name = signal.Signals(end).name if end > 0 else f"status {process.returncode}"
                trouble = f"ended by {name}: {words[-1] if words else 'without a word'}"
        except (queue.Empty, subprocess.TimeoutExpired):
            trouble = f"did not end within {patience:g} s"
        finally:
            _end(process)
        if trouble:
            yield Check(section.title, trouble, FAILED, section.advice)


def _read(stream, lines):
    for line in stream:
        lines.put(line)
    lines.put(None)


def _end(process):
    """End a section, also one that hangs, and what it has started."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(GRACE)
    process.stdout.close()
