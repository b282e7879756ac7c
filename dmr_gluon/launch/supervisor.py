"""Start the processes of a job, watch them, and end them together."""

import contextlib
import os
import queue
import random
import shlex
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from typing import Optional, Tuple

from ..system import program as child
from ..system.signals import handled, to_nowhere
from .plan import assign_hosts, environment

#: Command of the scheduler and the servers: MXNet serves inside its own import, then exits.
SERVE = tuple(child.command("dmr_gluon.runtime"))

#: Never prompt, and notice within half a minute that a host is gone.
_SSH = ("ssh", "-o", "BatchMode=yes", "-o", "ServerAliveInterval=10", "--")
#: Variables that processes on other hosts get too, besides those of their role.
_PASSED = ("PYTHONPATH", "LD_LIBRARY_PATH", "OMP_", "DMR_", "DMLC_", "MXNET_", "NCCL_", "PS_")

#: Seconds within which the end of a worker counts as the cause of the end of a server.
_TOGETHER = 1
#: Seconds that a guardian gets to end its command, which in turn gets three.
_STOPPING = 8
#: Range of the scheduler's port, below the ephemeral ports of common systems.
_PORTS = (20000, 30000)

#: Held while a line is written: many threads write to standard output and error.
_WRITING = threading.Lock()


@dataclass(frozen=True)
class Job:
    """A job to start.

    Parameters
    ----------
    command : tuple of str
        Command line of every worker.
    workers, servers : int
    hosts : tuple of str
        Without hosts, everything runs on this machine, without ssh.
    root : str, optional
        Address under which the processes reach the scheduler. Default: the name of the first
        host, or 127.0.0.1.
    max_restarts : int
    grace : float
        Seconds that the workers get to save and end after SIGTERM.
    serve : tuple of str
        Command line of the scheduler and the servers.
    """

    command: Tuple[str, ...]
    workers: int
    servers: int
    hosts: Tuple[str, ...] = ()
    root: Optional[str] = None
    max_restarts: int = 0
    grace: float = 60
    serve: Tuple[str, ...] = SERVE


def launch(job):
    """Run a job to its end, restarting it as often as it allows.

    Parameters
    ----------
    job : Job

    Returns
    -------
    int
        0 if all workers succeeded. Otherwise the exit status of the worker that failed (128 plus
        the signal number if a signal ended it), 1 for a server or the scheduler, or 128 plus
        the number of the signal that this process received.
    """
    tasks = assign_hosts(job.workers, job.servers, job.hosts)
    # A signal handler may call put while the same thread is in get, unlike with queue.Queue.
    events = queue.SimpleQueue()
    with handled(lambda number, _: events.put(number)):
        for attempt in range(job.max_restarts + 1):
            if attempt:
                _say(f"starting again (restart {attempt} of {job.max_restarts})")
            status, again = _Attempt(job, tasks, attempt, events).run()
            if not again:
                break
    return status


def _write(stream, line):
    """Write bytes to a standard stream; return whether anybody gets them."""
    with _WRITING:
        try:
            stream.buffer.write(line)
            stream.buffer.flush()
            return True
        except OSError:
            to_nowhere(stream)
            return False


def _say(text):
    _write(sys.stderr, f"dmr launch: {text}\n".encode())


class _Process:
    """A started task: its guardian, here or behind ssh, and the threads that read its output.

    Its end puts the process itself on the queue of events. Output that cannot be written counts as
    a closed terminal, and puts SIGHUP there.
    """

    def __init__(self, task, arguments, variables, events):
        self.task, self.status, self._events = task, None, events
        self._guardian = subprocess.Popen(
            arguments,
            env=variables,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            # Ctrl-C in a terminal signals the whole foreground group; only the launcher handles it.
            start_new_session=True,
        )
        pairs = ((self._guardian.stdout, sys.stdout), (self._guardian.stderr, sys.stderr))
        readers = [threading.Thread(target=self._copy, args=pair, daemon=True) for pair in pairs]
        self._waiter = threading.Thread(target=self._wait, args=(readers,), daemon=True)
        for thread in (*readers, self._waiter):
            thread.start()

    def _copy(self, source, to):
        prefix = b"" if self.task.name == "worker 0" else f"[{self.task.name}] ".encode()
        for line in source:
            if not _write(to, prefix + line.rstrip(b"\n") + b"\n"):
                self._events.put(signal.SIGHUP)

    def _wait(self, readers):
        status = self._guardian.wait()
        for thread in readers:
            thread.join(1)
        if status and self.task.role != "worker":
            # It may have aborted because a worker ended, whose end is to be seen first.
            time.sleep(_TOGETHER)
        # Negative if a signal ended the guardian, or ssh.
        self.status = status if status >= 0 else 128 - status
        self._events.put(self)

    def describe_end(self):
        """Return which process this is and how it ended, for a message."""
        name = f"{self.task.name} on {self.task.host}" if self.task.host else self.task.name
        with contextlib.suppress(ValueError):
            return f"{name} was ended by {signal.Signals(self.status - 128).name}"
        return f"{name} ended with exit status {self.status}"

    def ask_to_end(self):
        """Send SIGTERM to the command."""
        with contextlib.suppress(OSError):
            self._guardian.stdin.write(b"T")
            self._guardian.stdin.flush()

    def stop(self):
        """Make the guardian end the process group of the command."""
        with contextlib.suppress(OSError):
            self._guardian.stdin.close()

    def ensure_stopped(self, deadline):
        """Wait for the guardian and its output, and kill it at the deadline."""
        self._waiter.join(max(0, deadline - time.monotonic()))
        if self._waiter.is_alive():
            self._guardian.kill()
            self._waiter.join(1)


class _Attempt:
    """One start of all processes of a job."""

    def __init__(self, job, tasks, attempt, events):
        self.job, self.tasks, self.attempt, self.events = job, tasks, attempt, events
        self.processes = []
        self.received = None  # the first signal that asked the job to end

    def run(self):
        """Return the exit status, and whether a restart makes sense."""
        try:
            self._start()
            return self._watch()
        finally:
            for process in self.processes:
                process.stop()
            deadline = time.monotonic() + _STOPPING
            for process in self.processes:
                process.ensure_stopped(deadline)

    def _start(self):
        job = self.job
        root = job.root or (job.hosts[0].split("@")[-1] if job.hosts else "127.0.0.1")
        port = random.randrange(*_PORTS)
        for task in self.tasks:
            variables = environment(task, job.workers, job.servers, root, port, self.attempt)
            sharing = sum(t.role == "worker" and t.host == task.host for t in self.tasks)
            arguments = child.command("dmr_gluon.launch.guardian", str(max(1, sharing)))
            arguments += job.command if task.role == "worker" else job.serve
            if task.host:
                arguments = [*_SSH, task.host, _remote_line(variables, arguments)]
                variables = {}
            variables = {**os.environ, **variables}
            self.processes.append(_Process(task, arguments, variables, self.events))

    def _watch(self):
        """Handle events until the job ends; return what :meth:`run` returns."""
        workers = {process for process in self.processes if process.task.role == "worker"}
        deadline = None
        while workers:
            event = self._next(deadline)
            if event is None:
                _say(f"not ended after {self.job.grace:g} s; stopping everything")
                break
            if isinstance(event, int):
                # A closed terminal may send SIGHUP twice: from its shell and from the kernel.
                if self.received and event == signal.SIGHUP:
                    continue
                if self.received:
                    break
                self.received, deadline = event, time.monotonic() + self.job.grace
                for process in workers:
                    process.ask_to_end()
                _say(
                    f"{signal.Signals(event).name}: the workers get {self.job.grace:g} s to save "
                    f"and end; a second signal stops them at once"
                )
            elif event.task.role == "worker" and (event.status == 0 or self.received):
                workers.discard(event)
            elif event.status:
                _say(f"{event.describe_end()}; stopping the others")
                if self.received:
                    break
                # 2 is a refusal, such as of a wrong flag, and a restart would be refused too.
                status = event.status if event.task.role == "worker" else 1
                return status, event.status != 2
            # A server that ends with 0 was told to by the workers. They no longer need it, but
            # may still be saving.
        return 128 + self.received if self.received else 0, False

    def _next(self, deadline):
        """Return the next signal number or ended process, or None after the deadline."""
        while True:
            timeout = None if deadline is None else max(0, deadline - time.monotonic())
            try:
                event = self.events.get(timeout=timeout)
            except queue.Empty:
                return None
            if isinstance(event, int) or event in self.processes:  # none of an earlier attempt
                return event


def _remote_line(variables, arguments):
    """Return the command line for the shell of a host."""
    passed = {name: value for name, value in os.environ.items() if name.startswith(_PASSED)}
    pairs = [f"{name}={value}" for name, value in {**passed, **variables}.items()]
    words = ["exec", "env", *pairs, *arguments]
    return f"cd {shlex.quote(os.getcwd())} && " + " ".join(map(shlex.quote, words))
