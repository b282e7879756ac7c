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


def convolution(channels, kernel, stride, in_channels, prefix):
    """A convolution without bias, padded to keep the size, initialised as [6].

    Weights are Gaussian with variance 2 / fan-in (MSRA).
    """
    return nn.Conv2D(
        channels,
        kernel,
        strides=stride,
        padding=kernel // 2,
        use_bias=False,
        in_channels=in_channels,
        weight_initializer=mx.init.Xavier("gaussian", "in", 2),
        prefix=prefix,
    )


def batch_norm(channels, prefix):
    """BatchNorm with learned gamma (1 at first) and beta (0), epsilon 2e-5, momentum 0.9."""
    return nn.BatchNorm(
        epsilon=BN_EPSILON, momentum=BN_MOMENTUM, in_channels=channels, prefix=prefix
    )


class BatchNormRelu(nn.BatchNorm):
    """BatchNorm as above, then ReLU.

    Attributes
    ----------
    fused : bool
        Compute both with oneDNN's one operator: faster, the same numbers, but on CPUs
        only, and a symbol that holds it loads nowhere else. See
        :meth:`dmr_gluon.model.Network.fuse_for_cpu`.
    """

    def __init__(self, channels, prefix):
        super().__init__(
            epsilon=BN_EPSILON, momentum=BN_MOMENTUM, in_channels=channels, prefix=prefix
        )
        self.fused = False

    def hybrid_forward(self, F, x, gamma, beta, running_mean, running_var):
        if self.fused:
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
        instead of two 3x3 convolutions.
    prefix : str
        Such as ``branch1_``.
    """

    def __init__(self, channels, stride, in_channels, bottleneck, prefix):
        super().__init__(prefix=prefix)
        if bottleneck:
            inner = channels // 4
            layers = [(inner, 1, 1), (inner, 3, stride), (channels, 1, 1)]
        else:
            layers = [(channels, 3, stride), (channels, 3, 1)]
        with self.name_scope():
            for i, (width, kernel, layer_stride) in enumerate(layers, start=1):
                conv = convolution(width, kernel, layer_stride, in_channels, f"conv{i}_")
                self.register_child(conv, f"conv{i}")
                norm = BatchNormRelu if i < len(layers) else batch_norm
                self.register_child(norm(width, f"bn{i}_"), f"bn{i}")
                in_channels = width

    def hybrid_forward(self, F, x):
        for layer in self._children.values():
            x = layer(x)
        return x


class Projection(mx.gluon.HybridBlock):
    """The skip connection where the width changes: 1x1 Conv-BN, no ReLU (Table 1)."""

    def __init__(self, channels, stride, in_channels, prefix):
        super().__init__(prefix=prefix)
        with self.name_scope():
            self.conv = convolution(channels, 1, stride, in_channels, "conv_")
            self.bn = batch_norm(channels, "bn_")

    def hybrid_forward(self, F, x):
        return self.bn(self.conv(x))


class _ParallelBlock(mx.gluon.HybridBlock):
    """What the blocks share: K branches, and K or one skip connections s.

    s is the identity, or a projection where width or size changes.
    """

    def __init__(self, channels, stride, in_channels, bottleneck, branches, skips, prefix):
        super().__init__(prefix=prefix)
        self.branches, self.skips = [], []
        with self.name_scope():
            for k in range(1, branches + 1):
                branch = Branch(channels, stride, in_channels, bottleneck, f"branch{k}_")
                self.register_child(branch, f"branch{k}")
                self.branches.append(branch)
            for k in range(1, skips + 1):
                if stride == 1 and in_channels == channels:
                    self.skips.append(_identity)
                    continue
                projection = Projection(channels, stride, in_channels, f"proj{k}_")
                self.register_child(projection, f"proj{k}")
                self.skips.append(projection)


def _identity(x):
    return x


class Residual(_ParallelBlock):
    """Residual block, equation (1): y = ReLU(H(x) + s(x)).

    Parameters
    ----------
    channels, in_channels : int
        Channels of the output and of the input.
    stride : int
        1, or 2 to halve the image.
    bottleneck : bool
        Whether the branch is a bottleneck, see :class:`Branch`.
    prefix : str
        Such as ``stage1_block1_``.
    """

    def __init__(self, channels, stride, in_channels, bottleneck=False, prefix=None):
        super().__init__(channels, stride, in_channels, bottleneck, 1, 1, prefix)

    def hybrid_forward(self, F, x):
        (branch,), (skip,) = self.branches, self.skips
        return relu(F, branch(x) + skip(x))


class InceptionLike(_ParallelBlock):
    """Inception-like block, equation (2): y = ReLU(H_1(x) + ... + H_K(x) + s(x)).

    Parameters
    ----------
    channels, stride, in_channels, bottleneck, prefix
        As in :class:`Residual`.
    branches : int
        K; 2 in the paper.
    """

    def __init__(self, channels, stride, in_channels, bottleneck=False, branches=2, prefix=None):
        super().__init__(channels, stride, in_channels, bottleneck, branches, 1, prefix)

    def hybrid_forward(self, F, x):
        (skip,) = self.skips
        return relu(F, _add_all(self.branches, [x] * len(self.branches), skip(x)))


class MergeAndRun(_ParallelBlock):
    """Merge-and-run block, equation (3): y_k = ReLU(H_k(x_k) + m), m = mean of s_j(x_j) over j.

    Takes and returns a list of K tensors. Given a single tensor, as the first block
    of a network is, every branch gets that one.

    Parameters
    ----------
    channels, stride, in_channels, bottleneck, prefix
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
        bottleneck=False,
        branches=2,
        mapping="mean",
        last=False,
        prefix=None,
    ):
        super().__init__(channels, stride, in_channels, bottleneck, branches, branches, prefix)
        self.channels = channels
        self.mapping = mapping
        self.last = last
        self.fused = False

    def hybrid_forward(self, F, streams):
        if not isinstance(streams, (list, tuple)):
            streams = [streams] * len(self.branches)
        skips = [skip(x) for skip, x in zip(self.skips, streams)]
        if self.last:
            return relu(F, _add_all(self.branches, streams, self._merge(F, skips)))
        merged = [self._merge(F, skips)] * len(skips) if self.mapping == "mean" else skips  # Merge
        return [
            relu(F, branch(x) + skip) for branch, x, skip in zip(self.branches, streams, merged)
        ]  # Run

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


def _add_all(branches, inputs, skip):
    # H_K + (... + (H_1 + skip)): every branch a left operand, for oneDNN's fusion.
    for branch, x in zip(branches, inputs):
        skip = branch(x) + skip
    return skip
