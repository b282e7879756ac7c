"""From facts to findings: what is in order, what is not, and what mends it. Needs no MXNet."""

import re
from dataclasses import dataclass

from ..system import cuda
from ..system.text_tables import counted

OK, WARNING, PROBLEM = "ok", "warning", "problem"
#: The MXNet for which this project is written, the last there is.
_MXNET = "1.9.1"
_PYTHONS = ((3, 8), (3, 12))
#: Bytes below which a disk is about to be full: some checkpoints of the largest network.
_LITTLE = 2 << 30
#: Files that a job with many servers and workers holds open at once.
_FEW_FILES = 256


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Parameters
    ----------
    level : str
        ``ok``; ``warning``: it works, but not as it could; ``problem``: it does not work.
    subject : str
        ``Python``, ``memory``, ...
    text : str
        What was found.
    mend : str, optional
        A command, or what else to do.
    """

    level: str
    subject: str
    text: str
    mend: str = ""


def judge(facts):
    """What the facts say.

    Parameters
    ----------
    facts : dict
        As :func:`.facts.gather` returns it.

    Returns
    -------
    list of Finding
        From the ground up: what stands further up may be the reason for what stands below.
    """
    found = []
    for look in (
        *(_python, _packages, _opencv, _wheels, _mxnet, _cpu, _threads, _variables),
        *(_gpus, _memory, _files, _disk, _data),
    ):
        found += look(facts)
    return found


def _python(facts):
    python, system = facts["python"], facts["system"]
    version = tuple(map(int, re.findall(r"\d+", python["version"])[:2]))
    what = f"{python['implementation']} {python['version']} on {system['system']} "
    what += f"{system['machine']} ({python['executable']})"
    fits = python["implementation"] == "CPython" and _PYTHONS[0] <= version <= _PYTHONS[1]
    if not fits or (system["system"], system["machine"]) != ("Linux", "x86_64"):
        mend = "MXNet has wheels for CPython 3.8 to 3.12 on Linux x86_64: use one"
        yield Finding(PROBLEM, "Python", what, f"{mend} (make install PYTHON=python3.11)")
    else:
        yield Finding(OK, "Python", what)


def _packages(facts):
    asked = facts["requirements"]
    if asked is None:
        text = "dmr-gluon is imported from its folder, and not installed: versions are not checked"
        yield Finding(WARNING, "packages", text, "pip install -e '.[cpu]'")
        return
    missing, wrong = [], {}
    for one in asked:
        extra = _EXTRAS.get(one["extra"])
        if one["fits"] or (one["extra"] and extra not in facts["packages"]):
            continue
        name = f"{one['name']}{one['asks']}"
        if one["has"] is not None:
            wrong.setdefault(one["name"], (one, name))
        elif not one["extra"] and not _stands_in(one, facts):
            # What an extra lacks, its user will be told.
            missing.append(name)
    for one, name in wrong.values():
        level, whose = (WARNING, f" for {one['extra']}") if one["extra"] else (PROBLEM, "")
        text = f"{one['name']} {one['has']} is installed; dmr-gluon asks{whose} for {one['asks']}"
        yield Finding(level, "packages", text, f"pip install '{name}'")
    if missing:
        command = "pip install " + " ".join(f"'{name}'" for name in missing)
        yield Finding(PROBLEM, "packages", f"not installed: {', '.join(missing)}", command)
    if not missing and not wrong:
        packages = facts["packages"]
        shown = [f"{name} {packages[name]}" for name in ("numpy", "matplotlib") if name in packages]
        yield Finding(OK, "packages", f"as dmr-gluon asks for them: {', '.join(shown)}, ...")


#: The package whose presence says that an extra is in use. MXNet's own are looked at below.
_EXTRAS = {
    "digits": "scikit-learn",
    "gluoncv": "gluoncv",
    "onnx": "onnx",
    "tensorboard": "tensorboardx",
}


def _stands_in(one, facts):
    return one["name"] == "opencv-python-headless" and "opencv-python" in facts["packages"]


def _opencv(facts):
    names = [
        n for n in facts["packages"] if re.fullmatch(r"opencv(-contrib)?-python(-headless)?", n)
    ]
    versions = {facts["packages"][name] for name in names}
    if len(versions) > 1:
        text = " and ".join(f"{name} {facts['packages'][name]}" for name in names)
        mend = f"pip uninstall -y {' '.join(names)} && pip install 'opencv-python-headless<4.9'"
        yield Finding(WARNING, "OpenCV", f"{text} overwrite each other's files", mend)


def _wheels(facts):
    wheels = facts["wheels"]
    if len(wheels) > 1:
        text = f"{' and '.join(wheels)} are installed, and each overwrites the others' files"
        mend = f"pip uninstall -y {' '.join(wheels)} && pip install mxnet==1.9.1"
        yield Finding(PROBLEM, "MXNet", text, f"{mend} (or mxnet-cu112==1.9.1)")
    elif not wheels and "MXNet is not installed" in (facts["mxnet"].get("error") or ""):
        mend = "pip install mxnet==1.9.1 (for GPUs mxnet-cu112==1.9.1)"
        yield Finding(PROBLEM, "MXNet", "it is not installed", mend)
    for name, version in wheels.items():
        if version != _MXNET:
            text = f"{name} {version} is not the {_MXNET} that this is written and tested for"
            yield Finding(WARNING, "MXNet", text, f"pip install {name}=={_MXNET}")


def _mxnet(facts):
    tried, wheels = facts["mxnet"], facts["wheels"]
    if tried.get("skipped"):
        role = facts["environment"].get("DMLC_ROLE")
        text = f"DMLC_ROLE={role} is set: importing MXNet would serve, and never return"
        yield Finding(PROBLEM, "MXNet", text, "unset DMLC_ROLE")
        return
    again = f"pip install --force-reinstall --no-deps {next(iter(wheels), 'mxnet')}=={_MXNET}"
    error = tried.get("error") or "no answer"
    if "version" not in tried or tried.get("cpu") is None:
        # Several wheels, or none, are a finding of their own.
        if len(wheels) < 2 and "MXNet is not installed" not in error:
            why, _, mend = error.partition("; ")
            stage = "cannot be imported" if "version" not in tried else "cannot train"
            yield Finding(PROBLEM, "MXNet", f"{stage}: {why}", mend or again)
        return
    where = " and ".join(wheels) or f"from {tried['path']}"
    text = f"{tried['version']} ({where}), imported in {tried['seconds']:.1f} s"
    if tried["cpu"] != "ok":
        yield Finding(PROBLEM, "MXNet", f"{text}, fails: {tried['cpu']}", again)
        return
    features = ", ".join(n for n in ("CUDA", "CUDNN", "MKLDNN", "OPENCV") if n in tried["features"])
    yield Finding(OK, "MXNet", f"{text}; trains on the CPU; built with {features}")
    for name, what in (("MKLDNN", "oneDNN, which makes it fast on CPUs"), ("OPENCV", "OpenCV")):
        if name not in tried["features"]:
            text = f"this build has no {what}"
            yield Finding(WARNING, "MXNet", text, f"pip install mxnet=={_MXNET}")
    if tried.get("error"):
        on_gpus = tried.get("gpus") is not None
        mend = "see the findings on GPUs" if on_gpus else again
        yield Finding(PROBLEM, "MXNet", f"after training on the CPU: {tried['error']}", mend)


def _cpu(facts):
    processor = facts["processor"]
    text = f"{processor['name']}, {counted(processor['cores'], 'usable core')}"
    if "avx2" in processor["instructions"]:
        yield Finding(OK, "processor", f"{text}, {', '.join(processor['instructions'])}")
    else:
        mend = "train on another machine, or on GPUs"
        yield Finding(WARNING, "processor", f"{text}, without AVX2: slow convolutions", mend)


def _threads(facts):
    cores, text = facts["processor"]["cores"], facts["environment"].get("OMP_NUM_THREADS", "")
    if not text.strip():
        yield Finding(OK, "threads", f"{cores}, one for each usable core")
        return
    first = text.split(",")[0].strip()
    if not first.isdigit() or int(first) < 1:
        yield Finding(
            WARNING, "threads", f"OMP_NUM_THREADS={text} is no number", "unset OMP_NUM_THREADS"
        )
    elif int(first) > cores:
        text = (
            f"OMP_NUM_THREADS={first} on {counted(cores, 'usable core')}: they wait for each other"
        )
        yield Finding(WARNING, "threads", text, "unset OMP_NUM_THREADS")
    elif int(first) < cores:
        text = f"OMP_NUM_THREADS={first} leaves {cores - int(first)} of {cores} usable cores idle"
        yield Finding(WARNING, "threads", text, "unset OMP_NUM_THREADS")
    else:
        yield Finding(OK, "threads", f"OMP_NUM_THREADS={first}, one for each usable core")


#: Variables with values that cost somebody a day, and why.
_TRAPS = (
    ("MXNET_ENGINE_TYPE", "NaiveEngine", "no two operators run at the same time"),
    ("MXNET_SUBGRAPH_BACKEND", "NONE", "bound symbols are not fused, and so slower"),
    ("MXNET_EXEC_BULK_EXEC_TRAIN", "0", "each operator is started by itself"),
    ("MXNET_BACKWARD_DO_MIRROR", "1", "it saves no memory with hybridized networks"),
    ("DMLC_ROLE", "worker", "a training waits for the servers of a job (dmr launch sets it)"),
)


def _variables(facts):
    for name, value, why in _TRAPS:
        if facts["environment"].get(name) == value:
            yield Finding(WARNING, "variables", f"{name}={value}: {why}", f"unset {name}")


def _gpus(facts):
    there, cu112 = facts["cuda"]["driver"], "mxnet-cu112" in facts["wheels"]
    gpus = there["gpus"] if there else []
    if len(facts["wheels"]) > 1:
        return  # which of them it is, is not known
    if not cu112 and "CUDA" in facts["mxnet"].get("features", ()):
        text = "this MXNet is built for a CUDA that is not known here, nor tested"
        yield Finding(WARNING, "GPUs", text, "make install EXTRA=cu112")
    elif not cu112:
        if gpus:
            names = ", ".join(gpu["name"] for gpu in gpus)
            text = f"{names}: the MXNet that is installed is for CPUs only"
            if any(gpu["runs"] for gpu in gpus):
                yield Finding(WARNING, "GPUs", text, "make install EXTRA=cu112")
            else:
                low, high = map(cuda.dotted, (cuda.OLDEST, cuda.NEWEST))
                text = (
                    f"{names}: MXNet {_MXNET} has code for compute capability {low} to {high} only"
                )
                yield Finding(OK, "GPUs", f"{text}; the CPU is used")
        else:
            yield Finding(OK, "GPUs", "none; the CPU is used")
    if not cu112:
        return
    packages = dict(cuda.LIBRARIES)
    missing = [name for name, path in facts["cuda"]["libraries"].items() if path is None]
    if missing:
        mend = "pip install " + " ".join(dict.fromkeys(packages[name] for name in missing))
        yield Finding(PROBLEM, "CUDA", f"libraries are nowhere: {', '.join(missing)}", mend)
    else:
        own = [path for path in facts["cuda"]["libraries"].values() if path != "the system's"]
        count = len(packages)
        text = f"all {count} libraries found, {len(own)} of them in PyPI's packages"
        yield Finding(OK, "CUDA", text)
    if there is None:
        mend = "install NVIDIA's driver, or for the CPU: pip uninstall -y mxnet-cu112 && "
        text = "there is no driver (libcuda.so.1), without which mxnet-cu112 cannot be imported"
        yield Finding(PROBLEM, "GPUs", text, f"{mend}pip install mxnet=={_MXNET}")
        return
    if there["cuda"] and tuple(map(int, there["cuda"].split("."))) < cuda.CUDA:
        needs = cuda.dotted(cuda.CUDA)
        text = f"the driver supports CUDA up to {there['cuda']}, mxnet-cu112 needs {needs}"
        yield Finding(PROBLEM, "GPUs", text, "install a driver of version 450.80 or later")
    if there["error"] or not gpus:
        text = f"the driver finds no GPU ({there['error'] or 'there is none'})"
        visible = facts["environment"].get("CUDA_VISIBLE_DEVICES")
        mend = "see nvidia-smi" if visible is None else "unset CUDA_VISIBLE_DEVICES"
        yield Finding(PROBLEM, "GPUs", text, mend)
    tried = facts["mxnet"].get("gpus") or {}
    for gpu in gpus:
        yield _gpu(gpu, tried.get(str(gpu["number"])))


def _gpu(gpu, tried):
    memory = f", {gigabytes(gpu['memory'])}" if gpu["memory"] else ""
    text = f"{gpu['number']}: {gpu['name']}{memory}, compute capability {gpu['capability']}"
    if not gpu["runs"]:
        low, high = map(cuda.dotted, (cuda.OLDEST, cuda.NEWEST))
        text = f"{text}: mxnet-cu112 has code for {low} to {high} only"
        return Finding(PROBLEM, "GPUs", text, "leave it out with --gpus, or use the CPU")
    if tried is None:
        return Finding(WARNING, "GPUs", f"{text}, was not tried", "see the findings on MXNet")
    if tried != "ok":
        return Finding(PROBLEM, "GPUs", f"{text}: {tried}", "see nvidia-smi; is it free?")
    return Finding(OK, "GPUs", f"{text}, trains")


def _memory(facts):
    memory = facts["memory"]
    text = f"{gigabytes(memory['available'])} of {gigabytes(memory['total'])} available"
    if memory["limit"] is not None:
        text += f" (limited to {gigabytes(memory['limit'])})"
    if memory["available"] < 1 << 30:
        yield Finding(WARNING, "memory", text, "end other programs")
    else:
        yield Finding(OK, "memory", text)


def _files(facts):
    most = facts["open_files"]
    if 0 <= most < _FEW_FILES:
        yield Finding(WARNING, "files", f"a process may open only {most} files", "ulimit -n 4096")


def _disk(facts):
    disk = facts["disk"]["runs"]
    text = f"{gigabytes(disk['free'])} free in {disk['path']}"
    if disk["free"] < _LITTLE:
        yield Finding(WARNING, "disk", text, "make room, or name another --run-dir")
    else:
        yield Finding(OK, "disk", text)


def _data(facts):
    root, sets, error = (facts["data"][name] for name in ("root", "sets", "error"))
    if error:
        yield Finding(PROBLEM, "data", error, "see the findings on packages")
    elif not sets:
        mend = "dmr prepare digits --out " + root.rstrip("/") + "/digits"
        yield Finding(OK, "data", f"no prepared set in {root}; the smallest: {mend}")
    for one in sets:
        images = ", ".join(f"{count:,} {kind}" for kind, count in one["images"].items())
        if one["problem"]:
            what, _, mend = one["problem"].partition("; ")
            yield Finding(PROBLEM, "data", what, mend or f"dmr check {one['folder']}")
        else:
            yield Finding(OK, "data", f"{one['name']} in {one['folder']}: {images}")


def gigabytes(count):
    """Bytes as ``3.4 GB``."""
    return f"{count / 1e9:.1f} GB"
