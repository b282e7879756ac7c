"""What there is, as plain values for JSON: nothing here judges, nothing here imports MXNet."""

import json
import os
import platform
import re
import resource
import shutil
import signal
import subprocess
import sys
from importlib import metadata

from .. import errors
from ..data.datasets import MANIFEST, open_prepared
from ..errors import DMRError
from ..system import cuda, machine
from ..system import program as child
from ..version import __version__

#: Variables that decide how MXNet, OpenMP and CUDA work; others may hold what is nobody's business.
_VARIABLES = re.compile(
    r"(MXNET|OMP|GOMP|KMP|MKL|MKLDNN|DNNL|DMLC|CUDA|CUDNN|NCCL)_\w+|NVIDIA_VISIBLE_DEVICES"
    r"|NVIDIA_DRIVER_CAPABILITIES|LD_LIBRARY_PATH|LD_PRELOAD|PYTHONPATH|PYTHONHOME|VIRTUAL_ENV"
    r"|CONDA_PREFIX"
)
#: Seconds that the first use of MXNet may take; on GPUs kernels are loaded.
PATIENCE = 300


def gather(data_root="data", network=None, size=None, patience=PATIENCE):
    """Everything that :func:`.findings.judge` goes by.

    Parameters
    ----------
    data_root : str
        Folder that holds prepared sets.
    network : str, optional
        Whose sizes are wanted too, for images of ``size`` by ``size`` pixels.
    size : int, optional
    patience : float
        Seconds for the process that tries MXNet.

    Returns
    -------
    dict
    """
    return {
        "dmr_gluon": {"version": __version__, "path": os.path.dirname(errors.__file__)},
        "system": {
            "system": platform.system(),
            "machine": platform.machine(),
            "kernel": platform.release(),
            "libc": " ".join(platform.libc_ver()),
        },
        "python": {
            "version": platform.python_version(),
            "implementation": platform.python_implementation(),
            "executable": sys.executable,
            "virtual_environment": sys.prefix != sys.base_prefix,
        },
        "processor": {
            "name": machine.processor(),
            "cores": machine.usable_cores(),
            "processors": os.cpu_count(),
            "instructions": machine.instructions(),
        },
        "memory": machine.memory(),
        "open_files": resource.getrlimit(resource.RLIMIT_NOFILE)[0],
        "disk": {"runs": _disk("."), "data": _disk(data_root)},
        "environment": {k: v for k, v in sorted(os.environ.items()) if _VARIABLES.fullmatch(k)},
        "packages": _packages(),
        "requirements": _requirements(),
        "wheels": machine.installed_wheels(),
        "mxnet": _try_mxnet([network, str(size)] if network else [], patience),
        "cuda": _cuda(),
        "data": {"root": data_root, **_data_sets(data_root)},
    }


def _disk(path):
    """Of a folder, or of the one in which it would be made."""
    path = os.path.abspath(path)
    while not os.path.isdir(path):
        path = os.path.dirname(path)
    usage = shutil.disk_usage(path)
    return {"path": path, "free": usage.free, "total": usage.total}


def _packages():
    """Every distribution with its version; where one is there twice, the one that is imported."""
    found = {}
    for distribution in metadata.distributions():
        name = distribution.metadata["Name"]
        if name:
            found.setdefault(_normal(name), distribution.version)
    return dict(sorted(found.items()))


def _normal(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def _requirements():
    """What this package asks for, as far as it holds for this Python.

    Returns
    -------
    list of dict, or None
        ``name``, ``asks`` (such as ``<2,>=1.26``), ``extra`` (empty where it is always needed);
        None where the package runs without being installed.
    """
    try:
        lines = metadata.requires("dmr-gluon") or []
    except metadata.PackageNotFoundError:
        return None
    try:
        from packaging.requirements import Requirement
    except ImportError:
        return [{"name": "packaging", "asks": "", "extra": "", "has": None, "fits": False}]
    found = []
    for line in lines:
        asked = Requirement(line)
        extra = re.search(r"extra\s*==\s*['\"]([^'\"]+)", line)
        extra = extra.group(1) if extra else ""
        if asked.marker is None or asked.marker.evaluate({"extra": extra}):
            version = _packages_version(asked.name)
            found.append(
                {
                    "name": _normal(asked.name),
                    "asks": str(asked.specifier),
                    "extra": extra,
                    "has": version,
                    "fits": version is not None and asked.specifier.contains(version, True),
                }
            )
    return found


def _packages_version(name):
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _try_mxnet(arguments, patience):
    """Import MXNet and train a step with it, in a process that may crash or hang.

    Parameters
    ----------
    arguments : list of str
        Of the probe.
    patience : float
        Seconds.

    Returns
    -------
    dict
        What :mod:`.probe` prints; or ``error``, why it printed nothing.
    """
    if os.environ.get("DMLC_ROLE") in ("server", "scheduler"):
        return {"error": None, "skipped": "DMLC_ROLE"}
    command = child.command("dmr_gluon.doctor.probe", *arguments)
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=patience
        )
    except subprocess.TimeoutExpired as expired:
        return {**_last_answer(expired.stdout), "error": f"no answer within {patience:g} s"}
    answer = {"error": None, **_last_answer(done.stdout)}
    if answer["error"] is None and (done.returncode or "version" not in answer):
        lines = done.stderr.decode(errors="replace").strip().splitlines()
        answer["error"] = lines[-1] if lines else f"it ended with {done.returncode}"
        if done.returncode < 0:
            answer["error"] = f"it was ended by {signal.Signals(-done.returncode).name}"
    return answer


def _last_answer(output):
    """The probe prints what it knows so far as a line of JSON, again and again."""
    for line in reversed((output or b"").decode(errors="replace").splitlines()):
        try:
            found = json.loads(line)
        except ValueError:
            continue
        if isinstance(found, dict):
            return found
    return {}


def _cuda():
    there = cuda.driver()
    found = {name: (cuda.found(name) or [None])[0] for name, _ in cuda.LIBRARIES}
    return {
        "libraries": {name: path or cuda.from_the_system(name) for name, path in found.items()},
        "driver": there
        and {
            "cuda": there.cuda and cuda.dotted(there.cuda),
            "error": there.error,
            "gpus": [
                {
                    "number": gpu.number,
                    "name": gpu.name,
                    "capability": cuda.dotted(gpu.capability),
                    "memory": gpu.memory,
                    "runs": gpu.runs,
                }
                for gpu in there.gpus
            ],
        },
    }


def _data_sets(root):
    """Every prepared set in a folder, after a look at its files and its records' heads."""
    found = []
    try:
        from ..data.check import check_quickly

        names = sorted(os.listdir(root))
    except ImportError as error:  # OpenCV or NumPy, of which the packages tell more
        return {"sets": [], "error": f"sets cannot be looked at: {error}"}
    except OSError:
        return {"sets": [], "error": None}
    for name in names:
        folder = os.path.join(root, name)
        if not os.path.exists(os.path.join(folder, MANIFEST)):
            continue
        entry = {"folder": folder, "name": name, "images": {}, "problem": None}
        try:
            prepared = open_prepared(folder)
            entry["name"] = prepared.name
            entry["images"] = {key: split.count for key, split in prepared.splits.items()}
            check_quickly(prepared)
        except DMRError as error:
            entry["problem"] = str(error)
        found.append(entry)
    return {"sets": found, "error": None}
