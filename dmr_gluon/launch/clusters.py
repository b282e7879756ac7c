"""Being one process of a job that Slurm, MPI or Kubernetes has started."""

import os
import re
import signal
import socket
import subprocess
import time

from ..errors import DMRError
from .plan import Task, environment

#: The variables that hold a process's number and, where there is one, how many there are.
_NUMBERS = {
    "slurm": [("SLURM_PROCID", "SLURM_NTASKS")],
    "mpi": [("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"), ("PMI_RANK", "PMI_SIZE")],
    "kubernetes": [("JOB_COMPLETION_INDEX", None)],
}

#: Seconds in which Kubernetes makes the name of a pod known.
_NAMING = 120


def find_task(kind, workers, servers, variables=os.environ):
    """What this process is: number 0 is the scheduler, then come the servers, then the workers.

    Parameters
    ----------
    kind : str
        ``slurm``, ``mpi`` or ``kubernetes``.
    workers, servers : int
    variables : mapping, optional
        Default: the environment.

    Returns
    -------
    Task

    Raises
    ------
    DMRError
        If the variables are missing, or the job has another number of processes.
    """
    known = [pair for pair in _NUMBERS[kind] if pair[0] in variables]
    if not known:
        names = " or ".join(number for number, _ in _NUMBERS[kind])
        raise DMRError(f"--from-env {kind}: {names} is not set; is this a process of such a job?")
    number_name, size_name = known[0]
    number = _count(number_name, variables)
    needed = 1 + servers + workers
    size = _count(size_name, variables) if size_name and size_name in variables else None
    if (size is not None and size != needed) or number >= needed:
        found = f"{size_name} is {size}" if size is not None else f"{number_name} is {number}"
        raise DMRError(
            f"--from-env {kind}: a scheduler, {servers} servers and {workers} workers are "
            f"{needed} processes, but {found}; start that many, or change -n and -s"
        )
    if number == 0:
        return Task("scheduler")
    if number <= servers:
        return Task("server", number - 1)
    return Task("worker", number - 1 - servers)


def _count(name, variables):
    if not re.fullmatch("[0-9]+", variables[name]):
        raise DMRError(f"{name} is {variables[name]!r}, which is not a number")
    return int(variables[name])


def find_root(kind, variables=os.environ):
    """Where process 0 runs: known without being told only under Slurm.

    Parameters
    ----------
    kind : str
        As for :func:`find_task`.
    variables : mapping, optional

    Returns
    -------
    str
        The host's name.

    Raises
    ------
    DMRError
        Where it is not known.
    """
    nodes = variables.get("SLURM_STEP_NODELIST") or variables.get("SLURM_JOB_NODELIST")
    if kind == "slurm" and nodes:
        try:
            return subprocess.check_output(
                ["scontrol", "show", "hostnames", nodes], universal_newlines=True
            ).split()[0]
        except (OSError, subprocess.CalledProcessError, IndexError) as error:
            raise DMRError(
                f"scontrol does not say which hosts {nodes!r} are ({error}); "
                f"name the first one: --root HOST"
            ) from error
    raise DMRError(f"--from-env {kind} needs the host of process 0: --root HOST")


def attempt_number(variables=os.environ):
    """How often this job was started before: told by the user, or counted by Slurm."""
    name = "DMR_ATTEMPT" if "DMR_ATTEMPT" in variables else "SLURM_RESTART_COUNT"
    return _count(name, variables) if name in variables else 0


def become(kind, task, command, workers, servers, root, port):
    """Turn this process into one of the job's; returns only by raising.

    Parameters
    ----------
    kind : str
    task : Task
    command : list of str
        What this task runs.
    workers, servers : int
    root : str
    port : int

    Raises
    ------
    DMRError
        If the root's name is unknown or the command cannot be started.
    """
    _wait_for_name(root, _NAMING if kind == "kubernetes" else 0)
    os.environ.update(environment(task, workers, servers, root, port, attempt_number()))
    if task.role != "worker":
        # A job is ended with SIGTERM to all of its processes, then SIGKILL. The workers use
        # the time between for a last step and a checkpoint, and the step needs the others.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        os.execvp(command[0], command)
    except OSError as error:
        raise DMRError(f"{command[0]} cannot be started ({error.strerror})") from error


def _wait_for_name(root, seconds):
    deadline = time.monotonic() + seconds
    while True:
        try:
            socket.getaddrinfo(root, None)
            return
        except OSError as error:
            if time.monotonic() >= deadline:
                raise DMRError(
                    f"the scheduler's host {root} is not known here ({error}); correct --root"
                ) from error
            time.sleep(1)
