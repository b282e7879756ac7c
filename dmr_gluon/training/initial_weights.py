"""Prepare a network for fine-tuning: trained weights, frozen parts, a faster classifier."""

from dataclasses import replace

from ..errors import DMRError
from ..models.freezing import classifier_of, freeze
from ..models.network import misfit, named_arrays
from ..runs.bundles import are_labels
from ..runs.trained_network import load_run
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


def fine_tune(net, recipe, weights, classes):
    """Take trained weights, if there are any, and do what a recipe says of parts of the network.

    Parameters
    ----------
    net : Network
        Initialised.
    recipe : Recipe
        Its ``freeze`` and ``head_lr_factor`` are used.
    weights : Weights or None
    classes : sequence of str

    Returns
    -------
    dict or None
        As :func:`begin_from`.
    """
    began = begin_from(weights, net, classes) if weights else None
    if recipe.freeze:
        freeze(net, recipe.freeze)
    head, parameters = classifier_of(net), net.collect_params()
    if recipe.head_lr_factor != 1 and not head:
        raise DMRError("head_lr_factor needs a network whose attribute output is its classifier")
    for name in head:
        parameters[name].lr_mult = recipe.head_lr_factor
    return began


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
