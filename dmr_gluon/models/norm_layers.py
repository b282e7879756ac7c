"""Other normalisation layers in the place of a network's BNs: GluonCV's ``norm_layer``.

One walk over the finished network, so that no block has to pass the two arguments on.
"""

import inspect

from ..errors import DMRError
from ..runtime import mx
from .layers import BN_EPSILON, BN_MOMENTUM, BatchNorm, BatchNormRelu, relu


class _ThenRelu(mx.gluon.HybridBlock):
    """Any normalisation, then ReLU. ``save_parameters`` does not see it, only the layer in it."""

    def __init__(self, norm):
        super().__init__(prefix="")
        self.norm = norm

    def hybrid_forward(self, F, x):
        return relu(F, self.norm(x))

    def _collect_params_with_prefix(self, prefix=""):
        return self.norm._collect_params_with_prefix(prefix)


def replace_norms(net, norm_layer=None, norm_kwargs=None):
    """Put a layer of another kind, or ours with other options, in the place of every BN.

    Parameters keep their names. In a network that is initialised they keep their values too.

    Parameters
    ----------
    net : Network
        Before :meth:`~dmr_gluon.models.network.Network.fuse_for_cpu` and
        :meth:`~.network.Network.synchronise_bn`, of which new layers would know nothing.
    norm_layer : callable, optional
        Such as ``gluon.nn.BatchNorm`` or ``gluon.contrib.nn.SyncBatchNorm``. It is called with
        those of ``prefix``, ``in_channels``, ``epsilon`` (2e-5) and ``momentum`` (0.9) that it
        takes. Default: our own.
    norm_kwargs : dict, optional
        More arguments, such as ``{"use_global_stats": True}``; they go before ours.

    Raises
    ------
    DMRError
        For a layer that cannot be made so or does not fit, in a network that is
        initialised one that has other parameters, and for a network in another form.
    """
    label = getattr(norm_layer, "__name__", None) or repr(norm_layer or "BatchNorm")
    unfit = []

    def replace(parent):
        for key, old in list(parent._children.items()):
            if isinstance(old, BatchNorm):
                if any(getattr(old, name) != plain for name, plain in old._portable.items()):
                    raise DMRError("norm layers are replaced before a network is fused for CPUs")
                new = _make(norm_layer, label, old, dict(norm_kwargs or {}))
                unfit.extend(_take_over(old, new))
                if norm_layer and isinstance(old, BatchNormRelu):
                    new = _ThenRelu(new)
                parent._children[key] = new
                if parent.__dict__.get(key) is old:
                    parent.__dict__[key] = new  # setattr wants one of the old one's class

    net.apply(replace)
    net._clear_cached_op()
    if unfit:
        raise DMRError(
            f"{label} has not the parameters that are there for it: {unfit[0]} and "
            f"{len(unfit) - 1} others do not fit; take a norm_layer with BatchNorm's parameters"
        )
    try:
        # The other one, infer_shape, prints before it raises.
        net(mx.sym.var("data")).infer_shape_partial(data=(1, 3, 64, 64))
    except (mx.base.MXNetError, TypeError, ValueError) as error:
        raise DMRError(f"norm_layer {label} does not fit the network: {_first(error)}") from error


def _make(norm_layer, label, old, norm_kwargs):
    channels = old.gamma.shape[0]
    try:
        if norm_layer is None:
            return type(old)(channels, old.prefix, **norm_kwargs)
        ours = {"in_channels": channels, "epsilon": BN_EPSILON, "momentum": BN_MOMENTUM}
        taken = _parameters(norm_layer)
        preset = getattr(norm_layer, "keywords", {})  # functools.partial's
        ours = {key: value for key, value in ours.items() if key in taken and key not in preset}
        new = norm_layer(prefix=old.prefix, **{**ours, **norm_kwargs})
    except (TypeError, ValueError, AssertionError, mx.base.MXNetError) as error:
        raise DMRError(
            f"norm_layer {label} cannot be made with norm_kwargs {norm_kwargs}: {_first(error)}"
        ) from error
    if not isinstance(new, mx.gluon.HybridBlock):
        raise DMRError(f"norm_layer {label} makes a {type(new).__name__}; it must be a HybridBlock")
    return new


def _parameters(norm_layer):
    """Names of the arguments that a layer takes, also those it hands on to its base class."""
    if not inspect.isclass(norm_layer):
        return inspect.signature(norm_layer).parameters
    names = set()
    for cls in inspect.getmro(norm_layer):
        parameters = inspect.signature(cls).parameters
        names |= set(parameters)
        if all(one.kind != one.VAR_KEYWORD for one in parameters.values()):
            break
    return names


def _take_over(old, new):
    """Give a layer the values of the one that it replaces; names of those that do not fit."""
    values = old.collect_params()
    try:
        arrays = {name: parameter.list_data()[0] for name, parameter in values.items()}
    except RuntimeError:
        return []  # not initialised
    parameters = new.collect_params()
    unfit = sorted(set(parameters) ^ set(arrays))
    new.initialize(ctx=old.gamma.list_ctx())
    for name in set(parameters) & set(arrays):
        try:
            parameters[name].set_data(arrays[name])
        except AssertionError:  # the shape differs
            unfit.append(name)
    return unfit


def _first(error):
    """Of an error's words the line that says what is wrong, without MXNet's stack."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    lines = lines or [type(error).__name__]  # a bare assert says nothing
    return next((line for line in reversed(lines) if "Error" in line or "Check" in line), lines[0])
