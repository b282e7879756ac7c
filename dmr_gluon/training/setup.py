"""The configuration of a run, and the announcement before its first step."""

import os
import platform
import shlex
import sys
from dataclasses import asdict

import numpy as np

from ..devices import uses_tf32
from ..models.spec import NetworkSpec
from ..paper.recipes import DIGITS, deviations
from ..runtime import installed_wheels
from ..system.machine import processor
from ..system.signals import say
from ..version import __version__
from .network import described


def configuration(recipe, options, spec, prepared, devices, group, plan, origin):
    """Return the contents of a run's ``config.json``.

    Parameters
    ----------
    recipe : Recipe
    options : RunOptions
    spec : NetworkSpec or CustomSpec
    prepared : RecordDataset
    devices : list of Context
    group : WorkerGroup
    plan : Plan
    origin : dict
        Entries about the network, from :func:`.network.make_network`.

    Returns
    -------
    dict
        Serialisable as JSON.
    """
    several = len(devices) > 1 or group.count > 1
    return {
        "recipe": asdict(recipe),
        "unlike_the_paper": {name: list(pair) for name, pair in deviations(recipe).items()},
        "network": asdict(spec),
        "dataset": {
            "name": prepared.name,
            "directory": os.path.abspath(prepared.directory),
            "classes": list(prepared.classes),
            "words": list(prepared.words) if prepared.words else None,
            "mean": list(prepared.mean),
            "std": list(prepared.std),
            "train_images": prepared.count("train"),
            "test_images": prepared.count("test"),
            "sha256": {name: split.sha256 for name, split in prepared.splits.items()},
            "official": prepared.official,
            "fit": prepared.fit,
        },
        **origin,
        "seed": options.seed,
        "epochs": plan.epochs,
        "log_steps": options.log_steps,
        "command": shlex.join(sys.argv),
        "devices": [str(device) for device in devices],
        "workers": group.count,
        "kv_store": options.kv_store if several else None,
        "threads": os.environ.get("OMP_NUM_THREADS"),
        "tf32": uses_tf32(recipe, devices),
        "processor": processor(),
        "versions": {
            "dmr_gluon": __version__,
            "python": platform.python_version(),
            "numpy": np.__version__,
            **installed_wheels(),
        },
    }


def announce(recipe, net, run, plan, options, config):
    """Print what is trained, on what, and how large its files will be.

    Parameters
    ----------
    recipe : Recipe
    net : Network
        Initialised.
    run : RunDirectory or None
        None for an estimate.
    plan : Plan
    options : RunOptions
    config : dict
        Of :func:`configuration`.
    """
    dataset, devices, workers = config["dataset"], config["devices"], config["workers"]
    every = net.collect_params().values()
    parameters = sum(int(np.prod(p.shape)) for p in every if p._differentiable)
    size, copies = parameters * 4 / 1e6, 2 + bool(recipe.ema_decay)
    each = f" of each of {workers} workers" if workers > 1 else ""
    depth = f"depth {net.spec.depth}, " if isinstance(net.spec, NetworkSpec) else ""
    length = f"{plan.epochs} epochs" if recipe.steps is None else f"{plan.total} steps"
    say(
        f"{recipe.model}: {depth}{parameters / 1e6:.3f} M parameters; "
        f"{dataset['name']}: {dataset['train_images']} training and {dataset['test_images']} test "
        f"images, {len(dataset['classes'])} classes\n"
        f"recipe {recipe.name}: {length} of batches of {recipe.batch_size} on "
        f"{', '.join(devices)}{each}; {_deviations(recipe)}\n"
        f"run directory {run.path if run else '(none)'}: models of {size:.1f} MB (last and best), "
        f"checkpoints of {size * copies:.1f} MB (last {options.keep} and best)"
    )
    if config["init_from"]:
        say(described(config["init_from"]))
    if plan.batch > plan.count:
        say(f"note: a batch of {plan.batch} exceeds the {plan.count} training images; lower it")
    if config["tf32"]:
        say(
            "note: these GPUs compute float32 convolutions as TF32, with ten bits of precision; "
            "NVIDIA_TF32_OVERRIDE=0 in the environment gives the paper's arithmetic, more slowly"
        )


def _deviations(recipe):
    """Return the deviations from the paper's recipe in words."""
    found, own = deviations(recipe), recipe.name == DIGITS.name or "finetune" in recipe.name
    if not found:
        return "not in the paper" if own else "as in the paper"
    usual = "its own defaults" if own else "the paper's"
    pairs = (f"{name} {new} ({old})" for name, (new, old) in found.items())
    return f"unlike {usual}: {', '.join(pairs)}"
