"""Find the trained weights that a run is to begin from (``--init-from``). Needs no MXNet."""

import os
from dataclasses import dataclass
from typing import Optional, Tuple

from ..errors import DMRError
from ..models.spec import NetworkSpec
from .bundles import PARAMETERS, named_bundle, read_bundle
from .directory import RunDirectory


@dataclass(frozen=True)
class Weights:
    """Trained weights, and what is known about them.

    Parameters
    ----------
    named : str
        As the user named them.
    kind : str
        ``run``, ``bundle``, ``store`` or ``file``.
    path : str
        The run's folder, or the file with the parameters.
    network : str, optional
        The network's name.
    classes : tuple of str, optional
        Labels in the order of the outputs.
    mean, std : tuple of float, optional
        R, G, B in 0-255, with which the images of the training were normalised.
    image_size : int, optional
        Height and width of the network's input.
    """

    named: str
    kind: str
    path: str
    network: Optional[str] = None
    classes: Optional[Tuple[str, ...]] = None
    mean: Optional[Tuple[float, ...]] = None
    std: Optional[Tuple[float, ...]] = None
    image_size: Optional[int] = None

    def changes(self, recipe, named=()):
        """Return what a recipe takes over: the network, and the size of random resized crops.

        Parameters
        ----------
        recipe : Recipe
        named : collection of str
            Fields that the user has set.

        Returns
        -------
        dict
            Values by field.
        """
        found = {"model": self.network} if self.network else {}
        sized = {"image_size", "eval_short_side"} & {*named}
        if recipe.crop_area and self.image_size and not sized:
            short_side = round(self.image_size * 256 / 224)
            found.update(image_size=self.image_size, eval_short_side=short_side)
        return found


def find_weights(named):
    """Find trained weights by the folder of a run or a bundle, a file, or a name in the store.

    Parameters
    ----------
    named : str
        A run (its last epoch is meant), a bundle, a ``.params`` file of MXNet, or a network's name
        in the store that DMR_MODEL_STORE names, if need be with a bundle's hash:
        ``cifar_dmrnet14-1a2b3c4d``.

    Returns
    -------
    Weights

    Raises
    ------
    DMRError
        If there is nothing by this name, or a run or bundle is damaged.
    """
    named = os.fspath(named)
    bundle = named_bundle(named)
    if bundle:
        kind = "bundle" if bundle == named else "store"
        return _of_bundle(named, kind, bundle, read_bundle(bundle))
    if os.path.isdir(named):
        config = RunDirectory(named).config()
        network, data = NetworkSpec.from_json(config["network"]).name, config["dataset"]
        about = (tuple(data[name]) for name in ("classes", "mean", "std"))
        return Weights(named, "run", named, network, *about, config["recipe"]["image_size"])
    if os.path.isfile(named):
        return Weights(named, "file", named)
    raise DMRError(
        f"--init-from {named}: there is no run, bundle or file of this name, and no such network "
        f"in a store (DMR_MODEL_STORE)"
    )


def _of_bundle(named, kind, folder, content):
    about = content["input"]
    statistics = (about[name] and tuple(about[name]) for name in ("mean", "std"))
    network, classes = content["network"]["name"], tuple(content["classes"])
    path = os.path.join(folder, PARAMETERS)
    return Weights(named, kind, path, network, classes, *statistics, max(about["shape"]))
