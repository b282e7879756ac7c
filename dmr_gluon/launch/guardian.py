"""Runs one command and lets nothing of it survive: ``python -m dmr_gluon.launch.guardian``.

The launcher starts every process of a job through a keeper, on this machine or at the other
end of an ssh connection, and holds the keeper's standard input open. A byte on it asks the
command to end (SIGTERM). When it closes, because the launcher closed it, was killed or lost
the connection, the keeper ends the command's whole process group.
"""

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import threading
import time

from ..system.machine import usable_cores

#: Begins the line that tells the launcher the command's process id.
PID_MARK = b"dmr-launch-pid "

#: Seconds between SIGTERM and SIGKILL when standard input closes.
_MERCY = 3

_PR_SET_PDEATHSIG = 1


def main(arguments):
    """Run a command until it ends or standard input closes.

    Parameters
    ----------
    arguments : list of str
        How many workers share this machine's cores, then the command.

    Returns
    -------
    int
        The command's exit status; 128 and the signal's number if one ended it; 127 if it
        could not be started.
    """
    sharing, *command = arguments
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, usable_cores() // int(sharing))))
    libc = ctypes.CDLL(None)

    def before_exec():
        # If the keeper itself is killed, the command must not go on unwatched.
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        # Written here, before the command can write anything, it cannot end up inside a line.
        os.write(1, PID_MARK + b"%d\n" % os.getpid())

    try:
        child = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, start_new_session=True, preexec_fn=before_exec
        )
    except OSError as error:
        print(f"error: {command[0]} cannot be started ({error.strerror})", file=sys.stderr)
        return 127
    threading.Thread(target=_obey, args=(child.pid,), daemon=True).start()
    # While the command has ended but is not yet waited for, no other group can have its number.
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    _signal_group(child.pid, signal.SIGKILL)
    status = child.wait()
    return status if status >= 0 else 128 - status


def _obey(pid):
    while os.read(0, 1):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
    _signal_group(pid, signal.SIGTERM)
    time.sleep(_MERCY)
    _signal_group(pid, signal.SIGKILL)


def _signal_group(pid, number):
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)


if __name__ == "__main__":
    ended = main(sys.argv[1:])
    sys.stderr.flush()
    # Not sys.exit: the other thread may still be reading.
    os._exit(ended)
