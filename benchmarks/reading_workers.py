"""How many photographs per second many cores would read, measured on few.

    python benchmarks/reading_workers.py [--workers 8 16 32] [--milliseconds 4.1]

Decoding and scaling, which need a core, are replaced by sleeps of the same length, which need
none: so many readers fit on two cores, and what is left is what they share: Python's lock, the
memory and the process that hands out batches. Each image is still read from RecordIO, mirrored and
normalised with colour noise into a batch of 224x224. Threads and processes alternate.
"""

import argparse
import statistics
import sys
import tempfile
import time
from dataclasses import replace


def main(arguments=None):
    import asleep
    from conditions import machine

    from dmr_gluon.cli.program import Parser
    from dmr_gluon.data.datasets import open_prepared
    from dmr_gluon.datasets.digits import prepare_digits
    from dmr_gluon.paper.recipes import IMAGENET
    from dmr_gluon.system.text_tables import text_table

    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, nargs="+", default=[8, 16, 32])
    parser.add_argument("--milliseconds", type=float, default=4.1, help="sleep of each image")
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--batches", type=int, default=40, help="of each turn")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args(arguments)
    asleep.let_readers_import()
    recipe = replace(IMAGENET, batch_size=options.batch_size)
    with tempfile.TemporaryDirectory() as folder:
        prepare_digits(folder)
        prepared = open_prepared(folder)
        speeds = {}
        for _ in range(options.rounds):
            for workers in options.workers:
                for how in ("threads", "processes"):
                    rate = _rate(prepared, recipe, options, workers, how)
                    speeds.setdefault((how, workers), []).append(rate)
    conditions = machine()
    print(f"{conditions['processor']}, {conditions['cores']} cores, load {conditions['load']:.1f}")
    print(f"{options.milliseconds} ms asleep per image, batches of {options.batch_size}")
    rows = [
        (how, str(workers), f"{statistics.median(found):,.0f}", f"{min(found):,.0f}")
        for (how, workers), found in speeds.items()
    ]
    print(text_table(("readers", "number", "images/s (median)", "(least)"), rows, (1, 2, 3)))


def _rate(prepared, recipe, options, workers, how):
    """Return images per second, without the first batches."""
    import numpy as np
    from asleep import Asleep

    from dmr_gluon.data.reader import Reading, batches
    from dmr_gluon.data.transforms import Draws, ScaleCropMirrorColour

    count = options.batch_size * (options.batches + 4)
    draws = Draws(count, 1, 1)
    places = np.arange(count).reshape(-1, options.batch_size)
    transform = ScaleCropMirrorColour(prepared, recipe, draws, places)
    asleep = Asleep(transform, options.milliseconds / 1000, recipe.image_size)
    split, shape = prepared.split("train"), (3, recipe.image_size, recipe.image_size)
    numbers = [draws.order[place] % split.count for place in places]
    for batch, _ in enumerate(batches(split, numbers, shape, asleep, Reading(**{how: workers}))):
        if batch == 3:
            began = time.perf_counter()
    return options.batch_size * options.batches / (time.perf_counter() - began)


if __name__ == "__main__":
    from dmr_gluon.cli.program import run

    sys.exit(run(main))
