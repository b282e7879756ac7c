"""Signals as a wish: the step is finished and saved before the program ends."""

import contextlib
import signal
import threading

from ..system.signals import handled


class StopSignals:
    """While entered, notes SIGTERM, SIGINT and SIGHUP instead of dying of them.

    A second Ctrl-C stops at once. What is ignored when it is entered stays so.

    Attributes
    ----------
    received : int
        The signal's number; 0 as long as there was none.
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
