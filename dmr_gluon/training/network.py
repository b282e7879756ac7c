"""Make the network of a run: by name or by a user's code, new or with trained weights."""

from dataclasses import replace

from ..errors import DMRError
from ..models.custom import build, initialise, is_registered, wrapped
from ..models.freezing import classifier_of, freeze
from ..models.names import read_spec
from ..models.network import misfit, named_arrays
from ..models.serialization import prepare_to_run
from ..models.spec import NetworkSpec
from ..runs.bundles import are_labels
from ..runs.directory import RunDirectory
from ..runs.plugins import import_plugin, import_recorded
from ..runs.trained_network import load_run
from ..runtime import mx
from ..system.files import digest


def normalised_as(prepared, weights, begun):
    """Return a prepared set with the mean and std that a network was trained with, if known.

    Parameters
    ----------
    prepared : RecordDataset
    weights : Weights or None
    begun : dict
        ``config.json`` of a run that is resumed, and needs its weights no longer; else empty.

    Returns
    -------
    RecordDataset
    """
    if begun.get("init_from"):
        mean, std = begun["dataset"]["mean"], begun["dataset"]["std"]
    else:
        mean, std = weights and weights.mean, weights and weights.std
    return replace(prepared, mean=tuple(mean), std=tuple(std)) if mean and std else prepared


def make_network(recipe, options, network, weights, begun, classes, devices):
    """Build and initialise a network, and do what a recipe says of its parts.

    Parameters
    ----------
    recipe : Recipe
    options : RunOptions
        Its ``plugin``, ``run_dir`` and ``seed`` are used.
    network : HybridBlock, callable or None
        As for :func:`dmr_gluon.fit`.
    weights : Weights or None
        Trained weights to take.
    begun : dict
        ``config.json`` of a run that is resumed; else empty.
    classes : sequence of str
    devices : list of Context

    Returns
    -------
    TrainableNetwork, dict
        The network in its fastest form; and the entries ``plugin`` and ``init_from`` of
        ``config.json``.

    Raises
    ------
    DMRError
        If the network, its plugin or the weights cannot be found or do not fit.
    """
    plugin = import_plugin(options.plugin) if options.plugin else None
    if begun:
        run = RunDirectory(options.run_dir)
        if plugin and not begun.get("plugin"):
            raise DMRError(f"{run.path} was started without a plugin; leave out --plugin")
        import_recorded(run, begun)
        plugin, spec = begun.get("plugin"), NetworkSpec.from_json(begun["network"])
        if network is None and not is_registered(spec):
            raise DMRError(
                f"{run.path} trains {spec.name}, which was given to fit(network=...); resume it "
                f"from Python with the same network"
            )
    if network is None:
        net = build(read_spec(recipe.model, classes=len(classes)))
    else:
        net = wrapped(network, len(classes))
    net.use_bn_momentum(recipe.bn_momentum)
    mx.random.seed(options.seed)
    initialise(net, recipe.image_size, devices)
    prepare_to_run(net, devices)
    began = begin_from(weights, net, classes) if weights else begun.get("init_from")
    if recipe.freeze:
        freeze(net, recipe.freeze)
    head, parameters = classifier_of(net), net.collect_params()
    if recipe.head_lr_factor != 1 and not head:
        raise DMRError("head_lr_factor needs a network whose attribute output is its classifier")
    for name in head:
        parameters[name].lr_mult = recipe.head_lr_factor
    return net, {"plugin": plugin, "init_from": began}


def begin_from(weights, net, classes):
    """Copy trained parameters and running statistics into a network, by name.

    The classifier is copied if it has the same classes in the same order. If they are unknown, it
    is copied if it has the same shape.

    Parameters
    ----------
    weights : Weights
    net : Network
        Initialised; keeps the initial values of a classifier that is not copied.
    classes : sequence of str
        The class names of the new data set.

    Returns
    -------
    dict
        The entry ``init_from`` of ``config.json``: ``named``, ``kind`` and ``network`` of the
        weights, ``sha256`` of all their arrays, the number of arrays ``taken``, the names of those
        ``left`` and ``why``.

    Raises
    ------
    DMRError
        If they belong to another network or a file is damaged.
    """
    arrays, parameters = _arrays_of(weights, net), net.collect_params()
    shapes = {name: array.shape for name, array in arrays.items()}
    expected = {name: parameter.shape for name, parameter in parameters.items()}
    head = classifier_of(net)
    if weights.classes is None:
        same = all(shapes.get(name) == expected[name] for name in head)
        why = "its classes are unknown, its shape fits" if same else "another shape"
    else:
        same = are_labels(weights.classes, classes)
        why = "the same classes" if same else "other classes"
    left = [] if same else head
    fault = misfit(
        *({n: s for n, s in side.items() if n not in left} for side in (expected, shapes))
    )
    if fault:
        raise DMRError(
            f"{weights.named} does not fit {getattr(net, 'spec', net).name}: {fault}; begin from "
            f"another, or train its network with --model {weights.network or 'NAME'}"
        )
    for name in parameters:
        if name not in left:
            parameters[name].set_data(arrays[name])
    return {
        "named": weights.named,
        "kind": weights.kind,
        "network": weights.network,
        "sha256": digest({name: array.asnumpy() for name, array in arrays.items()}),
        "taken": len(expected) - len(left),
        "left": left,
        "why": why,
        "normalised": bool(weights.mean and weights.std),
    }


def described(began):
    """Return what :func:`begin_from` took, in words."""
    network = began["network"] or "of an unknown network"
    head = f"the classifier {'is new' if began['left'] else 'too'} ({began['why']})"
    known = "as in its training" if began["normalised"] else "with the set's own mean and std"
    return (
        f"begins from {began['named']} ({began['kind']}, {network}, {began['sha256'][:8]}): "
        f"{began['taken']} arrays taken, {head}; images are normalised {known}"
    )


def _arrays_of(weights, net):
    """Read all arrays by the names that our networks use."""
    if weights.kind == "run":
        trained = load_run(weights.path).collect_params()  # verifies the log's hash
        return {name: parameter.data() for name, parameter in trained.items()}
    arrays = named_arrays(weights.path, "name another file with --init-from")
    # Gluon's save_parameters names arrays by their place, such as features.0.0.weight.
    places = {place: one.name for place, one in net._collect_params_with_prefix().items()}
    return {places.get(name, name): array for name, array in arrays.items()}
