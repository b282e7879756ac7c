"""A program in a process of its own, which answers commands.

A command is a line of JSON on its standard input, an answer one on its standard output, each with
as many bytes after it as it says. What it prints elsewhere is kept for the message if it fails.
"""

import contextlib
import json
import os
import signal
import subprocess

from ..errors import DMRError
from .cuda import library_folders


class Process:
    """Started at once; the first answer says that it is ready.

    Parameters
    ----------
    what : str
        For messages: ``WHAT cannot be run``.
    command : list of str
        Program and arguments.
    environment : dict, optional
        Variables to set beside those of this process.
    folder : str, optional
        That it works in; default: this process's.
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

    @property
    def pid(self):
        """Its number, to look at it from outside."""
        return self._process.pid

    def wait(self):
        """Until it is ready; several may get ready at the same time. Returns what it says then."""
        return self._answer()

    def ask(self, command, content=b""):
        """The answer to a command."""
        try:
            self._process.stdin.write((json.dumps(command) + "\n").encode() + content)
            self._process.stdin.flush()
        except OSError:
            self._fail()
        return self._answer()

    def seconds(self, batch, seconds):
        """How long each run on a batch takes, for so many seconds; one run at least."""
        return self.ask({"do": "time", "batch": batch, "seconds": seconds})["seconds"]

    def read(self, count):
        """Bytes that come after an answer."""
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

    def _answer(self):
        line = self._process.stdout.readline()
        if not line:
            self._fail()
        return json.loads(line)

    def _fail(self):
        status = self._process.wait()
        if status < 0:
            raise DMRError(
                f"the process of {self._what} was ended by {signal.Signals(-status).name}; "
                f"if memory ran out, try fewer at a time"
            )
        self._errors.seek(0)
        said = self._errors.read().decode(errors="replace").strip().splitlines()
        raise DMRError(f"{self._what} cannot be run: {said[-1] if said else f'status {status}'}")
