"""Subcommands of ``dmr`` for runs: train, status, plot."""

import json
import os
import sys
from datetime import timedelta

from ..errors import DMRError, flag_of
from ..system.settings import number
from ..system.signals import say


def add_commands(commands):
    """Add train, status and plot to the parser of ``dmr``."""
    parser = commands.add_parser(
        "train",
        function=_train,
        help="train the networks of the paper's tables, or a network on a set of your own",
        description="Train the networks of a table or figure, one after another. Finished runs "
        "are skipped and interrupted runs are resumed. With --data-dir, train one network on that "
        "set, with a recipe chosen by what it contains. Other flags are passed to the training, "
        "such as --gpus 0,1; 'python -m dmr_gluon.cli.sweep cifar10 --help' lists them.",
    )
    place = parser.add_mutually_exclusive_group()
    place.add_argument("--table", type=int, metavar="N", help="of the paper: 2, 3, 4 or 5")
    place.add_argument("--figure", type=int, metavar="N", help="of the paper: 6")
    place.add_argument("--data-dir", metavar="DIR", help="folder of a prepared set of your own")
    rows = "L=54 or 54; depth=32 in Tables 3 and 4 (default: all)"
    parser.add_argument("--row", nargs="+", default=(), help=rows)
    networks = "dmrnet, resnet, ..., or a network's name (default: all)"
    parser.add_argument("--network", nargs="+", default=(), help=networks)
    parser.add_argument("--dataset", nargs="+", default=(), help="cifar10, ... (default: all)")
    parser.add_argument("--seeds", type=number(int, 1), default=1, help="runs each (default: 1)")
    parser.add_argument("--first-seed", type=number(int, 0), default=1, help="default: 1")
    parser.add_argument("--out", default="runs", help="folder of all runs (default: runs)")
    parser.add_argument("--data-root", default="data", help="of prepared sets (default: data)")
    parser.add_argument("--list", action="store_true", help="list what would be trained, and exit")

    parser = commands.add_parser("status", function=_status, help="show the state of runs")
    runs = "runs, or folders that contain runs at any depth (default: runs)"
    parser.add_argument("runs", metavar="RUNS", nargs="*", default=["runs"], help=runs)
    parser.add_argument("--json", action="store_true", help="print a JSON list")

    parser = commands.add_parser("plot", function=_plot, help="draw the learning curves of runs")
    parser.add_argument("runs", metavar="RUN", nargs="+", help="folders of runs")
    parser.add_argument("--out", metavar="FILE", help=".png, .svg or .pdf (default: RUN/curve.png)")


def _train(options):
    from ..compare.comparison import compare
    from ..compare.tables import as_text
    from ..paper.experiments import select
    from ..runs.reader import FINISHED, read_runs
    from ..system.text_tables import text_table
    from .sweep import Job, Series, check, refuse_own

    if options.data_dir is not None:
        _train_on_own(options)
        return
    refuse_own(options.flags)
    places = {"table": options.table, "figure": options.figure}
    named = [f"{kind} {number}" for kind, number in places.items() if number is not None]
    if not named and not options.list:
        raise DMRError(
            "say what to train: --table 2 or --figure 6 (--list shows what there is), or "
            "--data-dir with a set of your own"
        )
    cells = select(*named, rows=options.row, datasets=options.dataset, networks=options.network)
    if options.list:
        if options.flags:
            raise DMRError(f"--list trains nothing; {options.flags[0]} would do nothing with it")
        rows = [
            (c.place, c.row, c.column, c.dataset, c.network, c.recipe.epochs, c.published or "-")
            for c in cells
        ]
        header = ("", "row", "column", "data set", "network", "epochs", "paper's test error")
        print(text_table(header, rows, (5,)))
        return

    seeds = range(options.first_seed, options.first_seed + options.seeds)
    todo = [Job(cell, seed, options.out, options.data_root) for seed in seeds for cell in cells]
    check(todo, options.flags)
    failed = Series(todo, options.flags).run()
    finished = [job.run.path for job in todo if job.status.state == FINISHED]
    if finished:
        print("\n" + as_text(compare(read_runs(finished))))
    for job, reason in failed.items():
        print(f"failed: {job.run.path}: {reason}")
    if failed:
        sys.exit(1)


def _train_on_own(options):
    from ..data.datasets import open_prepared
    from ..paper.recipe_choice import recipe_for
    from ..paper.recipes import CIFAR
    from .training_flags import parse, train

    defaults = {"row": (), "network": (), "dataset": (), "seeds": 1, "first_seed": 1}
    for name, default in {**defaults, "out": "runs", "data_root": "data", "list": False}.items():
        if getattr(options, name) != default:
            raise DMRError(f"{flag_of(name)} is for the paper's tables; leave it out")
    arguments, title = ["--data-dir", options.data_dir, *options.flags], "Train on a prepared set."
    flags, prepared = parse(title, CIFAR, "", arguments), open_prepared(options.data_dir)
    images, fine_tune = prepared.split("train").count, "init_from" in flags and not flags["recipe"]
    recipe, why = recipe_for(prepared.name, prepared.image_size, images, fine_tune)
    if not (flags["recipe"] or "resume" in flags):
        say(f"recipe {recipe.name}: {why}")
    train(title, recipe, prepared.name, arguments=arguments)


def _status(options):
    from ..runs.directory import find_runs
    from ..runs.status import read_status

    found = [read_status(path) for path in find_runs(options.runs)]
    print(json.dumps(list(map(vars, found)), indent=1) if options.json else _table_of_runs(found))


def _table_of_runs(runs):
    from ..standalone.predict_onnx import shown
    from ..system.text_tables import text_table

    rows = [
        (
            shown(run.path),
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
    """Return ``5:20:00`` or ``2 days, 3:00:00``."""
    return "-" if seconds is None else str(timedelta(seconds=int(seconds)))


def _plot(options):
    from ..runs.learning_curve import learning_curve, write_picture

    if not options.out and len(options.runs) > 1:
        raise DMRError("--out says where the picture of several runs goes; give it")
    out = options.out or os.path.join(options.runs[0], "curve.png")
    write_picture(lambda: learning_curve(options.runs), out)
    print(out)
