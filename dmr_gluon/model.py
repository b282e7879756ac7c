"""From a :class:`~dmr_gluon.spec.NetworkSpec` to a HybridBlock."""

from .blocks import (
    BatchNorm,
    BatchNormRelu,
    GlobalAveragePool,
    InceptionLike,
    MergeAndRun,
    Plain,
    Residual,
)
from .ends import Concatenate, head, stem
from .grouped import GroupedInceptionLike, GroupedMergeAndRun
from .networks import network
from .runtime import mx
from .spec import INCEPTION_LIKE, MERGE_AND_RUN, PLAIN, RESIDUAL, NetworkSpec

nn = mx.gluon.nn


class Network(mx.gluon.HybridBlock):
    """Stem, stages of blocks, global average pooling, fully connected layer.

    Input: images, NCHW, normalised. Output: (batch, classes) logits, before the
    softmax.

    ``features`` is everything up to the pooling, ``output`` the classifier, as in
    GluonCV. Parameter names are structural, such as
    ``stage2_block1_branch1_conv1_weight``; stages, blocks, branches and layers count
    from 1.

    Parameters
    ----------
    spec : NetworkSpec
        What to build.
    prefix : str
        Put before every parameter's name; empty by default.
    """

    def __init__(self, spec: NetworkSpec, prefix=""):
        super().__init__(prefix=prefix)
        self.spec = spec
        self._half = False
        with self.name_scope():
            self.features = nn.HybridSequential(prefix="")
            self.features.add(stem(spec))
            in_channels = spec.stem_channels
            for stage, (count, channels) in enumerate(zip(spec.blocks, spec.channels), start=1):
                layers = nn.HybridSequential(prefix="")
                for block in range(1, count + 1):
                    layers.add(
                        _block(
                            spec,
                            channels=channels,
                            stride=2 if stage > 1 and block == 1 else 1,
                            in_channels=in_channels,
                            first=stage == 1 and block == 1,
                            last=stage == len(spec.blocks) and block == count,
                            prefix=f"stage{stage}_block{block}_",
                        )
                    )
                    in_channels = channels
                self.features.add(layers)
            separate = spec.block == MERGE_AND_RUN and spec.form == "branches"
            if spec.ends == "concatenated" and separate:
                self.features.add(Concatenate(prefix=""))
            self.features.add(GlobalAveragePool("pool_"))
            self.output = head(spec)

    def hybrid_forward(self, F, x):
        if self._half:
            return F.cast(self.output(self.features(F.cast(x, "float16"))), "float32")
        return self.output(self.features(x))

    def fuse_for_cpu(self):
        """Use the operators that are fastest on CPUs; the numbers stay the same.

        BN and the ReLU after it become one oneDNN operator, the pooling a plain mean, the
        division of the merge a convolution that keeps oneDNN's memory layout. For networks
        that stay in this process and on CPUs: a symbol made from this object afterwards
        holds operators that other devices and other runtimes lack. float32 only.
        """

        def fuse(block):
            if isinstance(block, (BatchNormRelu, GlobalAveragePool, MergeAndRun)):
                block.fused = True

        self.apply(fuse)
        self._clear_cached_op()

    def compute_in_float16(self):
        """Convolutions and FC in float16, BN in float32; input and logits stay float32.

        For GPUs: MXNet has no float16 convolutions for CPUs.
        """
        self.cast("float16")  # Gluon's BN stays float32 by itself
        self._half = True
        self._clear_cached_op()

    def synchronise_bn(self, devices):
        """In training, take BN's statistics over the images of so many GPUs together.

        Each then waits for the others within every BN, forwards and backwards.
        """

        def synchronise(block):
            if isinstance(block, BatchNorm):
                block.devices = devices

        self.apply(synchronise)
        self._clear_cached_op()

    def portable_symbol(self):
        """The network as a symbol of common operators, from ``data`` to logits."""
        return Network(self.spec, prefix=self.prefix)(mx.sym.var("data"))


def _block(spec, channels, stride, in_channels, first, last, prefix):
    """One block; ``first`` and ``last`` of the network."""
    inner = (
        {"bottleneck": True}
        if spec.bottleneck
        else {"layers": spec.branch_layers, "inner_width": spec.inner_width}
    )
    common = {"channels": channels, "stride": stride, "in_channels": in_channels, "prefix": prefix}
    common.update(inner)
    if spec.block == PLAIN:
        return Plain(**common)
    common["projections"] = spec.projections
    if spec.block == RESIDUAL:
        return Residual(**common)
    common["branches"] = spec.branches
    grouped = spec.form == "grouped"
    if spec.block == INCEPTION_LIKE:
        return (GroupedInceptionLike if grouped else InceptionLike)(**common)
    common.update(mapping=spec.mapping, last=last and spec.ends == "shared")
    if grouped:
        return GroupedMergeAndRun(first=first and spec.ends != "unshared", **common)
    return MergeAndRun(**common)


def get_model(name, classes=None, prefix="", **overrides):
    """Build a network of the paper by name.

    Parameters
    ----------
    name : str
        Such as ``cifar_dmrnet56`` or ``resnet101``, see :mod:`dmr_gluon.networks`.
    classes : int, optional
        Number of outputs; default 10 for the ``cifar_`` networks, else 1000.
    prefix : str
        Put before every parameter's name.
    **overrides
        ``width``, ``branches``, ``mapping`` or another field of
        :class:`~dmr_gluon.spec.NetworkSpec`.

    Returns
    -------
    Network
        Not initialised; ``net.initialize()`` uses the paper's initialisation.

    Raises
    ------
    DMRError
        For a name or an override that does not fit.
    """
    return Network(network(name, classes=classes, **overrides), prefix=prefix)
