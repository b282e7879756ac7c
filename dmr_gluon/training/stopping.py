"""SIGTERM and Ctrl-C as a wish: the step is finished and saved before the program ends."""

import signal
import threading

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class StopSignals:
    """While entered, notes SIGTERM and SIGINT instead of dying of them.

    A second Ctrl-C stops at once.

    Attributes
    ----------
    received : int
        The signal's number; 0 as long as there was none.
    """

    def __init__(self):
        self.received = 0
        self._before = {}

    def __enter__(self):
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._note) for number in _SIGNALS}
        return self

    def __exit__(self, *_):
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number, _):
        if self.received and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.received = self.received or number
