"""Import the authors' checkpoints (MXNet, 2016) as networks of this package.

Their symbols for 32x32 images name layers ``g0`` (stem), ``g{stage}_b{block}`` and then

=============  ==============================  =====================================
merge-and-run  ``_d1``, ``_d2``: branches      ``_l1_line``, ``_l2_line``: projections
inception      ``_p1``, ``_p2``: branches      ``_p0_line``: projection
residual       ``_p2``: the branch             ``_p0_line``: projection
plain          ``_p1``: its one layer
=============  ==============================  =====================================

with ``_two1`` and ``_two2`` for a branch's layers (except in plain blocks, two of which make one
of ours), each with ``_conv_weight``, ``_bn_gamma``, ``_bn_beta``, ``_bn_moving_mean`` and
``_bn_moving_var``; and ``cls_fc_weight``, ``cls_fc_bias``.
"""

import json
import os
import re
from dataclasses import dataclass, replace
from typing import Dict, Optional

import numpy as np

from ..data.preprocessing import Preparation
from ..errors import DMRError, last_line
from ..models.names import get_spec, name_of
from ..models.network import Network, load_arrays
from ..models.spec import NetworkSpec
from ..paper.dataset_facts import PUBLISHED
from ..runtime import mx
from .bundle_writer import write_bundle

_TENSOR = r"(?P<kind>conv|bn)_(?P<part>weight|gamma|beta|moving_mean|moving_var)"
_BLOCK = r"g(?P<stage>[1-9])_b(?P<block>[1-9]\d{0,3})"
#: A tensor's place in a block, by family: the authors' pattern and our name.
_PLACES = {
    "dmrnet": (
        (r"d(?P<k>\d{1,4})_two(?P<layer>[12])", "branch"),
        (r"l(?P<k>\d{1,4})_line", "proj"),
    ),
    "dilnet": ((r"p(?P<k>[12])_two(?P<layer>[12])", "branch"), (r"p0_line", "proj")),
    "resnet": ((r"p2_two(?P<layer>[12])", "branch"), (r"p0_line", "proj")),
    "plain": ((r"p1", "branch"),),
}

#: Raised by MXNet for files that are missing, empty or damaged.
_UNREADABLE = (mx.base.MXNetError, OSError, ValueError, IndexError, AttributeError)
#: The training sets of their networks for 32x32 images.
_DATASETS = ("cifar10", "cifar100", "svhn")


@dataclass(frozen=True)
class Imported:
    """An imported checkpoint of the authors.

    Parameters
    ----------
    network : NetworkSpec
        Recognised from the tensors' names and shapes.
    mapping : dict of str to str
        From our name to theirs, for every tensor.
    difference : float or None
        Largest difference between the logits of their symbol and of our network on random
        images, relative to the largest logit; None without ``PREFIX-symbol.json``.
    """

    network: NetworkSpec
    mapping: Dict[str, str]
    difference: Optional[float] = None


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
    Imported

    Raises
    ------
    DMRError
        For missing or damaged files, for a tensor that is unknown, missing or misshapen (by
        name), and for different predictions.
    """
    if dataset is not None and dataset not in _DATASETS:
        raise DMRError(f"--dataset {dataset}: there are {', '.join(_DATASETS)}")
    _refuse_own_source(prefix, epoch, out)
    tensors = _load(f"{prefix}-{epoch:04d}.params")
    spec, mapping = recognise(tensors)
    facts = PUBLISHED.get(dataset)
    if facts and facts.classes != spec.classes:
        raise DMRError(f"{prefix} has {spec.classes} classes, {dataset} has {facts.classes}")
    net = Network(spec)
    net.initialize()
    for name, parameter in net.collect_params().items():
        parameter.set_data(tensors[mapping[name]])
    difference = None
    symbol_file = f"{prefix}-symbol.json"
    if os.path.exists(symbol_file):
        difference = _compare(_load_symbol(symbol_file), tensors, net, symbol_file)
    imported = Imported(spec, mapping, difference)
    write_bundle(
        net,
        out,
        epochs=epoch,
        classes=[str(label) for label in range(spec.classes)],
        preparation=Preparation(32, facts and facts.mean, facts and facts.std),
        dataset=dataset,
        texts={"mapping.json": json.dumps(mapping, indent=1)},
        imported_from=os.path.basename(prefix),
    )
    return imported


def recognise(tensors):
    """Recognise the network of a checkpoint and map its tensors.

    Parameters
    ----------
    tensors : dict
        Arrays with a ``shape``, by the authors' names.

    Returns
    -------
    NetworkSpec, dict of str to str
        The network, and the authors' name of each of our parameters.

    Raises
    ------
    DMRError
        For the first tensor that is unknown, missing or misshapen, by its name.
    """
    for needed in ("g0_conv_weight", "cls_fc_weight"):
        if needed not in tensors:
            raise DMRError(
                f"no {needed} in the checkpoint: it is not one of the authors' networks for "
                f"32x32 images; it has {_some(tensors)}"
            )
    family = _family(tensors)
    mapping = {}
    for theirs in tensors:
        ours = _our_name(theirs, family)
        if ours is None:
            raise DMRError(f"{theirs} is not a tensor of the authors' {family}; nothing was read")
        mapping[ours] = theirs
    spec = _specification(tensors, mapping, family)
    parameters = Network(spec).collect_params()
    for name, parameter in parameters.items():
        if name not in mapping:
            raise DMRError(
                f"{_their_name(name, mapping)} is missing: a {spec.name} needs it for {name}"
            )
        found = tuple(tensors[mapping[name]].shape)
        if found != parameter.shape:
            raise DMRError(
                f"{mapping[name]} has the shape {found}; {name} of a {spec.name} has "
                f"{parameter.shape}"
            )
    extra = sorted(set(mapping) - set(parameters))
    if extra:
        raise DMRError(f"{mapping[extra[0]]} is not part of a {spec.name}; nothing was read")
    return spec, {name: mapping[name] for name in parameters}


def _family(tensors):
    names = " ".join(tensors)
    if re.search(r"_p2_\d+_", names):
        raise DMRError(
            "this is the authors' fuse3 or fuse6 (Figure 6), whose shortcuts have 3x3 convolutions "
            "where ours have 1x1 ones or none: it cannot be imported"
        )
    if re.search(r"_d\d+_two1_", names):
        return "dmrnet"
    if re.search(r"_p1_two1_", names):
        if "_p0_line_" not in names:
            raise DMRError(
                "this is the authors' side, which has no shortcuts and is not in the paper; there "
                "is no such network here: it cannot be imported"
            )
        return "dilnet"
    return "plain" if re.search(r"_b\d+_p1_(conv|bn)_", names) else "resnet"


def _our_name(theirs, family):
    """Return our name of one of their tensors; None for an unknown one."""
    if theirs in ("cls_fc_weight", "cls_fc_bias"):
        return theirs.replace("cls", "head")
    match = re.fullmatch(rf"g0_{_TENSOR}", theirs)
    if match:
        return _tensor("stem_", match.groupdict())
    for place, ours in _PLACES[family]:
        match = re.fullmatch(rf"{_BLOCK}_{place}_{_TENSOR}", theirs)
        if not match:
            continue
        groups = match.groupdict()
        if family == "plain":
            block, second = divmod(int(groups["block"]) + 1, 2)
            groups.update(block=block, layer=second + 1)
        where = f"stage{groups['stage']}_block{groups['block']}_{ours}{groups.get('k') or 1}_"
        return _tensor(where, groups)
    return None


def _tensor(where, groups):
    kind, part = groups["kind"], groups["part"].replace("moving", "running")
    if (kind == "conv") != (part == "weight"):
        return None
    return f"{where}{kind}{groups.get('layer') or ''}_{part}"


def _their_name(ours, mapping):
    """Derive the authors' name of a missing tensor from that of its neighbour."""
    beside = re.sub(r"_[a-z]+(_mean|_var)?$", "", ours)
    for name, theirs in mapping.items():
        if name.startswith(beside + "_"):
            part = ours[len(beside) + 1 :].replace("running", "moving")
            return theirs[: len(theirs) - len(name) + len(beside) + 1] + part
    return f"the tensor for {ours}"


def _specification(tensors, mapping, family):
    """Return the network with these stages, blocks, branches and channels."""
    places = [re.match(r"stage(\d+)_block(\d+)_branch(\d+)_", name) for name in mapping]
    places = [tuple(map(int, match.groups())) for match in places if match]
    if {stage for stage, _, _ in places} != {1, 2, 3}:
        raise DMRError("the checkpoint does not have blocks in the three stages g1, g2 and g3")
    blocks = tuple(max(b for stage, b, _ in places if stage == s) for s in (1, 2, 3))
    branches = max(k for _, _, k in places)
    if sum(blocks) * branches > len(tensors):  # before a network is made for them
        raise DMRError(
            f"the checkpoint names {sum(blocks)} blocks with {branches} branches and has "
            f"{len(tensors)} tensors: it is not one of the authors' networks"
        )
    stem = int(tensors["g0_conv_weight"].shape[0])
    spec = get_spec(
        f"cifar_{family}8",
        classes=int(tensors["cls_fc_weight"].shape[0]),
        blocks=blocks,
        stem_channels=stem,
        channels=(stem, 2 * stem, 4 * stem),
        branches=branches,
    )
    return replace(spec, name=name_of(spec))


def _some(names):
    names = sorted(names)
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _load(path):
    """Load arrays by name, without MXNet's ``arg:`` and ``aux:``."""
    try:
        loaded = load_arrays(path)
    except _UNREADABLE as error:
        reason = "is damaged" if os.path.exists(path) else "is not there"
        raise DMRError(f"{path} {reason}; name a checkpoint as PREFIX EPOCH") from error
    if not isinstance(loaded, dict):
        raise DMRError(f"{path} is not an MXNet checkpoint with arg: and aux: names")
    tensors = {}
    for name, array in loaded.items():
        kind, _, own = name.partition(":")
        if kind != ("aux" if "_moving_" in own else "arg"):
            raise DMRError(
                f"{path}: {name} is not what an MXNet checkpoint has; running statistics begin "
                f"with aux:, weights with arg:"
            )
        if not np.isfinite(array.asnumpy()).all():
            raise DMRError(f"{path}: {own} has values that are not finite; nothing was read")
        tensors[own] = array
    return tensors


def _load_symbol(path):
    try:
        with open(path, encoding="utf-8") as file:
            return mx.sym.load_json(file.read())
    except _UNREADABLE as error:
        raise DMRError(f"{path} is damaged; without it the parameters alone are read") from error


def _refuse_own_source(prefix, epoch, out):
    """Refuse to overwrite the files that are read."""
    source = {f"{prefix}-symbol.json", f"{prefix}-{epoch:04d}.params"}
    written = {os.path.join(out, name) for name in ("model-symbol.json", "model-0000.params")}
    for path in {os.path.realpath(path) for path in source} & {*map(os.path.realpath, written)}:
        raise DMRError(f"{path} would be overwritten by the result; choose another --out")


def _compare(symbol, tensors, net, path):
    """Return the largest relative difference of the logits; refuse another network."""
    inside = symbol.get_internals()
    if "cls_fc_output" not in inside.list_outputs():
        raise DMRError(f"{path} has no layer cls_fc: it is not the authors' symbol")
    images = np.random.RandomState(0).standard_normal((4, 3, 32, 32)).astype(np.float32)
    try:
        # Not the probabilities: a softmax of large logits hides what is before it.
        executor = inside["cls_fc_output"].simple_bind(mx.cpu(), grad_req="null", data=images.shape)
        executor.copy_params_from(
            {n: a for n, a in tensors.items() if n in executor.arg_dict},
            {n: a for n, a in tensors.items() if n in executor.aux_dict},
        )
        theirs = executor.forward(is_train=False, data=images)[0].asnumpy()
    except (mx.base.MXNetError, RuntimeError, ValueError) as error:
        reason = last_line(error)
        raise DMRError(f"{path} cannot be run by this MXNet: {reason}") from error
    ours = net(mx.nd.array(images)).asnumpy()
    if theirs.shape != ours.shape or not np.isfinite(theirs).all():
        raise DMRError(f"{path} gives {theirs.shape}, not finite logits of {ours.shape}")
    difference = float(np.abs(theirs - ours).max() / max(np.abs(theirs).max(), 1e-12))
    if difference > 1e-4:
        raise DMRError(
            f"{path} predicts differently from {net.spec.name} with the same parameters (by "
            f"{difference:.2g} of the largest logit): it is another network than its parameters' "
            f"names say"
        )
    return difference
