"""The first and last layers of a network: stems and classifiers."""

from functools import reduce
from operator import add

from ..runtime import mx
from .layers import BatchNormRelu, convolution

nn = mx.gluon.nn


def stem(spec):
    """Build the layers before the first block.

    Parameters
    ----------
    spec : NetworkSpec

    Returns
    -------
    HybridBlock
        Maps images (n, 3, height, width) to one tensor of ``stem_channels`` channels. With
        unshared ends, to a list of K such tensors, or in the grouped form to one with K times
        as many channels.
    """
    if spec.ends != "unshared":
        return _one_stem(spec, spec.stem_channels, "stem_")
    if spec.form == "grouped":
        return _one_stem(spec, spec.branches * spec.stem_channels, "stems_")
    return _Stems(spec)


def _one_stem(spec, channels, prefix):
    layers = nn.HybridSequential(prefix=prefix)
    with layers.name_scope():
        kernel, stride = (3, 1) if spec.stem == "cifar" else (7, 2)
        layers.add(convolution(channels, kernel, stride, 3, "conv_"))
        if spec.stem_norm:
            layers.add(BatchNormRelu(channels, "bn_"))
        if spec.stem == "imagenet":
            layers.add(nn.MaxPool2D(3, strides=2, padding=1, prefix="pool_"))
    return layers


class _Stems(mx.gluon.HybridBlock):
    """One stem per branch (Table 5, without sharing)."""

    def __init__(self, spec):
        super().__init__(prefix="")
        for k in range(1, spec.branches + 1):
            self.register_child(_one_stem(spec, spec.stem_channels, f"stem{k}_"), f"stem{k}")

    def hybrid_forward(self, F, x):
        return [stem(x) for stem in self._children.values()]


class Concatenate(mx.gluon.HybridBlock):
    """Concatenate K streams along their channels (IJCAI 2018)."""

    def hybrid_forward(self, F, streams):
        return F.concat(*streams, dim=1)


def head(spec):
    """Build the classifier on pooled features.

    Parameters
    ----------
    spec : NetworkSpec

    Returns
    -------
    HybridBlock
        Maps (n, features) to (n, classes). With unshared ends it takes a list of K features.
    """
    channels = spec.channels[-1]
    if spec.ends == "unshared":
        return _AveragedHeads(spec, channels)
    if spec.ends == "concatenated":
        channels *= spec.streams
    return _fully_connected(spec, channels, "head_fc_")


def _fully_connected(spec, in_units, prefix):
    return nn.Dense(
        spec.classes,
        in_units=in_units,
        # Authors' code: uniform in +-sqrt(1 / fan-in).
        weight_initializer=mx.init.Xavier("uniform", "in", 1),
        prefix=prefix,
    )


class _AveragedHeads(mx.gluon.HybridBlock):
    """One FC per branch (Table 5, without sharing), and the mean of their logits.

    The paper does not say how the FCs are combined; the mean is our reading. Takes a list of K
    tensors (n, channels), or in the grouped form one tensor (n, K x channels).
    """

    def __init__(self, spec, channels):
        super().__init__(prefix="")
        self.count = spec.branches
        for k in range(1, spec.branches + 1):
            self.register_child(_fully_connected(spec, channels, f"head{k}_fc_"), f"head{k}")

    def hybrid_forward(self, F, features):
        if not isinstance(features, (list, tuple)):
            features = F.split(features, num_outputs=self.count, axis=1)
            features = [features] if self.count == 1 else list(features)
        logits = [head(x) for head, x in zip(self._children.values(), features)]
        return reduce(add, logits) * (1 / self.count)
