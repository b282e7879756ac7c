"""The paper's three building blocks.

Every sum stands between BN and ReLU (section 4.2): a branch H ends with BN, the
skip connection is added, and ReLU comes last. Within a sum the branch is the left
operand and the skip the right one (``branch + skip``): oneDNN fuses a convolution
with the addition that follows it, and MXNet 1.9.1 does that wrongly when the
convolution is the right operand.

Shapes are NCHW: (batch, channels, height, width).
"""

from .runtime import mx

nn = mx.gluon.nn

#: BatchNorm as in the authors' released code; no convolution has a bias.
BN_EPSILON = 2e-5
BN_MOMENTUM = 0.9


def convolution(channels, kernel, stride, in_channels, prefix, groups=1):
    """A convolution without bias, padded to keep the size, initialised as [6].

    Weights are Gaussian with variance 2 / fan-in (MSRA); with ``groups``, the fan-in is
    that of one group.
    """
    return nn.Conv2D(
        channels,
        kernel,
        strides=stride,
        padding=kernel // 2,
        use_bias=False,
        in_channels=in_channels,
        groups=groups,
        weight_initializer=mx.init.Xavier("gaussian", "in", 2),
        prefix=prefix,
    )


class BatchNorm(nn.BatchNorm):
    """BatchNorm with learned gamma (1 at first) and beta (0), epsilon 2e-5, momentum 0.9.

    Parameters
    ----------
    channels : int
    prefix : str
    **options
        Of Gluon's BatchNorm, where they are to be others than the paper's; see
        :mod:`dmr_gluon.normalisation`.

    Attributes
    ----------
    devices : int
        Of one process, over whose images together the statistics are taken in training. See
        :meth:`dmr_gluon.model.Network.synchronise_bn`.
    """

    def __init__(self, channels, prefix, **options):
        options = {"epsilon": BN_EPSILON, "momentum": BN_MOMENTUM, **options}
        super().__init__(in_channels=channels, prefix=prefix, **options)
        self.devices = 1

    def hybrid_forward(self, F, x, gamma, beta, running_mean, running_var):
        if self.devices == 1:
            return super().hybrid_forward(F, x, gamma, beta, running_mean, running_var)
        options = {name: value for name, value in self._kwargs.items() if name != "axis"}
        return F.contrib.SyncBatchNorm(
            x,
            gamma,
            beta,
            running_mean,
            running_var,
            ndev=self.devices,
            key=self.prefix,  # by which the devices find each other
            **options,
        )


class BatchNormRelu(BatchNorm):
    """BatchNorm as above, then ReLU.

    Attributes
    ----------
    fused : bool
        Compute both with oneDNN's one operator: faster, the same numbers, but on CPUs
        only, and a symbol that holds it loads nowhere else. See
        :meth:`dmr_gluon.model.Network.fuse_for_cpu`.
    """

    def __init__(self, channels, prefix, **options):
        super().__init__(channels, prefix, **options)
        self.fused = False

    def hybrid_forward(self, F, x, gamma, beta, running_mean, running_var):
        if self.fused and self.devices == 1:
            return F.contrib.BatchNormWithReLU(
                x, gamma, beta, running_mean, running_var, name="fwd", **self._kwargs
            )
        return relu(F, super().hybrid_forward(F, x, gamma, beta, running_mean, running_var))


class GlobalAveragePool(mx.gluon.HybridBlock):
    """(n, channels, height, width) to (n, channels): the mean over each image.

    Attributes
    ----------
    fused : bool
        Compute it as a plain mean. On CPUs the backward pass of oneDNN's pooling is slow
        and leaves a memory layout in which the BNs before it are slower still, together a
        fifth of cifar_dmrnet14's training time.
    """

    def __init__(self, prefix):
        super().__init__(prefix=prefix)
        self.fused = False

    def hybrid_forward(self, F, x):
        if isinstance(x, (list, tuple)):  # streams that do not end in one (Table 5, unshared)
            return [self.hybrid_forward(F, stream) for stream in x]
        if self.fused:
            return F.mean(x, axis=(2, 3))
        return F.flatten(F.Pooling(x, global_pool=True, pool_type="avg", kernel=(1, 1)))


def relu(F, x):
    # Activation stays in oneDNN's blocked layout; F.relu would leave it and come back.
    return F.Activation(x, act_type="relu")


class Branch(mx.gluon.HybridBlock):
    """A residual branch H: Conv-BN-ReLU-Conv-BN, without the ReLU after the sum.

    Parameters
    ----------
    channels, in_channels : int
        Channels of the output and of the input.
    stride : int
        Stride of the whole branch: of its first convolution, or of the 3x3
        convolution of a bottleneck (authors' code; [7] has it in the first 1x1).
    bottleneck : bool
        1x1, 3x3 and 1x1 convolutions with a quarter of ``channels`` inside,
        instead of 3x3 convolutions.
    layers : int
        Number of 3x3 convolutions (Figure 6 has long branches); 2 elsewhere.
    inner_width : int
        The layers before the last are that many times wider (Figure 4).
    branches : int
        Hold that many branches of such layers as one, in groups of channels (Figures 4
        and 5): the output has ``branches * channels`` channels.
    shared_input : bool
        Those branches read the same ``in_channels`` channels, instead of each its own.
    prefix : str
        Such as ``branch1_``.
    """

    def __init__(
        self,
        channels,
        stride,
        in_channels,
        bottleneck=False,
        layers=2,
        inner_width=1,
        branches=1,
        shared_input=True,
        prefix=None,
    ):
        super().__init__(prefix=prefix)
        if bottleneck:
            inner = channels // 4
            shapes = [(inner, 1, 1), (inner, 3, stride), (channels, 1, 1)]
        else:
            inner = channels * inner_width
            shapes = [(inner, 3, 1)] * (layers - 1) + [(channels, 3, 1)]
            shapes[0] = (*shapes[0][:2], stride)
        groups = 1 if shared_input else branches
        with self.name_scope():
            for i, (width, kernel, layer_stride) in enumerate(shapes, start=1):
                conv = convolution(
                    branches * width,
                    kernel,
                    layer_stride,
                    groups * in_channels,
                    f"conv{i}_",
                    groups,
                )
                self.register_child(conv, f"conv{i}")
                norm = BatchNormRelu if i < len(shapes) else BatchNorm
                self.register_child(norm(branches * width, f"bn{i}_"), f"bn{i}")
                in_channels, groups = width, branches

    def hybrid_forward(self, F, x):
        for layer in self._children.values():
            x = layer(x)
        return x


class Projection(mx.gluon.HybridBlock):
    """The skip connection where the width changes: 1x1 Conv-BN, no ReLU (Table 1)."""

    def __init__(self, channels, stride, in_channels, prefix, groups=1):
        super().__init__(prefix=prefix)
        with self.name_scope():
            self.conv = convolution(channels, 1, stride, in_channels, "conv_", groups)
            self.bn = BatchNorm(channels, "bn_")

    def hybrid_forward(self, F, x):
        return self.bn(self.conv(x))


class _Block(mx.gluon.HybridBlock):
    """What the blocks share: K branches, and none, one or K skip connections s.

    s is the identity, or a projection where width or size changes. Without projections,
    a block that changes them has no skip connection.
    """

    def __init__(self, channels, stride, in_channels, branches, skips, projections, prefix, branch):
        super().__init__(prefix=prefix)
        self.branches, self.skips = [], []
        self.changes_width = stride != 1 or in_channels != channels
        with self.name_scope():
            for k in range(1, branches + 1):
                h = Branch(channels, stride, in_channels, prefix=f"branch{k}_", **branch)
                self.register_child(h, f"branch{k}")
                self.branches.append(h)
            for k in range(1, skips + 1):
                if not self.changes_width:
                    self.skips.append(_identity)
                elif projections:
                    projection = Projection(channels, stride, in_channels, f"proj{k}_")
                    self.register_child(projection, f"proj{k}")
                    self.skips.append(projection)


def _identity(x):
    return x


class Plain(_Block):
    """A residual block without its skip connection: y = ReLU(H(x)) (section 4.3, Figure 6).

    Parameters
    ----------
    channels, stride, in_channels, prefix, **branch
        As in :class:`Residual`.
    """

    def __init__(self, channels, stride, in_channels, prefix=None, **branch):
        super().__init__(channels, stride, in_channels, 1, 0, False, prefix, branch)

    def hybrid_forward(self, F, x):
        (branch,) = self.branches
        return relu(F, branch(x))


class Residual(_Block):
    """Residual block, equation (1): y = ReLU(H(x) + s(x)).

    Parameters
    ----------
    channels, in_channels : int
        Channels of the output and of the input.
    stride : int
        1, or 2 to halve the image.
    projections : bool
        A 1x1 convolution as skip connection where the width changes; without it such a
        block has none (IJCAI 2018).
    prefix : str
        Such as ``stage1_block1_``.
    **branch
        ``bottleneck``, ``layers`` and ``inner_width`` of :class:`Branch`.
    """

    def __init__(self, channels, stride, in_channels, projections=True, prefix=None, **branch):
        super().__init__(channels, stride, in_channels, 1, 1, projections, prefix, branch)

    def hybrid_forward(self, F, x):
        return relu(F, _add_all(self.branches, [x], [skip(x) for skip in self.skips]))


class InceptionLike(_Block):
    """Inception-like block, equation (2): y = ReLU(H_1(x) + ... + H_K(x) + s(x)).

    Parameters
    ----------
    channels, stride, in_channels, projections, prefix, **branch
        As in :class:`Residual`.
    branches : int
        K; 2 in the paper.
    """

    def __init__(
        self, channels, stride, in_channels, branches=2, projections=True, prefix=None, **branch
    ):
        super().__init__(channels, stride, in_channels, branches, 1, projections, prefix, branch)

    def hybrid_forward(self, F, x):
        inputs = [x] * len(self.branches)
        return relu(F, _add_all(self.branches, inputs, [skip(x) for skip in self.skips]))


class MergeAndRun(_Block):
    """Merge-and-run block, equation (3): y_k = ReLU(H_k(x_k) + m), m = mean of s_j(x_j) over j.

    Takes and returns a list of K tensors. Given a single tensor, as the first block
    of a network is, every branch gets that one.

    Parameters
    ----------
    channels, stride, in_channels, projections, prefix, **branch
        As in :class:`Residual`.
    branches : int
        K; 2 in the paper, any number in section 5.
    mapping : str
        ``mean``: M has 1/K everywhere (merge-and-run). ``identity``: M = I, branch k
        keeps its own s_k(x_k) (Table 5).
    last : bool
        The last block of a network gives ONE tensor (authors' code):
        y = ReLU(H_1(x_1) + ... + H_K(x_K) + m), whatever the mapping.

    Attributes
    ----------
    fused : bool
        Divide the sum of the streams by K with a 1x1 convolution of constant weights, one
        per channel: on CPUs it keeps oneDNN's memory layout, which a multiplication leaves.
    """

    def __init__(
        self,
        channels,
        stride,
        in_channels,
        branches=2,
        mapping="mean",
        last=False,
        projections=True,
        prefix=None,
        **branch,
    ):
        super().__init__(
            channels, stride, in_channels, branches, branches, projections, prefix, branch
        )
        self.channels = channels
        self.mapping = mapping
        self.last = last
        self.fused = False

    def hybrid_forward(self, F, streams):
        if not isinstance(streams, (list, tuple)):
            streams = [streams] * len(self.branches)
        skips = [skip(x) for skip, x in zip(self.skips, streams)]
        if skips and (self.last or self.mapping == "mean"):
            skips = [self._merge(F, skips)] * len(skips)  # Merge
        if self.last:
            return relu(F, _add_all(self.branches, streams, skips[:1]))
        sums = [branch(x) for branch, x in zip(self.branches, streams)]
        if skips:
            sums = [branch + skip for branch, skip in zip(sums, skips)]  # Run
        return [relu(F, y) for y in sums]

    def _merge(self, F, tensors):
        """The mean of K tensors."""
        total = tensors[0]
        for tensor in tensors[1:]:
            total = total + tensor
        if not self.fused:
            return total * (1 / len(tensors))
        return F.Convolution(
            total,
            F.full((self.channels, 1, 1, 1), 1 / len(tensors)),
            no_bias=True,
            kernel=(1, 1),
            num_filter=self.channels,
            num_group=self.channels,
        )


def _add_all(branches, inputs, skips):
    # H_K + (... + (H_1 + skip)): every branch a left operand, for oneDNN's fusion.
    total = skips[0] if skips else None
    for branch, x in zip(branches, inputs):
        total = branch(x) if total is None else branch(x) + total
    return total
