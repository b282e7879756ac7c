"""The exceptions that users are meant to see."""


class DMRError(Exception):
    """Something the user can mend.

    Its text is one line that says what is wrong, where, and what to do. The
    command-line programs print it without a traceback and exit with its status.
    """

    status = 2


class Failed(DMRError):
    """What ended a training without being a refusal, such as a full disk or an error of CUDA.

    Other than for a wrong flag, it need not be the same the next time: ``dmr launch
    --max-restarts`` starts again, from what was saved.
    """

    status = 1


class Stopped(Exception):
    """A signal asked a program to stop, and it has saved what it did.

    Parameters
    ----------
    signal : int
    text : str
        What was saved and how to go on.
    """

    def __init__(self, signal: int, text: str) -> None:
        super().__init__(text)
        self.signal = signal


def last_line(error: BaseException) -> str:
    """Of an error's text, which with MXNet's begins with a stack of calls."""
    return (str(error).strip().splitlines() or [type(error).__name__])[-1]


def flag_of(name: str) -> str:
    """The flag that sets an option or a field, for messages: ``--lr-drops`` of ``lr_drops``."""
    return ("-" if len(name) == 1 else "--") + name.replace("_", "-")
