"""The one exception that users are meant to see."""


class DMRError(Exception):
    """Something the user can mend.

    Its text is one line that says what is wrong, where, and what to do. The
    command-line programs print it without a traceback and exit with status 2.
    """
