"""Export a run as a bundle."""

import os
from dataclasses import replace
from typing import Any, Dict, Optional, Sequence, Union

from ..data.check import check_quickly
from ..data.datasets import open_as_trained, open_prepared, read_manifest
from ..data.preprocessing import Preparation, PreparedImages
from ..errors import DMRError
from ..models.custom import CustomNetwork, build, initialise, wrapped
from ..models.network import read_parameters
from ..models.spec import NetworkSpec
from ..paper.recipes import Recipe
from ..runs.bundles import PARAMETERS, named_bundle, read_bundle
from ..runs.directory import RunDirectory
from ..runs.trained_network import load_run, logged_epoch
from ..runtime import mx
from .bundle_writer import ExportOptions, write_bundle
from .load import as_trained
from .variants import INT8


def export(
    run: Any,
    out: Union[str, "os.PathLike[str]"],
    epoch: Optional[int] = None,
    options: ExportOptions = ExportOptions(),
    data_dir: Optional[str] = None,
    classes: Optional[Sequence[str]] = None,
    preprocessing: Optional[Preparation] = None,
) -> Dict[str, Any]:
    """Write a trained network as a bundle, for use without this package.

    Parameters
    ----------
    run : str or HybridBlock
        A run's folder; a bundle, by its folder or its network's name in a store, to write
        further forms of it; or a network, trained in whatever way, with ``classes`` and
        ``preprocessing``.
    out : str
        The bundle's folder; created if missing.
    epoch : int, optional
        As for :func:`load_run`.
    options : ExportOptions
    data_dir : str, optional
        The prepared set to check variants on. Default: the run's, if it still exists.
    classes : sequence of str, optional
        The labels of a network's outputs.
    preprocessing : Preparation, optional
        How images are prepared for a network.

    Returns
    -------
    dict
        ``bundle.json``, see :mod:`.bundle`, without ``format``, ``files`` and ``sha256``.

    Raises
    ------
    DMRError
        For a run without a trained epoch, a damaged data set, a variant that does not
        exist or that computes something else, or an ``out`` that cannot be written or holds
        other files of the same names. Nothing of the new bundle is then left, and an older one is
        unchanged. Only if the disk fails, or the process is killed, while files are moved into
        place, the bundle left behind is refused as damaged until the next export.
    """
    if isinstance(run, mx.gluon.Block):
        return _export_network(run, out, epoch, options, data_dir, classes, preprocessing)
    if classes is not None or preprocessing is not None:
        raise DMRError(f"{run} has its own classes and preprocessing; leave them out")
    bundle = named_bundle(run)
    if bundle is not None:
        return _export_bundle(bundle, out, epoch, options, data_dir)
    trained = RunDirectory(run)
    config = trained.config()
    epochs = trained.model_epoch(epoch)  # only once: the run may still be training
    net = load_run(trained, epoch=epochs)
    dataset, recipe = config["dataset"], Recipe.from_json(config["recipe"])
    mean, std, fit = dataset["mean"], dataset["std"], dataset.get("fit") or "crop"
    return write_bundle(
        net,
        out,
        Preparation(recipe.image_size, mean, std, recipe.eval_short_side, fit),
        options,
        _images_of(dataset, recipe, options, data_dir),
        epochs=epochs,
        classes=_labels(dataset),
        dataset=dataset["name"],
        training=logged_epoch(trained.log, epochs),
    )


def _export_network(net, out, epoch, options, data_dir, classes, preparation):
    if epoch is not None or not classes or preparation is None:
        raise DMRError("a network is exported with classes and preprocessing, and without epoch")
    net = wrapped(net, len(classes))
    parameters = net.collect_params()
    if any(one._data is None for one in parameters.values()):
        raise DMRError(f"{net.spec.name} is not initialised; train it, or load its parameters")
    images = None
    if data_dir is not None:
        own = replace(open_prepared(data_dir), mean=preparation.mean, std=preparation.std)
        images = _images(own, preparation.recipe(), options)
    devices = next(iter(parameters.values())).list_ctx()
    facts = {"epochs": None, "classes": list(map(str, classes))}
    try:
        parameters.reset_ctx(mx.cpu())
        if isinstance(net, CustomNetwork):
            net.infer_shapes(preparation.image_size)
        return write_bundle(net, out, preparation, options, images, **facts)
    finally:
        parameters.reset_ctx(devices)


def _export_bundle(folder, out, epoch, options, data_dir):
    """Write a bundle's network again, in other forms."""
    if epoch is not None:
        raise DMRError(f"{folder} is a bundle of one epoch; leave out --epoch")
    content = read_bundle(folder)
    spec, preparation = NetworkSpec.from_json(content["network"]), Preparation.of(content["input"])
    net = build(spec)
    initialise(net, preparation.image_size, [mx.cpu()])
    read_parameters(net, os.path.join(folder, PARAMETERS), "export the run again")
    images, texts = None, {}
    if data_dir is not None:
        prepared = as_trained(open_prepared(data_dir), content)
        images = _images(prepared, preparation.recipe(), options)
    if "mapping.json" in content["files"]:  # of an imported network
        with open(os.path.join(folder, "mapping.json"), encoding="utf-8") as file:
            texts["mapping.json"] = file.read().rstrip()
    kept = ("epochs", "classes", "dataset", "training", "imported_from")
    facts = {name: content[name] for name in kept if name in content}
    return write_bundle(net, out, preparation, options, images, texts, **facts)


def _labels(dataset):
    """Return readable labels: for ImageNet, each class followed by its first synonym."""
    words = dataset.get("words") or [""] * len(dataset["classes"])
    firsts = [text.split(",")[0] for text in words]
    return [f"{name} {word}" if word else name for name, word in zip(dataset["classes"], firsts)]


def _images_of(dataset, recipe, options, data_dir):
    """Open the run's data set; None if it is gone and none was named."""
    manifest = read_manifest(dataset["directory"]) or {"classes": None}  # the set may be gone
    if data_dir is None and manifest.get("classes", dataset["classes"]) != dataset["classes"]:
        return None
    return _images(open_as_trained(dataset, data_dir), recipe, options)


def _images(prepared, recipe, options):
    """Return images of a set, as many as tell the forms apart, after checking the set."""
    check_quickly(prepared)
    count = options.check_images
    if count is None and not options.measured:
        # A few hundred images do not show half a percentage point of error.
        count = 10_000 if INT8 in options.forms else 256
    return PreparedImages(prepared, recipe, count)
