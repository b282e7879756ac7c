"""The subcommand ``dmr launch``: train with several processes."""

import argparse
import os
import shlex
import shutil
import sys

from ..errors import DMRError, flag_of
from ..system.machine import check_threads

#: Options that have an effect only with --hosts.
_ONLY_WITH_HOSTS = ("ssh", "env", "root")
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
        metavar="N",
        help="restart the job after a failure, at most N times (default: 0)",
    )
    parser.add_argument(
        "--grace",
        type=float,
        metavar="SECONDS",
        help="time for workers to save and end after Ctrl-C or SIGTERM (default: 60)",
    )
    parser.add_argument(
        "--hosts", metavar="FILE", help="machines to use over ssh, one line HOST [slots=N] each"
    )
    parser.add_argument("--ssh", metavar="COMMAND", help="replaces ssh and its options")
    parser.add_argument(
        "--env",
        action="append",
        metavar="NAME",
        help="variable to pass to processes on other hosts (may be repeated)",
    )
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
        if value is not None and not value >= least:
            raise DMRError(f"{flag_of(name)} must be at least {least}, not {value}")
    if options.grace is not None and options.grace > _LONGEST:
        raise DMRError(f"--grace must be at most a day ({_LONGEST} s), not {options.grace:g}")
    for name in _ONLY_WITH_HOSTS:
        if getattr(options, name) is not None and not options.hosts:
            raise DMRError(f"{flag_of(name)} does nothing without --hosts")
    for name in options.env or ():
        if name not in os.environ:
            raise DMRError(f"--env {name}: this variable is not set here")


def _supervise(options, command):
    from ..launch.plan import read_hosts
    from ..launch.supervisor import SSH, Job, launch

    try:
        ssh = SSH if options.ssh is None else tuple(shlex.split(options.ssh))
    except ValueError as error:
        raise DMRError(f"--ssh {options.ssh}: {error}") from error
    if options.hosts and not (ssh and shutil.which(ssh[0])):
        raise DMRError(f"there is no program {ssh[0] if ssh else repr(options.ssh)} for --hosts")
    return launch(
        Job(
            command=command,
            workers=options.n,
            servers=options.s,
            hosts=tuple(read_hosts(options.hosts)) if options.hosts else (),
            root=options.root,
            ssh=ssh,
            forward=tuple(options.env or ()),
            max_restarts=options.max_restarts or 0,
            grace=60 if options.grace is None else options.grace,
        )
    )
