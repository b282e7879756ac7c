"""What every command shares: refusals in one line, exit statuses."""

import argparse
import os
import sys
import traceback

from ..errors import DMRError, Stopped
from ..system.signals import open_standard_streams, say, to_nowhere


class Parser(argparse.ArgumentParser):
    """A parser that refuses in one line, and takes no abbreviations."""

    def __init__(self, **arguments):
        super().__init__(
            allow_abbrev=False,
            **arguments,
        )

    def error(self, message):
        raise DMRError(f"{message}; see {self.prog} --help")


def run(main):
    """Call a program's ``main`` and turn what it raises into an exit status.

    0: done; 2: what is refused, said in one line; 1: what ended a training otherwise, in one
    line too, or a defect; 130: Ctrl-C; 143: SIGTERM; 129: SIGHUP; 141: the reader of the output
    has gone.
    """
    open_standard_streams()
    if hasattr(sys.stdout, "reconfigure"):  # not where it was replaced
        # A path may have bytes that are not UTF-8, and a terminal no UTF-8 at all.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        main()
        sys.stdout.flush()
    except DMRError as error:
        say(f"error: {error}", sys.stderr)
        _leave(error.status)
    except Stopped as stopped:
        say(stopped, sys.stderr)
        sys.exit(128 + stopped.signal)
    except KeyboardInterrupt:
        print(
            "stopped; what was finished is kept: give the same command again (for a training run "
            "with --resume)",
            file=sys.stderr,
        )
        _leave(130)
    except BrokenPipeError:
        to_nowhere(sys.stdout)
        _leave(141)
    except Exception:
        if os.environ.get("DMLC_ROLE") != "worker":
            raise
        traceback.print_exc()
        _leave(1)


def _leave(status):
    """End with a status; a worker of a job at once.

    At the usual end MXNet would wait there for the other workers, who wait for this one.
    """
    if os.environ.get("DMLC_ROLE") == "worker":
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    sys.exit(status)


def add_epoch(parser):
    """The flag that chooses among a run's kept networks."""
    parser.add_argument(
        "--epoch",
        type=int,
        help="which epoch's network: the last one (default) and the best one are kept",
    )
