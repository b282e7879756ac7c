"""Milliseconds of a training step that convolutions take, in this project and in PyTorch.

    python benchmarks/convolution_times.py cifar_dmrnet56 --peer-python PYTHON

Both compute them with oneDNN, of 2021 and of today, whose log of each primitive (DNNL_VERBOSE) is
added up. PyTorch trains eagerly and channels last. Writing the log makes steps a little slower.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections import Counter
from pathlib import Path

from conditions import print_conditions
from contestants import KEEP_MEMORY

from dmr_gluon.cli.program import Parser, run
from dmr_gluon.errors import DMRError
from dmr_gluon.system.machine import usable_cores
from dmr_gluon.system.settings import number
from dmr_gluon.system.text_tables import markdown_table

KINDS = ("forward_training", "backward_data", "backward_weights")


def main():
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("network", help="a name, such as cifar_dmrnet56")
    parser.add_argument("--batch", type=number(int, 1), default=64)
    parser.add_argument("--seconds", type=float, default=5, help="of each program (5)")
    parser.add_argument(
        "--peer-python", default=os.environ.get("DMR_PEER_PYTHON"), help="that has PyTorch"
    )
    options = parser.parse_args()
    if not options.peer_python:
        parser.error("name an interpreter that has PyTorch with --peer-python")
    print_conditions()
    here = Path(__file__).resolve().parent
    arguments = ["train", options.network, "--batch", str(options.batch)]
    channels_last = ["--form", "eager", "--layout", "channels_last"]
    programs = {
        "ours": ([sys.executable, here / "ours.py", *arguments], {}),
        "PyTorch": (
            [options.peer_python, here / "pytorch_worker.py", *arguments, *channels_last],
            {"PYTHONPATH": "", **KEEP_MEMORY},
        ),
    }
    rows = [
        (name, *map("{:,.0f}".format, times(name, *program, options)))
        for name, program in programs.items()
    ]
    header = ("ms of a step", "forward", "gradient of inputs", "of weights", "all three", "step")
    print(markdown_table(header, rows, range(1, 6)))


def times(name, command, environment, options):
    """Return the milliseconds of each kind of convolution, of all, and of a step."""
    asked = {"do": "time", "batch": options.batch, "seconds": options.seconds}
    environment = {"OMP_NUM_THREADS": str(usable_cores()), "DNNL_VERBOSE": "1", **environment}
    done = subprocess.run(
        list(map(str, command)),
        input=json.dumps(asked) + "\n",
        env={**os.environ, **environment},
        capture_output=True,
        encoding="utf-8",
    )
    if done.returncode:
        raise DMRError(f"{name} failed: {(done.stderr.strip().splitlines() or ['?'])[-1]}")
    steps = json.loads(done.stdout.splitlines()[-1])["seconds"]
    found = Counter()
    for line in done.stderr.splitlines():
        _, _, after = line.partition(",exec,")
        kind = after.split(",")
        if "convolution" in kind[:3]:  # newer versions name the engine in another place
            (direction,) = (one for one in KINDS if one in kind)
            found[direction] += float(kind[-1])
    # Two steps precede those that are timed.
    each = [found[kind] / (len(steps) + 2) for kind in KINDS]
    return *each, sum(each), 1000 * statistics.median(steps)


if __name__ == "__main__":
    sys.exit(run(main))
