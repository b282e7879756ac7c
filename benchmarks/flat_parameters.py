"""What it gains to train parameters as parts of a few long arrays, beside one array for each.

    python benchmarks/flat_parameters.py

Every row is a setup: one context, two contexts (kvstore device), or two workers (dist_sync). Each
form runs in processes of its own, which take turns; printed are medians of a step, and the
median ratio of a round.
"""

import argparse
import os
import re
import statistics
import subprocess
import sys
import time

from dmr_gluon.system.machine import share_cores

#: Network, images of a worker's step, contexts, workers.
ROWS = (
    ("cifar_dmrnet14", 64, 1, 1),
    ("cifar_dmrnet56", 64, 1, 1),
    ("cifar_dmrnet56", 16, 1, 1),
    ("cifar_dmrnet14", 64, 2, 1),
    ("cifar_dmrnet56", 64, 2, 1),
    ("cifar_dmrnet14", 64, 1, 2),
    ("cifar_dmrnet56", 16, 1, 2),
)
FORMS = ("long arrays", "separate")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--be", nargs=4, help="FORM NETWORK IMAGES CONTEXTS: used by the program")
    options = parser.parse_args()
    if options.be:
        form, name, *numbers = options.be
        train(form, name, *map(int, numbers), options.steps)
        return
    for name, batch, contexts, workers in ROWS:
        found = {form: [] for form in FORMS}
        for _ in range(options.rounds):
            for form in FORMS:
                found[form].append(measure(form, name, batch, contexts, workers, options.steps))
        ratios = [separate / long for long, separate in zip(*found.values())]
        medians = ", ".join(f"{form} {statistics.median(found[form]):.0f} ms" for form in FORMS)
        print(
            f"{name}, {batch} images, {contexts} contexts, {workers} workers: {medians}, "
            f"ratio {statistics.median(ratios):.2f}",
            flush=True,
        )


def measure(form, name, batch, contexts, workers, steps):
    """Median milliseconds of a step in a new process, or of the first of several workers."""
    command = [sys.executable, __file__, "--steps", str(steps), "--be", form, name]
    command += [str(batch), str(contexts)]
    environment = dict(os.environ)
    if workers > 1:
        launch = [sys.executable, "-m", "dmr_gluon.cli.main", "launch", "-n", str(workers), "--"]
        command, environment["OMP_NUM_THREADS"] = launch + command, "1"
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return float(re.search(r"([\d.]+) ms", done.stdout)[1])


def train(form, name, batch, contexts, steps):
    share_cores(contexts)

    import numpy as np

    from dmr_gluon.models.names import get_spec
    from dmr_gluon.models.network import Network
    from dmr_gluon.models.serialization import prepare_to_run
    from dmr_gluon.runtime import mx
    from dmr_gluon.training import flat_parameters as buckets
    from dmr_gluon.training import step
    from dmr_gluon.training.distributed import join
    from dmr_gluon.training.optimizer import NAG2016

    class Separate:
        """Parameters as Gluon has them, in the place of :class:`.buckets.FlatParameters`."""

        def __init__(self, net, add, devices):
            self.arrays = buckets.trained_parameters(net)

    if form == "separate":
        step.FlatParameters = Separate
    devices = [mx.cpu(i) for i in range(contexts)]
    group = join("dist_sync" if "DMLC_ROLE" in os.environ else "device", devices)
    random = np.random.RandomState(0)
    images = mx.nd.array(random.standard_normal((batch, 3, 32, 32)))
    labels = mx.nd.array(random.randint(0, 10, batch))
    net = Network(get_spec(name))
    net.initialize(ctx=devices)
    prepare_to_run(net, devices)
    made = step.TrainingStep(net, NAG2016(momentum=0.9, wd=1e-4), devices, group=group)
    seconds = []
    for _ in range(3 + steps):
        began = time.perf_counter()
        made(images, labels, 0.01)
        mx.nd.waitall()
        seconds.append(time.perf_counter() - began)
    if group.first:
        print(f"{1000 * statistics.median(seconds[3:]):.1f} ms", flush=True)


if __name__ == "__main__":
    main()
