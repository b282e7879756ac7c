"""Seconds and CPU seconds of programs that do little, from start to end.

    python benchmarks/starting.py --run RUN --bundle BUNDLE [--before CHECKOUT]

RUN is a trained run whose data set is still there, BUNDLE an export of any network with the form
onnx. With --before, a checkout of another version is measured too; the two alternate.
"""

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from conditions import print_conditions
from tqdm import tqdm

from dmr_gluon.cli.program import Parser, run
from dmr_gluon.errors import DMRError
from dmr_gluon.runs.directory import RunDirectory
from dmr_gluon.system.settings import number
from dmr_gluon.system.text_tables import markdown_table

#: Older versions do nothing before the import.
_AS_PROGRAMS = (
    "import dmr_gluon.system.lazy_imports as lazy; "
    "getattr(lazy, 'postpone_operators', lambda: None)(); from dmr_gluon.runtime import mx"
)
REPOSITORY = Path(__file__).resolve().parent.parent


def main():
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", required=True)
    parser.add_argument("--bundle", required=True)
    parser.add_argument("--before", metavar="CHECKOUT", help="of another version")
    parser.add_argument("--rounds", type=number(int, 1), default=5)
    parser.add_argument("--only", nargs="+", metavar="WORD", help="programs with such a word")
    options = parser.parse_args()
    print_conditions()
    trees = {"now": REPOSITORY}
    if options.before:
        trees["before"] = Path(options.before).resolve()
        if not (trees["before"] / "dmr_gluon").is_dir():
            parser.error(f"{options.before} is no checkout of this project")
    every = programs(os.path.abspath(options.run), os.path.abspath(options.bundle))
    chosen = {
        name: arguments
        for name, arguments in every.items()
        if not options.only or any(word in name for word in options.only)
    }
    turns = [(name, tree) for _ in range(options.rounds) for name in chosen for tree in trees]
    found = {}
    for name, tree in tqdm(turns, "start", unit=" programs", disable=None, leave=False):
        found.setdefault((name, tree), []).append(timed(name, chosen[name], trees[tree]))
    header, rows = ["program"], [[name] for name in chosen]
    for column, what in enumerate(("s", "CPU s")):
        for tree in trees:
            header.append(f"{what}, {tree}")
            for row in rows:
                values = [pair[column] for pair in found[row[0], tree]]
                row.append(f"{statistics.median(values):.2f}")
    print(markdown_table(header, rows, range(1, len(header))))


def programs(run_folder, bundle):
    """Return the arguments of Python by the name of a program; @ stands for a new folder."""
    data = RunDirectory(run_folder).config()["dataset"]["directory"]
    dmr, image = ["-m", "dmr_gluon.cli.main"], os.path.join(bundle, "example.png")
    predict = [*dmr, "predict", bundle, image]
    train = ["train_cifar.py", "--data-dir", data, "--steps", "1", "--run-dir", "@"]
    return {
        "import dmr_gluon": ["-c", "import dmr_gluon"],
        "import MXNet": ["-c", "from dmr_gluon.runtime import mx"],
        "import MXNet, as programs do": ["-c", _AS_PROGRAMS],
        "dmr --help": [*dmr, "--help"],
        "dmr networks": [*dmr, "networks"],
        "dmr verify": [*dmr, "verify"],
        "dmr predict": predict,
        "dmr predict --form onnx": [*predict, "--form", "onnx"],
        "dmr eval": [*dmr, "eval", run_folder],
        "train_cifar.py --steps 1": [*train, "--model", "cifar_dmrnet14"],
    }


def timed(name, arguments, tree):
    """Run a version's program and return its seconds and CPU seconds."""
    with tempfile.TemporaryDirectory() as folder:
        arguments = [os.path.join(folder, "run") if one == "@" else one for one in arguments]
        if arguments[0].endswith(".py"):
            arguments[0] = os.path.join(tree, arguments[0])
        before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        # In the folder, or Python would find the package in the current one.
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(tree)},
            capture_output=True,
            encoding="utf-8",
        )
        seconds, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise DMRError(f"{name} failed: {(done.stderr.strip().splitlines() or ['?'])[-1]}")
    busy = (after.ru_utime + after.ru_stime) - (before.ru_utime + before.ru_stime)
    return seconds, busy


if __name__ == "__main__":
    run(main)
