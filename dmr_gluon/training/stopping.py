"""A signal only sets a flag; the loop stops at the next safe step."""

import contextlib
import signal
import threading

from ..system.signals import handled


class StopSignals:
    """Context in which SIGTERM, SIGINT and SIGHUP are noted instead of ending the process.

    A second Ctrl-C stops at once. Signals that are ignored on entry stay ignored.

    Attributes
    ----------
    received : int
        The first signal's number; 0 if there was none.
    """

    def __init__(self):
        self.received = 0
        self._handled = contextlib.ExitStack()

    def __enter__(self):
        if threading.current_thread() is threading.main_thread():
            self._handled.enter_context(handled(self._note))
        return self

    def __exit__(self, *_):
        self._handled.close()

    def _note(self, number, _):
        if self.received and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.received = self.received or number
