"""Predict how contexts and threads should share many cores, from measurements on two.

    python benchmarks/many_cores.py cifar_dmrnet56
    python benchmarks/many_cores.py dmrnet44 --infer --batch 32

Measured are one context with one thread and with two, each with a whole batch and with an eighth,
and two contexts with one thread each. Fitted to the first four is the time of one context with T
threads for n images: ``fixed + n (serial + parallel / T)``. C contexts compute a C-th of the batch
each, at the same time; each but the first adds what the fifth measurement exceeds the model by.
The model knows nothing of shared memory bandwidth, of caches or of clocks that fall under load,
so its speeds on many cores are upper limits; the comparison of shapes is what it is for.
"""

import numpy as np
import ours
from conditions import print_conditions

from dmr_gluon.cli.program import Parser, run
from dmr_gluon.system.machine import cpu_environment
from dmr_gluon.system.settings import number
from dmr_gluon.system.text_tables import markdown_table
from dmr_gluon.system.timing import measure
from dmr_gluon.training.options import IMAGES_PER_DEVICE

#: (contexts, threads) that are measured.
MEASURED = ((1, 1), (1, 2), (2, 1))


def main():
    parser = Parser(description=__doc__.splitlines()[0])
    parser.add_argument("network", help="a name, such as cifar_dmrnet56")
    parser.add_argument("--infer", action="store_true", help="inference in place of training")
    parser.add_argument("--batch", type=number(int, 16), default=64)
    parser.add_argument("--cores", type=number(int, 1), nargs="+", default=[2, 4, 8, 16, 32, 64])
    parser.add_argument("--rounds", type=number(int, 1), default=5)
    parser.add_argument("--seconds", type=float, default=1.5, help="of each turn (1.5)")
    options = parser.parse_args()
    print_conditions()
    sizes = (options.batch // 8, options.batch)
    model = Model(measured(options, sizes))
    print(f"{options.network}, {'inference' if options.infer else 'training'}\n")
    print(markdown_table(("contexts", "threads", "images", "ms", "model"), model.rows(), range(5)))
    print(
        f"\nfixed {model.fixed:.1f} ms, per image {model.serial:.2f} serial and "
        f"{model.parallel:.2f} parallel, another context {model.another:.1f} ms\n"
    )
    header = ("cores", "contexts", "threads", "images each", "images/s", "/ one context")
    print(markdown_table(header, list(model.predictions(options)), range(6)))


def measured(options, sizes):
    """Return milliseconds by (contexts, threads, images)."""
    kind, running = "infer" if options.infer else "train", {}
    for contexts, threads in MEASURED:
        environment = {**cpu_environment(contexts), "OMP_NUM_THREADS": str(threads)}
        process = ours.start(kind, options.network, sizes, None, environment, contexts)
        process.wait()
        running[contexts, threads] = process
    speeds = measure(running, sizes, options.rounds, options.seconds)
    for process in running.values():
        process.close()
    return {
        (*shape, size): 1000 * size / speed.images_per_second[size]
        for shape, speed in speeds.items()
        for size in sizes
    }


class Model:
    """Milliseconds of a batch, fitted to measurements by least squares of relative errors."""

    def __init__(self, found):
        self._found = found
        alone = {key: ms for key, ms in found.items() if key[0] == 1}
        terms = np.array([(1, n, n / threads) for _, threads, n in alone])
        times = np.array(list(alone.values()))
        fitted = np.linalg.lstsq(terms / times[:, None], np.ones(len(times)), rcond=None)[0]
        self.fixed, self.serial, self.parallel = np.maximum(fitted, 0)
        self.another = 0.0
        several = max(found, key=lambda key: (key[0], key[2]))
        self.another = max(0.0, found[several] - self(*several))

    def __call__(self, contexts, threads, images):
        each = images / contexts
        alone = self.fixed + each * (self.serial + self.parallel / threads)
        return alone + (contexts - 1) * self.another

    def rows(self):
        return [(*key, f"{ms:.1f}", f"{self(*key):.1f}") for key, ms in self._found.items()]

    def predictions(self, options):
        """Yield the rows of all shapes of each number of cores, in powers of two."""
        for cores in options.cores:
            alone = self(1, cores, options.batch)
            for contexts in (2**k for k in range(cores.bit_length())):
                images = options.batch // contexts
                # Of inference, each context takes a batch of its own.
                whole = options.batch * (contexts if options.infer else 1)
                if not options.infer and images < IMAGES_PER_DEVICE and contexts > 1:
                    break
                threads = cores // contexts
                ms = self(contexts, threads, whole)
                rate = 1000 * whole / ms
                ratio = rate / (1000 * options.batch / alone)
                yield cores, contexts, threads, whole // contexts, f"{rate:,.0f}", f"{ratio:.2f}"


if __name__ == "__main__":
    run(main)
