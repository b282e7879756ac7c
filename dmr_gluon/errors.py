"""The one exception that users are meant to see."""


class DMRError(Exception):
    """Something the user can mend.

    Its text is one line that says what is wrong, where, and what to do. The
    command-line programs print it without a traceback and exit with status 2.
    """


class Stopped(Exception):
    """A signal asked a program to stop, and it has saved what it did.

    Parameters
    ----------
    signal : int
    text : str
        What was saved and how to go on.
    """

    def __init__(self, signal, text):
        super().__init__(text)
        self.signal = signal
