"""Feature maps of a network's stages, for detectors."""

from typing import Sequence

from ..errors import DMRError
from ..runtime import mx
from .network import Network


class Backbone(mx.gluon.HybridBlock):
    """The feature maps of a network's stages, one per stride.

    A merge-and-run network has K streams between its blocks. A stage's feature map is their
    mean: the merge that the next block adds to every branch. It has as many channels as the
    stage, for any K. If a stage ends in one tensor, that is the feature map.

    The backbone shares the network's layers and parameters, with their names. The maps are
    named ``stride8`` and so on; GluonCV's FeatureExtractor, FeatureExpander and SSD take these
    names as ``outputs`` or ``features`` with this block as ``network``.

    Maps normalised images (NCHW) to a list of feature maps (n, channels, height / stride,
    width / stride), in the order of ``strides``; for a single stride, to the map itself, as
    GluonCV's FeatureExtractor does.

    Parameters
    ----------
    net : Network
    strides : sequence of int
        From 1, 2 and 4 in networks for 32x32 images; from 4, 8, 16 and 32 in ImageNet networks.

    Raises
    ------
    DMRError
        For a stride that the network does not have.

    Examples
    --------
    >>> backbone = Backbone(dmr_gluon.get_model("dmrnet44"), strides=(8, 16, 32))
    >>> backbone.initialize()
    >>> [one.shape for one in backbone(mx.nd.zeros((1, 3, 224, 224)))]
    [(1, 512, 28, 28), (1, 1024, 14, 14), (1, 2048, 7, 7)]
    """

    def __init__(self, net: Network, strides: Sequence[int] = (8, 16, 32)) -> None:
        super().__init__(prefix=net.prefix)
        spec = net.spec
        first = 1 if spec.stem == "cifar" else 4
        known = [first * 2**stage for stage in range(len(spec.blocks))]
        missing = [stride for stride in strides if stride not in known]
        if missing:
            raise DMRError(
                f"{spec.name} has no features of stride {missing[0]}; there are those of stride "
                f"{', '.join(map(str, known))}"
            )
        if not strides or len(set(strides)) != len(strides):
            raise DMRError(f"strides must name each wanted stride once, not {tuple(strides)}")
        self.strides = tuple(strides)
        # In the grouped form the streams are concatenated along the channels of one tensor.
        self.side_by_side = spec.streams if spec.form == "grouped" else 1
        self.one_at = known[-1] if spec.ends == "shared" else None
        self.known = known[: known.index(max(strides)) + 1]
        layers = list(net.features._children.values())[: 1 + len(self.known)]
        for name, layer in zip(["stem", *(f"stage{i}" for i in range(1, len(layers)))], layers):
            self.register_child(layer, name)

    def hybrid_forward(self, F, x):
        stem, *stages = self._children.values()
        x, maps = stem(x), {}
        for stride, stage in zip(self.known, stages):
            x = stage(x)
            if stride in self.strides:
                merged = self._merged(F, x, stride)
                with mx.name.Prefix(self.prefix):  # instead of an enclosing detector's
                    maps[stride] = F.identity(merged, name=f"stride{stride}")
        wanted = [maps[stride] for stride in self.strides]
        if len(wanted) == 1:
            return wanted[0]
        # GluonCV's expander wants one symbol from a block, with several outputs.
        return F.Group(wanted) if F is mx.sym else wanted

    def _merged(self, F, streams, stride):
        if self.side_by_side > 1 and stride != self.one_at:
            streams = F.split(streams, num_outputs=self.side_by_side, axis=1)
        elif not isinstance(streams, (list, tuple)):
            return streams
        return F.add_n(*streams) * (1 / len(list(streams)))
