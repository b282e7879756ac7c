"""The paper's three building blocks.

Every sum stands between BN and ReLU (section 4.2): a branch H ends with BN, the
skip connection is added, and ReLU comes last. Within a sum the branch is the left
operand and the skip the right one (``branch + skip``): oneDNN fuses a convolution
with the addition that follows it, and MXNet 1.9.1 does that wrongly when the
convolution is the right operand.

Shapes are NCHW: (batch, channels, height, width).
"""

from typing import Any, Dict, Optional

import numpy as np

from ..runtime import mx
from .layers import BatchNorm, BatchNormRelu, convolution, relu

#: How many times too large streams may become: far from where single precision ends.
_MOST_GROWTH = 2.0**24


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

    Attributes
    ----------
    fused : bool
        Add all that is to be added at once: faster, on CPUs, than two by two.
    """

    fused = False
    _portable: Dict[str, Any] = {"fused": False}

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

    def __init__(
        self,
        channels: int,
        stride: int,
        in_channels: int,
        prefix: Optional[str] = None,
        **branch: Any,
    ) -> None:
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

    def __init__(
        self,
        channels: int,
        stride: int,
        in_channels: int,
        projections: bool = True,
        prefix: Optional[str] = None,
        **branch: Any,
    ) -> None:
        super().__init__(channels, stride, in_channels, 1, 1, projections, prefix, branch)

    def hybrid_forward(self, F, x):
        skips = [skip(x) for skip in self.skips]
        return relu(F, _add_all(F, self.branches, [x], skips, self.fused))


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
        self,
        channels: int,
        stride: int,
        in_channels: int,
        branches: int = 2,
        projections: bool = True,
        prefix: Optional[str] = None,
        **branch: Any,
    ) -> None:
        super().__init__(channels, stride, in_channels, branches, 1, projections, prefix, branch)

    def hybrid_forward(self, F, x):
        inputs, skips = [x] * len(self.branches), [skip(x) for skip in self.skips]
        return relu(F, _add_all(F, self.branches, inputs, skips, self.fused))


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
        As in all blocks; and what has to be divided, a 1x1 convolution of constant weights
        divides, one per channel: on CPUs it keeps oneDNN's memory layout, which a multiplication
        leaves.
    before, after : float
        How many times too large the streams come in and go out. Between the blocks of a stage
        nothing need be divided: as ReLU(c z) = c ReLU(z),

            K c ReLU(H_k(x_k) + (x_1 + ... + x_K) / K) = ReLU(K c H_k(x_k) + c x_1 + ... + c x_K),

        where H_k gets c x_k with weights divided by c, and K c H_k is its last BN with other
        gamma and beta. For K = 2 that is exact, bit by bit.
    """

    before: float = 1
    after: float = 1
    _dtype = "float32"
    _portable = {**_Block._portable, "before": 1, "after": 1}

    def __init__(
        self,
        channels: int,
        stride: int,
        in_channels: int,
        branches: int = 2,
        mapping: str = "mean",
        last: bool = False,
        projections: bool = True,
        prefix: Optional[str] = None,
        **branch: Any,
    ) -> None:
        super().__init__(
            channels, stride, in_channels, branches, branches, projections, prefix, branch
        )
        self.channels = channels
        self.mapping = mapping
        self.last = last

    def cast(self, dtype):
        super().cast(dtype)
        self._dtype = np.dtype(dtype).name

    def hybrid_forward(self, F, streams):
        if not isinstance(streams, (list, tuple)):
            streams = [streams] * len(self.branches)
        skips = [skip(x) for skip, x in zip(self.skips, streams)]
        if self.last or self.mapping == "mean":
            merged = self._merge(F, skips) if skips else []  # Merge
            skips = [merged] * len(self.branches)
        else:
            skips = [[skip] for skip in skips] or [[]] * len(self.branches)
        if self.last:
            return relu(F, _add_all(F, self.branches, streams, skips[0], self.fused))
        return [
            relu(F, _add_all(F, [branch], [x], skip, self.fused))  # Run
            for branch, x, skip in zip(self.branches, streams, skips)
        ]

    def _merge(self, F, tensors):
        """What together is the mean of K tensors, ``after`` times as large as it should be."""
        factor = self.after / (self.before * len(tensors))
        if self.fused and factor == 1:
            return tensors
        total = tensors[0]
        for tensor in tensors[1:]:
            total = total + tensor
        if not self.fused:
            return [total * factor]
        divided = F.Convolution(
            total,
            F.full((self.channels, 1, 1, 1), factor, dtype=self._dtype),
            no_bias=True,
            kernel=(1, 1),
            num_filter=self.channels,
            num_group=self.channels,
        )
        return [divided]

    def can_grow(self) -> bool:
        """Whether the last layers of its branches are ours, with a gamma that scales."""
        norms = [list(branch._children.values())[-1] for branch in self.branches]
        return all(isinstance(norm, BatchNorm) and not norm._kwargs["fix_gamma"] for norm in norms)

    def let_streams_grow(self, before: float, last: bool) -> float:
        """Divide nothing, if the block can do without.

        Parameters
        ----------
        before : float
            How many times too large the streams come in.
        last : bool
            They must go out as they should be.

        Returns
        -------
        float
            How many times too large they go out.
        """
        after = before * len(self.branches)
        merges = self.mapping == "mean" and self.skips
        if last or not merges or after > _MOST_GROWTH:
            after = 1
        self.before, self.after = before, after
        for branch in self.branches:
            first, *_, norm = branch._children.values()
            first.factor, norm.factor = 1 / before, after
        return after


def _add_all(F, branches, inputs, skips, at_once=False):
    """The branches of the inputs, and what is beside them."""
    if at_once:
        outputs = [branch(x) for branch, x in zip(branches, inputs)]
        return F.add_n(*outputs, *skips) if len(outputs) + len(skips) > 1 else outputs[0]
    # H_K + (... + (H_1 + skip)): every branch a left operand, for oneDNN's fusion.
    total = skips[0] if skips else None
    for branch, x in zip(branches, inputs):
        total = branch(x) if total is None else branch(x) + total
    return total
