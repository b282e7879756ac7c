"""What fine-tuning gains on a small set: two classes of CIFAR-10 with 100 images each.

    python benchmarks/finetuning.py data/cifar10 work

The source network is trained on the other eight classes and has never seen the two. Every seed
draws its own images, and trains four times on them. Three times with the recipe for fine-tuning:
from random weights, from the source, and from the source with everything but the classifier frozen.
The fourth one begins from random weights too, with what they often need: 60 epochs, and CIFAR's
learning rate. All are tested on the same 500 images of each class. Finished runs in the folder
are kept, so that the program continues where it stopped.
"""

import argparse
import os
from dataclasses import replace

import cv2
import numpy as np

from dmr_gluon.cli.program import run
from dmr_gluon.compare.statistics import Sample, between
from dmr_gluon.data.datasets import open_prepared
from dmr_gluon.data.reader import RecordFile
from dmr_gluon.datasets.folder import prepare_folder
from dmr_gluon.paper.recipes import CIFAR, RECIPES
from dmr_gluon.runs.directory import RunDirectory
from dmr_gluon.runs.reader import FINISHED, read_run
from dmr_gluon.system.machine import share_cores
from dmr_gluon.system.settings import number
from dmr_gluon.system.text_tables import markdown_table
from dmr_gluon.training.fit import fit
from dmr_gluon.training.options import RunOptions

PAIR = ("automobile", "truck")
SOURCE = replace(CIFAR, epochs=3, schedule="cosine", model="cifar_dmrnet14")
TUNED = replace(RECIPES["finetune"]["cifar"], model=SOURCE.model)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cifar10", help="folder of the prepared set")
    parser.add_argument("work", help="folder for sets and runs")
    many = number(int, 2)
    parser.add_argument("--images", type=many, default=100, help="of each class (default: 100)")
    parser.add_argument("--seeds", type=many, default=5, help="default: 5")
    options = parser.parse_args()
    share_cores(1)
    prepared, work = open_prepared(options.cifar10), options.work
    others = [name for name in prepared.classes if name not in PAIR]
    source = train(SOURCE, subset(prepared, work, "eight", others), work, "source", 1)
    ways = {
        "from random weights": (TUNED, None),
        "from the source": (TUNED, source),
        "from the source, features frozen": (replace(TUNED, freeze=("features",)), source),
        "from random weights, longer": (replace(TUNED, epochs=60, lr=CIFAR.lr), None),
    }
    errors = {way: [] for way in ways}
    for seed in range(1, options.seeds + 1):
        name = f"pair-{options.images}-{seed}"
        data = subset(prepared, work, name, PAIR, options.images, seed)
        for place, (way, (recipe, weights)) in enumerate(ways.items()):
            folder = train(recipe, data, work, f"{name}-{place}", seed, weights)
            errors[way].append(read_run(folder).final("test_error"))
    error = read_run(source).final("test_error")
    print(f"the source: {SOURCE.epochs} epochs on {len(others)} classes, test error {error:.2f}%\n")
    samples = {way: Sample.of(found) for way, found in errors.items()}
    rows = []
    for way, sample in samples.items():
        interval = between(samples["from the source"], sample).interval
        gain = "{:+.1f} to {:+.1f}".format(*interval) if way != "from the source" else "-"
        each = ", ".join(f"{value:.1f}" for value in errors[way])
        rows.append((way, f"{sample.mean:.1f} ± {sample.std:.1f}", each, gain))
    header = ("", "test error", f"of seeds 1 to {options.seeds}", "fine-tuning's difference")
    print(markdown_table(header, rows, (1,)))


def subset(prepared, work, name, classes, images=None, seed=0):
    """Prepare a set of some classes, with so many training images of each; return its folder."""
    folder, out = os.path.join(work, "images", name), os.path.join(work, "data", name)
    if os.path.exists(os.path.join(out, "manifest.json")):
        return out
    for part, most in (("train", images), ("test", 500)):
        split, random = prepared.split(part), np.random.RandomState(seed if part == "train" else 0)
        with RecordFile(split) as records:
            pixels, labels = records.images(range(split.count))
        for label, class_name in enumerate(prepared.classes):
            if class_name in classes:
                there = os.path.join(folder, part, class_name)
                os.makedirs(there, exist_ok=True)
                members = np.flatnonzero(np.array(labels) == label)
                for number in random.permutation(members)[:most]:
                    path = os.path.join(there, f"{number:05d}.png")
                    cv2.imwrite(path, cv2.cvtColor(pixels[number], cv2.COLOR_RGB2BGR))
    prepare_folder(folder, out, name)
    return out


def train(recipe, data, work, name, seed, weights=None):
    """Train, or continue, a run; return its folder."""
    folder = os.path.join(work, "runs", name)
    begun = RunDirectory(folder).exists()
    if begun and read_run(folder).state == FINISHED:
        return folder
    # A new run alone begins from the weights: a resumed one has its checkpoints.
    more = {"resume": True} if begun else {"init_from": weights}
    fit(recipe, RunOptions(data_dir=data, run_dir=folder, seed=seed, **more))
    return folder


if __name__ == "__main__":
    run(main)
