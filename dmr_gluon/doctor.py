"""Examine a machine and its installation for ``dmr doctor``.

:func:`gather` collects facts as plain values for JSON; :func:`judge` turns them into findings. Both
work without MXNet, which :mod:`.probe` tries in a process that may crash or hang.
"""

import json
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass
from importlib import metadata

from .data.datasets import MANIFEST, open_prepared
from .errors import DMRError
from .system import cuda, machine
from .system.program import command
from .version import __version__

OK, WARNING, PROBLEM = "ok", "warning", "problem"
_MXNET = "1.9.1"
_PYTHONS = ((3, 8), (3, 12))
#: Variables of MXNet, OpenMP and CUDA. The values of others are private.
_VARIABLES = re.compile(
    r"(MXNET|OMP|GOMP|KMP|MKL|MKLDNN|DNNL|DMLC|CUDA|CUDNN|NCCL)_\w+|NVIDIA_VISIBLE_DEVICES"
    r"|LD_LIBRARY_PATH|LD_PRELOAD|PYTHONPATH|VIRTUAL_ENV|CONDA_PREFIX"
)
#: Values of variables that silently slow down or block a training.
_TRAPS = {
    ("MXNET_ENGINE_TYPE", "NaiveEngine"): "operators run one at a time",
    ("MXNET_SUBGRAPH_BACKEND", "NONE"): "bound symbols are not fused and run slower",
    ("MXNET_EXEC_BULK_EXEC_TRAIN", "0"): "operators are started one at a time",
    ("DMLC_ROLE", "worker"): "a training waits for the servers of a job (dmr launch sets it)",
}
#: Seconds that the first use of MXNet may take; on GPUs kernels are loaded.
_PATIENCE = 300
_LITTLE_DISK, _LITTLE_MEMORY = 2 << 30, 1 << 30


@dataclass(frozen=True)
class Finding:
    """One checked item.

    Parameters
    ----------
    level : str
        ``ok``, ``warning`` (works, but not as well as it could) or ``problem`` (does not work).
    subject : str
        Such as ``Python`` or ``memory``.
    text : str
        What was found.
    remedy : str, optional
        A command or another action that fixes it.
    """

    level: str
    subject: str
    text: str
    remedy: str = ""


def gather(data_root="data", patience=_PATIENCE):
    """Collect the facts that :func:`judge` needs.

    Parameters
    ----------
    data_root : str
        Folder of the prepared data sets.
    patience : float
        Seconds to wait for the process that tries MXNet.

    Returns
    -------
    dict
    """
    disk = shutil.disk_usage(".")
    return {
        "dmr_gluon": {"version": __version__, "path": os.path.dirname(__file__)},
        "system": {"system": platform.system(), "machine": platform.machine()},
        "python": {
            "version": platform.python_version(),
            "implementation": platform.python_implementation(),
            "executable": sys.executable,
        },
        "processor": {
            "name": machine.processor(),
            "cores": machine.usable_cores(),
            "instructions": machine.instructions(),
        },
        "memory": machine.memory(),
        "disk": {"path": os.getcwd(), "free": disk.free, "total": disk.total},
        "environment": {k: v for k, v in sorted(os.environ.items()) if _VARIABLES.fullmatch(k)},
        "packages": {
            one.metadata["Name"]: one.version
            for one in metadata.distributions()
            if one.metadata["Name"]
        },
        "unmet": _unmet_requirements(),
        "wheels": machine.installed_wheels(),
        "mxnet": _try_mxnet(patience),
        "cuda": _cuda(),
        "data": {"root": data_root, **_data_sets(data_root)},
    }


def judge(facts):
    """Turn facts into findings.

    Parameters
    ----------
    facts : dict
        The result of :func:`gather`.

    Returns
    -------
    list of Finding
        Causes come before their consequences.
    """
    checks = (_python, _packages, _mxnet, _cpu, _gpus, _space, _data)
    return [Finding(*finding) for check in checks for finding in check(facts)]


def _unmet_requirements():
    """List the package's own requirements that are not met, as pip writes them; None if unknown."""
    try:
        from packaging.requirements import Requirement

        asked = [Requirement(line) for line in metadata.requires("dmr-gluon") or []]
    except metadata.PackageNotFoundError:
        return None
    except ImportError:
        return ["packaging"]
    unmet = []
    for one in asked:
        if one.marker is not None and not one.marker.evaluate({"extra": ""}):
            continue
        names = [one.name] + ["opencv-python"] * one.name.startswith("opencv-python")
        if not any(_has(name, one.specifier) for name in names):
            unmet.append(f"{one.name}{one.specifier}")
    return unmet


def _has(name, specifier):
    try:
        return specifier.contains(metadata.version(name), prereleases=True)
    except metadata.PackageNotFoundError:
        return False


def _try_mxnet(patience):
    """Return the last answer of :mod:`.probe`, with the reason why it ended under ``error``."""
    if os.environ.get("DMLC_ROLE") in ("server", "scheduler"):
        return {"error": "DMLC_ROLE is set: importing MXNet would serve and never return"}
    try:
        done = subprocess.run(
            command("dmr_gluon.probe"),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=patience,
        )
    except subprocess.TimeoutExpired as expired:
        return {**_last_answer(expired.stdout), "error": f"no answer within {patience:g} s"}
    answer = {"error": None, **_last_answer(done.stdout)}
    if answer["error"] is None and done.returncode < 0:
        answer["error"] = f"it was ended by {signal.Signals(-done.returncode).name}"
    elif answer["error"] is None and (done.returncode or "version" not in answer):
        lines = done.stderr.decode(errors="replace").strip().splitlines()
        answer["error"] = lines[-1] if lines else f"it ended with {done.returncode}"
    return answer


def _last_answer(output):
    for line in reversed((output or b"").decode(errors="replace").splitlines()):
        try:
            found = json.loads(line)
        except ValueError:
            continue
        if isinstance(found, dict):
            return found
    return {}


def _cuda():
    newest = cuda.newest_cuda()
    libraries = {name: cuda.load_library(name) for name in cuda.LIBRARIES}
    gpus = [
        {**vars(gpu), "capability": cuda.dotted(gpu.capability), "runs": gpu.runs}
        for gpu in cuda.find_gpus()
    ]
    return {
        "libraries": {name: library and library._name for name, library in libraries.items()},
        "driver": newest and {"cuda": cuda.dotted(newest), "gpus": gpus},
    }


def _data_sets(root):
    """Check the files and record headers of each prepared set."""
    try:
        from .data.check import check_quickly

        names = sorted(os.listdir(root))
    except ImportError as error:
        return {"sets": [], "error": f"data sets cannot be checked: {error}"}
    except OSError:
        return {"sets": [], "error": None}
    found = []
    for folder in (os.path.join(root, name) for name in names):
        if not os.path.exists(os.path.join(folder, MANIFEST)):
            continue
        entry = {"folder": folder, "name": os.path.basename(folder), "images": {}, "problem": None}
        try:
            prepared = open_prepared(folder)
            entry["name"] = prepared.name
            entry["images"] = {key: split.count for key, split in prepared.splits.items()}
            check_quickly(prepared)
        except DMRError as error:
            entry["problem"] = str(error)
        found.append(entry)
    return {"sets": found, "error": None}


def _python(facts):
    python, system = facts["python"], facts["system"]
    version = tuple(map(int, re.findall(r"\d+", python["version"])[:2]))
    text = f"{python['implementation']} {python['version']} on {system['system']} "
    text += f"{system['machine']} ({python['executable']})"
    fits = python["implementation"] == "CPython" and _PYTHONS[0] <= version <= _PYTHONS[1]
    if fits and (system["system"], system["machine"]) == ("Linux", "x86_64"):
        yield OK, "Python", text
    else:
        remedy = "MXNet has wheels for CPython 3.8 to 3.12 on Linux x86_64: use one"
        yield PROBLEM, "Python", text, f"{remedy} (make install PYTHON=python3.11)"


def _packages(facts):
    unmet, packages = facts["unmet"], facts["packages"]
    if unmet is None:
        text = "dmr-gluon is imported from its folder and not installed; versions are not checked"
        yield WARNING, "packages", text, "pip install -e '.[cpu]'"
    elif unmet:
        remedy = "pip install " + " ".join(f"'{one}'" for one in unmet)
        yield PROBLEM, "packages", f"missing or of another version: {', '.join(unmet)}", remedy
    else:
        yield OK, "packages", "all requirements of dmr-gluon are met"
    opencvs = [n for n in packages if re.fullmatch(r"opencv(-contrib)?-python(-headless)?", n)]
    if len({packages[name] for name in opencvs}) > 1:
        remedy = f"pip uninstall -y {' '.join(opencvs)} && pip install 'opencv-python-headless<4.9'"
        yield WARNING, "OpenCV", f"{' and '.join(opencvs)} overwrite each other's files", remedy


def _mxnet(facts):
    tried, wheels = facts["mxnet"], facts["wheels"]
    error = tried.get("error") or "no answer"
    if len(wheels) > 1:
        text = f"{' and '.join(wheels)} are installed and overwrite each other's files"
        remedy = f"pip uninstall -y {' '.join(wheels)} && pip install mxnet=={_MXNET}"
        yield PROBLEM, "MXNet", text, f"{remedy} (or mxnet-cu112=={_MXNET})"
        return
    for name, version in wheels.items():
        if version != _MXNET:
            text = f"{name} {version} is not {_MXNET}, which dmr-gluon is written and tested for"
            yield WARNING, "MXNet", text, f"pip install {name}=={_MXNET}"
    reinstall = f"pip install --force-reinstall --no-deps {next(iter(wheels), 'mxnet')}=={_MXNET}"
    why, _, remedy = error.partition("; ")
    if "DMLC_ROLE" in error:
        yield PROBLEM, "MXNet", error, "unset DMLC_ROLE"
    elif "version" not in tried or "cpu" not in tried:
        stage = "cannot train" if "version" in tried else "cannot be imported"
        yield PROBLEM, "MXNet", f"{stage}: {why}", remedy or reinstall
    elif tried["cpu"] != "ok":
        yield PROBLEM, "MXNet", f"{tried['version']} fails on the CPU: {tried['cpu']}", reinstall
    else:
        text = f"{tried['version']} ({' and '.join(wheels) or tried['path']}), imported in "
        yield OK, "MXNet", f"{text}{tried['seconds']:.1f} s; trains on the CPU"
        if "MKLDNN" not in tried["features"]:
            text = "this build lacks oneDNN and is slow on CPUs"
            yield WARNING, "MXNet", text, f"pip install mxnet=={_MXNET}"
        if tried["error"]:
            remedy = "see nvidia-smi" if tried["gpus"] else reinstall
            yield PROBLEM, "MXNet", f"after training on the CPU: {error}", remedy


def _cpu(facts):
    processor, environment = facts["processor"], facts["environment"]
    cores, threads = processor["cores"], environment.get("OMP_NUM_THREADS", "").strip()
    text = f"{processor['name']}, usable cores: {cores}"
    if "avx2" in processor["instructions"]:
        yield OK, "processor", f"{text}, {', '.join(processor['instructions'])}"
    else:
        remedy = "train on another machine, or on GPUs"
        yield WARNING, "processor", f"{text}, without AVX2: slow convolutions", remedy
    if threads in ("", str(cores)):
        yield OK, "threads", f"{cores}, one per usable core"
    else:
        text = f"OMP_NUM_THREADS={threads}; fastest is one thread per usable core ({cores})"
        yield WARNING, "threads", text, "unset OMP_NUM_THREADS"
    for (name, value), why in _TRAPS.items():
        if environment.get(name) == value:
            yield WARNING, "variables", f"{name}={value}: {why}", f"unset {name}"


def _gpus(facts):
    driver, tried = facts["cuda"]["driver"], facts["mxnet"].get("gpus") or {}
    gpus = driver["gpus"] if driver else []
    if len(facts["wheels"]) > 1:
        return  # a problem of its own
    if "mxnet-cu112" not in facts["wheels"]:
        names = ", ".join(gpu["name"] for gpu in gpus)
        if any(gpu["runs"] for gpu in gpus):
            text = f"{names}: the installed MXNet uses CPUs only"
            yield WARNING, "GPUs", text, "make install EXTRA=cu112"
        else:
            yield OK, "GPUs", f"{names or 'none'}; the CPU is used"
        return
    missing = [name for name, path in facts["cuda"]["libraries"].items() if path is None]
    if missing:
        text = f"libraries are missing: {', '.join(missing)}"
        yield PROBLEM, "CUDA", text, "pip install 'dmr-gluon[cu112]', in a clone '.[cu112]'"
    else:
        yield OK, "CUDA", f"all {len(cuda.LIBRARIES)} libraries found"
    if driver is None:
        text = "there is no driver (libcuda.so.1), which mxnet-cu112 needs for its import"
        remedy = "install NVIDIA's driver, or for the CPU: pip uninstall -y mxnet-cu112 && "
        yield PROBLEM, "GPUs", text, f"{remedy}pip install mxnet=={_MXNET}"
        return
    if tuple(map(int, driver["cuda"].split("."))) < cuda.CUDA:
        text = f"the driver supports CUDA {driver['cuda']}; mxnet-cu112 needs "
        remedy = "install a driver of version 450.80 or later"
        yield PROBLEM, "GPUs", text + cuda.dotted(cuda.CUDA), remedy
    if not gpus:
        hidden = "CUDA_VISIBLE_DEVICES" in facts["environment"]
        remedy = "unset CUDA_VISIBLE_DEVICES" if hidden else "see nvidia-smi"
        yield PROBLEM, "GPUs", "the driver finds no GPU", remedy
    for gpu in gpus:
        text = f"{gpu['number']}: {gpu['name']}, compute capability {gpu['capability']}"
        answer = tried.get(str(gpu["number"]), "not tried; see the findings on MXNet")
        if not gpu["runs"]:
            low, high = map(cuda.dotted, (cuda.OLDEST, cuda.NEWEST))
            remedy = "leave it out with --gpus, or use the CPU"
            yield PROBLEM, "GPUs", f"{text}; mxnet-cu112 supports {low} to {high}", remedy
        elif answer == "ok":
            yield OK, "GPUs", f"{text}, trains"
        else:
            yield PROBLEM, "GPUs", f"{text}: {answer}", "see nvidia-smi; is it free?"


def _space(facts):
    memory, disk = facts["memory"], facts["disk"]
    text = f"{_gigabytes(memory['available'])} of {_gigabytes(memory['total'])} available"
    if memory["limit"] is not None:
        text += f" (limited to {_gigabytes(memory['limit'])})"
    little = memory["available"] < _LITTLE_MEMORY
    yield WARNING if little else OK, "memory", text, "end other programs"
    text = f"{_gigabytes(disk['free'])} free in {disk['path']}"
    little = disk["free"] < _LITTLE_DISK
    yield WARNING if little else OK, "disk", text, "free some space, or name another --run-dir"


def _data(facts):
    root, sets, error = (facts["data"][name] for name in ("root", "sets", "error"))
    if error:
        yield PROBLEM, "data", error, "see the findings on packages"
    elif not sets:
        first = f"dmr prepare digits --out {os.path.join(root, 'digits')}"
        yield OK, "data", f"no prepared set in {root}; the smallest: {first}"
    for one in sets:
        if one["problem"]:
            what, _, remedy = one["problem"].partition("; ")
            yield PROBLEM, "data", what, remedy or f"dmr check {one['folder']}"
        else:
            images = ", ".join(f"{count:,} {kind}" for kind, count in one["images"].items())
            yield OK, "data", f"{one['name']} in {one['folder']}: {images}"


def _gigabytes(count):
    return f"{count / 1e9:.1f} GB"
