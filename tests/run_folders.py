"""Made-up trainings: folders as the training loop leaves them, and logs of the authors' code."""

import json
import os
import random
import re
from dataclasses import replace
from types import SimpleNamespace

from dmr_gluon.compare.groups import published_name
from dmr_gluon.data.datasets import RecordDataset, Split
from dmr_gluon.models.names import get_spec as read_network
from dmr_gluon.paper.dataset_facts import PUBLISHED
from dmr_gluon.paper.recipes import OF_DATASET
from dmr_gluon.runs import log as runlog
from dmr_gluon.runs.directory import RunDirectory


def prepared_set(dataset, images=None, classes=10):
    """As it would be opened, without any files."""
    facts = PUBLISHED.get(published_name(dataset) or "", PUBLISHED["cifar10"])
    counts = images or (facts.train_images, facts.test_images)
    return RecordDataset(
        directory=f"data/{dataset}",
        name=dataset,
        classes=tuple(map(str, range(classes))),
        mean=facts.mean,
        std=facts.std,
        image_size=(32, 32),
        official={"known_by": "content"} if published_name(dataset) else None,
        splits={
            name: Split(f"{name}.rec", f"{name}.idx", count, (), name)
            for name, count in zip(("train", "test"), counts)
        },
    )


def configuration(
    network="cifar_dmrnet14", dataset="cifar10", seed=1, images=None, devices=2, workers=1, **fields
):
    """What config.json says of a run, and how many epochs it has.

    Parameters
    ----------
    images : (int, int), optional
        For training and test; default: the published numbers.
    **fields
        Changes to the paper's recipe for the data set; ``recipe`` is another one.
    """
    from dmr_gluon.training.options import RunOptions
    from dmr_gluon.training.plan import Plan
    from dmr_gluon.training.setup import configuration as real

    usual = fields.pop("recipe", OF_DATASET[published_name(dataset) or "cifar10"])
    recipe = replace(usual, model=network, **fields)
    prepared = prepared_set(dataset, images)
    spec = read_network(network, classes=len(prepared.classes))
    plan = Plan.of(recipe, prepared, devices * workers * recipe.accumulate)
    options = RunOptions(data_dir=prepared.directory, seed=seed)
    names = [f"gpu({i})" for i in range(devices)]
    group = SimpleNamespace(count=workers)
    origin = {"plugin": None, "init_from": None}
    return real(recipe, options, spec, prepared, names, group, plan, origin), plan.epochs


def epoch_values(number, epochs, error, seed):
    """An epoch event's fields; after the last epoch the error is the given one."""
    rng = random.Random(f"{number} {error} {seed}")
    left = 1 - number / epochs
    wrong = round(100 * error) + (round(4000 * left + rng.uniform(0, 50)) if left else 0)
    return {
        "epoch": number,
        "step": 782 * number,
        "lr": 0.1,
        "images": 50_000,
        "train_loss": 0.01 + 2 * left + rng.random() / 100,
        "train_error": 100 * rng.randrange(1, 500) / 50_000 + 50 * left,
        "test_loss": 0.3 + 2 * left + rng.random() / 100,
        "test_error": wrong / 100,
        "test_top5_error": wrong / 500,
        "parameters_sha256": f"{number:064x}",
        "seconds": {"train": 50.0, "data": 0.1, "evaluate": 4.0, "save": 0.1, "log": 0.1},
        "images_per_second": 1000.0,
        "images_per_second_overall": 900.0,
    }


def write_run(path, error=6.5, done=None, end=True, config=None, **choices):
    """A run's folder.

    Parameters
    ----------
    path : path
    error : float
        Test error in percent after the last epoch.
    done : int, optional
        Epochs that were made; default: all.
    end : bool
        Whether a run with all epochs has its end.
    config : dict, optional
        Of a run that is a copy but for its numbers.
    **choices
        As :func:`configuration`.

    Returns
    -------
    str
    """
    made, epochs = configuration(**choices)
    config = config or made
    run = RunDirectory(path)
    run.create(config)
    runlog.append(run.log, "start", **config)
    done = epochs if done is None else done
    with open(run.log, "a") as file:
        for number in range(1, done + 1):
            values = epoch_values(number, epochs, error, config["seed"])
            line = {"event": "epoch", "time": "2026-01-01T00:00:00+00:00", **values}
            file.write(json.dumps(line) + "\n")
    if end and done == epochs:
        runlog.append(
            run.log, "end", epochs=epochs, seconds=1.0, seconds_by={}, test_error=error,
            images_per_second_overall=900.0, best={"epoch": epochs, "test_error": error},
        )  # fmt: skip
    return str(path)


def log_of(path):
    return os.path.join(path, "log.jsonl")


def append(path, event, **values):
    """A further event of a run."""
    runlog.append(log_of(path), event, **values)


def epochs_of(path):
    """The epoch events of a run, by number."""
    events = runlog.read(log_of(path))
    return {event["epoch"]: event for event in events if event["event"] == "epoch"}


#: Heads of lines in the authors' own logs (CIFAR, ImageNet), and Python's default.
HEADS = ("2016-11-25 10:31:02,548 ", "2016-11-20 12:00:00,123 Node[0] ", "INFO:root:", "")

#: What the authors' code says of itself on CIFAR-10, as far as it decides the result.
ARGUMENTS = (
    "aug_type=1, batch_size=64, dataset='cifar10', depth=26, gpus='2,3', load_epoch=None, lr=0.1, "
    "lr_factor=0.1, lr_steps=None, network='cross', num_classes=10, num_epochs=400, "
    "num_examples=50000, rand_seed=1480041062, widen_factor=1"
)


def authors_lines(epochs, head=HEADS[0], arguments=None, top5=False, module=False):
    """The lines of a log of the authors' code with these numbers.

    Parameters
    ----------
    epochs : dict of int to dict
        By epoch, from 1, the fields of our epoch event.
    head : str
        Of every line.
    arguments : str, optional
        That it begins with.
    top5 : bool
        As on ImageNet.
    module : bool
        With the lines that MXNet's Module adds, whose numbers are of the last few batches.
    """
    lines = []

    def log(text):
        lines.append(head + text)

    if arguments:
        log("./snapshot/cifar10/cross/cross_d26w1_exp3.txt")
        log(f"start with arguments Namespace({arguments})")
        log("Using gpus 2,3 from:")
        lines.append("GPU 0: Tesla K40m (UUID: GPU-0bd915e7-a296-e3cc-57b7-6ff90229911e)")
        lines.append("")
        epochs_ = int(re.search(r"num_epochs=(\d+)", arguments)[1])
        usual = [epochs_ // 2, epochs_ * 3 // 4, epochs_ * 7 // 8]
        given = re.search(r"lr_steps='([\d,]+)'", arguments)
        steps = list(map(int, given[1].split(","))) if given else usual
        log(f"training strategy: lr=0.100000, step={steps}")
        log("network parameters: 0.3494M")
    log("Start training with [gpu(0), gpu(1)]")
    for number, row in sorted(epochs.items()):
        name = f"Epoch[{number - 1}]"
        for batch, more in ((250, 0.25), (500, 0.125), (750, 0)):
            loss, right = row["train_loss"] + more, 100 - row["train_error"] - more
            last = f"\ttop5: 99.9375({99 - more})" if top5 else ""
            log(
                f"{name} Batch [{batch}]\tSpeed: 1238\tloss: 0.6040({loss!r})"
                f"\ttop1: 79.1750({right!r}){last}"
            )
        if module:
            log(f"{name} Train-cross-entropy=0.123456")
            log(f"{name} Train-accuracy=nan")
        if number % 100 == 0:
            log(f"Update[{number * 781}]: Change learning rate to 1.00000e-02")
        log(f"{name} Resetting Data Iterator")
        log(f"{name} Time cost=40.083")
        log(f'Saved checkpoint to "./weights/cross_d26w1_exp3-{number:04d}.params"')
        log(f"{name} Validation-cross-entropy={row['test_loss']!r}")
        log(f"{name} Validation-accuracy={1 - row['test_error'] / 100!r}")
        if top5:
            log(f"{name} Validation-top_k_accuracy_5={1 - row['test_top5_error'] / 100!r}")
    return lines


def write_authors_log(path, epochs, **choices):
    """A log of the authors' code as a file; see :func:`authors_lines`."""
    with open(path, "w") as file:
        file.writelines(line + "\n" for line in authors_lines(epochs, **choices))
    return str(path)
