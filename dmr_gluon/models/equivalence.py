"""Convert a trained network between equivalent forms (Figures 4 and 5).

==============  =====================================================================
``branches``    a convolution for every branch, as the blocks are drawn (Figure 1)
``grouped``     all branches in one convolution of K groups: Figure 5 for merge-and-run
                blocks, Figure 4 with equation (6) for inception-like ones
==============  =====================================================================

:func:`convert` works in both directions. The two forms are equal in inference and in training:
BN is in the same places, and every parameter of the grouped form is the concatenation of the
branches' parameters. So gradients and momentum convert too, and training can continue.

:func:`fold` follows Figure 4 literally: two residual branches of two layers become one branch
twice as wide inside, d -> 2d -> d. One BN after the sum of the branches
replaces the last BN of each. The outputs in inference are equal; further training differs.
"""

import re
from dataclasses import replace

import numpy as np

from ..errors import DMRError
from ..runtime import mx
from .layers import BN_EPSILON
from .names import name_of
from .network import Network
from .spec import INCEPTION_LIKE, RESIDUAL

#: Words in parameter names: one of K in the form of branches, all K in the grouped form.
_PLURALS = {"branch": "branches", "proj": "projs", "stem": "stems"}
_SINGULARS = {plural: singular for singular, plural in _PLURALS.items()}

#: Such a word directly before the layer's name; the network's prefix may contain it too.
_LAYER = r"(?=_(?:conv|bn)\d*_[a-z_]+$)"
_ONE = re.compile(rf"(?:^|(?<=_))(branch|proj|stem)(\d+){_LAYER}")
_ALL = re.compile(rf"(?:^|(?<=_))(branches|projs|stems){_LAYER}")

_BN = ("gamma", "beta", "running_mean", "running_var")


def respecify(spec, form, **changes):
    """Return a spec with another form, and other fields changed, under its new name.

    Raises
    ------
    DMRError
        For an unknown form, or a network without parallel branches.
    """
    spec = replace(spec, form=form, **changes)
    return replace(spec, name=name_of(spec))


def convert_arrays(arrays, spec, form):
    """Convert parameters, gradients or momenta: anything with one array per parameter.

    Parameters
    ----------
    arrays : dict of str to numpy.ndarray
        By parameter name; all K or none of a set of parallel tensors.
    spec : NetworkSpec
        The network of the arrays.
    form : str
        ``branches`` or ``grouped``.

    Returns
    -------
    dict of str to numpy.ndarray

    Raises
    ------
    DMRError
        For a network without this form.
    """
    respecify(spec, form)
    if form == spec.form:
        return dict(arrays)
    return _split(arrays, spec) if form == "branches" else _concatenate(arrays, spec)


def _split(arrays, spec):
    converted = {}
    for name, array in arrays.items():
        match = _ALL.search(name)
        if not match:
            converted[name] = array
            continue
        for k, part in enumerate(np.split(array, spec.branches), start=1):
            one = f"{_SINGULARS[match[1]]}{k}"
            converted[name[: match.start()] + one + name[match.end() :]] = part
    return converted


def _concatenate(arrays, spec):
    converted = {}
    for name, array in arrays.items():
        match = _ONE.search(name)
        # Without streams, all branches share one projection.
        if not match or (match[1] == "proj" and not spec.kind.streams):
            converted[name] = array
            continue
        grouped = name[: match.start()] + _PLURALS[match[1]] + name[match.end() :]
        converted.setdefault(grouped, {})[int(match[2])] = array
    for name, parts in converted.items():
        if isinstance(parts, dict):
            converted[name] = np.concatenate([parts[k] for k in sorted(parts)])
    return converted


def convert(net, form):
    """Return the network in another form, with its parameters and BN statistics.

    Parameters
    ----------
    net : Network
        Initialised, with inception-like or merge-and-run blocks.
    form : str
        ``branches`` or ``grouped``.

    Returns
    -------
    Network
        On the same devices; not hybridized.

    Raises
    ------
    DMRError
        For an unknown form, or a network without parallel branches.
    """
    spec = respecify(net.spec, form)
    return _filled(spec, convert_arrays(arrays_of(net), net.spec, form), net)


def fold(net):
    """Turn inception-like blocks into residual blocks K times as wide inside (Figure 4).

    The first layers of the K branches are concatenated. The second layers, each with its BN
    folded into the weights, become one convolution from K x d channels to d; the sum of their
    shifts becomes the beta of the one BN that follows.

    Parameters
    ----------
    net : Network
        With inception-like blocks of two layers in a branch, in either form.

    Returns
    -------
    Network
        With residual blocks of ``inner_width`` K; equal in inference, not in training.

    Raises
    ------
    DMRError
        For any other network.
    """
    spec = net.spec
    if spec.block != INCEPTION_LIKE or spec.bottleneck or spec.branch_layers != 2:
        raise DMRError(
            f"{spec.name} cannot be folded: Figure 4 is of inception-like blocks with two "
            f"layers in a branch, such as cifar_dilnet14"
        )
    arrays = convert_arrays(arrays_of(net), spec, "grouped")
    folded = {
        name.replace("_branches_", "_branch1_"): array
        for name, array in arrays.items()
        if "_branches_bn2_" not in name
    }
    for name, weight in arrays.items():
        block, found, _ = name.partition("_branches_conv2_weight")
        if not found:
            continue
        gamma, beta, mean, variance = (arrays[f"{block}_branches_bn2_{part}"] for part in _BN)
        scale = gamma / np.sqrt(variance + BN_EPSILON)
        # (K d, d, 3, 3), group by group, to (d, K d, 3, 3).
        groups = np.split(weight * scale.reshape(-1, 1, 1, 1), spec.branches)
        folded[f"{block}_branch1_conv2_weight"] = np.concatenate(groups, axis=1)
        # What remains of the K BNs is the sum of their shifts.
        shift = sum(np.split(beta - mean * scale, spec.branches))
        one, zero = np.ones_like(shift), np.zeros_like(shift)
        for part, array in zip(_BN, (np.sqrt(one + BN_EPSILON), shift, zero, one)):
            folded[f"{block}_branch1_bn2_{part}"] = array
    inner_width = spec.branches * spec.inner_width
    wide = respecify(spec, "branches", block=RESIDUAL, branches=1, inner_width=inner_width)
    return _filled(wide, folded, net)


def arrays_of(net):
    """Return parameters and running statistics by name, as NumPy arrays of the first device."""
    parameters = net.collect_params()
    try:
        return {name: one.list_data()[0].asnumpy() for name, one in parameters.items()}
    except RuntimeError as error:
        raise DMRError(f"{net.spec.name} is not initialised; give it parameters first") from error


def _filled(spec, arrays, like):
    """Build a network with these parameters, with devices and type of ``like``."""
    net = Network(spec, prefix=like.prefix)
    parameters = net.collect_params()
    if set(parameters) != set(arrays):
        raise DMRError(f"{spec.name} has other layers than this network, whose layers were changed")
    pattern = next(iter(like.collect_params().values()))
    net.cast(pattern.dtype)
    net.initialize(ctx=pattern.list_ctx())
    for name, parameter in parameters.items():
        parameter.set_data(mx.nd.array(arrays[name], dtype=parameter.dtype))
    return net
