"""Time training and inference of networks on this machine.

    python benchmarks/speed.py                              # cifar_dmrnet14, about half a minute
    python benchmarks/speed.py cifar_dmrnet56 dmrnet44 --json found.json
    python benchmarks/speed.py NETWORK --gpu 0

Prints images per second in training and in inference (one image, and a batch), the share of the
processor's measured peak, the time from the start of a process to its first step, and peak memory.
Random weights and images; medians of rounds in which the processes take turns.
"""

import contextlib
import json

from conditions import check_writable, measured_peak, print_conditions, training_multiply_adds
from ours import start

from dmr_gluon.cli.program import Parser, run
from dmr_gluon.models.complexity import complexity_of, image_size
from dmr_gluon.models.names import get_spec
from dmr_gluon.system.files import write_result
from dmr_gluon.system.text_tables import text_table
from dmr_gluon.system.timing import measure


def main():
    parser = Parser(description=__doc__.splitlines()[0])
    parser.add_argument("networks", metavar="NETWORK", nargs="*", default=["cifar_dmrnet14"])
    parser.add_argument("--batch", type=int, help="images (default: 64; of 224x224 pixels, 16)")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each process (5)")
    parser.add_argument("--seconds", type=float, default=0.5, help="of each turn (0.5)")
    parser.add_argument("--gpu", metavar="N", help="default: the CPU")
    parser.add_argument("--json", metavar="FILE", help="write the speeds here")
    options = parser.parse_args()
    if options.rounds < 1 or not options.seconds > 0 or (options.batch or 1) < 1:
        parser.error("--batch, --rounds and --seconds must be above 0")
    specs = [get_spec(name) for name in options.networks]
    check_writable(options.json)
    print_conditions()
    peak = measured_peak(options.gpu)
    print(f"peak: {peak.multiply_adds / 1e9:,.0f} billion multiply-adds a second, by {peak.by}\n")
    found = [one for spec in specs for one in measured(spec, options, peak)]
    rows = [
        (
            *(one["network"], one["work"], one["batch"], f"{one['images_per_second']:,.0f}"),
            *(f"{100 * one['share']:.0f}%", f"{one['first']:.2f}", f"{one['bytes'] / 1e6:,.0f}"),
        )
        for one in found
    ]
    header = ("network", "work", "batch", "images/s", "of the peak", "first run, s", "memory, MB")
    print(text_table(header, rows, range(2, 7)))
    if options.json:
        write_result(options.json, json.dumps({"peak": vars(peak), "speeds": found}, indent=1))


def measured(spec, options, peak):
    """Yield a dict for each kind of work and batch size."""
    complexity = complexity_of(spec)
    batch = options.batch or (64 if image_size(spec) == 32 else 16)
    for kind, work, sizes, multiply_adds in (
        ("train", "training", [batch], training_multiply_adds(complexity)),
        ("infer", "inference", sorted({1, batch}, reverse=True), complexity.multiply_adds),
    ):
        with contextlib.closing(start(kind, spec.name, sizes, options.gpu)) as process:
            first = process.wait()["seconds_to_first"]
            speed = measure({work: process}, sizes, options.rounds, options.seconds)[work]
            memory = process.ask({"do": "memory"})["peak_bytes"]
        for size, rate in speed.images_per_second.items():
            yield {
                "network": spec.name,
                "work": work,
                "batch": size,
                "images_per_second": rate,
                "share": peak.share(multiply_adds, rate),
                "first": first,
                "bytes": memory,
            }


if __name__ == "__main__":
    run(main)
