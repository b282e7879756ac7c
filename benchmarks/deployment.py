"""Speed of a bundle's forms beside MXNet's own: python benchmarks/deployment.py [BUNDLE ...]

    dmr export RUN --out BUNDLE --forms folded,fused,int8,onnx

With --random NAME a network with random weights is exported first, in all forms.

Every form runs in a process of its own, from the bundle's files; the processes take turns for a
few rounds. Beside them runs what `mx.onnx.export_model` makes of the plain network by itself,
with its weights among the model's inputs. Printed are medians, and the median ratios to the
plain network and of ONNX Runtime on both models, round by round.
"""

import itertools
import os
import tempfile
import warnings

import numpy as np
from conditions import random_bundle

from dmr_gluon.cli.program import Parser, run
from dmr_gluon.deploy.bundle import read_bundle
from dmr_gluon.deploy.bundle_writer import ExportOptions
from dmr_gluon.deploy.parity import workers
from dmr_gluon.deploy.variants import VARIANTS
from dmr_gluon.runtime import mx
from dmr_gluon.system.text_tables import markdown_table
from dmr_gluon.system.timing import measure

THEIRS = "MXNet's ONNX export"


def main():
    parser = Parser(description=__doc__.splitlines()[0])
    parser.add_argument("bundles", metavar="BUNDLE", nargs="*")
    parser.add_argument("--random", metavar="NAME", action="append", default=[])
    parser.add_argument("--check-images", type=int, default=1000, help="of those with --random")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=0.7, help="for each form and round")
    parser.add_argument("--batch", type=int, default=32)
    options = parser.parse_args()
    for name in ("rounds", "batch", "seconds", "check_images"):
        if not getattr(options, name) > 0:
            parser.error(f"--{name.replace('_', '-')} must be above 0")
    if not options.bundles and not options.random:
        parser.error("name a bundle, or a network with --random")
    print(f"{os.environ['OMP_NUM_THREADS']} threads, load {os.getloadavg()[0]:.1f} before\n")
    with tempfile.TemporaryDirectory() as folder:
        for path in itertools.chain(options.bundles, random_bundles(options, folder)):
            print(f"{read_bundle(path)['network']['name']}, {options.rounds} rounds\n")
            print(measured(path, options) + "\n", flush=True)


def random_bundles(options, folder):
    """Bundles with all forms of networks with random weights; what was compared is printed."""
    for name in options.random:
        wanted = ExportOptions(
            VARIANTS,
            check_images=options.check_images,
            int8_limit=100,  # random weights say nothing of INT8's errors
        )
        path = random_bundle(name, folder, wanted)
        for form, entry in read_bundle(path)["forms"].items():
            print(name, form, entry["compared"], flush=True)
        print()
        yield path


def measured(path, options):
    found = read_bundle(path)
    forms = {
        name: (entry["runtime"], [os.path.join(path, file) for file in entry["files"]])
        for name, entry in found["forms"].items()
    }
    shape = found["input"]["shape"]
    images = np.random.RandomState(0).standard_normal((options.batch, *shape))
    with tempfile.TemporaryDirectory() as folder:
        if "onnx" in forms:
            theirs = os.path.join(folder, "theirs.onnx")
            export_by_mxnet(*forms["plain"][1], shape, theirs)
            forms[THEIRS] = ("onnxruntime", [theirs])
        with workers(forms) as running:
            for worker in running.values():
                worker.logits(images)
            sizes = (1, options.batch)
            speeds = measure(running, sizes, options.rounds, options.seconds)
    rows = []
    for name, speed in speeds.items():
        row, by_plain = [name], speed.by(speeds["plain"])
        by_theirs = speed.by(speeds[THEIRS]) if name in ("onnx", THEIRS) else {}
        for size in sizes:
            row += [
                f"{speed.images_per_second[size]:,.0f}",
                f"{by_plain[size]:.2f}",
                f"{by_theirs[size]:.2f}" if by_theirs else "",
            ]
        rows.append((*row, *(f"{milliseconds:.2f}" for milliseconds in speed.latency)))
    columns = [
        text.format(size)
        for size in sizes
        for text in ("images/s in {}", "by plain", f"by {THEIRS}")
    ]
    header = ("form", *columns, "p50 ms", "p95 ms")
    return markdown_table(header, rows, range(1, len(header)))


def export_by_mxnet(symbol, params, shape, path):
    """What a user gets who calls MXNet's exporter and nothing else."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mx.onnx.export_model(
            symbol, params, [(1, *shape)], np.float32, path,
            dynamic=True, dynamic_input_shapes=[("N", *shape)],
        )  # fmt: skip


if __name__ == "__main__":
    run(main)
