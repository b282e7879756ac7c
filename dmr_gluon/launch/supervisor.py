"""Start the processes of a job, watch them, and end them together."""

import contextlib
import errno
import os
import queue
import random
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from typing import Optional, Tuple

from ..errors import DMRError
from ..system import program as child
from ..system.signals import handled, to_nowhere
from .guardian import PID_MARK
from .plan import Host, assign_hosts, environment

#: Command of the scheduler and the servers: MXNet serves inside its own import, then exits.
SERVE = tuple(child.command("dmr_gluon.runtime"))

#: Never prompt, and notice within half a minute that a host is gone.
SSH = ("ssh", "-o", "BatchMode=yes", "-o", "ServerAliveInterval=10")

#: Seconds that the scheduler and the servers get to end after the last worker.
_ENDING = 5
#: Seconds within which the end of a worker counts as the cause of the end of a server.
_TOGETHER = 1
#: Seconds that a guardian gets to end its command, which in turn gets three.
_STOPPING = 8
#: Range of scheduler ports on another machine, below the ephemeral ports of common systems.
_PORTS = (20000, 30000)


@dataclass(frozen=True)
class Job:
    """A job to start.

    Parameters
    ----------
    command : tuple of str
        Command line of every worker.
    workers, servers : int
    hosts : tuple of Host
        Without hosts, everything runs on this machine, without ssh.
    root : str, optional
        Address under which the processes reach the scheduler. Default: the name of the first
        host, or 127.0.0.1.
    ssh : tuple of str
        Program that runs a command on a host; host and command line are appended.
    forward : tuple of str
        Names of additional variables to pass to processes on other hosts.
    max_restarts : int
    grace : float
        Seconds that the workers get to save and end after SIGTERM.
    serve : tuple of str
        Command line of the scheduler and the servers.
    """

    command: Tuple[str, ...]
    workers: int
    servers: int
    hosts: Tuple[Host, ...] = ()
    root: Optional[str] = None
    ssh: Tuple[str, ...] = SSH
    forward: Tuple[str, ...] = ()
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
    output = _Output()
    # A signal handler may call put while the same thread is in get, unlike with queue.Queue.
    events = queue.SimpleQueue()
    with handled(lambda number, _: events.put(number)):
        for attempt in range(job.max_restarts + 1):
            status, again = _Attempt(job, tasks, attempt, events, output).run()
            if not again or attempt == job.max_restarts:
                break
            output.say(f"starting again (restart {attempt + 1} of {job.max_restarts})")
    return status


class _Output:
    """Standard output and error of this process, written by many threads in whole lines."""

    def __init__(self):
        self._lock = threading.Lock()

    def write(self, stream, line):
        with self._lock:
            try:
                stream.buffer.write(line)
                stream.buffer.flush()
            except OSError:
                to_nowhere(stream)
                raise

    def say(self, text):
        with contextlib.suppress(OSError):  # nobody reads it any more
            self.write(sys.stderr, f"dmr launch: {text}\n".encode())


class _Process:
    """A started task: its guardian, here or behind ssh, and the threads that read its output.

    Its end puts the process itself on the queue of events; output that cannot be written puts
    the OSError there.
    """

    def __init__(self, task, arguments, variables, events, output):
        self.task, self.pid, self.status = task, None, None
        self._events, self._output = events, output
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
        self._readers = [
            threading.Thread(target=self._copy, args=pair, daemon=True) for pair in pairs
        ]
        for thread in [*self._readers, threading.Thread(target=self._wait, daemon=True)]:
            thread.start()

    def _copy(self, source, to):
        plain = self.task.role == "worker" and self.task.number == 0
        prefix = b"" if plain else f"[{self.task.name}] ".encode()
        for line in source:
            if self.pid is None and line.startswith(PID_MARK):
                self.pid = int(line[len(PID_MARK) :])
                continue
            try:
                self._output.write(to, prefix + line.rstrip(b"\n") + b"\n")
            except OSError as error:
                self._events.put(error)

    def _wait(self):
        status = self._guardian.wait()
        # Negative if a signal ended the guardian, or ssh.
        self.status = status if status >= 0 else 128 - status
        self._finish_reading()
        self._events.put(self)

    def _finish_reading(self):
        for thread in self._readers:
            thread.join(1)

    def __str__(self):
        where = f" on {self.task.host}" if self.task.host else ""
        return f"{self.task.name} ({f'pid {self.pid}' if self.pid else 'not started'}{where})"

    def describe_end(self):
        """Return how the process ended, for a message."""
        if self.task.host and self.status == 255:
            return "ended with exit status 255: ssh could not reach the host, or lost it"
        with contextlib.suppress(ValueError):
            return f"was ended by {signal.Signals(self.status - 128).name}"
        return f"ended with exit status {self.status}"

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
        """Wait for the guardian, and kill it at the deadline."""
        try:
            self._guardian.wait(max(0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            self._guardian.kill()
        self._finish_reading()


class _Attempt:
    """One start of all processes of a job."""

    def __init__(self, job, tasks, attempt, events, output):
        self.job, self.tasks, self.attempt = job, tasks, attempt
        self.events, self.output = events, output
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
        root = job.root or (job.hosts[0].name.split("@")[-1] if job.hosts else "127.0.0.1")
        port = random.randrange(*_PORTS) if job.hosts else _free_port()
        for task in self.tasks:
            variables = environment(task, job.workers, job.servers, root, port, self.attempt)
            sharing = sum(t.role == "worker" and t.host == task.host for t in self.tasks)
            arguments = child.command("dmr_gluon.launch.guardian", str(max(1, sharing)))
            arguments += job.command if task.role == "worker" else job.serve
            if task.host:
                arguments = [*job.ssh, task.host, _remote_line(job, variables, arguments)]
                variables = {}
            variables = {**os.environ, **variables}
            process = _Process(task, arguments, variables, self.events, self.output)
            self.processes.append(process)

    def _watch(self):
        """Handle events until the job ends; return what :meth:`run` returns."""
        workers = {process for process in self.processes if process.task.role == "worker"}
        deadline = None
        while workers:
            event = self._next(deadline)
            if event is None:
                self.output.say(f"not ended after {self.job.grace:g} s; stopping everything")
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
                self.output.say(
                    f"{signal.Signals(event).name}: the workers get {self.job.grace:g} s to save "
                    f"and end; a second signal stops them at once"
                )
            elif event.task.role == "worker" and (event.status == 0 or self.received):
                workers.discard(event)
            elif event.status:
                event = self._cause(event)
                self.output.say(f"{event} {event.describe_end()}; stopping the others")
                if self.received:
                    break
                # 2 is a refusal, such as of a wrong flag, and a restart would be refused too.
                status = event.status if event.task.role == "worker" else 1
                return status, event.status != 2
            # A server that ends with 0 was told to by the workers. They no longer need it, but
            # may still be saving.
        if self.received:
            return 128 + self.received, False
        deadline = time.monotonic() + _ENDING
        while any(process.status is None for process in self.processes) and self._next(deadline):
            pass
        return 0, False

    def _cause(self, event):
        """Return the process that brought the job down, given the first that was seen to fail.

        A server may abort because a worker ended, and its end may be seen first.
        """
        deadline = time.monotonic() + _TOGETHER
        while event.task.role != "worker":
            other = self._next(deadline)
            if other is None:
                break
            if isinstance(other, int):
                self.received = self.received or other
                break
            if other.task.role == "worker" and 0 < (other.status or 0) < 128:
                return other
        return event

    def _next(self, deadline):
        """Return the next signal number or ended process, or None after the deadline."""
        while True:
            timeout = None if deadline is None else max(0, deadline - time.monotonic())
            try:
                event = self.events.get(timeout=timeout)
            except queue.Empty:
                return None
            if isinstance(event, OSError):
                if self.received:  # saving matters more than output
                    continue
                if event.errno == errno.EIO:  # the terminal is gone, as SIGHUP would say
                    return signal.SIGHUP
                if isinstance(event, BrokenPipeError):
                    raise event
                raise DMRError(f"output cannot be written ({event}); everything is stopped")
            if isinstance(event, int) or event in self.processes:
                return event


def _free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _remote_line(job, variables, arguments):
    """Return the command line for the shell of a host."""
    names = {"PYTHONPATH", "LD_LIBRARY_PATH", "OMP_NUM_THREADS", *job.forward}
    names |= {name for name in os.environ if name.startswith("MXNET_")}
    passed = {name: os.environ[name] for name in sorted(names) if name in os.environ}
    pairs = [f"{name}={value}" for name, value in {**passed, **variables}.items()]
    words = ["exec", "env", *pairs, *arguments]
    return f"cd {shlex.quote(os.getcwd())} && " + " ".join(map(shlex.quote, words))
