"""From a run to a bundle."""

import os
from typing import Any, Dict, Optional, Union

from ..data.check import check_quickly
from ..data.datasets import open_as_trained, read_manifest
from ..data.preprocessing import Preparation, PreparedImages
from ..paper.recipes import Recipe
from ..runs.directory import RunDirectory
from ..runs.trained_network import load_run, logged_epoch
from .bundle_writer import ExportOptions, write_bundle
from .variants import INT8


def export(
    run: Union[str, "os.PathLike[str]"],
    out: Union[str, "os.PathLike[str]"],
    epoch: Optional[int] = None,
    options: ExportOptions = ExportOptions(),
    data_dir: Optional[str] = None,
) -> Dict[str, Any]:
    """Write a run's trained network as a bundle, for use without this package.

    Parameters
    ----------
    run : str
        A run's folder.
    out : str
        A folder; made if need be.
    epoch : int, optional
        As for :func:`load_run`.
    options : ExportOptions
    data_dir : str, optional
        The prepared set that forms are checked on; default: the run's, if it is still there.

    Returns
    -------
    dict
        What ``bundle.json`` says, see :mod:`.bundle`; without ``format``, ``files`` and
        ``sha256``.

    Raises
    ------
    DMRError
        For a run without a trained epoch, a data set that is damaged, a form that the network does
        not have or that does not do what the network does, or an ``out`` that cannot be written or
        holds another program's files. Nothing is then left of the new bundle, and an older one is
        as it was; but where a disk fails while files get their names, what is there is refused
        as damaged until the run is exported again.
    """
    trained = RunDirectory(run)
    config = trained.config()
    epochs = trained.model_epoch(epoch)  # once: a run that trains may end another one meanwhile
    net = load_run(trained, epoch=epochs)
    dataset, recipe = config["dataset"], Recipe.from_json(config["recipe"])
    return write_bundle(
        net,
        out,
        epochs=epochs,
        classes=_labels(dataset),
        preparation=Preparation(
            recipe.image_size, dataset["mean"], dataset["std"], recipe.eval_short_side
        ),
        options=options,
        images=_images_of(dataset, recipe, options, data_dir),
        dataset=dataset["name"],
        training=logged_epoch(trained.log, epochs),
    )


def _labels(dataset):
    """Classes as people read them: ImageNet's numbers with the first of their words."""
    words = dataset.get("words") or [""] * len(dataset["classes"])
    firsts = [text.split(",")[0] for text in words]
    return [f"{name} {word}" if word else name for name, word in zip(dataset["classes"], firsts)]


def _images_of(dataset, recipe, options, data_dir):
    """The run's data set, or None where it is no longer there and was not named."""
    if data_dir is None:
        manifest = read_manifest(dataset["directory"])
        if manifest is None or manifest.get("classes", dataset["classes"]) != dataset["classes"]:
            return None  # nothing is in its place, or another set
    prepared = open_as_trained(dataset, data_dir)
    check_quickly(prepared)
    count = options.check_images
    if count is None and not options.measured:
        # Half a percentage point of errors is nothing that a few hundred images show.
        count = 10_000 if set(options.forms) & set(INT8) else 256
    return PreparedImages(prepared, recipe, count)
