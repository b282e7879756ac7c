"""The paper's parallel blocks with all K branches in one convolution (Figures 4 and 5).

The streams of a merge-and-run block are concatenated along the channels, and the branches'
convolutions become convolutions of K groups. Every parameter is the concatenation of the
branches' along its first axis; :mod:`dmr_gluon.models.equivalence` converts them.
"""

from ..runtime import mx
from .blocks import Branch, Projection
from .layers import relu


class GroupedInceptionLike(mx.gluon.HybridBlock):
    """Figure 4, equation (6): y = ReLU([I ... I] H(x) + s(x)), H one branch K times as wide.

    The first convolution widens from ``in_channels`` to K x ``channels``; the last one's BN
    precedes the sum of the K groups, as in the branches. Without BN between them, the last
    convolution and the sum are one convolution: :func:`dmr_gluon.models.equivalence.fold`.

    Parameters
    ----------
    spec : NetworkSpec
    channels, stride, in_channels, prefix
        As in :class:`~dmr_gluon.models.blocks.InceptionLike`.
    """

    def __init__(self, spec, channels, stride, in_channels, prefix, **_):
        super().__init__(prefix=prefix)
        self.count = spec.branches
        changes_width = stride != 1 or in_channels != channels
        self.has_skip = spec.projections or not changes_width
        with self.name_scope():
            self.branch = _branches(spec, channels, stride, in_channels, shared_input=True)
            self.projection = None
            if changes_width and spec.projections:
                self.projection = Projection(channels, stride, in_channels, "proj1_")

    def hybrid_forward(self, F, x):
        y = _sum_of_groups(F, self.branch(x), self.count)
        if self.has_skip:
            y = y + (self.projection(x) if self.projection else x)
        return relu(F, y)


class GroupedMergeAndRun(mx.gluon.HybridBlock):
    """Figure 5, equation (4): Y = ReLU(H(X) + M s(X)) on the concatenated streams X.

    Parameters
    ----------
    spec : NetworkSpec
    channels, stride, in_channels, last, prefix
        As in :class:`~dmr_gluon.models.blocks.MergeAndRun`; channels refer to one stream.
    first : bool
        The input is one stream of ``in_channels`` channels, shared by all branches.
    """

    def __init__(self, spec, channels, stride, in_channels, first, last, prefix):
        super().__init__(prefix=prefix)
        self.count, self.mapping, self.last = spec.branches, spec.mapping, last
        changes_width = stride != 1 or in_channels != channels
        self.has_skip = spec.projections or not changes_width
        groups = 1 if first else spec.branches
        with self.name_scope():
            self.branch = _branches(spec, channels, stride, in_channels, shared_input=first)
            self.projection = None
            if changes_width and spec.projections:
                inputs, outputs = groups * in_channels, spec.branches * channels
                self.projection = Projection(outputs, stride, inputs, "projs_", groups)
        self.streams_in_skip = spec.branches if self.projection else groups

    def hybrid_forward(self, F, x):
        y = self.branch(x)
        if self.last:
            y = _sum_of_groups(F, y, self.count)
        if self.has_skip:
            y = y + self._mapped(F, self.projection(x) if self.projection else x)
        return relu(F, y)

    def _mapped(self, F, skip):
        """Return M s(X): the mean repeated for each stream, or the streams themselves (M = I)."""
        if self.last or self.mapping == "mean":
            skip = _sum_of_groups(F, skip, self.streams_in_skip) * (1 / self.streams_in_skip)
        elif self.streams_in_skip == self.count:
            return skip
        return skip if self.last else F.concat(*[skip] * self.count, dim=1)


def _branches(spec, channels, stride, in_channels, shared_input):
    """Build the K branches of a block as one."""
    return Branch(
        channels,
        stride,
        in_channels,
        bottleneck=spec.bottleneck,
        layers=spec.branch_layers,
        inner_width=spec.inner_width,
        branches=spec.branches,
        shared_input=shared_input,
        prefix="branches_",
    )


def _sum_of_groups(F, x, groups):
    if groups == 1:
        return x
    total, *others = F.split(x, num_outputs=groups, axis=1)
    for other in others:
        total = other + total
    return total
