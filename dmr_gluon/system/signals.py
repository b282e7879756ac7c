"""The signals that ask a program to end, and output that nobody reads. Needs no MXNet."""

import contextlib
import errno
import os
import signal
import sys

#: Ctrl-C, what systems send, and what a terminal leaves behind that is closed.
ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextlib.contextmanager
def handled(handler, numbers=ENDING):
    """Call a function, instead of dying, when a signal asks to end.

    What is ignored stays so: nohup has SIGHUP ignored, for one.

    Parameters
    ----------
    handler : function
        Called with the signal's number and the frame, in the main thread.
    numbers : sequence of int
        Of which signals.
    """
    heard = [number for number in numbers if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, handler) for number in heard}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)


def open_standard_streams():
    """Give a program that was started without stdin, stdout or stderr ``/dev/null`` in its place.

    To be called before any file is opened: that would get the free descriptor, and the output of
    this process, of MXNet and of child processes with it.
    """
    for descriptor, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest free descriptor, which is this one
            os.set_inheritable(descriptor, True)
        if getattr(sys, name) is None:
            text = {"encoding": "utf-8", "errors": "backslashreplace"}
            setattr(sys, name, open(descriptor, mode, closefd=False, **text))  # noqa: SIM115


def say(text, stream=None):
    """Print a line at once; that the terminal is gone is no reason to end.

    Parameters
    ----------
    text : str
    stream : file, optional
        Default: stdout.
    """
    stream = stream or sys.stdout
    text = str(text).encode(errors="backslashreplace").decode()  # paths need not be UTF-8
    try:
        print(text, file=stream, flush=True)
    except OSError as error:
        if error.errno != errno.EIO:
            raise
        to_nowhere(stream)


def to_nowhere(stream):
    """Throw away what is written to a stream from now on, and what it still holds."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, stream.fileno())
    os.close(null)
