"""An evaluation beside what bounds it: reading alone, and the network alone.

    python benchmarks/evaluating.py dmrnet44 --data-dir PHOTOGRAPHS --split train
    python benchmarks/evaluating.py dmrnet44 --asleep 32

The first measures on this machine's CPU. The second stands for 8 GPUs and many cores: so many
processes read, asleep for as long as decoding and scaling take (see reading_workers.py), and the
network answers at once, as it computes elsewhere; what is left is the evaluation's own work. Each
round measures reading, the network (if it computes) and the evaluation once.
"""

import argparse
import statistics
import sys
import tempfile
import time
from dataclasses import replace

from dmr_gluon.cli.program import Parser, run
from dmr_gluon.system.settings import number

#: ImageNet's validation set.
IMAGES = 50_000


def main():
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("network", help="a name, such as dmrnet44")
    parser.add_argument("--data-dir", help="folder of a prepared set of photographs")
    parser.add_argument("--split", default="test", help="of that set (test)")
    parser.add_argument("--asleep", type=number(int, 1), metavar="N", help="processes that sleep")
    parser.add_argument("--milliseconds", type=float, default=4.1, help="sleep of each image (4.1)")
    parser.add_argument("--batch", type=number(int, 1), help="images (default: the recipe's)")
    parser.add_argument("--rounds", type=number(int, 1), default=3)
    options = parser.parse_args()
    if bool(options.data_dir) == bool(options.asleep):
        parser.error("give --data-dir or --asleep")

    from conditions import print_conditions

    print_conditions()
    with tempfile.TemporaryDirectory() as folder:
        case = Asleep(options, folder) if options.asleep else Here(options)
        found, busy = {name: [] for name in case.parts}, []
        for _ in range(options.rounds):
            for name, rates in found.items():
                seconds, mine = seconds_of(case.parts[name])
                rates.append(case.count / seconds)
            busy.append(mine / case.count)  # of the evaluation, which comes last
    bound = min((name for name in found if name != "evaluation"), key=lambda n: sum(found[n]))
    ratio = statistics.median(a / b for a, b in zip(found["evaluation"], found[bound]))
    for name, rates in found.items():
        rate = statistics.median(rates)
        print(f"{name}: {rate:,.1f} images/s, {IMAGES:,} in {IMAGES / rate / 60:,.1f} min")
    print(f"evaluation by {bound}: {ratio:.2f}")
    if options.asleep:
        rate = 1 / statistics.median(busy)
        print(f"the evaluation's process alone would keep a core busy at {rate:,.0f} images/s")


def seconds_of(function):
    """Return the seconds that a call takes, and those of cores in this process."""
    began, mine = time.perf_counter(), time.process_time()
    function()
    return time.perf_counter() - began, time.process_time() - mine


class Here:
    """The network on this machine's CPU, with a set of photographs."""

    def __init__(self, options):
        from ours import make_run

        from dmr_gluon.data.datasets import open_prepared
        from dmr_gluon.paper.recipes import IMAGENET
        from dmr_gluon.runtime import mx

        self.devices, self.split = [mx.cpu()], options.split
        batch = options.batch or IMAGENET.batch_size
        self.recipe = replace(IMAGENET, model=options.network, batch_size=batch)
        self.prepared = open_prepared(options.data_dir)
        self.count = self.prepared.split(self.split).count
        self.net, self._answer = make_run("infer", options.network, self.devices)
        self.parts = {
            "reading": lambda: [None for _ in self.batches()],
            "network": self._compute,
            "evaluation": self._evaluate,
        }
        self._images = next(iter(self.batches())).data
        self._answer(self._images)

    def reading(self):
        from dmr_gluon.training.options import reading_for

        return reading_for(self.recipe, None)

    def batches(self):
        from dmr_gluon.data.loader import evaluation_batches

        return evaluation_batches(self.prepared, self.recipe, self.split, reading=self.reading())

    def _compute(self):
        for start in range(0, self.count, self.recipe.batch_size):
            self._answer(self._images[: self.count - start])

    def _evaluate(self):
        from dmr_gluon.training.evaluate import evaluate

        about = self.prepared, self.recipe, self.devices, self.split
        evaluate(self.net, *about, reading=self.reading())


class Asleep(Here):
    """Eight devices whose network takes no time, and many readers who only sleep.

    As for GPUs, a batch is copied once, into host memory that is reused; copying it on from there
    takes no time of a core.
    """

    def __init__(self, options, folder):
        import asleep

        from dmr_gluon.data import loader
        from dmr_gluon.data.datasets import open_prepared
        from dmr_gluon.datasets.digits import prepare_digits
        from dmr_gluon.paper.recipes import IMAGENET
        from dmr_gluon.runtime import mx
        from dmr_gluon.training import evaluate as evaluation
        from dmr_gluon.training.step import HostBuffers

        class Reused(HostBuffers):
            def __init__(self, devices):
                super().__init__(devices)
                self._reuse = True

        evaluation.HostBuffers = Reused
        asleep.let_readers_import()
        self.devices, self.split = [mx.cpu()] * 8, "train"
        self.recipe = replace(IMAGENET, batch_size=options.batch or IMAGENET.batch_size)
        self._workers = options.asleep
        prepare_digits(folder)
        self.prepared = repeated(open_prepared(folder), 8)
        self.count = self.prepared.split(self.split).count
        size, seconds = self.recipe.image_size, options.milliseconds / 1000
        loader.CentreCrop = lambda prepared, recipe: asleep.Evaluation(prepared, seconds, size)
        answer = mx.nd.zeros((1, 1000))
        self.net = lambda part: mx.nd.repeat(answer, len(part), axis=0)
        self.parts = {
            "reading": lambda: [None for _ in self.batches()],
            "evaluation": self._evaluate,
        }

    def reading(self):
        from dmr_gluon.data.reader import Reading

        return Reading(processes=self._workers)


def repeated(prepared, times):
    """Return a set whose training images are a set's, again and again, of a thousand classes."""
    split = prepared.split("train")
    classes = tuple(map(str, range(1000)))
    seen = [times * n for n in split.per_class]
    whole = replace(
        split,
        parts=(split,) * times,
        count=times * split.count,
        per_class=(*seen, *[0] * (len(classes) - len(seen))),
    )
    return replace(prepared, classes=classes, splits={"train": whole})


if __name__ == "__main__":
    sys.exit(run(main))
