"""Convert a trained network between equivalent forms (Figures 4 and 5).

==============  =====================================================================
``branches``    a convolution for every branch, as the blocks are drawn (Figure 1)
``grouped``     all branches in one convolution of K groups: Figure 5 for merge-and-run
                blocks, Figure 4 with equation (6) for inception-like ones
==============  =====================================================================

:func:`convert` goes either way. Both forms compute the same in inference and in training: BN
is in the same places, and every parameter of the grouped form is the concatenation of the
branches' parameters. So gradients and momentum convert too, and training can continue.

:func:`fold` and :func:`unfold` follow Figure 4 literally: two residual branches of two layers
become one branch twice as wide inside, d -> 2d -> d. Its last BN follows the sum of the
branches, each of which had its own before. The outputs in inference are equal; further
training is that of another network.
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

#: Words in parameters' names: (one of K in the form of branches, all K in the grouped form).
_PLURALS = (("branch", "branches"), ("proj", "projs"), ("stem", "stems"))

#: Such a word directly before the layer's name. A network's prefix, further left, may contain
#: it too.
_PLACE = r"(?:^|_)({})_(?=(?:conv|bn)\d*_[a-z_]+$)"


def respecify(spec, form):
    """Return the specification of a network in another form.

    Raises
    ------
    DMRError
        For an unknown form, or a network without parallel branches.
    """
    spec = replace(spec, form=form)
    return replace(spec, name=name_of(spec))


def convert_arrays(arrays, spec, form):
    """Convert parameters, gradients or momenta: anything with one array per parameter.

    Parameters
    ----------
    arrays : dict of str to numpy.ndarray
        By parameter name; for each set of K parallel tensors, all or none.
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
        For a network without this form, or an array missing for some branches.
    """
    respecify(spec, form)
    if form == spec.form:
        return dict(arrays)
    # Without streams, all branches share one projection.
    plurals = [(one, many) for one, many in _PLURALS if one != "proj" or spec.kind.streams]
    if form == "branches":
        return _split(arrays, plurals, spec.branches)
    return _concatenated(arrays, plurals, spec.branches)


def _split(arrays, plurals, branches):
    converted = {}
    for name, array in arrays.items():
        one, match = _find(name, [(many, one) for one, many in plurals])
        if not match:
            converted[name] = array
            continue
        for k, part in enumerate(np.split(array, branches), start=1):
            converted[f"{name[: match.start(1)]}{one}{k}_{name[match.end() :]}"] = part
    return converted


def _concatenated(arrays, plurals, branches):
    converted, groups = {}, {}
    for name, array in arrays.items():
        many, match = _find(name, [(rf"{one}\d+", many) for one, many in plurals])
        if not match:
            converted[name] = array
            continue
        grouped = f"{name[: match.start(1)]}{many}_{name[match.end() :]}"
        k = int(re.sub(r"\D", "", match.group(1)))
        converted[grouped] = groups.setdefault(grouped, {})
        groups[grouped][k] = array
    for name, parts in groups.items():
        missing = set(range(1, branches + 1)) - set(parts)
        if missing:
            raise DMRError(f"{name}: the array of branch {min(missing)} is missing")
        converted[name] = np.concatenate([parts[k] for k in sorted(parts)])
    return converted


def _find(name, words):
    """Return the replacement of the first word found in a parameter's name, and its match."""
    for word, replacement in words:
        match = re.search(_PLACE.format(word), name)
        if match:
            return replacement, match
    return None, None


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
    folded = {}
    for name, array in arrays.items():
        if "_branches_bn2_" in name:
            continue  # folded into the convolution before it
        folded[name.replace("_branches_", "_branch1_")] = array
        if not name.endswith("_branches_conv2_weight"):
            continue
        block = name[: -len("_branches_conv2_weight")]
        bn = {part: arrays[f"{block}_branches_bn2_{part}"] for part in _BN}
        scale = bn["gamma"] / np.sqrt(bn["running_var"] + BN_EPSILON)
        shift = bn["beta"] - bn["running_mean"] * scale
        # (K d, d, 3, 3), group by group, to (d, K d, 3, 3).
        groups = np.split(array * scale.reshape(-1, 1, 1, 1), spec.branches)
        folded[f"{block}_branch1_conv2_weight"] = np.concatenate(groups, axis=1)
        beta = sum(np.split(shift, spec.branches))
        neutral = _neutral_bn(beta)
        folded.update({f"{block}_branch1_bn2_{part}": neutral[part] for part in _BN})
    changes = {"inner_width": spec.branches * spec.inner_width, "branches": 1}
    wide = replace(spec, block=RESIDUAL, form="branches", **changes)
    return _filled(replace(wide, name=name_of(wide)), folded, net)


def unfold(net, branches=2):
    """Turn residual blocks that are wide inside into inception-like blocks: :func:`fold` reversed.

    Parameters
    ----------
    net : Network
        With residual blocks of two layers in a branch and an ``inner_width`` that
        ``branches`` divides.
    branches : int
        K.

    Returns
    -------
    Network
        With inception-like blocks; equal in inference, not in training.

    Raises
    ------
    DMRError
        For any other network.
    """
    spec = net.spec
    fits = spec.block == RESIDUAL and not spec.bottleneck and spec.branch_layers == 2
    if not fits or branches < 1 or spec.inner_width % branches:
        raise DMRError(
            f"{spec.name} cannot be unfolded into {branches} branches: it takes residual blocks "
            f"with two layers in a branch, whose inner width {branches} divides, such as "
            f"cifar_resnet14_inner{max(2, branches)}"
        )
    unfolded = {}
    for name, array in arrays_of(net).items():
        if "_branch1_" not in name:
            unfolded[name] = array
            continue
        parts = _unfolded(name, array, branches)
        for k, part in enumerate(parts, start=1):
            unfolded[name.replace("_branch1_", f"_branch{k}_")] = part
    changes = {"inner_width": spec.inner_width // branches, "branches": branches}
    narrow = replace(spec, block=INCEPTION_LIKE, **changes)
    return _filled(replace(narrow, name=name_of(narrow)), unfolded, net)


def _unfolded(name, array, branches):
    """Split one array into the shares of K branches."""
    if "_conv2_" in name:
        return np.split(array, branches, axis=1)
    if "_bn2_" not in name:
        return np.split(array, branches)
    # BN(a + b) = BN'(a) + BN''(b): both have the scale, one has mean and beta.
    once = name.endswith(("_beta", "_running_mean"))
    return [array] + [np.zeros_like(array) if once else array] * (branches - 1)


_BN = ("gamma", "beta", "running_mean", "running_var")


def _neutral_bn(beta):
    """Return the parameters of a BN that only adds ``beta``."""
    one = np.ones_like(beta)
    return {
        "gamma": np.sqrt(one + BN_EPSILON),
        "beta": beta,
        "running_mean": np.zeros_like(beta),
        "running_var": one,
    }


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
        differing = sorted(set(parameters) ^ set(arrays))
        raise DMRError(f"{spec.name}: {differing[0]} is not in both forms; please report this")
    pattern = next(iter(like.collect_params().values()))
    net.cast(pattern.dtype)
    net.initialize(ctx=pattern.list_ctx())
    for name, parameter in parameters.items():
        parameter.set_data(mx.nd.array(arrays[name], dtype=parameter.dtype))
    return net
