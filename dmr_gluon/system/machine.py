"""Cores, memory, threads and locks of this machine, without importing MXNet."""

import contextlib
import fcntl
import os
import platform
import re
import sys
import time

from ..errors import DMRError
from .signals import say

#: Folder of this process, and folder in which the controllers of cgroups are mounted.
_PROCESS, _CGROUPS = "/proc/self", "/sys/fs/cgroup"
_SIBLINGS = "/sys/devices/system/cpu/cpu{}/topology/thread_siblings_list"
#: CUDA versions for which MXNet 1.x wheels were published.
_CUDAS = (80, 90, 91, 92, 100, 101, 102, 110, 112)
#: Variables that MXNet parses as a number of threads or workspaces.
_COUNT = re.compile("OMP_NUM_THREADS|MXNET_[A-Z_]*(THREADS|TEMP_COPY)")
_MAY_BE_0 = ("MXNET_MP_OPENCV_NUM_THREADS", "MXNET_MP_WORKER_NTHREADS", "MXNET_OMP_MAX_THREADS")


def usable_cores():
    """Return the number of physical cores that affinity and cgroup quotas allow this process."""
    count = len({_read(_SIBLINGS.format(cpu)) or cpu for cpu in os.sched_getaffinity(0)})
    for folder in _cgroups():
        quota, _, period = _read(f"{folder}/cpu.max").partition(" ")
        if not period:  # version 1
            quota, period = (_read(f"{folder}/cpu.cfs_{name}_us") for name in ("quota", "period"))
        if quota.isdigit() and period.isdigit():
            count = min(count, int(quota) // int(period))
    return max(1, count)


def check_threads():
    """Validate the variables that set thread counts: MXNet aborts on values it cannot parse.

    An empty variable is removed.

    Raises
    ------
    DMRError
        If a value is not a number of threads.
    """
    for name in list(filter(_COUNT.fullmatch, os.environ)):
        text, least = os.environ[name], 0 if name in _MAY_BE_0 else 1
        if not text:
            del os.environ[name]
        elif not re.fullmatch("[0-9]{1,4}", text) or int(text) < least:
            raise DMRError(f"{name}={text} is not a number from {least} to 9999; unset {name}")


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
    for name, value in cpu_environment(contexts).items() if contexts > 1 else ():
        os.environ.setdefault(name, value)


def cpu_environment(contexts):
    """Return the variables with which so many CPU contexts share the cores, by name."""
    return {
        "OMP_NUM_THREADS": str(max(1, usable_cores() // contexts)),
        "MXNET_CPU_TEMP_COPY": str(min(9999, _WORKSPACES * contexts)),
    }


def warn_of_shared_cores(contexts):
    """Warn of CPU contexts with more threads than cores, which are several times slower.

    Parameters
    ----------
    contexts : int
        Number of CPU contexts; MXNet has been imported.
    """
    threads, cores = int(os.environ.get("OMP_NUM_THREADS") or 1), usable_cores()
    if contexts > 1 and threads > 1 and contexts * threads > cores:
        say(
            f"warning: {contexts} CPU contexts of {threads} threads each share {cores} cores and "
            f"slow each other down; unset OMP_NUM_THREADS, and in a program of your own call "
            f"dmr_gluon.system.machine.share_cores({contexts}) before anything imports MXNet",
            sys.stderr,
        )


def processor():
    """Return the model name of the processor."""
    found = re.search(r"^model name\s*: (.*)$", _read("/proc/cpuinfo"), re.MULTILINE)
    return found[1] if found else platform.machine()


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


def _cgroups():
    """Yield the folders of this process's cgroup and its ancestors: any may limit the cores."""
    for line in _read(f"{_PROCESS}/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        # Version 2 has no controllers in its line, and a single hierarchy.
        root = os.path.join(_CGROUPS, "cpu") if controllers else _CGROUPS
        # In a container, the path may be the host's and not exist. Its limits are in the root.
        names = path.strip("/").split("/")
        for depth in range(len(names), -1, -1):
            yield os.path.join(root, *names[:depth])


def _read(path):
    try:
        with open(path, errors="surrogateescape") as file:
            return file.read().strip()
    except OSError:
        return ""
