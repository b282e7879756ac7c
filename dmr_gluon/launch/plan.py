"""Plan a job: its processes, their hosts and their environment."""

import os
import re
from dataclasses import dataclass
from typing import Optional

from ..errors import DMRError

#: HOST, HOST:N (MPICH, Horovod) or HOST slots=N (Open MPI). An IPv6 address has two colons or
#: more.
_HOST = re.compile(
    r"(?P<name>[A-Za-z0-9_][\w.@%-]*(?:(?::[\w.@%-]*){2,})?)"
    r"(?:(?::|\s+slots=)(?P<slots>[1-9][0-9]{0,5}))?",
    re.ASCII,
)


@dataclass(frozen=True)
class Host:
    """A machine in a host file.

    Parameters
    ----------
    name : str
    slots : int, optional
        Maximum number of workers; None means no limit.
    """

    name: str
    slots: Optional[int] = None


@dataclass(frozen=True)
class Task:
    """One process of a job.

    Parameters
    ----------
    role : str
        ``scheduler``, ``server`` or ``worker``.
    number : int
        Counted from 0 within the role.
    host : str, optional
        None means this machine.
    """

    role: str
    number: int = 0
    host: Optional[str] = None

    @property
    def name(self):
        """Name for messages, such as ``worker 1``."""
        return self.role if self.role == "scheduler" else f"{self.role} {self.number}"


def read_hosts(path):
    """Read a host file.

    Each line is ``HOST``, ``HOST:N`` or ``HOST slots=N``. Blank lines and comments (``#``) are
    skipped.

    Parameters
    ----------
    path : str

    Returns
    -------
    list of Host

    Raises
    ------
    DMRError
        If the file cannot be read, names no host or has an invalid line.
    """
    try:
        with open(path, encoding="utf-8") as file:
            lines = file.read().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DMRError(f"--hosts {path} cannot be read ({error})") from error
    hosts = []
    for number, line in enumerate(lines, 1):
        text = line.split("#")[0].strip()
        if not text:
            continue
        match = _HOST.fullmatch(text)
        if not match:
            raise DMRError(
                f"{path}, line {number}: {line.strip()!r} is not HOST, HOST:N or HOST slots=N "
                f"(N from 1)"
            )
        name, slots = match.group("name", "slots")
        if name in [host.name for host in hosts]:
            raise DMRError(
                f"{path}, line {number}: {name} is listed twice; write it once, with slots=N"
            )
        hosts.append(Host(name, int(slots) if slots else None))
    if not hosts:
        raise DMRError(f"--hosts {path} names no host; write one a line")
    return hosts


def assign_hosts(workers, servers, hosts=()):
    """Assign every process of a job to a host, round-robin.

    Parameters
    ----------
    workers, servers : int
    hosts : sequence of Host
        Without hosts, everything runs on this machine.

    Returns
    -------
    list of Task
        The scheduler (on the first host), the servers, the workers.

    Raises
    ------
    DMRError
        If the hosts have fewer slots than there are workers.
    """
    hosts = hosts or [Host(None)]
    names = [host.name for host in hosts]
    tasks = [Task("scheduler", 0, names[0])]
    tasks += [Task("server", k, names[k % len(names)]) for k in range(servers)]
    assigned = []
    for taken in range(workers):  # every round gives each host with a free slot one worker
        assigned += [host.name for host in hosts if host.slots is None or host.slots > taken]
    if len(assigned) < workers:
        raise DMRError(
            f"the hosts have slots for {len(assigned)} workers, and -n asks for {workers}; "
            f"add hosts or slots"
        )
    return tasks + [Task("worker", k, host) for k, host in enumerate(assigned[:workers])]


def environment(task, workers, servers, root, port, attempt=0):
    """Return the environment variables that tell a process its role.

    Parameters
    ----------
    task : Task
    workers, servers : int
    root : str
        Name or address under which all processes reach the scheduler.
    port : int
    attempt : int
        Number of earlier starts of the job.

    Returns
    -------
    dict of str
    """
    variables = {
        "DMLC_ROLE": task.role,
        "DMLC_PS_ROOT_URI": root,
        "DMLC_PS_ROOT_PORT": str(port),
        "DMLC_NUM_SERVER": str(servers),
        "DMLC_NUM_WORKER": str(workers),
        "DMR_ATTEMPT": str(attempt),
        # Show lines as they are written, although the output is a pipe.
        "PYTHONUNBUFFERED": os.environ.get("PYTHONUNBUFFERED") or "1",
    }
    if task.role == "worker":
        variables["DMR_WORKER"] = str(task.number)
    else:
        variables["OMP_NUM_THREADS"] = "1"
    if root == "127.0.0.1":
        # MXNet would choose another interface, and a single machine may have none.
        variables["DMLC_NODE_HOST"] = root
    elif task.role == "scheduler":
        # Listen on all interfaces. Otherwise the scheduler listens on the root's address only,
        # and fails if the root is a name.
        variables["DMLC_USE_KUBERNETES"] = "1"
    return variables
