"""What must not change when a training is resumed."""

import json
from dataclasses import asdict

from ..errors import DMRError
from ..models.spec import NetworkSpec
from ..paper.recipes import Recipe
from ..runs.directory import place_of

#: Fields of a recipe that may change at a resume, with the values that stand for them in an
#: identity.
CHANGEABLE = {"lr": 0.1, "lr_drops": [], "lr_factor": 0.1}


def identity(config):
    """Return the part of a configuration by which a checkpoint is matched to its training.

    Parameters
    ----------
    config : dict
        A run's ``config.json``.

    Returns
    -------
    dict
    """
    found = {name: config[name] for name in ("network", "seed")}
    sha256 = config["dataset"].get("sha256")
    return {"recipe": {**config["recipe"], **CHANGEABLE}, **found, "sha256": sha256}


def changes_at_resume(run, begun, config):
    """Return what is changed on purpose at a resume, and what has moved: (old, new) by name.

    Returns
    -------
    dict, dict
        Fields of the recipe; and ``devices`` and ``workers`` where their number or kind differs
        from the last time.

    Raises
    ------
    DMRError
        If anything else that decides the result differs.
    """
    changes = {}
    for key, old, new in _decisive_differences(begun, config):
        if key not in CHANGEABLE:
            raise DMRError(
                f"{run.path} was started with {key} {old}, not {new}; resume it with the same, or "
                f"start another --run-dir"
            )
        changes[key] = [old, new]
    return changes, _moved(begun, config)


def only_of(config):
    """Return an ``accept`` for :func:`.checkpoint.read_newest`: this training's checkpoints."""
    mine = identity(config)

    def accept(path, state):
        if "config" not in state:  # a checkpoint of an earlier version
            return
        for key, old, new in _decisive_differences(state["config"], mine):
            raise DMRError(f"{path} is of another training, with {key} {old}, not {new}")

    return accept


def _decisive_differences(begun, config):
    """Yield (name, old, new) for every difference that decides a training's result."""
    # Fields that were added to networks and recipes since then get their defaults.
    begun = {
        **begun,
        "network": asdict(NetworkSpec.from_json(begun["network"])),
        "recipe": asdict(Recipe.from_json(begun["recipe"])),
    }
    names = ("recipe", "network", "dataset", "sha256", "seed")
    compared = {name: config[name] for name in names if name in config}
    return _differences(*(json.loads(json.dumps(c)) for c in (begun, compared)))


#: Parts of a data set's description that do not identify its images; ``sha256`` does.
_NOT_DECISIVE = ("directory", "official", "words")


def _moved(begun, config):
    """Return changes in the number or kind of devices, which change BN's statistics."""
    found = {}
    for name, place in place_of(begun).items():
        told = {"devices": _counted, "workers": int}[name]
        if told(place) != told(config[name]):
            found[name] = [told(place), told(config[name])]
    return found


def _counted(devices):
    """Return ``2 gpu`` for ``["gpu(0)", "gpu(1)"]``."""
    return f"{len(devices)} {devices[0].partition('(')[0]}"


def _differences(begun, config):
    """Yield (name, old, new) for values that differ, recursively."""
    for key, new in config.items():
        old = begun.get(key)
        if isinstance(new, dict) and isinstance(old, dict):
            yield from _differences(old, new)
        elif old != new and key not in _NOT_DECISIVE:
            yield key, old, new
