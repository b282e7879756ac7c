"""What makes a training the one that it is: what must be the same when it goes on."""

import json
from dataclasses import asdict

from ..errors import DMRError
from ..models.spec import NetworkSpec
from ..paper.recipes import Recipe
from ..runs.directory import place_of

#: Fields of a recipe that may be changed when a run is resumed; and what stands for them where
#: they make no difference.
CHANGEABLE = {"lr": 0.1, "lr_drops": [], "lr_factor": 0.1}


def identity(config):
    """What a checkpoint keeps of the configuration of its training, to be known again.

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
    """What of a run's recipe is changed on purpose, and where it goes on: (old, new) by name.

    Returns
    -------
    dict, dict
        Fields of the recipe; and ``devices`` and ``workers``, where their number or kind is
        another than when the run last went on.

    Raises
    ------
    DMRError
        Where anything else that decides the result is not the same.
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
    """Checkpoints of a training alone, for ``accept`` of :func:`.checkpoint.read_newest`."""
    mine = identity(config)

    def accept(path, state):
        if "config" not in state:  # a checkpoint of an earlier version
            return
        for key, old, new in _decisive_differences(state["config"], mine):
            raise DMRError(f"{path} is of another training, with {key} {old}, not {new}")

    return accept


def _decisive_differences(begun, config):
    """(name, old, new) of what decides a training's result, in configurations or identities."""
    # Fields that networks and recipes have got since then, with the values that they had
    # without them.
    begun = {
        **begun,
        "network": asdict(NetworkSpec.from_json(begun["network"])),
        "recipe": asdict(Recipe.from_json(begun["recipe"])),
    }
    names = ("recipe", "network", "dataset", "sha256", "seed")
    compared = {name: config[name] for name in names if name in config}
    return _differences(*(json.loads(json.dumps(c)) for c in (begun, compared)))


#: What of a data set's description says nothing of its images, which ``sha256`` tells apart.
_NOT_DECISIVE = ("directory", "official", "words")


def _moved(begun, config):
    """Which GPU it is makes no difference; how many there are does, to BN's statistics."""
    found = {}
    for name, place in place_of(begun).items():
        told = {"devices": _counted, "workers": int}[name]
        if told(place) != told(config[name]):
            found[name] = [told(place), told(config[name])]
    return found


def _counted(devices):
    """``["gpu(0)", "gpu(1)"]`` as ``2 gpu``."""
    return f"{len(devices)} {devices[0].partition('(')[0]}"


def _differences(begun, config):
    """(name, old value, new value) of what decides the result and is not the same."""
    for key, new in config.items():
        old = begun.get(key)
        if isinstance(new, dict) and isinstance(old, dict):
            yield from _differences(old, new)
        elif old != new and key not in _NOT_DECISIVE:
            yield key, old, new
