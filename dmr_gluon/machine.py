"""What this machine has and can do, without importing MXNet."""

import contextlib
import fcntl
import os
import platform
import time
from importlib import metadata


def usable_cores():
    """Physical cores that this process may use: affinity and cgroup quota respected."""
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


def processor():
    """Its model's name, as the kernel has it."""
    lines = _read("/proc/cpuinfo").splitlines()
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.machine()


def installed_wheels():
    """Names and versions of the MXNet wheels that are installed."""
    found = {}
    for name in ("mxnet", "mxnet-cu112"):
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
    bool
        False where another process keeps it. True also on a file system that has no locks.
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
        except OSError:  # a file system that has no locks
            return True


def _read(path):
    try:
        with open(path) as file:
            return file.read().strip()
    except OSError:
        return ""
