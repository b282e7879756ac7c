"""Run one command and leave nothing of it behind: ``python -m dmr_gluon.launch.guardian``.

The launcher starts every process of a job through a guardian, on this machine or at the far
end of an ssh connection, and holds the guardian's standard input open. A byte on it asks the
command to end (SIGTERM). When it closes, because the launcher closed it, was killed or lost
the connection, the guardian ends the command's process group.
"""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time

from ..system.machine import usable_cores

#: Seconds between SIGTERM and SIGKILL when standard input closes.
_KILL_DELAY = 3


def main(arguments):
    """Run a command until it ends or standard input closes.

    Parameters
    ----------
    arguments : list of str
        Number of workers that share the cores of this machine, then the command.

    Returns
    -------
    int
        Exit status of the command; 128 plus the signal number if a signal ended it; 127 if it
        could not be started.
    """
    sharing, *command = arguments
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, usable_cores() // int(sharing))))
    try:
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)
    except OSError as error:
        print(f"error: {command[0]} cannot be started ({error.strerror})", file=sys.stderr)
        return 127
    threading.Thread(target=_obey, args=(child.pid,), daemon=True).start()
    # Until the command is reaped, no other process group can get its number.
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    _signal_group(child.pid, signal.SIGKILL)
    status = child.wait()
    return status if status >= 0 else 128 - status


def _obey(pid):
    """Pass requests from standard input on to a command, and end it at end of file."""
    while os.read(0, 1):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
    _signal_group(pid, signal.SIGTERM)
    time.sleep(_KILL_DELAY)
    _signal_group(pid, signal.SIGKILL)


def _signal_group(pid, number):
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)


if __name__ == "__main__":
    ended = main(sys.argv[1:])
    sys.stderr.flush()
    # Not sys.exit, which would finalize the interpreter under the thread that still reads.
    os._exit(ended)
