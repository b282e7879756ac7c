"""Runs that nobody has trained, for tests of what is made from them."""

import math
import random
from dataclasses import replace

from dmr_gluon import network
from dmr_gluon.paper.recipes import CIFAR
from dmr_gluon.runs.log import EpochRecord
from dmr_gluon.runs.reader import FINISHED, STOPPED, Run, Setup


def made_up_epochs(seed, epochs, final, upto=None):
    """Values that fall as those of a training do, with ``final`` as the last test error."""
    chance, rows = random.Random(seed), {}
    for number in range(1, (upto or epochs) + 1):
        left = math.exp(-6 * number / epochs) * (1 if 2 * number <= epochs else 0.4)
        error = final if number == epochs else final + 45 * left + chance.random()
        rows[number] = EpochRecord(
            number,
            train_loss=0.004 + 1.4 * left + 0.01 * chance.random(),
            train_error=40 * left + 0.1,
            test_error=round(error, 2),
        )
    return rows


def made_up_run(
    path="/runs/one", name="cifar_dmrnet14", dataset="cifar10", seed=1, final=6.5, epochs=400,
    upto=None, called=None, recipe=CIFAR, images=None, **fields,
):  # fmt: skip
    """A run in memory; ``called`` names its network otherwise than ``name``, which it has."""
    spec = network(name)
    setup = Setup(
        dataset=dataset,
        network=called or name,
        spec=spec if called is None else replace(spec, name=called),
        recipe=recipe and replace(recipe, model=name, epochs=epochs),
        epochs=epochs,
        images=images or {"train": 50_000, "test": 10_000},
        bn_images=32,
        seed=seed,
        environment=fields.pop("environment", {"devices": ["cpu(0)", "cpu(1)"]}),
    )
    fields.setdefault("epochs", made_up_epochs(f"{name} {seed}", epochs, final, upto))
    fields.setdefault("state", STOPPED if upto else FINISHED)
    return Run(path=path, format="dmr_gluon", setup=setup, **fields)
