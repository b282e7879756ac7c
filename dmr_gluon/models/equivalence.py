"""One network in several forms (Figures 4 and 5), with all that it has learned.

==============  =====================================================================
``branches``    a convolution for every branch, as the blocks are drawn (Figure 1)
``grouped``     all branches in one convolution of K groups: Figure 5 for merge-and-run
                blocks, Figure 4 with equation (6) for inception-like ones
==============  =====================================================================

:func:`convert` goes either way. Both forms compute the same in inference and in training: BN
stands at the same places, and every parameter of the grouped form is the branches' one after
the other, so gradients and momentum convert too and training goes on from where it was.

:func:`fold` and :func:`unfold` are Figure 4 to the letter: two residual branches of two layers
as one branch twice as wide inside, d -> 2d -> d. There the last BN stands after the sum of the
branches, where the branches have one each before it; the outputs in inference are the same,
training from there on is another network's.
"""

import re
from dataclasses import replace

import numpy as np

from ..errors import DMRError
from ..runtime import mx
from .layers import BN_EPSILON
from .names import name_of
from .network import Network
from .spec import INCEPTION_LIKE, MERGE_AND_RUN, RESIDUAL

#: (in the branches' names, in the grouped form's), for every tensor that there is K times.
_PLURALS = (("branch", "branches"), ("proj", "projs"), ("stem", "stems"))

#: Such a word as the last but the tensor's own in a parameter's name; a network's prefix may
#: hold it too, further to the left.
_PLACE = r"(?:^|_)({})_(?=(?:conv|bn)\d*_[a-z_]+$)"


def respecify(spec, form):
    """The specification of a network in another form.

    Raises
    ------
    DMRError
        For an unknown form, or a network without parallel branches.
    """
    spec = replace(spec, form=form)
    return replace(spec, name=name_of(spec))


def convert_arrays(arrays, spec, form):
    """Convert parameters, gradients, momenta: anything with one array for each parameter.

    Parameters
    ----------
    arrays : dict of str to numpy.ndarray
        By parameter name, for the network ``spec``; of those there are K times, all or none.
    spec : NetworkSpec
        What the arrays are of.
    form : str
        ``branches`` or ``grouped``.

    Returns
    -------
    dict of str to numpy.ndarray

    Raises
    ------
    DMRError
        For a network without such a form, or an array that some branches lack.
    """
    respecify(spec, form)
    if form == spec.form:
        return dict(arrays)
    plurals = [(one, many) for one, many in _PLURALS if one != "proj" or _has_projs(spec)]
    if form == "grouped":
        groups = {}
        for name, array in arrays.items():
            for one, many in plurals:
                match = re.search(_PLACE.format(rf"{one}(\d+)"), name)
                if match:
                    grouped = f"{name[: match.start(1)]}{many}_{name[match.end() :]}"
                    groups.setdefault(grouped, {})[int(match.group(2))] = array
                    break
            else:
                groups[name] = {1: array}
        for name, parts in groups.items():
            many = name not in arrays
            missing = set(range(1, spec.branches + 1 if many else 2)) - set(parts)
            if missing:
                raise DMRError(f"{name}: the array of branch {min(missing)} is missing")
        return {
            name: np.concatenate([parts[k] for k in sorted(parts)])
            for name, parts in groups.items()
        }
    converted = {}
    for name, array in arrays.items():
        for one, many in plurals:
            match = re.search(_PLACE.format(many), name)
            if match:
                for k, part in enumerate(np.split(array, spec.branches), start=1):
                    converted[f"{name[: match.start(1)]}{one}{k}_{name[match.end() :]}"] = part
                break
        else:
            converted[name] = array
    return converted


def _has_projs(spec):
    """Whether there is a projection for every branch."""
    return spec.block == MERGE_AND_RUN


def convert(net, form):
    """The same network in another form, with the parameters and BN statistics of ``net``.

    Parameters
    ----------
    net : Network
        Of inception-like or merge-and-run blocks, initialised.
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
    """Figure 4: inception-like blocks as residual blocks K times as wide inside.

    The K branches' first layers stand side by side; the second layers, each with its BN
    merged into its weights, become one convolution from K x d channels to d. What the merging
    leaves over is the beta of the one BN that follows.

    Parameters
    ----------
    net : Network
        Of inception-like blocks with two layers in a branch, in either form.

    Returns
    -------
    Network
        Of residual blocks with ``inner_width`` K; equal in inference, not in training.

    Raises
    ------
    DMRError
        For any other network: the paper has no such simple transformation.
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
            continue  # merged into the convolution before it
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
    """Figure 4 the other way: residual blocks that are wide inside as inception-like blocks.

    Parameters
    ----------
    net : Network
        Of residual blocks with two layers in a branch and an ``inner_width`` that
        ``branches`` divides.
    branches : int
        K.

    Returns
    -------
    Network
        Of inception-like blocks; equal in inference, not in training.

    Raises
    ------
    DMRError
        For a network that does not fit.
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
    """The K branches' shares of one array."""
    if "_conv2_" in name:
        return np.split(array, branches, axis=1)
    if "_bn2_" not in name:
        return np.split(array, branches)
    # BN(a + b) = BN'(a) + BN''(b): the same scale in both, mean and beta once.
    once = name.endswith(("_beta", "_running_mean"))
    return [array] + [np.zeros_like(array) if once else array] * (branches - 1)


_BN = ("gamma", "beta", "running_mean", "running_var")


def _neutral_bn(beta):
    """A BN that only adds ``beta``."""
    one = np.ones_like(beta)
    return {
        "gamma": np.sqrt(one + BN_EPSILON),
        "beta": beta,
        "running_mean": np.zeros_like(beta),
        "running_var": one,
    }


def arrays_of(net):
    """Parameters and running statistics by name, as NumPy arrays; from the first device."""
    parameters = net.collect_params()
    try:
        return {name: one.list_data()[0].asnumpy() for name, one in parameters.items()}
    except RuntimeError as error:
        raise DMRError(f"{net.spec.name} is not initialised; give it parameters first") from error


def _filled(spec, arrays, like):
    """A network with given parameters, on the devices and of the type of another."""
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
