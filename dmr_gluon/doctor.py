"""Examine a machine and its installation for ``dmr doctor``.

MXNet may crash or hang, so :mod:`.probe` tries it in a separate process.
"""

import glob
import os
import platform
import re
import sys
from dataclasses import asdict, dataclass
from importlib import metadata

from .data.datasets import MANIFEST, open_prepared
from .errors import DMRError
from .system import cuda, machine
from .system.program import command
from .system.worker_process import answers_of
from .version import __version__

OK, WARNING, PROBLEM = "ok", "warning", "problem"
_MXNET = "1.9.1"
#: Variables of MXNet, OpenMP and CUDA. The values of others are private.
_VARIABLES = re.compile(
    r"(MXNET|OMP|GOMP|KMP|MKL|MKLDNN|DNNL|DMLC|CUDA|CUDNN|NCCL)_\w+|NVIDIA_VISIBLE_DEVICES"
    r"|LD_LIBRARY_PATH|LD_PRELOAD|PYTHONPATH|VIRTUAL_ENV|CONDA_PREFIX"
)


@dataclass(frozen=True)
class Finding:
    """One checked item.

    Parameters
    ----------
    level : str
        ``ok``, ``warning`` (works, but not as well as it could) or ``problem`` (does not work).
    subject : str
        Such as ``Python`` or ``threads``.
    text : str
        What was found.
    remedy : str, optional
        A command or another action that fixes it.
    """

    level: str
    subject: str
    text: str
    remedy: str = ""


def examine(data_root="data"):
    """Examine this machine.

    Parameters
    ----------
    data_root : str
        Folder of the prepared data sets.

    Returns
    -------
    list of Finding
        Causes come before their consequences.
    """
    wheels, answer = machine.installed_wheels(), try_mxnet()
    checks = (_python(), _packages(wheels), _mxnet(answer, wheels), _threads())
    checks += (_gpus(answer, wheels), _data_sets(data_root))
    return [Finding(*finding) for check in checks for finding in check]


def describe():
    """Return versions, GPUs and settings of this machine as values for JSON."""
    newest = cuda.newest_cuda()
    return {
        "dmr_gluon": __version__,
        "system": platform.platform(),
        "processor": machine.processor(),
        "driver": newest and cuda.dotted(newest),
        "gpus": [asdict(gpu) for gpu in cuda.find_gpus()],
        "environment": {k: v for k, v in sorted(os.environ.items()) if _VARIABLES.fullmatch(k)},
        "packages": {one.metadata["Name"]: one.version for one in metadata.distributions()},
    }


def try_mxnet(patience=300):
    """Return what :mod:`.probe` found, with ``error`` if it ended early.

    Parameters
    ----------
    patience : float
        Seconds to wait. The first use of MXNet may take long: on GPUs, kernels are loaded.
    """
    if os.environ.get("DMLC_ROLE") in ("server", "scheduler"):
        return {"error": "importing MXNet would serve and never return; unset DMLC_ROLE"}
    found = {"error": None}
    for answer in answers_of(command("dmr_gluon.probe"), patience):
        found.update(answer)
    return found


def _python():
    implementation, version = platform.python_implementation(), sys.version_info[:2]
    text = f"{implementation} {platform.python_version()} on {sys.platform} {platform.machine()}"
    fits = implementation == "CPython" and (3, 8) <= version <= (3, 12)
    if fits and (sys.platform, platform.machine()) == ("linux", "x86_64"):
        yield OK, "Python", f"{text} ({sys.executable})"
    else:
        remedy = "MXNet has wheels for CPython 3.8 to 3.12 on Linux x86_64: use one"
        yield PROBLEM, "Python", text, f"{remedy} (make install PYTHON=python3.11)"


def _packages(wheels):
    from packaging.requirements import Requirement

    try:
        lines = metadata.requires("dmr-gluon") or []
    except metadata.PackageNotFoundError:
        text = "dmr-gluon is imported from its folder and not installed; versions are not checked"
        yield WARNING, "packages", text, "pip install -e '.[cpu]'"
        return
    requirements = map(Requirement, [*lines, *(f"{wheel}=={_MXNET}" for wheel in wheels)])
    unmet = [f"{one.name}{one.specifier}" for one in requirements if not _is_met(one)]
    if unmet:
        remedy = "pip install " + " ".join(f"'{one}'" for one in unmet)
        yield PROBLEM, "packages", f"missing or of another version: {', '.join(unmet)}", remedy
    else:
        yield OK, "packages", "all requirements of dmr-gluon are met"


def _is_met(requirement):
    if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
        return True
    try:
        return requirement.specifier.contains(metadata.version(requirement.name), prereleases=True)
    except metadata.PackageNotFoundError:
        return False


def _mxnet(answer, wheels):
    wheel, cpu = next(iter(wheels), "mxnet"), answer.get("devices", {}).get("cpu(0)")
    error, _, remedy = (answer["error"] or "").partition("; ")
    remedy = remedy or f"pip install --force-reinstall --no-deps {wheel}=={_MXNET}"
    if cpu != "ok":
        yield PROBLEM, "MXNet", f"cannot train on the CPU: {error or cpu}", remedy
    else:
        yield OK, "MXNet", f"{answer['version']} ({wheel}), trains on the CPU"
        if error:
            yield PROBLEM, "MXNet", f"after training on the CPU: {error}", "see nvidia-smi"


def _threads():
    cores, threads = machine.usable_cores(), os.environ.get("OMP_NUM_THREADS", "").strip()
    if threads in ("", str(cores)):
        yield OK, "threads", f"{cores}, one per usable core"
    else:
        text = f"OMP_NUM_THREADS={threads}; fastest is one thread per usable core ({cores})"
        yield WARNING, "threads", text, "unset OMP_NUM_THREADS"


def _gpus(answer, wheels):
    newest = cuda.newest_cuda()
    gpus = {f"gpu({gpu.number})": gpu for gpu in cuda.find_gpus()}
    if "mxnet-cu112" not in wheels:
        usable = [gpu.name for gpu in gpus.values() if gpu.runs]
        if usable:
            text = f"{', '.join(usable)}: the installed MXNet uses CPUs only"
            yield WARNING, "GPUs", text, "make install EXTRA=cu112"
        return
    if newest and not gpus:
        text, remedy = "the driver finds no GPU", "unset CUDA_VISIBLE_DEVICES if it is set"
        yield PROBLEM, "GPUs", text, f"see nvidia-smi; {remedy}"
    elif newest and newest < cuda.CUDA:
        supported, needed = map(cuda.dotted, (newest, cuda.CUDA))
        text = f"the driver supports CUDA {supported}; mxnet-cu112 needs {needed}"
        yield PROBLEM, "GPUs", text, "install a driver of version 450.80 or later"
    for device, gpu in gpus.items():
        text = f"{device} {gpu.name}, compute capability {cuda.dotted(gpu.capability)}"
        result = answer.get("devices", {}).get(device, "not tried")
        if result == "ok":
            yield OK, "GPUs", f"{text}: trains"
        elif gpu.runs:
            yield PROBLEM, "GPUs", f"{text}: {result}", "see nvidia-smi; is it free?"
        else:
            low, high = map(cuda.dotted, (cuda.OLDEST, cuda.NEWEST))
            remedy = "leave it out with --gpus, or use the CPU"
            yield PROBLEM, "GPUs", f"{text}; mxnet-cu112 supports {low} to {high}", remedy


def _data_sets(root):
    """Check the files and record headers of each prepared set."""
    manifests = sorted(glob.glob(os.path.join(glob.escape(root), "*", MANIFEST)))
    if not manifests:
        first = f"dmr prepare digits --out {os.path.join(root, 'digits')}"
        yield OK, "data", f"no prepared set in {root}; the smallest: {first}"
    for folder in map(os.path.dirname, manifests):
        try:
            from .data.check import check_quickly

            prepared = open_prepared(folder)
            check_quickly(prepared)
            images = (f"{split.count:,} {name}" for name, split in prepared.splits.items())
            yield OK, "data", f"{prepared.name} in {folder}: {', '.join(images)}"
        except (DMRError, ImportError) as error:
            text, _, remedy = str(error).partition("; ")
            yield PROBLEM, "data", text, remedy or f"dmr check {folder}"
