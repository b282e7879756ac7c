"""``dmr compare``: runs beside the paper's tables and figures, and beside each other."""

import json
import math
import os
import shlex
import sys
import time

from ..errors import DMRError

#: Between which a document keeps what ``--markdown`` writes.
MARK = "dmr compare"


def add_compare(commands):
    """Add compare to the parser of ``dmr``."""
    parser = commands.add_parser(
        "compare",
        help="runs beside the paper's tables and figures, and beside each other",
        description="Means and standard deviations over seeds of the last epoch's error, beside "
        "Tables 2 to 5 and Figures 6 to 8, with a verdict where the training is the paper's. "
        "RUNS are runs, folders that hold runs at any depth, single log.jsonl files, and logs of "
        "the authors' code.",
    )
    parser.add_argument("runs", metavar="RUNS", nargs="+")
    parser.add_argument(
        "--against",
        metavar="RUNS",
        nargs="+",
        help="which is better: each group of RUNS beside each of these on the same data; may be "
        "the same RUNS. One run with means within epochs (--log-steps, or an authors' log) is set "
        "beside RUNS point by point",
    )
    out = parser.add_argument_group("what to write")
    out.add_argument("--html", metavar="FILE", help="one page that needs nothing else")
    out.add_argument("--pictures", metavar="DIR", help="curves and figures, as PNG and SVG")
    out.add_argument(
        "--markdown",
        metavar="FILE",
        help=f"the tables, and the pictures that --pictures writes; of a file that has "
        f"<!-- {MARK} --> and <!-- /{MARK} --> only what is between them is written",
    )
    out.add_argument("--json", action="store_true", help="print JSON instead of tables")
    parser.add_argument(
        "--live",
        nargs="?",
        type=float,
        const=10.0,
        metavar="SECONDS",
        help="do it again every 10 seconds, or so many, until no run is running any more",
    )
    authors = parser.add_argument_group(
        "logs of the authors' code",
        "Those of their CIFAR and SVHN program say what they are of. Of other logs a name like "
        "DATASET-NETWORK-seedS.log says it, or these do.",
    )
    authors.add_argument("--log-dataset", metavar="NAME", help="cifar10, ...")
    authors.add_argument("--log-network", metavar="NAME", help="cifar_dmrnet56, ...")
    authors.add_argument(
        "--log-epochs",
        type=int,
        metavar="N",
        help="that it was to have (default: as the log says, or the paper's)",
    )
    parser.set_defaults(function=_compare)


def _compare(options):
    if options.live is not None and not 0 < options.live <= 86_400:
        raise DMRError(f"--live must be above 0 and at most a day, not {options.live:g}")
    if options.live is not None and options.json:
        raise DMRError("--json is written once; leave out --live")
    if options.log_epochs is not None and options.log_epochs < 1:
        raise DMRError(f"--log-epochs must be at least 1, not {options.log_epochs}")
    for path in (options.html, options.markdown):
        if path and os.path.isdir(path):
            raise DMRError(f"{path} is a folder; name the file that is to be written")
    if options.live is None:
        comparison = _read(options)
        _write(comparison, options)
        _show(comparison, options)
        return
    try:
        _follow(options)
    except KeyboardInterrupt:
        print()


def _read(options):
    from ..compare.comparison import compare
    from ..runs.reader import read_runs
    from ..runs.training_run import AUTHORS

    logs = (options.log_dataset, options.log_network, options.log_epochs)
    runs = others = read_runs(options.runs, *logs)
    if options.against != options.runs:
        others = read_runs(options.against, *logs) if options.against else None
    for name, value in zip(("dataset", "network", "epochs"), logs):
        if value is not None and all(run.format != AUTHORS for run in (*runs, *(others or ()))):
            raise DMRError(f"--log-{name} is for logs of the authors' code; there is none here")
    return compare(runs, others)


def _show(comparison, options):
    from ..compare.tables import as_json, as_text

    if options.json:
        print(json.dumps(as_json(comparison), indent=1))
    else:
        print(as_text(comparison))


def _write(comparison, options, live=None):
    """The files that are wanted; what else there is to say goes to stderr."""
    if options.pictures:
        from ..compare.figures.drawing import write_pictures

        written = write_pictures(comparison, options.pictures)
        _say(f"{len(written)} pictures in {options.pictures}", live)
    if options.markdown:
        _write_file(options.markdown, _markdown(comparison, options), live)
    if options.html:
        from ..compare.html.page import page

        text = page(comparison, _command(), _pictures_for_page(comparison), live)
        _write_file(options.html, text, live)


def _pictures_for_page(comparison):
    """All but the curves, which the page draws itself, by what they show."""
    from ..compare.figures.drawing import as_bytes, pictures_of

    return {
        f"{picture.title}. {picture.caption}": as_bytes(picture(), "svg")
        for name, picture in pictures_of(comparison).items()
        if not name.startswith("curves-")
    }


def _write_file(path, text, live):
    from ..system.files import write_result

    write_result(path, text)
    _say(path, live)


def _say(text, live):
    if live is None:
        print(f"written: {text}", file=sys.stderr)


def _command():
    return shlex.join(["dmr", *sys.argv[1:]])


def _markdown(comparison, options):
    from ..compare.figures.drawing import pictures_of
    from ..compare.tables import as_markdown, relative
    from ..system.text_tables import replace_between

    path, shown = options.markdown, []
    if options.pictures:
        for name, picture in pictures_of(comparison).items():
            file = os.path.join(options.pictures, f"{name}.png")
            shown.append((picture.title, relative(file, path)))
    text = as_markdown(comparison, shown)
    try:
        with open(path, encoding="utf-8", newline="") as file:
            before = file.read()
    except FileNotFoundError:
        return f"# Results\n\n{text}"
    except (OSError, UnicodeError) as error:
        raise DMRError(f"{path} cannot be read ({error}); name another --markdown") from error
    try:
        text = replace_between(before, MARK, text)
        return text[:-1] if text.endswith("\n") else text  # which writing adds
    except ValueError:
        raise DMRError(
            f"{path} is there, and has no <!-- {MARK} --> and <!-- /{MARK} --> to write between; "
            f"put them into it, or name another file"
        ) from None


def _follow(options):
    """Show and write again and again, until no run is running."""
    from ..compare.tables import as_text
    from ..runs.training_run import RUNNING
    from ..system.text_tables import redraw

    before = shown = None
    while True:
        comparison = _read(options)
        going_on = any(run.state == RUNNING for run in comparison.runs)
        if comparison != before:
            _write(comparison, options, max(1, math.ceil(options.live)) if going_on else 0)
        before, text = comparison, as_text(comparison)
        if sys.stdout.isatty():
            redraw(text)
        elif text != shown:
            print(text + "\n", flush=True)
        shown = text
        if not going_on:
            print("no run is running any more")
            return
        time.sleep(options.live)
