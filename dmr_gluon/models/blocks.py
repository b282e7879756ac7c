"""The paper's building blocks.

A branch H ends with BN, the skip connection is added to it, and ReLU comes last
(section 4.2). Within a sum the branch is the left operand and the skip the right
one (``branch + skip``): oneDNN fuses a convolution with the addition that follows
it, and MXNet 1.9.1 computes that wrongly if the convolution is the right operand.

Shapes are NCHW: (batch, channels, height, width).
"""

from functools import reduce
from operator import add
from typing import Any, Dict, Optional

from ..runtime import mx
from .custom_spec import mapping_matrix
from .layers import BatchNorm, BatchNormRelu, convolution, relu


class Branch(mx.gluon.HybridBlock):
    """A residual branch H: Conv-BN-ReLU-...-Conv-BN, without the ReLU after the sum.

    Parameters
    ----------
    channels, in_channels : int
        Channels of the output and of the input.
    stride : int
        Stride of the first convolution, or of the 3x3 convolution of a bottleneck
        (authors' code; in [7] the first 1x1 has it).
    bottleneck : bool
        1x1, 3x3 and 1x1 convolutions with a quarter of ``channels`` inside,
        instead of 3x3 convolutions.
    layers : int
        Number of 3x3 convolutions: 2, except in the long branches of Figure 6.
    inner_width : int
        Ratio of the inner layers' width to the output's (Figure 4).
    branches : int
        Hold this many branches as one, in groups of channels (Figures 4 and 5).
        The output has ``branches * channels`` channels.
    shared_input : bool
        All branches read the same ``in_channels`` channels instead of one group each.
    prefix : str
        Such as ``branch1_``.
    """

    def __init__(
        self,
        channels: int,
        stride: int,
        in_channels: int,
        bottleneck: bool = False,
        layers: int = 2,
        inner_width: int = 1,
        branches: int = 1,
        shared_input: bool = True,
        prefix: Optional[str] = None,
    ) -> None:
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
                width, inputs = branches * width, groups * in_channels
                conv = convolution(width, kernel, layer_stride, inputs, f"conv{i}_", groups)
                self.register_child(conv, f"conv{i}")
                norm = BatchNormRelu if i < len(shapes) else BatchNorm
                self.register_child(norm(width, f"bn{i}_"), f"bn{i}")
                in_channels, groups = width // branches, branches

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
    """K branches H_k and up to K skip connections s_k.

    A skip connection is the identity, or a projection if the block changes width or size.
    Without projections, such a block has no skip connection.

    Attributes
    ----------
    fused : bool
        Compute each sum with one operator, which is faster on CPUs.
    """

    fused = False
    _portable: Dict[str, Any] = {"fused": False}

    def __init__(
        self, channels, stride, in_channels, branches, skips, projections=True, prefix=None, **shape
    ):
        super().__init__(prefix=prefix)
        self.branches, self.skips = [], []
        self.changes_width = stride != 1 or in_channels != channels
        with self.name_scope():
            for k in range(1, branches + 1):
                h = Branch(channels, stride, in_channels, prefix=f"branch{k}_", **shape)
                self.register_child(h, f"branch{k}")
                self.branches.append(h)
            for k in range(1, skips + 1):
                if not self.changes_width:
                    self.skips.append(_identity)
                elif projections:
                    s = Projection(channels, stride, in_channels, f"proj{k}_")
                    self.register_child(s, f"proj{k}")
                    self.skips.append(s)

    def add(self, F, branches, skip):
        """Add the outputs of branches and a skip connection, a list of at most one tensor."""
        if self.fused:
            return F.add_n(*branches, *skip) if len(branches) + len(skip) > 1 else branches[0]
        # H_K + (... + (H_1 + skip)): each branch is the left operand.
        return reduce(lambda total, branch: branch + total, [*skip, *branches])


def _identity(x):
    return x


def _weighted_sum(weights, tensors):
    terms = [x if w == 1 else x * float(w) for w, x in zip(weights, tensors) if w]
    return reduce(add, terms) if terms else tensors[0] * 0.0


class Plain(_Block):
    """A residual block without its skip connection: y = ReLU(H(x)) (section 4.3, Figure 6).

    Parameters
    ----------
    channels, stride, in_channels, prefix, **options
        As in :class:`Residual`, without ``projections``.
    """

    def __init__(self, channels: int, stride: int, in_channels: int, **options: Any) -> None:
        super().__init__(channels, stride, in_channels, branches=1, skips=0, **options)

    def hybrid_forward(self, F, x):
        (branch,) = self.branches
        return relu(F, branch(x))


class InceptionLike(_Block):
    """Inception-like block, equation (2): y = ReLU(H_1(x) + ... + H_K(x) + s(x)).

    Parameters
    ----------
    channels, stride, in_channels, projections, prefix, **options
        As in :class:`Residual`.
    branches : int
        K; 2 in the paper.
    """

    def __init__(
        self, channels: int, stride: int, in_channels: int, branches: int = 2, **options: Any
    ) -> None:
        super().__init__(channels, stride, in_channels, branches, skips=1, **options)

    def hybrid_forward(self, F, x):
        skip = [s(x) for s in self.skips]
        return relu(F, self.add(F, [branch(x) for branch in self.branches], skip))


class Residual(InceptionLike):
    """Residual block, equation (1): y = ReLU(H(x) + s(x)), which is equation (2) for K = 1.

    Parameters
    ----------
    channels, in_channels : int
        Channels of the output and of the input.
    stride : int
        1, or 2 to halve the image.
    projections : bool
        Use a 1x1 convolution as skip connection where the width changes (default). Without
        it such a block has no skip connection (IJCAI 2018).
    prefix : str
        Such as ``stage1_block1_``.
    **options
        ``bottleneck``, ``layers`` and ``inner_width`` of :class:`Branch`.
    """

    def __init__(self, channels: int, stride: int, in_channels: int, **options: Any) -> None:
        super().__init__(channels, stride, in_channels, branches=1, **options)


class MergeAndRun(_Block):
    """Merge-and-run block, equation (3): y_k = ReLU(H_k(x_k) + m), m = mean of s_j(x_j) over j.

    Takes and returns a list of K tensors. A single tensor, the input of a network's
    first block, goes to every branch.

    Parameters
    ----------
    channels, stride, in_channels, projections, prefix, **options
        As in :class:`Residual`.
    branches : int
        K; 2 in the paper, any number in section 5.
    mapping : str
        ``mean``: M has 1/K everywhere (merge-and-run). ``identity``: M = I, branch k
        keeps its own s_k(x_k) (Table 5). A registered one: y_k = ReLU(H_k(x_k) + sum over j of
        M_kj s_j(x_j)), equation (4).
    last : bool
        The last block of a network returns one tensor (authors' code):
        y = ReLU(H_1(x_1) + ... + H_K(x_K) + m), for all mappings.
    """

    def __init__(
        self,
        channels: int,
        stride: int,
        in_channels: int,
        branches: int = 2,
        mapping: str = "mean",
        last: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(channels, stride, in_channels, branches, skips=branches, **options)
        self.channels, self.mapping, self.last = channels, mapping, last

    def hybrid_forward(self, F, streams):
        if not isinstance(streams, (list, tuple)):
            streams = [streams] * len(self.branches)
        # Merge: m = mean of s_j(x_j), or each stream's own s_k(x_k) for M = I.
        m = [skip(x) for skip, x in zip(self.skips, streams)]
        if m and (self.mapping == "mean" or self.last):
            m = [self._merge(F, m)] * len(streams)
        elif m and self.mapping != "identity":
            m = [_weighted_sum(row, m) for row in mapping_matrix(self.mapping, len(m))]
        # Run: y_k = ReLU(H_k(x_k) + m).
        runs = [branch(x) for branch, x in zip(self.branches, streams)]
        if self.last:
            return relu(F, self.add(F, runs, m[:1]))
        return [relu(F, self.add(F, [run], m[k : k + 1])) for k, run in enumerate(runs)]

    def _merge(self, F, skips):
        """Return m, the mean of the skip connections.

        When fused, a depthwise 1x1 convolution of constant weights divides by K: it keeps
        oneDNN's memory layout, which a multiplication leaves.
        """
        total = reduce(add, skips)
        if not self.fused:
            return total * (1 / len(skips))
        conv, *_ = self.branches[0]._children.values()
        return F.Convolution(
            total,
            F.full((self.channels, 1, 1, 1), 1 / len(skips), dtype=conv.weight.dtype),
            no_bias=True,
            kernel=(1, 1),
            num_filter=self.channels,
            num_group=self.channels,
        )
