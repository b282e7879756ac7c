"""Run a program in a process of its own and exchange commands and answers with it.

Commands and answers are lines of JSON on its standard input and output, optionally followed by
binary content. Its standard error is kept for the message if it fails.
"""

import contextlib
import json
import os
import subprocess

from ..errors import DMRError, last_line
from .cuda import library_folders
from .signals import ending


class Process:
    """Start a program; its first answer reports that it is ready.

    Parameters
    ----------
    what : str
        Subject of error messages, as in ``WHAT cannot be run``.
    command : list of str
        Program and arguments.
    environment : dict, optional
        Variables to add to this process's.
    folder : str, optional
        Working folder. Default: this process's.
    """

    def __init__(self, what, command, environment=None, folder=None):
        self._what = what
        # In memory: a read-only root has no temporary folder.
        self._errors = os.fdopen(os.memfd_create("stderr"), "w+b")
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
        status = self._process.wait()
        if status < 0:
            raise DMRError(
                f"{self._what} was ended by {ending(status)}; if memory ran out, try fewer images"
            )
        self._errors.seek(0)
        said = last_line(self._errors.read().decode(errors="replace"), ending(status))
        raise DMRError(f"{self._what} cannot be run: {said}")
