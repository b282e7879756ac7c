"""What must not change when a training is resumed."""

import json
from dataclasses import asdict

from ..errors import DMRError
from ..models.spec import NetworkSpec
from ..paper.recipes import Recipe
from ..runs.directory import last_devices

#: Fields of a recipe that may change at a resume, with the values that stand for them in an
#: identity.
CHANGEABLE = {"lr": 0.1, "lr_drops": [], "lr_factor": 0.1}

#: Parts of a data set's description that do not identify its images; ``sha256`` does.
_NOT_DECISIVE = ("directory", "official", "words")


def identity(config):
    """Return the part of a run's ``config.json`` by which a checkpoint is matched to it."""
    return {
        "recipe": {**config["recipe"], **CHANGEABLE},
        "network": config["network"],
        "seed": config["seed"],
        "sha256": config["dataset"].get("sha256"),
        "init_from": (config.get("init_from") or {}).get("sha256"),
    }


def only_of(config):
    """Return an ``accept`` for :func:`.checkpoint.read_newest`: this training's checkpoints."""
    mine = identity(config)

    def accept(path, state):
        if "config" not in state:  # a checkpoint of an earlier version
            return
        for name, (old, new) in _decisive_differences(state["config"], mine).items():
            raise DMRError(f"{path} is of another training, with {name} {old}, not {new}")

    return accept


def changes_at_resume(run, begun, config):
    """Return what is changed on purpose at a resume, and what has moved: [old, new] by name.

    Returns
    -------
    dict, dict
        Fields of the recipe; and ``devices`` and ``workers`` if their number or kind differs
        from the last time.

    Raises
    ------
    DMRError
        If anything else that decides the result differs.
    """
    decisive = {name: config[name] for name in ("recipe", "network", "dataset", "seed")}
    changes = _decisive_differences(begun, decisive)
    for name, (old, new) in changes.items():
        if name not in CHANGEABLE:
            raise DMRError(
                f"{run.path} was started with {name} {old}, not {new}; resume it with the same, "
                f"or start another --run-dir"
            )
    last = last_devices(begun)
    moved = {name: [_counted(last[name]), _counted(config[name])] for name in last}
    return changes, {name: pair for name, pair in moved.items() if pair[0] != pair[1]}


def _counted(devices):
    """Return ``2 gpu`` for ``["gpu(0)", "gpu(1)"]``; a number of workers as it is."""
    if isinstance(devices, int):
        return devices
    return f"{len(devices)} {devices[0].partition('(')[0]}"


def _decisive_differences(begun, config):
    """Return [old, new] by name for every difference that decides a training's result."""
    # Fields that were added to networks and recipes since then get their defaults.
    network, recipe = NetworkSpec.from_json(begun["network"]), Recipe.from_json(begun["recipe"])
    begun = {**begun, "network": asdict(network), "recipe": asdict(recipe)}
    return _differences(*json.loads(json.dumps([begun, config])))  # tuples become lists


def _differences(begun, config):
    found = {}
    for name, new in config.items():
        old = begun.get(name)
        if isinstance(new, dict) and isinstance(old, dict):
            found.update(_differences(old, new))
        elif old != new and name not in _NOT_DECISIVE:
            found[name] = [old, new]
    return found
