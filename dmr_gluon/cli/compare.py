"""``dmr compare``: compare runs with the paper's tables and figures, and with each other."""

import json
import os
import shlex
import sys

from ..errors import DMRError

#: The marks between which a document keeps what ``--markdown`` writes.
MARK = "dmr compare"


def add_commands(commands):
    """Add compare to the parser of ``dmr``."""
    parser = commands.add_parser(
        "compare",
        function=_compare,
        help="compare runs with the paper's tables and figures, and with each other",
        description="Compare the last epoch's error, as mean and standard deviation over seeds, "
        "with Tables 2 to 5 and Figures 6 to 8. Give a verdict if the recipe is the paper's. RUNS "
        "are run folders, folders that contain runs at any depth, log.jsonl files, or logs of the "
        "authors' CIFAR and SVHN program.",
    )
    parser.add_argument("runs", metavar="RUNS", nargs="+")
    against = (
        "compare each group of RUNS with each of these groups on the same data; may be the same "
        "RUNS. A single run that logs within epochs (--log-steps, or an authors' log) is compared "
        "point by point"
    )
    parser.add_argument("--against", metavar="RUNS", nargs="+", help=against)
    out = parser.add_argument_group("output")
    out.add_argument("--html", metavar="FILE", help="write a self-contained page")
    out.add_argument("--pictures", metavar="DIR", help="write curves and figures as PNG and SVG")
    markdown = (
        f"write the tables, and the figures of --pictures; if the file contains <!-- {MARK} --> "
        f"and <!-- /{MARK} -->, replace only the text between them"
    )
    out.add_argument("--markdown", metavar="FILE", help=markdown)
    out.add_argument("--json", action="store_true", help="print JSON instead of tables")


def _compare(options):
    from ..compare.comparison import compare
    from ..compare.tables import as_json, as_text
    from ..runs.reader import read_runs

    runs = read_runs(options.runs)
    # The same paths on both sides: each pair is compared once.
    others = runs if options.against == options.runs else read_runs(options.against or [])
    comparison = compare(runs, others)
    for path in _write(comparison, options):
        print(f"written: {path}", file=sys.stderr)
    print(json.dumps(as_json(comparison), indent=1) if options.json else as_text(comparison))


def _write(comparison, options):
    """Write the requested files and yield what was written."""
    from ..compare.figures.drawing import pictures_of, write_pictures
    from ..compare.html import page
    from ..system.files import write_result

    pictures = pictures_of(comparison) if options.pictures or options.html else {}
    if options.pictures:
        written = write_pictures(pictures, options.pictures)
        yield f"{len(written)} figures in {options.pictures}"
    if options.markdown:
        write_result(options.markdown, _markdown(comparison, pictures, options))
        yield options.markdown
    if options.html:
        write_result(options.html, page(comparison, pictures, shlex.join(["dmr", *sys.argv[1:]])))
        yield options.html


def _markdown(comparison, pictures, options):
    from ..compare.tables import as_markdown
    from ..system.text_tables import replace_between

    path, figures = options.markdown, []
    if options.pictures:
        for name, picture in pictures.items():
            file = os.path.join(options.pictures, f"{name}.png")
            relative = os.path.relpath(file, os.path.dirname(os.path.abspath(path)))
            figures.append((picture.title, relative))
    text = as_markdown(comparison, figures)
    try:
        with open(path, encoding="utf-8", newline="") as file:
            before = file.read()
        text = replace_between(before, MARK, text)
        return text[:-1] if text.endswith("\n") else text  # which writing adds
    except FileNotFoundError:
        return f"# Results\n\n{text}"
    except OSError as error:
        raise DMRError(f"{path} cannot be read ({error}); name another --markdown") from error
    except ValueError:
        raise DMRError(
            f"{path} exists without <!-- {MARK} --> and <!-- /{MARK} --> to write between; add "
            f"them, or name another file"
        ) from None
