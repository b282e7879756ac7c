"""Handle the signals that end a program, and output streams that are closed or gone."""

import contextlib
import errno
import os
import signal
import sys

#: Sent by Ctrl-C, by the system, and by a terminal that is closed.
ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextlib.contextmanager
def handled(handler, numbers=ENDING):
    """Handle signals with a function while the context is active.

    Signals that are ignored stay ignored, such as SIGHUP under nohup.

    Parameters
    ----------
    handler : function
        Called in the main thread with the signal number and the frame.
    numbers : sequence of int
        Signals to handle.
    """
    heard = [number for number in numbers if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, handler) for number in heard}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)


def ending(status):
    """Describe how a child process ended: ``SIGKILL``, ``signal 35`` or ``status 3``.

    Parameters
    ----------
    status : int
        As of :mod:`subprocess`: the negative number of the signal that ended the process.
    """
    if status >= 0:
        return f"status {status}"
    try:
        return signal.Signals(-status).name
    except ValueError:  # a real-time signal
        return f"signal {-status}"


def open_standard_streams():
    """Replace stdin, stdout and stderr with ``/dev/null`` where they are closed.

    Call this before any file is opened: the file would get the free descriptor, and with it the
    output of this process, of MXNet and of child processes.
    """
    for descriptor, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        if getattr(sys, name) is None:  # it was closed when Python started
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free descriptor: this one
            os.set_inheritable(descriptor, True)
            stream = open(descriptor, mode, errors="replace", closefd=False)  # noqa: SIM115
            setattr(sys, name, stream)


def say(text, stream=None):
    """Print a line and flush it. A terminal that is gone is not an error.

    Parameters
    ----------
    text : str
    stream : file, optional
        Default: stdout.
    """
    stream = stream or sys.stdout
    text = str(text).encode(errors="backslashreplace").decode()  # paths may not be UTF-8
    try:
        print(text, file=stream, flush=True)
    except OSError as error:
        if error.errno != errno.EIO:
            raise
        to_nowhere(stream)


def to_nowhere(stream):
    """Discard the buffer of a stream and everything that is written to it from now on."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, stream.fileno())
    os.close(null)
