"""Run a program: refusals in one line, and exit statuses."""

import argparse
import os
import sys
import traceback

from ..errors import DMRError, Stopped
from ..system.lazy_imports import postpone_operators
from ..system.signals import open_standard_streams, say, to_nowhere


class Parser(argparse.ArgumentParser):
    """An argument parser that raises DMRError for bad usage and accepts no abbreviations.

    Parameters
    ----------
    function : function, optional
        Runs the command: the value of ``options.function``.
    add_later : function, optional
        Adds arguments whose import is slow; called with the parser before its first parsing.
    **arguments
        For ``argparse.ArgumentParser``.
    """

    def __init__(self, function=None, add_later=None, **arguments):
        self._add_later = add_later
        super().__init__(allow_abbrev=False, **arguments)
        if function:
            self.set_defaults(function=function)

    def parse_known_args(self, args=None, namespace=None):
        add_later, self._add_later = self._add_later, None
        if add_later:
            add_later(self)
        options, rest = super().parse_known_args(args, namespace)
        for action in self._actions:
            value = getattr(options, action.dest, None) if action.option_strings else None
            if value == "" != action.default:  # such as of an unset variable
                self.error(f"{action.option_strings[-1]} is empty")
        return options, rest

    def error(self, message):
        raise DMRError(f"{message}; see {self.prog} --help")


def run(main):
    """Call a program's ``main`` and turn exceptions into messages and exit statuses.

    ====  ====================================================================
    0     success
    1     a training failed (one line), or a defect of this package (traceback)
    2     refused, with one line that says why
    129   ended by SIGHUP
    130   ended by Ctrl-C
    141   the reader of the output is gone
    143   ended by SIGTERM
    ====  ====================================================================

    Parameters
    ----------
    main : function
        Called without arguments.
    """
    open_standard_streams()
    postpone_operators()
    if hasattr(sys.stdout, "reconfigure"):  # a replacement of stdout may lack it
        # Paths may not be UTF-8, and the encoding of a terminal may lack characters.
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
            "stopped; finished work is kept: give the same command again (with --resume for a "
            "training)",
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
    """Exit with a status. A worker of a distributed job exits at once.

    In a regular exit, MXNet would wait for the other workers, which wait for this one.
    """
    if os.environ.get("DMLC_ROLE") == "worker":
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    sys.exit(status)


def add_epoch(parser):
    """Add the flag that chooses among the kept networks of a run."""
    epoch = "epoch to use: the last (default) or the best; only these are kept"
    parser.add_argument("--epoch", type=int, help=epoch)


def add_plugin(parser):
    """Add the flag that imports a user's own blocks and networks."""
    plugin = "Python file or module that registers blocks, mappings or networks"
    parser.add_argument("--plugin", metavar="FILE", help=plugin)
