"""Starts the processes of a job, watches them, and ends them together."""

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
from .plan import Host, environment, place

#: What scheduler and servers run: MXNet serves inside its own import, and exits at the end.
SERVE = tuple(child.command("dmr_gluon.runtime"))

#: No questions, and a host that has gone is noticed within half a minute.
SSH = ("ssh", "-o", "BatchMode=yes", "-o", "ServerAliveInterval=10")

#: Seconds in which scheduler and servers end after the last worker has.
_ENDING = 5
#: Seconds in which a worker's end is taken for the cause of a server's.
_TOGETHER = 1
#: Seconds in which a keeper must have ended its command (it allows that one three).
_STOPPING = 8
#: The ports from which a scheduler on another machine gets one: below those that systems
#: give out by themselves.
_PORTS = (20000, 30000)


@dataclass(frozen=True)
class Job:
    """What is to be started.

    Parameters
    ----------
    command : tuple of str
        What every worker runs.
    workers, servers : int
    hosts : tuple of Host
        Empty: all on this machine, without ssh.
    root : str, optional
        Where others reach the scheduler. Default: the first host's name, or 127.0.0.1.
    ssh : tuple of str
        The program that runs a command on a host; host and command are appended.
    forward : tuple of str
        Names of variables that processes on other hosts get beside the usual ones.
    max_restarts : int
    grace : float
        Seconds in which workers may end after SIGTERM.
    serve : tuple of str
        What scheduler and servers run.
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
    """Run a job to its end, starting it again as often as it allows.

    Parameters
    ----------
    job : Job

    Returns
    -------
    int
        0: all workers have ended well. Otherwise the failed worker's status (128 and the
        signal's number, if one ended it), 1 for a server or the scheduler, or 128 and the
        number of the signal that this process got.
    """
    tasks = place(job.workers, job.servers, job.hosts)
    output = _Output()
    # Other than Queue.put, this one's may interrupt a get in the same thread.
    events = queue.SimpleQueue()
    with handled(lambda number, _: events.put(number)):
        for attempt in range(job.max_restarts + 1):
            status, again = _Attempt(job, tasks, attempt, events, output).run()
            if not again or attempt == job.max_restarts:
                break
            output.say(f"starting again (restart {attempt + 1} of {job.max_restarts})")
    return status


class _Output:
    """This process's stdout and stderr, to which many threads write whole lines."""

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
        with contextlib.suppress(OSError):  # who would read it has gone
            self.write(sys.stderr, f"dmr launch: {text}\n".encode())


class _Process:
    """A task that was started: its keeper, here or behind ssh, and the threads that read it."""

    def __init__(self, task, arguments, variables, events, output):
        self.task, self.pid, self.status = task, None, None
        self._events, self._output = events, output
        self._keeper = subprocess.Popen(
            arguments,
            env=variables,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            # Ctrl-C in a terminal reaches all of the foreground's processes; it is for us.
            start_new_session=True,
        )
        pairs = ((self._keeper.stdout, sys.stdout), (self._keeper.stderr, sys.stderr))
        self._readers = [threading.Thread(target=self._copy, args=pair) for pair in pairs]
        for thread in [*self._readers, threading.Thread(target=self._wait)]:
            thread.daemon = True
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
            except OSError as error:  # the reader of our output has gone
                self._events.put(error)

    def _wait(self):
        status = self._keeper.wait()
        # Negative if the keeper, or ssh, was itself killed.
        self.status = status if status >= 0 else 128 - status
        for thread in self._readers:
            thread.join(1)
        self._events.put(self)

    def __str__(self):
        place = f"pid {self.pid}" if self.pid else "not started"
        return f"{self.task.name} ({place}{f' on {self.task.host}' if self.task.host else ''})"

    def ask_to_end(self):
        """SIGTERM to the command."""
        with contextlib.suppress(OSError):
            self._keeper.stdin.write(b"T")
            self._keeper.stdin.flush()

    def stop(self):
        """Have the keeper end the command's process group."""
        with contextlib.suppress(OSError):
            self._keeper.stdin.close()

    def make_sure_it_stopped(self, deadline):
        try:
            self._keeper.wait(max(0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            self._keeper.kill()
        for thread in self._readers:
            thread.join(1)


class _Attempt:
    """One start of all of a job's processes."""

    def __init__(self, job, tasks, attempt, events, output):
        self.job, self.tasks, self.attempt = job, tasks, attempt
        self.events, self.output = events, output
        self.processes = []
        self.received = None  # the signal that asked us to end

    def run(self):
        """Exit status, and whether it makes sense to start again."""
        try:
            self._start()
            return self._watch()
        finally:
            for process in self.processes:
                process.stop()
            deadline = time.monotonic() + _STOPPING
            for process in self.processes:
                process.make_sure_it_stopped(deadline)

    def _start(self):
        job = self.job
        root = job.root or (job.hosts[0].name.split("@")[-1] if job.hosts else "127.0.0.1")
        port = random.randrange(*_PORTS) if job.hosts else _free_port()
        for task in self.tasks:
            variables = environment(task, job.workers, job.servers, root, port, self.attempt)
            sharing = [other.role for other in self.tasks if other.host == task.host]
            workers = str(max(1, sharing.count("worker")))
            arguments = child.command("dmr_gluon.launch.guardian", workers)
            arguments += job.command if task.role == "worker" else job.serve
            if task.host:
                arguments = [*job.ssh, task.host, _remote_line(job, variables, arguments)]
                variables = {}
            process = _Process(
                task, arguments, {**os.environ, **variables}, self.events, self.output
            )
            self.processes.append(process)

    def _watch(self):
        workers = {process for process in self.processes if process.task.role == "worker"}
        deadline = None
        while workers:
            event = self._next(deadline)
            if event is None:
                self.output.say(f"not ended after {self.job.grace:g} s; stopping everything")
                break
            if isinstance(event, int):
                # A terminal that is closed may send SIGHUP twice: its shell does, and the kernel.
                if self.received and event == signal.SIGHUP:
                    continue
                if self.received:
                    break
                self.received, deadline = event, time.monotonic() + self.job.grace
                for process in workers:
                    process.ask_to_end()
                self.output.say(
                    f"{signal.Signals(event).name}: the workers get {self.job.grace:g} s to save "
                    f"and end; once more stops at once"
                )
            elif event.task.role == "worker" and (event.status == 0 or self.received):
                workers.discard(event)
            elif event.status:
                event = self._cause(event)
                self.output.say(f"{event} {_describe(event)}; stopping the others")
                if self.received:
                    break
                # 2 is a refusal, such as of a wrong flag: it would be the same again.
                status = event.status if event.task.role == "worker" else 1
                return status, event.status != 2
            # A server that ends with 0 was told to by the workers, who need it no longer:
            # they may still be busy, saving for instance.
        if self.received:
            return 128 + self.received, False
        deadline = time.monotonic() + _ENDING
        while any(process.status is None for process in self.processes) and self._next(deadline):
            pass
        return 0, False

    def _cause(self, event):
        """What brought the job down, given the first process that failed.

        A server may abort because a worker ended, and be seen before that one.
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
        """The next signal's number or ended process; None when the deadline has passed."""
        while True:
            try:
                event = self.events.get(
                    timeout=None if deadline is None else max(0, deadline - time.monotonic())
                )
            except queue.Empty:
                return None
            if isinstance(event, OSError):
                if self.received:  # what is said matters no longer, what is saved does
                    continue
                if event.errno == errno.EIO:  # the terminal has gone, of which SIGHUP tells
                    return signal.SIGHUP
                if isinstance(event, BrokenPipeError):
                    raise event
                raise DMRError(f"output cannot be written ({event}); everything is stopped")
            if isinstance(event, int) or event in self.processes:
                return event


def _describe(process):
    status = process.status
    if process.task.host and status == 255:
        return "ended with exit status 255: ssh could not reach the host, or lost it"
    with contextlib.suppress(ValueError):
        return f"was ended by {signal.Signals(status - 128).name}"
    return f"ended with exit status {status}"


def _free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _remote_line(job, variables, arguments):
    """The line that a host's shell runs."""
    names = {"PYTHONPATH", "LD_LIBRARY_PATH", "OMP_NUM_THREADS", *job.forward}
    names |= {name for name in os.environ if name.startswith("MXNET_")}
    told = {name: os.environ[name] for name in sorted(names) if name in os.environ}
    pairs = [f"{name}={value}" for name, value in {**told, **variables}.items()]
    words = ["exec", "env", *pairs, *arguments]
    return f"cd {shlex.quote(os.getcwd())} && " + " ".join(map(shlex.quote, words))
