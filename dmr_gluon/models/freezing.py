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
        First words of parameters' names, such as ``stem`` and ``stage1``, or ``features``:
        everything but the classifier.

    Raises
    ------
    DMRError
        If the network has no such part, or nothing is left to train.
    """
    parameters = net.collect_params()
    head = classifier_of(net)
    words = {name: name[len(net.prefix) :].split("_")[0] for name in parameters}
    for part in parts:
        if part not in ("features", *words.values()):
            known = ", ".join(dict.fromkeys(["features", *words.values()]))
            raise DMRError(f"cannot freeze {part!r}: the network has the parts {known}")
    every = "features" in parts
    net.frozen = {
        name for name, word in words.items() if word in parts or (every and name not in head)
    }
    if len(net.frozen) == len(words):
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
