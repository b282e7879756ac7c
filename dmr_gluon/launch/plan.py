"""Which processes a job has, where they run, and what their environment tells them."""

import os
import re
from dataclasses import dataclass
from typing import Optional

from ..errors import DMRError

#: HOST, HOST:N (MPICH, Horovod) or HOST slots=N (Open MPI). A colon is in IPv6 addresses, too: two
#: at least.
_HOST = re.compile(
    r"(?P<name>[A-Za-z0-9_][\w.@%-]*(?:(?::[\w.@%-]*){2,})?)"
    r"(?:(?::|\s+slots=)(?P<slots>[1-9][0-9]{0,5}))?",
    re.ASCII,
)


@dataclass(frozen=True)
class Host:
    """A machine of a host file. ``slots``: the most workers it takes; None: any number."""

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
        From 0, within the role.
    host : str, optional
        None: this machine.
    """

    role: str
    number: int = 0
    host: Optional[str] = None

    @property
    def name(self):
        """Such as ``worker 1``."""
        return self.role if self.role == "scheduler" else f"{self.role} {self.number}"


def read_hosts(path):
    """Read a host file: a line ``HOST``, ``HOST:N`` or ``HOST slots=N`` for every machine.

    Parameters
    ----------
    path : str
        Empty lines, and what follows a ``#``, are skipped.

    Returns
    -------
    list of Host

    Raises
    ------
    DMRError
        For a file that cannot be read or a line that is something else.
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


def place(workers, servers, hosts=()):
    """Give every process a machine: in turn, but no more workers than a host's slots.

    Parameters
    ----------
    workers, servers : int
    hosts : list of Host
        Empty: all on this machine.

    Returns
    -------
    list of Task
        The scheduler (on the first host), the servers, the workers.

    Raises
    ------
    DMRError
        If the hosts have fewer slots than there are workers.
    """
    names = [host.name for host in hosts] or [None]
    tasks = [Task("scheduler", 0, names[0])]
    tasks += [Task("server", k, names[k % len(names)]) for k in range(servers)]
    places, taken = [], 0
    while len(places) < workers:
        free = [host for host in hosts or [Host(None)] if host.slots is None or host.slots > taken]
        if not free:
            raise DMRError(
                f"the hosts have slots for {len(places)} workers, and -n asks for {workers}; "
                f"add hosts or slots"
            )
        places += [host.name for host in free]
        taken += 1
    return tasks + [Task("worker", k, host) for k, host in enumerate(places[:workers])]


def environment(task, workers, servers, root, port, attempt=0):
    """The variables that tell a process what it is.

    Parameters
    ----------
    task : Task
    workers, servers : int
    root : str
        Name or address at which all processes reach the scheduler.
    port : int
    attempt : int
        How often the job was started before.

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
        # Lines are to appear when they are written, though output is not a terminal.
        "PYTHONUNBUFFERED": os.environ.get("PYTHONUNBUFFERED") or "1",
    }
    if task.role == "worker":
        variables["DMR_WORKER"] = str(task.number)
    else:
        variables["OMP_NUM_THREADS"] = "1"
    if root == "127.0.0.1":
        # MXNet's choice would be another interface, which a single machine may not have.
        variables["DMLC_NODE_HOST"] = root
    elif task.role == "scheduler":
        # Makes the scheduler listen on all interfaces. Otherwise it listens on its root's
        # address only, and cannot do even that if the root is a name.
        variables["DMLC_USE_KUBERNETES"] = "1"
    return variables
