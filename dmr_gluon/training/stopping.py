"""A signal only sets a flag; the loop stops at the next safe step."""

import contextlib
import signal
import threading
from types import SimpleNamespace

from ..system.signals import handled


@contextlib.contextmanager
def stop_signals():
    """Context in which SIGTERM, SIGINT and SIGHUP are noted instead of ending the process.

    A second Ctrl-C stops at once. Signals that are ignored on entry stay ignored.

    Yields
    ------
    object
        Its ``received`` is the first signal's number; 0 if there was none.
    """
    stop = SimpleNamespace(received=0)

    def note(number, _):
        if stop.received and number == signal.SIGINT:
            raise KeyboardInterrupt
        stop.received = stop.received or number

    main = threading.current_thread() is threading.main_thread()  # others can handle none
    with handled(note) if main else contextlib.nullcontext():
        yield stop
