"""How networks begin and end: stems and classifiers."""

from ..runtime import mx
from .layers import BatchNormRelu, convolution
from .spec import MERGE_AND_RUN

nn = mx.gluon.nn


def stem(spec):
    """The layers before the first block.

    Parameters
    ----------
    spec : NetworkSpec

    Returns
    -------
    HybridBlock
        Images (n, 3, height, width) become one tensor of ``stem_channels`` channels; with
        unshared ends a list of K of them, or, in the grouped form, one of K times as many.
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
    """A stem for every branch (Table 5, without sharing)."""

    def __init__(self, spec):
        super().__init__(prefix="")
        for k in range(1, spec.branches + 1):
            self.register_child(_one_stem(spec, spec.stem_channels, f"stem{k}_"), f"stem{k}")

    def hybrid_forward(self, F, x):
        return [one(x) for one in self._children.values()]


class Concatenate(mx.gluon.HybridBlock):
    """K streams side by side in the channels of one tensor (IJCAI 2018)."""

    def hybrid_forward(self, F, streams):
        return F.concat(*streams, dim=1)


def head(spec):
    """The classifier on pooled features.

    Parameters
    ----------
    spec : NetworkSpec

    Returns
    -------
    HybridBlock
        (n, features) to (n, classes); with unshared ends it takes a list of K such features.
    """
    channels = spec.channels[-1]
    streams = spec.branches if spec.block == MERGE_AND_RUN else 1
    if spec.ends == "unshared":
        return _AveragedHeads(spec, channels)
    return _fully_connected(
        spec, streams * channels if spec.ends == "concatenated" else channels, "head_fc_"
    )


def _fully_connected(spec, in_units, prefix):
    return nn.Dense(
        spec.classes,
        in_units=in_units,
        # Authors' code: uniform in +-sqrt(1 / fan-in).
        weight_initializer=mx.init.Xavier("uniform", "in", 1),
        prefix=prefix,
    )


class _AveragedHeads(mx.gluon.HybridBlock):
    """An FC for every branch (Table 5, without sharing), and the mean of their logits.

    How the two FCs join is not said in the paper; the mean is our reading. Takes a list of
    K tensors (n, channels), or in the grouped form one (n, K x channels).
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
        heads = list(self._children.values())
        logits = heads[0](features[0])
        for one, x in zip(heads[1:], features[1:]):
            logits = logits + one(x)
        return logits * (1 / self.count)
