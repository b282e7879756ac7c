"""Run a program in a process of its own and exchange commands and answers with it.

Commands and answers are lines of JSON on its standard input and output, optionally followed by
binary content. Its standard error is kept for the message if it fails.
"""

import contextlib
import json
import os
import select
import signal
import subprocess
import time

from ..errors import DMRError
from .cuda import library_folders
from .signals import ending

#: Seconds that a killed process gets. One that hangs in the driver does not end.
GRACE = 10


def _errors_file():
    """Return a file for a standard error. In memory: a read-only root has no temporary folder."""
    return os.fdopen(os.memfd_create("stderr"), "w+b")


def _explained(end, errors):
    """Return how a process ended, with the last line of its standard error."""
    errors.seek(0)
    said = errors.read().decode(errors="replace").strip().splitlines()
    return ": ".join([end, *said[-1:]])


def answers_of(command, patience, **options):
    """Run a program for a limited time, and yield its answers.

    Parameters
    ----------
    command : list of str
    patience : float
        Seconds that the program gets.
    **options
        For ``subprocess.Popen``.

    Yields
    ------
    dict
        Each line of JSON that it prints. The last one is ``{"error": how it ended}`` if it fails or
        does not end.
    """
    deadline = time.monotonic() + patience
    with contextlib.ExitStack() as stack:
        errors = stack.enter_context(_errors_file())
        process = subprocess.Popen(
            command,
            bufsize=0,  # select does not see what is buffered
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            start_new_session=True,  # to kill what it starts too
            **options,
        )
        stack.callback(_kill, process)
        try:
            while select.select([process.stdout], [], [], max(0, deadline - time.monotonic()))[0]:
                line = process.stdout.readline()
                if not line:
                    break
                if line.startswith(b"{"):
                    yield json.loads(line)
            # It has closed its output, but MXNet may still hang.
            status = process.wait(max(0, deadline - time.monotonic()))
            end = status and f"ended by {ending(status)}"
        except subprocess.TimeoutExpired:
            end = f"no answer within {patience:g} s"
        if end:
            yield {"error": _explained(end, errors)}


def _kill(process):
    """Kill a process, which may have ended or hang, and everything that it started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(GRACE)
    process.stdout.close()


class Process:
    """Start a program; its first answer reports that it is ready.

    Parameters
    ----------
    what : str
        Subject of error messages, as in ``WHAT was ended by SIGKILL``.
    command : list of str
        Program and arguments.
    environment : dict, optional
        Variables to add to this process's.
    folder : str, optional
        Working folder. Default: this process's.
    """

    def __init__(self, what, command, environment=None, folder=None):
        self._what = what
        self._errors = _errors_file()
        environment = {**os.environ, **(environment or {})}
        folders = [*library_folders(), *environment.get("LD_LIBRARY_PATH", "").split(":")]
        environment["LD_LIBRARY_PATH"] = ":".join(filter(None, folders))
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env=environment,
            cwd=folder,
        )
        self.pid = self._process.pid

    def wait(self):
        """Wait for the next answer and return it; the first one reports that it is ready."""
        line = self._process.stdout.readline()
        if not line:
            self._fail()
        return json.loads(line)

    def ask(self, command, content=b""):
        """Send a command and return the answer."""
        try:
            self._process.stdin.write((json.dumps(command) + "\n").encode() + content)
            self._process.stdin.flush()
        except OSError:
            self._fail()
        return self.wait()

    def seconds(self, batch, seconds):
        """Time runs on a batch for a duration, at least one run; return the seconds of each."""
        return self.ask({"do": "time", "batch": batch, "seconds": seconds})["seconds"]

    def read(self, count):
        """Read the binary content that follows an answer."""
        content = self._process.stdout.read(count)
        if len(content) < count:
            self._fail()
        return content

    def close(self):
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()
        self._errors.close()

    def _fail(self):
        end = _explained(f"ended by {ending(self._process.wait())}", self._errors)
        raise DMRError(f"{self._what} was {end}; if memory ran out, try fewer images")
