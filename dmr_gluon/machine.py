"""What this machine has and can do, without importing MXNet."""

import contextlib
import fcntl
import os
import platform
import re
import time

#: Versions of CUDA for which there are, or were, wheels of MXNet 1.x.
_CUDAS = (80, 90, 91, 92, 100, 101, 102, 110, 112)


def usable_cores():
    """Physical cores that this process may use: affinity and cgroup quota respected."""
    if not hasattr(os, "sched_getaffinity"):  # not Linux, for which alone MXNet's wheels are
        return os.cpu_count() or 1
    allowed = os.sched_getaffinity(0)
    cores = set()
    for cpu in allowed:
        siblings = f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list"
        cores.add(_read(siblings) or str(cpu))
    quota, period = (_read("/sys/fs/cgroup/cpu.max").split() + ["max", "0"])[:2]
    if quota == "max":
        quota = _read("/sys/fs/cgroup/cpu/cpu.cfs_quota_us")
        period = _read("/sys/fs/cgroup/cpu/cpu.cfs_period_us")
    if quota.isdigit() and period.isdigit() and int(period) > 0:
        return max(1, min(len(cores), int(quota) // int(period)))
    return len(cores)


#: Temporary workspaces of MXNet's CPU contexts, for each of them. Four would do on two cores; more
#: cost a few MiB (benchmarks/cpu_contexts.py).
_WORKSPACES = 16


def share_cores(contexts):
    """Let several CPU contexts compute side by side; to be called before MXNet is imported.

    Each gets its share of the cores. MXNet gives all of them together four temporary workspaces,
    one of which every convolution locks, so that their forward passes would wait for each other.
    A variable that the user has set is never changed.

    Parameters
    ----------
    contexts : int
    """
    if contexts > 1:
        os.environ.setdefault("OMP_NUM_THREADS", str(max(1, usable_cores() // contexts)))
        os.environ.setdefault("MXNET_CPU_TEMP_COPY", str(_WORKSPACES * contexts))


def processor():
    """Its model's name, as the kernel has it."""
    lines = _read("/proc/cpuinfo").splitlines()
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.machine()


def instructions():
    """What of vector and matrix instructions it has that oneDNN makes use of."""
    flags = re.search(r"^flags\s*:(.*)$", _read("/proc/cpuinfo"), re.MULTILINE)
    known = ("sse4_1", "avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16")
    return [name for name in known if flags and name in flags.group(1).split()]


def memory():
    """Bytes of main memory.

    Returns
    -------
    dict
        ``total``; ``available``, without swapping, to this process; ``limit`` of its cgroup, or
        None.
    """
    found = dict(re.findall(r"^(\w+):\s+(\d+) kB$", _read("/proc/meminfo"), re.MULTILINE))
    total, available = (int(found.get(name, 0)) << 10 for name in ("MemTotal", "MemAvailable"))
    limit = used = ""
    for folder, most, now in (
        ("/sys/fs/cgroup", "memory.max", "memory.current"),
        ("/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes"),
    ):
        limit, used = _read(f"{folder}/{most}"), _read(f"{folder}/{now}")
        if limit:
            break
    # Version 1 writes a number beyond any memory where there is no limit.
    limit = int(limit) if limit.isdigit() and int(limit) < total else None
    if limit is not None and used.isdigit():
        # Files that were read and written count as used, and are given up when need be.
        cached = re.search(
            r"^(?:total_)?inactive_file (\d+)$", _read(f"{folder}/memory.stat"), re.M
        )
        used = int(used) - (int(cached.group(1)) if cached else 0)
        available = max(0, min(available, limit - used))
    return {"total": total, "available": available, "limit": limit}


def installed_wheels():
    """Names and versions of the MXNet wheels that are installed, for whatever CUDA."""
    from importlib import metadata  # a tenth of the time of dmr --help

    found = {}
    for name in ("mxnet", *(f"mxnet-cu{cuda}" for cuda in _CUDAS)):
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def lock(file, patience=0.0):
    """Lock an open file or folder for this process, which lets go of it however it ends.

    Parameters
    ----------
    file : file or int
    patience : float
        Seconds to wait for another process, which may just be ending.

    Returns
    -------
    bool or None
        False where another process keeps it; None where the file system has no locks.
    """
    latest = time.monotonic() + patience
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() >= latest:
                return False
            time.sleep(0.1)
        except OSError:
            return None


def _read(path):
    try:
        with open(path) as file:
            return file.read().strip()
    except OSError:
        return ""
