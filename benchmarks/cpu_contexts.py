"""CPU contexts side by side: threads, temporary workspaces, memory.

    python benchmarks/cpu_contexts.py
    python benchmarks/cpu_contexts.py --model cifar_dmrnet56 --forms 1x2x4 2x2x4 2x1x64

A form is CONTEXTSxTHREADSxWORKSPACES: ``--cpus``, ``OMP_NUM_THREADS`` and ``MXNET_CPU_TEMP_COPY``.
Every form trains a network on random images in a process of its own; the processes take turns for
some rounds. Printed are the median images per second, the median ratio to the first form, round by
round, and the most memory that each process had.
"""

import os
import re
import sys

from answering import batch_of, redirected, serve
from conditions import print_conditions
from ours import make_run, measured_forms

from dmr_gluon.cli.program import Parser, run
from dmr_gluon.system.machine import usable_cores
from dmr_gluon.system.text_tables import markdown_table
from dmr_gluon.system.worker_process import Process


def main():
    cores = usable_cores()
    # All cores on one context; two as before workspaces were set; two as --cpus 2 has them.
    usual = [f"1x{cores}x4", f"2x{cores}x4", f"2x{max(1, cores // 2)}x64"]
    parser = Parser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="cifar_dmrnet14")
    parser.add_argument(
        "--forms", nargs="+", default=usual, metavar="CxTxW", help=f"({' '.join(usual)})"
    )
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=2, help="of each turn (2)")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--contexts", type=int, help="be so many (used by the program itself)")
    options = parser.parse_args()
    if options.rounds < 1 or options.batch < 1 or not options.seconds > 0:
        parser.error("--rounds, --batch and --seconds must be above 0")
    wrong = [
        f for f in options.forms if not re.fullmatch("[1-9][0-9]{0,3}(x[1-9][0-9]{0,3}){2}", f)
    ]
    if wrong:
        parser.error(f"{wrong[0]} is no form; write 2x1x64: contexts, threads, workspaces")
    if options.contexts:
        be(options)
        return
    print_conditions()
    forms, rows = list(dict.fromkeys(options.forms)), []
    found = measured_forms(forms, options, lambda form: started(form, options))
    for form, (speed, memory) in found.items():
        rate = speed.images_per_second[options.batch]
        ratio = speed.by(found[forms[0]][0])[options.batch]
        rows.append((*form.split("x"), f"{rate:,.0f}", f"{ratio:.3f}", f"{memory:,.0f}"))
    print(f"{options.model}, batches of {options.batch}, medians of {options.rounds} rounds\n")
    header = ("contexts", "threads", "workspaces", "images per second", "this / first", "MiB")
    print(markdown_table(header, rows, tuple(range(6))))


def started(form, options):
    contexts, threads, workspaces = form.split("x")
    command = [sys.executable, os.path.abspath(__file__), "--contexts", contexts]
    command += ["--model", options.model, "--batch", str(options.batch)]
    environment = {"OMP_NUM_THREADS": threads, "MXNET_CPU_TEMP_COPY": workspaces}
    return Process(form, command, environment)


def be(options):
    """Train on so many contexts, and answer as :mod:`answering` says."""
    answers = redirected()

    from dmr_gluon.runtime import mx

    devices = [mx.cpu(i) for i in range(options.contexts)]
    _, step = make_run("train", options.model, devices)
    serve(
        answers,
        step,
        lambda count: batch_of(options.model, count),
        [options.batch],
        settle=mx.nd.waitall,
    )


if __name__ == "__main__":
    run(main)
