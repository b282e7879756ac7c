"""Replace a network's BN layers: GluonCV's ``norm_layer`` and ``norm_kwargs``.

They are replaced in the finished network, so no block has to pass the arguments on.
"""

import inspect

from ..errors import DMRError, last_line
from ..runtime import mx
from .layers import BN_EPSILON, BN_MOMENTUM, BatchNorm, BatchNormRelu, relu


class _ThenRelu(mx.gluon.HybridBlock):
    """Any normalisation, then ReLU; transparent to ``save_parameters``."""

    def __init__(self, norm):
        super().__init__(prefix="")
        self.norm = norm

    def hybrid_forward(self, F, x):
        return relu(F, self.norm(x))

    def _collect_params_with_prefix(self, prefix=""):
        return self.norm._collect_params_with_prefix(prefix)


def replace_norms(net, norm_layer=None, norm_kwargs=None):
    """Replace every BN by another layer, or by ours with other options.

    Parameter names stay the same. The new layers are not initialised.

    Parameters
    ----------
    net : Network
        Newly built: the new layers do not take over values, nor the effect of
        :meth:`~dmr_gluon.models.network.Network.fuse_for_cpu` and
        :meth:`~.network.Network.synchronise_bn`.
    norm_layer : callable, optional
        Such as ``gluon.nn.BatchNorm`` or ``gluon.contrib.nn.SyncBatchNorm``. It is called with
        those of ``prefix``, ``in_channels``, ``epsilon`` (2e-5) and ``momentum`` (0.9) that it
        or a base class accepts. Default: our own.
    norm_kwargs : dict, optional
        Further arguments, such as ``{"use_global_stats": True}``; they override these.

    Raises
    ------
    DMRError
        For a layer that cannot be constructed or does not fit.
    """
    label = getattr(norm_layer, "__name__", None) or repr(norm_layer or "BatchNorm")

    def replace(parent):
        for key, old in list(parent._children.items()):
            if isinstance(old, BatchNorm):
                new = _make(norm_layer, label, old, norm_kwargs or {})
                if norm_layer and isinstance(old, BatchNormRelu):
                    new = _ThenRelu(new)
                parent._children[key] = new
                if parent.__dict__.get(key) is old:
                    parent.__dict__[key] = new  # setattr requires the old layer's class

    net.apply(replace)
    try:
        # The other one, infer_shape, prints before it raises.
        net(mx.sym.var("data")).infer_shape_partial(data=(1, 3, 64, 64))
    except (mx.base.MXNetError, TypeError, ValueError) as error:
        raise DMRError(
            f"norm_layer {label} does not fit the network: {last_line(error)}"
        ) from error


def _make(norm_layer, label, old, norm_kwargs):
    channels = old.gamma.shape[0]
    try:
        if norm_layer is None:
            return type(old)(channels, old.prefix, **norm_kwargs)
        ours = {"in_channels": channels, "epsilon": BN_EPSILON, "momentum": BN_MOMENTUM}
        taken = _parameters(norm_layer) - set(getattr(norm_layer, "keywords", ()))  # of a partial
        ours = {key: value for key, value in ours.items() if key in taken}
        new = norm_layer(prefix=old.prefix, **{**ours, **norm_kwargs})
    except (TypeError, ValueError, AssertionError, mx.base.MXNetError) as error:
        raise DMRError(
            f"norm_layer {label} cannot be made with norm_kwargs {norm_kwargs}: {last_line(error)}"
        ) from error
    if not isinstance(new, mx.gluon.HybridBlock):
        raise DMRError(f"norm_layer {label} makes a {type(new).__name__}; it must be a HybridBlock")
    return new


def _parameters(norm_layer):
    """Return the names of a layer's arguments, including those passed on to base classes."""
    makers = [norm_layer]
    if inspect.isclass(norm_layer):
        makers = [cls for cls in inspect.getmro(norm_layer) if cls is not object]
    return {name for maker in makers for name in inspect.signature(maker).parameters}
