"""The subcommand ``dmr launch``: train with several processes."""

import argparse
import shutil
import sys

from ..errors import DMRError, flag_of
from ..system.machine import check_threads

#: Maximum of --grace in seconds.
_LONGEST = 86_400


def add_launch(commands):
    """Add ``launch`` to the parser of ``dmr``."""
    parser = commands.add_parser(
        "launch",
        help="train with several processes, on one machine or many (kvstore dist_sync)",
        usage="dmr launch -n WORKERS [-s SERVERS] [options] -- COMMAND...",
        description="Run COMMAND as every worker, with a scheduler and servers. If a process "
        "fails, say which one and stop the others. See docs/machines.md.",
    )
    parser.add_argument("-n", type=int, required=True, metavar="WORKERS", help="how many workers")
    parser.add_argument("-s", type=int, default=1, metavar="SERVERS", help="how many (default: 1)")
    parser.add_argument(
        "--max-restarts",
        type=int,
        default=0,
        metavar="N",
        help="restart the job after a failure, at most N times (default: 0)",
    )
    parser.add_argument(
        "--grace",
        type=float,
        default=60,
        metavar="SECONDS",
        help="time for workers to save and end after Ctrl-C or SIGTERM (default: 60)",
    )
    parser.add_argument("--hosts", metavar="FILE", help="machines to use over ssh, one a line")
    parser.add_argument(
        "--root", metavar="HOST", help="address of the scheduler (default: the first host)"
    )
    parser.add_argument(
        "worker", nargs=argparse.REMAINDER, metavar="-- COMMAND", help="command of every worker"
    )
    parser.set_defaults(function=_launch)


def _launch(options):
    _check(options)
    command = options.worker[1:] if options.worker[:1] == ["--"] else options.worker
    if not command:
        raise DMRError("say what the workers run: dmr launch -n 2 -s 1 -- python train_cifar.py")
    # Resolved here, so that "python" means this environment on other machines too.
    program = shutil.which(command[0])
    if program is None:
        raise DMRError(f"there is no program {command[0]}; give the workers' command after --")
    command = (program, *command[1:])
    check_threads()  # once, not in every process of the job
    sys.exit(_supervise(options, command))


def _check(options):
    for name, least in (("n", 1), ("s", 1), ("max_restarts", 0), ("grace", 0)):
        value = getattr(options, name)
        # "not value >= least" also refuses NaN.
        if not value >= least:
            raise DMRError(f"{flag_of(name)} must be at least {least}, not {value}")
    if options.grace > _LONGEST:
        raise DMRError(f"--grace must be at most a day ({_LONGEST} s), not {options.grace:g}")
    if options.root is not None and not options.hosts:
        raise DMRError("--root does nothing without --hosts")


def _supervise(options, command):
    from ..launch.plan import read_hosts
    from ..launch.supervisor import Job, launch

    if options.hosts and not shutil.which("ssh"):
        raise DMRError("there is no program ssh for --hosts; install it")
    return launch(
        Job(
            command=command,
            workers=options.n,
            servers=options.s,
            hosts=tuple(read_hosts(options.hosts)) if options.hosts else (),
            root=options.root,
            max_restarts=options.max_restarts,
            grace=options.grace,
        )
    )
