"""Convert the authors' checkpoints (MXNet, 2016) to networks of this package.

Their symbols for 32x32 images name layers ``g0`` (stem), ``g{stage}_b{block}_...`` and ``cls_fc``.
Each convolution has ``_conv_weight``, ``_bn_gamma``, ``_bn_beta``, ``_bn_moving_mean`` and
``_bn_moving_var``. Their ``fuse3`` and ``fuse6`` (Figure 6) have 3x3 convolutions in the shortcuts
and ``side`` has no shortcuts: no network of this package equals them.
"""

import json
import os
import re

import numpy as np

from ..data.preprocessing import Preparation
from ..errors import DMRError, last_line
from ..models.names import get_spec
from ..models.network import Network, misfit, named_arrays
from ..paper.dataset_facts import PUBLISHED
from ..runtime import mx
from .bundle_writer import write_bundle

#: The authors' names of a branch's layers and of a projection, by family. A plain block has one
#: layer; two of them make one of ours.
_PLACES = {
    "dmrnet": ("d{k}_two{layer}", "l{k}_line"),
    "dilnet": ("p{k}_two{layer}", "p0_line"),
    "resnet": ("p2_two{layer}", "p0_line"),
    "plain": ("p1", ""),
}


def import_checkpoint(prefix, epoch, out, dataset=None):
    """Convert a checkpoint of the authors into a bundle.

    The bundle also gets ``mapping.json``: the authors' name of each of our parameters.

    Parameters
    ----------
    prefix : str
        ``PREFIX-NNNN.params`` is read, and ``PREFIX-symbol.json`` if it exists, to compare the
        predictions of both networks.
    epoch : int
    out : str
        The bundle's folder; created if missing.
    dataset : str, optional
        The training set, for the normalisation: ``cifar10``, ``cifar100`` or ``svhn``.

    Returns
    -------
    Network
    dict of str to str
        The authors' name of each of our parameters.
    float or None
        Largest difference between the logits of their symbol and of our network on random
        images, relative to the largest logit; None without ``PREFIX-symbol.json``.

    Raises
    ------
    DMRError
        For files that cannot be read, for a tensor that is unknown, missing or misshapen (by
        name), and for different predictions.
    """
    path = f"{prefix}-{epoch:04d}.params"
    tensors = named_arrays(path, "name a checkpoint as PREFIX EPOCH")
    net, mapping = _recognise(path, tensors)
    facts = PUBLISHED.get(dataset)
    if facts and facts.classes != net.spec.classes:
        raise DMRError(f"{prefix} has {net.spec.classes} classes, {dataset} has {facts.classes}")
    net.initialize()
    for name, parameter in net.collect_params().items():
        parameter.set_data(tensors[mapping[name]])
    difference = None
    if os.path.exists(f"{prefix}-symbol.json"):
        difference = _compare(f"{prefix}-symbol.json", tensors, net)
    write_bundle(
        net,
        out,
        Preparation(32, facts and facts.mean, facts and facts.std),
        texts={"mapping.json": json.dumps(mapping, indent=1)},
        epochs=epoch,
        classes=[str(label) for label in range(net.spec.classes)],
        dataset=dataset,
        imported_from=os.path.basename(prefix),
    )
    return net, mapping, difference


def _recognise(path, tensors):
    """Return the network, not initialised, and the authors' name of each of its parameters."""
    firsts = {
        f"g1_b1_{branch.format(k=1, layer=1)}_conv_weight": family
        for family, (branch, _) in _PLACES.items()
    }
    family = next((family for name, family in firsts.items() if name in tensors), None)
    stem, classifier = tensors.get("g0_conv_weight"), tensors.get("cls_fc_weight")
    if family is None or stem is None or classifier is None:
        raise DMRError(
            f"{path} is not one of the authors' networks for 32x32 images: it has no "
            f"g0_conv_weight, no cls_fc_weight, or none of {', '.join(firsts)}"
        )
    blocks = [_count(rf"g{stage}_(b\d+)_", tensors) for stage in (1, 2, 3)]
    channels = int(stem.shape[0])
    spec = get_spec(
        f"cifar_{family}8",
        classes=int(classifier.shape[0]),
        blocks=tuple(count // 2 if family == "plain" else count for count in blocks),
        stem_channels=channels,
        channels=(channels, 2 * channels, 4 * channels),
        branches=_count(r"g1_b1_([dp][1-9]\d*)_", tensors),
    )
    net = Network(spec)
    parameters = net.collect_params()
    mapping = {name: _their_name(name, family) for name in parameters}
    fault = misfit(
        {mapping[name]: parameter.shape for name, parameter in parameters.items()},
        {name: tensor.shape for name, tensor in tensors.items()},
    )
    if fault:
        raise DMRError(f"{path} is not a {net.spec.name} of the authors: {fault}")
    return net, mapping


def _count(pattern, tensors):
    """Count the different matches of a group in the tensors' names."""
    matches = (re.match(pattern, name) for name in tensors)
    return len({match[1] for match in matches if match})


def _their_name(ours, family):
    """Return the authors' name of one of our parameters."""
    ours = ours.replace("running", "moving")
    match = re.fullmatch(r"stage(\d)_block(\d+)_(branch|proj)(\d+)_(conv|bn)(\d?)_(\w+)", ours)
    if not match:
        return ours.replace("stem", "g0").replace("head", "cls")
    stage, block, where, k, kind, layer, part = match.groups()
    if family == "plain":
        block = 2 * (int(block) - 1) + int(layer)
    place = _PLACES[family][where == "proj"].format(k=k, layer=layer)
    return f"g{stage}_b{block}_{place}_{kind}_{part}"


def _compare(path, tensors, net):
    """Return the largest relative difference of the logits; refuse another network."""
    images = np.random.RandomState(0).standard_normal((4, 3, 32, 32)).astype(np.float32)
    try:
        with open(path, encoding="utf-8") as file:
            # Not the probabilities: a softmax of large logits hides what is before it.
            logits = mx.sym.load_json(file.read()).get_internals()["cls_fc_output"]
        arguments = {**tensors, "data": mx.nd.array(images)}
        executor = logits.bind(mx.cpu(), arguments, grad_req="null", aux_states=tensors)
        theirs = executor.forward(is_train=False)[0].asnumpy()
    except (mx.base.MXNetError, OSError, ValueError, LookupError) as error:
        raise DMRError(
            f"{path} cannot be run with these parameters ({last_line(error)}); without it the "
            f"parameters alone are read"
        ) from error
    ours = net(mx.nd.array(images)).asnumpy()
    difference = float(np.abs(theirs - ours).max() / max(np.abs(theirs).max(), 1e-12))
    if not difference <= 1e-4:  # NaN too
        raise DMRError(
            f"{path} predicts differently from {net.spec.name} with the same parameters, by "
            f"{difference:.2g} of the largest logit: it is another network"
        )
    return difference
