"""Plan a job: its processes, their hosts and their environment."""

import os
from dataclasses import dataclass
from typing import Optional

from ..errors import DMRError


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
    """Read a host file: a host a line; blank lines and comments (``#``) are skipped.

    Parameters
    ----------
    path : str

    Returns
    -------
    list of str

    Raises
    ------
    DMRError
        If the file cannot be read, names no host or has a line with more than a host.
    """
    try:
        with open(path, encoding="utf-8") as file:
            lines = [line.split("#")[0].split() for line in file]
    except (OSError, UnicodeDecodeError) as error:
        raise DMRError(f"--hosts {path} cannot be read ({error})") from error
    for number, words in enumerate(lines, 1):
        if len(words) > 1:
            raise DMRError(
                f"{path}, line {number}: {words[1]!r} is not read; write one host a line, twice "
                f"if it takes twice as many processes"
            )
    hosts = [words[0] for words in lines if words]
    if not hosts:
        raise DMRError(f"--hosts {path} names no host; write one a line")
    return hosts


def assign_hosts(workers, servers, hosts=()):
    """Assign every process of a job to a host, round-robin.

    Parameters
    ----------
    workers, servers : int
    hosts : sequence of str
        Without hosts, everything runs on this machine.

    Returns
    -------
    list of Task
        The scheduler (on the first host), the servers, the workers.
    """
    hosts = hosts or [None]
    counts = {"scheduler": 1, "server": servers, "worker": workers}
    return [
        Task(role, number, hosts[number % len(hosts)])
        for role, count in counts.items()
        for number in range(count)
    ]


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
