"""What each decision about speed on CPUs is worth: python benchmarks/cpu_forms.py

Every form trains a network on random images of the right shape, read from RecordIO, in a
process of its own; the forms alternate for a few rounds. Printed are the median images per
second and the median ratio to this project's form, round by round.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time

FORMS = {
    "ours": "as train_cifar.py trains",
    "apart": "BN and ReLU as two operators",
    "pooling": "oneDNN's global pooling in place of the mean",
    "merge": "the merge's division as a multiplication",
    "threads": "MXNet's own number of threads",
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="cifar_dmrnet14")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--form", choices=FORMS, help="only this one (used by the program itself)")
    parser.add_argument("--data", help="a prepared set (used by the program itself)")
    options = parser.parse_args()
    if options.form:
        print(measure(options.form, options.model, options.data, options.steps))
        return
    rates = {form: [] for form in FORMS}
    with tempfile.TemporaryDirectory() as folder:
        from dmr_gluon.data.prepare import prepare_digits

        prepare_digits(folder)
        for number in range(1, options.rounds + 1):
            print(f"round {number} of {options.rounds}", file=sys.stderr, flush=True)
            for form in FORMS:
                rates[form].append(in_a_process(form, options, folder))
    print(f"{options.model}, batches of 64, median of {options.rounds} rounds\n")
    print("| form | images per second | ours is faster by |\n|---|---|---|")
    for form, text in FORMS.items():
        ratio = statistics.median(a / b for a, b in zip(rates["ours"], rates[form]))
        print(f"| {text} | {statistics.median(rates[form]):.0f} | {ratio:.2f} |")


def in_a_process(form, options, folder):
    environment = dict(os.environ)
    environment.pop("OMP_NUM_THREADS", None)
    if form == "threads":
        environment["OMP_NUM_THREADS"] = str(max(1, os.cpu_count() // 2))
    command = [sys.executable, __file__, "--form", form, "--data", folder]
    command += ["--model", options.model, "--steps", str(options.steps)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr)
    return float(done.stdout.split()[-1])


def measure(form, model, data, steps):
    from dmr_gluon import get_model
    from dmr_gluon.blocks import BatchNormRelu, GlobalAveragePool, MergeAndRun
    from dmr_gluon.data import iterators
    from dmr_gluon.data.datasets import open_prepared
    from dmr_gluon.recipes import CIFAR
    from dmr_gluon.runtime import mx
    from dmr_gluon.training.optimizer import make_optimizer
    from dmr_gluon.training.step import TrainingStep

    net = get_model(model)
    net.initialize()
    net.fuse_for_cpu()
    kept_apart = {"apart": BatchNormRelu, "pooling": GlobalAveragePool, "merge": MergeAndRun}.get(
        form, ()
    )
    net.apply(lambda block: isinstance(block, kept_apart) and setattr(block, "fused", False))
    net.hybridize(static_alloc=True, static_shape=True)
    step = TrainingStep(net, make_optimizer(CIFAR), [mx.cpu()])
    prepared = open_prepared(data)

    def batches():
        for epoch in range(steps):
            for batch in iterators.training_batches(prepared, CIFAR, 1, epoch):
                if len(batch.label) == CIFAR.batch_size:
                    yield batch

    warm_up = 10
    for i, (images, labels) in enumerate(batches()):
        ((loss, _),) = step(images, labels, lr=0.01)
        loss.asscalar()
        if i + 1 == warm_up:
            mx.nd.waitall()
            started = time.perf_counter()
        if i + 1 == warm_up + steps:
            mx.nd.waitall()
            return CIFAR.batch_size * steps / (time.perf_counter() - started)
    raise AssertionError("the batches ended")


if __name__ == "__main__":
    main()
