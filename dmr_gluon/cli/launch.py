"""The subcommand ``dmr launch``: train with several processes."""

import argparse
import shutil
import sys

from ..errors import DMRError
from ..system.machine import check_threads
from ..system.settings import number


def add_commands(commands):
    """Add launch to the parser of ``dmr``."""
    parser = commands.add_parser(
        "launch",
        function=_launch,
        help="train with several processes, on one machine or many (kvstore dist_sync)",
        usage="dmr launch -n WORKERS [-s SERVERS] [options] -- COMMAND...",
        description="Run COMMAND in every worker, with a scheduler and servers. If a process "
        "fails, report which one and stop the others. See docs/machines.md.",
    )
    count = number(int, 1)
    parser.add_argument("-n", type=count, required=True, metavar="WORKERS", help="their number")
    parser.add_argument("-s", type=count, default=1, metavar="SERVERS", help="default: 1")
    text = "restart the job after a failure, at most N times (default: 0)"
    times = number(int, 0)
    parser.add_argument("--max-restarts", type=times, default=0, metavar="N", help=text)
    grace = "seconds that workers have to save and exit after Ctrl-C or SIGTERM (default: 60)"
    seconds = number(float, 0, 86_400)
    parser.add_argument("--grace", type=seconds, default=60, metavar="SECONDS", help=grace)
    hosts = "machines to use over ssh, one per line"
    parser.add_argument("--hosts", metavar="FILE", help=hosts)
    root = "address of the scheduler for the other machines (default: the first host)"
    parser.add_argument("--root", metavar="HOST", help=root)
    command = "command of every worker"
    parser.add_argument("worker", nargs=argparse.REMAINDER, metavar="-- COMMAND", help=command)


def _launch(options):
    from ..launch.plan import read_hosts
    from ..launch.supervisor import Job, launch

    if options.root is not None and not options.hosts:
        raise DMRError("--root does nothing without --hosts")
    command = options.worker[1:] if options.worker[:1] == ["--"] else options.worker
    if not command:
        raise DMRError("say what the workers run: dmr launch -n 2 -s 1 -- python train_cifar.py")
    for program in (command[0], "ssh") if options.hosts else (command[0],):
        if shutil.which(program) is None:
            raise DMRError(f"there is no program {program}; install it, or name another")
    check_threads()  # once, not in every process of the job
    job = Job(
        # An absolute path, so that "python" means this environment on other machines too.
        command=(shutil.which(command[0]), *command[1:]),
        workers=options.n,
        servers=options.s,
        hosts=tuple(read_hosts(options.hosts)) if options.hosts else (),
        root=options.root,
        max_restarts=options.max_restarts,
        grace=options.grace,
    )
    sys.exit(launch(job))
