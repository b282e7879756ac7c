"""From a run to a bundle."""

from ..data.datasets import open_as_trained
from ..errors import DMRError
from ..recipes import Recipe
from ..report import runlog
from ..runs import RunDirectory
from .forms import INT8
from .images import Preparation, PreparedImages
from .saving import load_run
from .writer import ExportOptions, write_bundle


def export(run, out, epoch=None, options=ExportOptions(), data_dir=None):
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
        What ``bundle.json`` says, see :mod:`.bundle`.

    Raises
    ------
    DMRError
        For a run without a trained epoch, a form that the network does not have or that does not
        do what the network does, or an ``out`` that cannot be written. Nothing is then left of
        the new bundle, and an older one is as it was.
    """
    run = RunDirectory(run)
    config = run.config()
    epochs = run.model_epoch(epoch)  # once: a run that trains may end another one meanwhile
    net = load_run(run, epoch=epochs)
    dataset, recipe = config["dataset"], Recipe.from_json(config["recipe"])
    log = [one for one in runlog.read(run.log) if one["event"] == "epoch"]
    last = [one for one in log if one["epoch"] == epochs]
    return write_bundle(
        net,
        out,
        epochs=epochs,
        classes=dataset["classes"],
        preparation=Preparation(
            recipe.image_size, dataset["mean"], dataset["std"], recipe.eval_short_side
        ),
        options=options,
        images=_images_of(dataset, recipe, options, data_dir),
        dataset=dataset["name"],
        training=last[-1] if last else None,
    )


def _images_of(dataset, recipe, options, data_dir):
    """The run's data set, or None where it is no longer there and was not named."""
    try:
        prepared = open_as_trained(dataset, data_dir)
    except DMRError:
        if data_dir:
            raise
        return None
    count = options.check_images
    if count is None and not options.measured:
        # Half a percentage point of errors is nothing that a few hundred images show.
        count = 10_000 if set(options.forms) & set(INT8) else 256
    return PreparedImages(prepared, recipe, count)
