"""Cores, memory, threads and locks of this machine, without importing MXNet."""

import contextlib
import fcntl
import os
import platform
import re
import time

from ..errors import DMRError

#: Folder in which the kernel lists this process's cgroups and mounts.
_PROCESS = "/proc/self"
#: CUDA versions for which MXNet 1.x wheels were published.
_CUDAS = (80, 90, 91, 92, 100, 101, 102, 110, 112)


def usable_cores():
    """Return the number of physical cores that affinity and cgroup quotas allow this process."""
    if not hasattr(os, "sched_getaffinity"):  # not Linux
        return os.cpu_count() or 1
    allowed = os.sched_getaffinity(0)
    cores = set()
    for cpu in allowed:
        siblings = f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list"
        cores.add(_read(siblings) or str(cpu))
    count = len(cores)
    for folder in _cgroups("cpu"):
        quota, _, period = _read(f"{folder}/cpu.max").partition(" ")
        if not period:  # version 1
            quota = _read(f"{folder}/cpu.cfs_quota_us")
            period = _read(f"{folder}/cpu.cfs_period_us")
        if quota.isdigit() and period.isdigit() and int(period) > 0:
            count = min(count, int(quota) // int(period))
    return max(1, count)


def check_threads():
    """Validate the variables that set thread counts: MXNet aborts on values it cannot parse.

    Of a list such as ``4,2``, which OpenMP allows for nested parallelism, the first number is
    kept. An empty variable is removed.

    Raises
    ------
    DMRError
        If a value is not a valid number of threads.
    """
    for name in [*filter(_COUNT.fullmatch, os.environ)]:
        text = os.environ[name].strip()
        first = text.split(",")[0].strip() if name == "OMP_NUM_THREADS" else text
        if not text:
            del os.environ[name]
        elif re.fullmatch(r"\+?0*[1-9][0-9]{0,3}", first):
            os.environ[name] = first
        elif first != "0" or name not in _MAY_BE_0:
            raise DMRError(
                f"{name}={os.environ[name]} is not a whole number from 1 to 9999; correct it, or "
                f"unset {name}"
            )


#: Variables that MXNet parses as a number of threads or workspaces.
_COUNT = re.compile("OMP_NUM_THREADS|MXNET_[A-Z_]*(THREADS|TEMP_COPY)")
_MAY_BE_0 = ("MXNET_MP_OPENCV_NUM_THREADS", "MXNET_MP_WORKER_NTHREADS", "MXNET_OMP_MAX_THREADS")

#: Temporary workspaces per CPU context. Four suffice on two cores; more cost a few MiB
#: (benchmarks/cpu_contexts.py).
_WORKSPACES = 16


def share_cores(contexts):
    """Let several CPU contexts compute in parallel. Call this before MXNet is imported.

    Each context gets an equal share of the cores. By default, all CPU contexts share four
    temporary workspaces, and every convolution locks one, which serialises their forward passes.
    Variables that the user has set are kept.

    Parameters
    ----------
    contexts : int
        Number of CPU contexts.
    """
    check_threads()
    if contexts > 1:
        os.environ.setdefault("OMP_NUM_THREADS", str(max(1, usable_cores() // contexts)))
        os.environ.setdefault("MXNET_CPU_TEMP_COPY", str(_WORKSPACES * contexts))


def processor():
    """Return the model name of the processor."""
    lines = _read("/proc/cpuinfo").splitlines()
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.machine()


def memory():
    """Return the size of main memory.

    Returns
    -------
    dict of str to int
        In bytes: ``total``; ``available`` to this process without swapping; ``limit``, the
        smallest of its cgroups, or None.
    """
    found = dict(re.findall(r"^(\w+):\s+(\d+) kB$", _read("/proc/meminfo"), re.MULTILINE))
    total, available = (int(found.get(name, 0)) << 10 for name in ("MemTotal", "MemAvailable"))
    limits = []
    for folder in _cgroups("memory"):
        # Version 1 reports a huge number where there is no limit.
        files = ("memory.max", "memory.high", "memory.limit_in_bytes")
        most = [int(n) for n in (_read(f"{folder}/{name}") for name in files) if n.isdigit()]
        if min(most, default=total) >= total:
            continue
        limits.append(min(most))
        used = _read(f"{folder}/memory.current") or _read(f"{folder}/memory.usage_in_bytes")
        # The page cache counts as used, but can be reclaimed. Version 1 ends with totals that
        # include the groups below.
        stat = _read(f"{folder}/memory.stat")
        cached = re.findall(r"^(?:total_)?inactive_file (\d+)$", stat, re.M) or [0]
        if used.isdigit():
            available = max(0, min(available, limits[-1] - int(used) + int(cached[-1])))
    return {"total": total, "available": available, "limit": min(limits, default=None)}


def installed_wheels():
    """Return the versions of the installed MXNet wheels by name, such as ``mxnet-cu112``."""
    from importlib import metadata  # slow: a tenth of dmr --help

    found = {}
    for name in ("mxnet", *(f"mxnet-cu{cuda}" for cuda in _CUDAS)):
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def lock(file, patience=0.0):
    """Lock an open file or folder. The kernel releases the lock when the process ends.

    Parameters
    ----------
    file : file or int
        File object or descriptor.
    patience : float
        Seconds to wait for another process that may be about to end.

    Returns
    -------
    bool or None
        False if another process holds the lock; None if the file system has no locks.
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


def _cgroups(controller):
    """Yield the folders of this process's cgroup and its ancestors, any of which may set a limit.

    Parameters
    ----------
    controller : str
        ``cpu`` or ``memory``. A system may use cgroup versions 1 and 2 at the same time.
    """
    own = {}  # paths by controller; the single path of version 2 has an empty name
    for line in _read(f"{_PROCESS}/cgroup").splitlines():
        controllers, _, path = line.partition(":")[2].partition(":")
        own.update(dict.fromkeys(controllers.split(","), path))
    for line in _read(f"{_PROCESS}/mountinfo").splitlines():
        before, _, after = line.partition(" - ")
        root, mount = before.split(" ")[3:5]
        kind, *_, options = after.split(" ")
        name = "" if kind == "cgroup2" else controller
        if name not in own or kind not in ("cgroup", "cgroup2"):
            continue
        if kind == "cgroup" and controller not in options.split(","):
            continue
        # In a container, the path may be the host's; only the part below the root is mounted.
        path = os.path.relpath(own[name], root)
        names = [] if path.split("/")[0] in (".", "..") else path.split("/")
        for depth in range(len(names), -1, -1):
            yield os.path.join(mount, *names[:depth])


def _read(path):
    try:
        with open(path, errors="surrogateescape") as file:
            return file.read().strip()
    except OSError:
        return ""
