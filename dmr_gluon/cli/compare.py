"""``dmr compare``: runs beside the paper's tables and figures, and beside each other."""

import json
import math
import os
import shlex
import sys
import time

from ..errors import DMRError

#: The marks between which a document keeps what ``--markdown`` writes.
MARK = "dmr compare"


def add_compare(commands):
    """Add compare to the parser of ``dmr``."""
    parser = commands.add_parser(
        "compare",
        help="compare runs with the paper's tables and figures, and with each other",
        description="Means and standard deviations over seeds of the last epoch's error, beside "
        "Tables 2 to 5 and Figures 6 to 8, with a verdict if the training is the paper's. "
        "RUNS are runs, folders that hold runs at any depth, single log.jsonl files, and logs of "
        "the authors' CIFAR and SVHN program.",
    )
    parser.add_argument("runs", metavar="RUNS", nargs="+")
    parser.add_argument(
        "--against",
        metavar="RUNS",
        nargs="+",
        help="which is better: compare each group of RUNS with each of these on the same data; may "
        "be the same RUNS. A single run with means within epochs (--log-steps, or an authors' log) "
        "is compared point by point",
    )
    out = parser.add_argument_group("output")
    out.add_argument("--html", metavar="FILE", help="write a self-contained page")
    out.add_argument("--pictures", metavar="DIR", help="write curves and figures as PNG and SVG")
    out.add_argument(
        "--markdown",
        metavar="FILE",
        help=f"write the tables, and the figures of --pictures; in a file that has "
        f"<!-- {MARK} --> and <!-- /{MARK} --> only the text between them is replaced",
    )
    out.add_argument("--json", action="store_true", help="print JSON instead of tables")
    parser.add_argument(
        "--live",
        nargs="?",
        type=float,
        const=10.0,
        metavar="SECONDS",
        help="repeat every 10 (or SECONDS) seconds until no run is running",
    )
    parser.set_defaults(function=_compare)


def _compare(options):
    if options.live is not None and not 0 < options.live <= 86_400:
        raise DMRError(f"--live must be above 0 and at most a day, not {options.live:g}")
    if options.live is not None and options.json:
        raise DMRError("--json is written once; leave out --live")
    for path in (options.html, options.markdown):
        if path and os.path.isdir(path):
            raise DMRError(f"{path} is a folder; name a file to write")
    if options.live is None:
        comparison = _read(options)
        for path in _write(comparison, options):
            print(f"written: {path}", file=sys.stderr)
        _show(comparison, options)
        return
    try:
        _follow(options)
    except KeyboardInterrupt:
        print()


def _read(options):
    from ..compare.comparison import compare
    from ..runs.reader import read_runs

    runs = read_runs(options.runs)
    if options.against == options.runs:
        return compare(runs, runs)
    return compare(runs, read_runs(options.against) if options.against else None)


def _show(comparison, options):
    from ..compare.tables import as_json, as_text

    if options.json:
        print(json.dumps(as_json(comparison), indent=1))
    else:
        print(as_text(comparison))


def _write(comparison, options, reload_seconds=None):
    """Write the requested files and yield what was written."""
    from ..system.files import write_result

    if options.pictures:
        from ..compare.figures.drawing import write_pictures

        written = write_pictures(comparison, options.pictures)
        yield f"{len(written)} figures in {options.pictures}"
    if options.markdown:
        write_result(options.markdown, _markdown(comparison, options))
        yield options.markdown
    if options.html:
        from ..compare.html import page

        command = shlex.join(["dmr", *sys.argv[1:]])
        write_result(options.html, page(comparison, command, reload_seconds))
        yield options.html


def _markdown(comparison, options):
    from ..compare.figures.drawing import pictures_of
    from ..compare.tables import as_markdown
    from ..system.text_tables import replace_between

    path, figures = options.markdown, []
    if options.pictures:
        for name, picture in pictures_of(comparison).items():
            file = os.path.join(options.pictures, f"{name}.png")
            relative = os.path.relpath(file, os.path.dirname(os.path.abspath(path)))
            figures.append((picture.title, relative))
    text = as_markdown(comparison, figures)
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
            f"{path} exists without <!-- {MARK} --> and <!-- /{MARK} --> to write between; add "
            f"them, or name another file"
        ) from None


def _follow(options):
    """Show and write again and again, until no run is running."""
    from ..compare.tables import as_text
    from ..runs.reader import RUNNING
    from ..system.text_tables import redraw

    before = shown = None
    while True:
        comparison = _read(options)
        going_on = any(run.state == RUNNING for run in comparison.runs)
        if comparison != before:
            seconds = max(1, math.ceil(options.live)) if going_on else None
            list(_write(comparison, options, seconds))
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
