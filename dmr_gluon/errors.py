"""Exceptions that users are meant to see."""

import os
import traceback


class DMRError(Exception):
    """An error that the user can fix.

    Its text is one line that says what is wrong, where, and what to do. The command-line programs
    print it without a traceback and exit with its status.
    """

    status = 2


class Failed(DMRError):
    """An error during training that a restart may cure, such as a full disk or a CUDA error.

    Unlike a wrong flag, it may not occur again: ``dmr launch --max-restarts`` starts again from
    the last checkpoint.
    """

    status = 1


class Stopped(Exception):
    """A program has stopped at the request of a signal, after saving its work.

    Parameters
    ----------
    signal : int
        Number of the signal.
    text : str
        What was saved and how to continue.
    """

    def __init__(self, signal: int, text: str) -> None:
        super().__init__(text)
        self.signal = signal


def last_line(said: object, otherwise: str = "") -> str:
    """Return the last line of an error or a text: stack traces come before it.

    Without any line, return ``otherwise``, or the name of the error's type.
    """
    return (str(said).strip().splitlines() or [otherwise or type(said).__name__])[-1]


def located(error: BaseException) -> str:
    """Return an error of a user's own code in one line: type, text, and where it was raised."""
    place = traceback.extract_tb(error.__traceback__)[-1]
    text, file, line = last_line(error), place.filename, place.lineno
    if isinstance(error, SyntaxError) and error.filename:
        text, file, line = error.msg, error.filename, error.lineno
    return f"{type(error).__name__}: {text} ({os.path.basename(file)}, line {line})"


def flag_of(name: str) -> str:
    """Return the flag of an option or a field, for messages: ``--lr-drops`` for ``lr_drops``."""
    return ("-" if len(name) == 1 else "--") + name.replace("_", "-")
