"""Keep parts of a network as they are while the rest is trained."""

from ..errors import DMRError
from ..runtime import mx


def classifier_of(net):
    """Return the names of the classifier's parameters; none if a network has no ``output``."""
    output = getattr(net, "output", None)
    return [] if output is None else list(output.collect_params())


def freeze(net, parts):
    """Freeze parts of a network: parameters and BN's running statistics.

    Their parameters get the ``grad_req`` "null". Their BN layers normalise with the running
    statistics in training too, and don't update them.

    Parameters
    ----------
    net : Network
        Afterwards, its attribute ``frozen`` is the set of the frozen names.
    parts : sequence of str
        Beginnings of parameters' names, such as ``stem``, ``stage1`` or ``stage2_block1``, or
        ``features``: everything but the classifier.

    Raises
    ------
    DMRError
        If the network has no such part, or nothing is left to train.
    """
    parameters, head = net.collect_params(), classifier_of(net)
    names = {name: name[len(net.prefix) :] for name in parameters}
    net.frozen = set()
    for part in parts:
        inside = {name for name, own in names.items() if own.startswith(f"{part}_")}
        found = set(names) - set(head) if part == "features" else inside
        if not found:
            known = ", ".join(dict.fromkeys(own.split("_")[0] for own in names.values()))
            raise DMRError(f"cannot freeze {part!r}: the network has the parts features, {known}")
        net.frozen |= found
    if len(net.frozen) == len(names):
        raise DMRError("all parts of the network are frozen; leave out one of them")
    for name in net.frozen:
        parameters[name].grad_req = "null"

    def use_running_statistics(layer):
        if isinstance(layer, mx.gluon.nn.BatchNorm) and layer.running_mean.name in net.frozen:
            # Evaluation is the same without; exported networks are to have BN's usual options.
            layer._portable = {**getattr(layer, "_portable", {}), "_kwargs": layer._kwargs}
            layer._kwargs = {**layer._kwargs, "use_global_stats": True}

    net.apply(use_running_statistics)
    net._clear_cached_op()
