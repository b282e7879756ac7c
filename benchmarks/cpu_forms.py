"""What each decision about speed on CPUs is worth: python benchmarks/cpu_forms.py

Every form trains a network on random images in a process of its own; the processes take turns for
some rounds. Printed are the median images per second, the median ratio to this project's form,
round by round, and the most memory that each process had.
"""

import os
import sys

from answering import batch_of, redirected, serve
from conditions import print_conditions
from ours import make_run, measured_forms

from dmr_gluon.cli.program import Parser, run
from dmr_gluon.models.blocks import MergeAndRun
from dmr_gluon.models.layers import BatchNormRelu, GlobalAveragePool
from dmr_gluon.runtime import mx
from dmr_gluon.system.text_tables import markdown_table
from dmr_gluon.system.worker_process import Process
from dmr_gluon.training import flat_parameters as buckets

OURS = "ours"
FORMS = {
    OURS: "as train_cifar.py trains",
    "apart": "BN and ReLU as two operators",
    "pooling": "oneDNN's global pooling in place of the mean",
    "multiply": "the merge divides by a multiplication, and merge-and-run blocks add two by two",
    "parameters": "every parameter updated by itself",
    "grouped": "all branches in one grouped convolution",
    "bulk": "500 operators in one piece of work",
    "mirror": "MXNET_BACKWARD_DO_MIRROR=1, which is to save memory",
    "threads": "MXNet's own number of threads",
}


def main():
    parser = Parser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="cifar_dmrnet14")
    parser.add_argument("--forms", nargs="+", choices=FORMS, default=list(FORMS))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=2, help="of each turn (2)")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--form", choices=FORMS, help="be this one (used by the program itself)")
    options = parser.parse_args()
    if options.rounds < 1 or options.batch < 1 or not options.seconds > 0:
        parser.error("--rounds, --batch and --seconds must be above 0")
    if options.form:
        be(options)
        return
    print_conditions()
    forms, rows = [OURS, *(form for form in options.forms if form != OURS)], []
    found = measured_forms(forms, options, lambda form: started(form, options))
    for form, (speed, memory) in found.items():
        rate = speed.images_per_second[options.batch]
        slower = found[OURS][0].by(speed)[options.batch]
        rows.append((FORMS[form], f"{rate:,.0f}", f"{slower:.3f}", f"{memory:,.0f}"))
    print(f"{options.model}, batches of {options.batch}, medians of {options.rounds} rounds\n")
    header = ("form", "images per second", "ours / this", "peak memory, MiB")
    print(markdown_table(header, rows, (1, 2, 3)))


def started(form, options):
    command = [sys.executable, os.path.abspath(__file__), "--form", form]
    command += ["--model", options.model, "--batch", str(options.batch)]
    environment = {"MXNET_BACKWARD_DO_MIRROR": "1"} if form == "mirror" else {}
    if form == "threads":
        environment["OMP_NUM_THREADS"] = str(max(1, len(os.sched_getaffinity(0)) // 2))
    return Process(form, command, environment)


def be(options):
    """Train in one form, and answer as :mod:`answering` says."""
    answers = redirected()
    if options.form == "parameters":
        buckets._MOST = 1
    name = options.model + ("_grouped" if options.form == "grouped" else "")
    _, step = make_run("train", name, [mx.cpu()], change=CHANGES.get(options.form))
    serve(answers, step, lambda count: batch_of(name, count), [options.batch], settle=mx.nd.waitall)


def _set(name, value, kind=object):
    """A function that sets an attribute of all blocks of some kind that have it."""

    def change_block(block):
        if isinstance(block, kind) and hasattr(block, name):
            setattr(block, name, value)

    return lambda net: net.apply(change_block)


def _bulk(net):
    net.hybridize(
        static_alloc=True, static_shape=True, forward_bulk_size=500, backward_bulk_size=500
    )


CHANGES = {
    "apart": _set("fused", False, BatchNormRelu),
    "pooling": _set("fused", False, GlobalAveragePool),
    "multiply": _set("fused", False, MergeAndRun),
    "bulk": _bulk,
}


if __name__ == "__main__":
    run(main)
