"""Subcommands of ``dmr`` for many runs: train the paper's tables, and watch the runs."""

import json
import sys
import time

from ..errors import DMRError


def add_run_commands(commands):
    """Add train and status to the parser of ``dmr``."""
    _add_train(commands)
    _add_status(commands)


def _add_train(commands):
    from ..paper.experiments import FIGURES, TABLES

    parser = commands.add_parser(
        "train",
        help="train the networks of the paper's tables, several seeds of each",
        description="Train the networks of a table or figure, one after another. Finished runs "
        "are skipped, begun ones continued. Other flags go to the training as they are, such as "
        "--gpus 0,1 or --epochs 20; 'python -m dmr_gluon.cli.sweep cifar10 --help' lists them.",
    )
    place = parser.add_mutually_exclusive_group()
    place.add_argument("--table", type=int, metavar="N", help=f"one of {_numbers(TABLES)}")
    place.add_argument("--figure", type=int, metavar="N", help=_numbers(FIGURES))
    parser.add_argument(
        "--row", nargs="+", default=(), help="L=54 or 54; depth=32 in Tables 3 and 4 (default: all)"
    )
    parser.add_argument(
        "--network", nargs="+", default=(), help="dmrnet, resnet, ..., or a name (default: all)"
    )
    parser.add_argument("--dataset", nargs="+", default=(), help="cifar10, ... (default: all)")
    parser.add_argument(
        "--seeds", type=int, default=1, metavar="N", help="runs of each (default: 1)"
    )
    parser.add_argument(
        "--first-seed", type=int, default=1, metavar="N", help="seeds count from it (default: 1)"
    )
    parser.add_argument("--out", default="runs", metavar="DIR", help="of all runs (default: runs)")
    parser.add_argument(
        "--data-root", default="data", metavar="DIR", help="of the prepared sets (default: data)"
    )
    parser.add_argument("--list", action="store_true", help="list what would be trained, and exit")
    parser.set_defaults(function=_train)
    _keep_unknown(parser)


def _numbers(numbers):
    return ", ".join(map(str, numbers))


def _keep_unknown(parser):
    """Let the parser leave unknown flags in ``flags``, in the order of the command line."""
    parse = parser.parse_known_args

    def parse_known_args(arguments=None, namespace=None):
        options, flags = parse(arguments, namespace)
        options.flags = [flag for flag in flags if flag != "--"]
        return options, []

    parser.parse_known_args = parse_known_args


def _train(options):
    from ..paper.experiments import select
    from .sweep import Series, check, jobs, refuse_own

    refuse_own(options.flags)
    places = {"table": options.table, "figure": options.figure}
    named = [f"{kind} {number}" for kind, number in places.items() if number is not None]
    if not named and not options.list:
        raise DMRError("say what to train: --table 2 or --figure 6; --list shows what there is")
    if options.seeds < 1 or options.first_seed < 0:
        raise DMRError("--seeds must be at least 1 and --first-seed at least 0")
    cells = select(*named, rows=options.row, datasets=options.dataset, networks=options.network)
    if options.list:
        if options.flags:
            raise DMRError(f"--list trains nothing; {options.flags[0]} would do nothing with it")
        print(_table_of_cells(cells))
        return

    seeds = range(options.first_seed, options.first_seed + options.seeds)
    todo = jobs(cells, seeds, options.out, options.data_root)
    check(todo, options.flags)
    failed = Series(todo, options.flags).run()
    print("\n" + _summary(todo, failed))
    if failed:
        sys.exit(1)


def _table_of_cells(cells):
    from ..system.text_tables import text_table

    rows = [
        (c.place, c.row, c.column, c.dataset, c.network, c.recipe.epochs, c.published or "-")
        for c in cells
    ]
    header = ("", "row", "column", "data set", "network", "epochs", "paper's test error")
    return text_table(header, rows, (5,))


def _summary(todo, failed):
    """Return all runs beside the paper's numbers, with statistics if a cell has several."""
    import statistics

    from ..compare.groups import deviations_of
    from ..runs.reader import FINISHED, read_run
    from ..system.text_tables import text_table

    rows, errors, notes = [], {}, {}
    for job in todo:
        status = job.status
        done = status is not None and status.state == FINISHED
        if done:
            errors.setdefault(job.cell, []).append(status.test_error)
            for note in deviations_of(read_run(job.path)):
                notes.setdefault(job.cell, {})[note] = None
        rows.append(
            (
                *(job.cell.row, job.cell.column, job.cell.dataset, job.seed),
                _error(job.cell, status) if done else "-",
                "failed" if job in failed else status.state if status else "not begun",
                job.cell.published or "-",
            )
        )
    header = ("row", "column", "data set", "seed", "test error", "state", "paper's")
    lines = [text_table(header, rows, (3, 4)), ""]
    for cell, found in errors.items():
        title = f"{cell.row}, {cell.column}, {cell.dataset}"
        if len(found) > 1:
            lines.append(
                f"{title}: {statistics.mean(found):.2f} ± {statistics.stdev(found):.2f} "
                f"over {len(found)} runs (sample standard deviation); "
                f"the paper's: {cell.published or 'not printed'}"
            )
        if cell in notes:
            lines.append(f"{title}: not comparable with the paper: {'; '.join(notes[cell])}")
    return "\n".join(lines).rstrip()


def _error(cell, status):
    """Return the error, with the top-5 error if the paper has one."""
    shown = cell.top5_error and status.top5_error is not None
    top5 = f" (top-5 {status.top5_error:.2f})" if shown else ""
    return f"{status.test_error:.2f}{top5}"


def _add_status(commands):
    parser = commands.add_parser("status", help="the state of runs, with their remaining time")
    parser.add_argument(
        "runs", metavar="RUNS", nargs="*", default=["runs"],
        help="runs, or folders that hold runs at any depth (default: runs)",
    )  # fmt: skip
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--json", action="store_true", help="as a JSON list")
    how.add_argument(
        "--watch", nargs="?", type=float, const=5.0, metavar="SECONDS",
        help="repeat every 5 (or SECONDS) seconds until Ctrl-C",
    )  # fmt: skip
    parser.set_defaults(function=_status)


def _status(options):
    from ..runs.directory import find_runs
    from ..runs.status import read_status

    def read():
        return [read_status(path) for path in find_runs(options.runs)]

    if options.json:
        print(json.dumps([status.to_json() for status in read()], indent=1))
    elif options.watch is None:
        print(_table_of_runs(read()))
    else:
        if not 0 < options.watch <= 86_400:
            raise DMRError(f"--watch must be above 0 and at most a day, not {options.watch:g}")
        if not sys.stdout.isatty():
            raise DMRError("--watch is for a terminal; leave it out")
        _watch(read, options.watch)


def _watch(read, seconds):
    from ..system.text_tables import redraw

    try:
        while True:
            redraw(_table_of_runs(read()))
            time.sleep(seconds)
    except KeyboardInterrupt:
        print()


def _table_of_runs(runs):
    from ..system.text_tables import one_line, text_table

    rows = [
        (
            one_line(run.path, len(run.path)),
            run.state,
            _epoch(run),
            _number(run.train_loss, ".3f"),
            _number(run.test_error, ".2f"),
            _number(run.best_error, ".2f"),
            _number(run.images_per_second, ".0f"),
            _age(run.seconds_left) if run.state != "finished" else "-",
            "-" if run.last_activity is None else f"{_age(run.idle_seconds())} ago",
            run.reason or "",
        )
        for run in runs
    ]
    header = ("run", "state", "epoch", "loss", "error", "best", "images/s", "left", "activity", "")
    return text_table(header, rows, (2, 3, 4, 5, 6, 7, 8))


def _epoch(run):
    """Return ``3/400``, with the completed share of the epoch if the run is running."""
    if not run.epochs:
        return "-"
    share = "" if run.epoch_share is None else f" ({100 * run.epoch_share:.0f}%)"
    return f"{run.epoch}/{run.epochs}{share}"


def _number(value, form):
    return "-" if value is None else format(value, form)


def _age(seconds):
    """Return ``40 s``, ``3 min``, ``5 h 20 min`` or ``2 d 3 h``."""
    if seconds is None:
        return "-"
    minutes, hours = int(seconds) // 60, int(seconds) // 3600
    if hours >= 24:
        return f"{hours // 24} d {hours % 24} h"
    if hours:
        return f"{hours} h {minutes % 60} min"
    return f"{minutes} min" if minutes else f"{int(seconds)} s"
