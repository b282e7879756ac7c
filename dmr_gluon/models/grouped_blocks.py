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
    channels, stride, in_channels, branches, projections, prefix, **branch
        As in :class:`~dmr_gluon.models.blocks.InceptionLike`.
    """

    def __init__(
        self, channels, stride, in_channels, branches=2, projections=True, prefix=None, **branch
    ):
        super().__init__(prefix=prefix)
        self.count = branches
        changes = stride != 1 or in_channels != channels
        self.has_skip = projections or not changes
        with self.name_scope():
            self.branch = Branch(
                channels, stride, in_channels, branches=branches, prefix="branches_", **branch
            )
            self.projection = (
                Projection(channels, stride, in_channels, "proj1_")
                if changes and projections
                else None
            )

    def hybrid_forward(self, F, x):
        y = _sum_of_groups(F, self.branch(x), self.count)
        if self.has_skip:
            y = y + (self.projection(x) if self.projection else x)
        return relu(F, y)


class GroupedMergeAndRun(mx.gluon.HybridBlock):
    """Figure 5, equation (4): Y = ReLU(H(X) + M s(X)) on the concatenated streams X.

    Parameters
    ----------
    channels, stride, in_channels, branches, mapping, last, projections, prefix, **branch
        As in :class:`~dmr_gluon.models.blocks.MergeAndRun`; channels refer to one stream.
    first : bool
        The input is one stream of ``in_channels`` channels, shared by all branches.
    """

    def __init__(
        self,
        channels,
        stride,
        in_channels,
        branches=2,
        mapping="mean",
        first=False,
        last=False,
        projections=True,
        prefix=None,
        **branch,
    ):
        super().__init__(prefix=prefix)
        self.count, self.mapping, self.last = branches, mapping, last
        changes = stride != 1 or in_channels != channels
        self.has_skip = projections or not changes
        groups = 1 if first else branches
        with self.name_scope():
            self.branch = Branch(
                channels,
                stride,
                in_channels,
                branches=branches,
                shared_input=first,
                prefix="branches_",
                **branch,
            )
            self.projection = (
                Projection(branches * channels, stride, groups * in_channels, "projs_", groups)
                if changes and projections
                else None
            )
        self.streams_in_skip = 1 if first and not self.projection else branches

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


def _sum_of_groups(F, x, groups):
    if groups == 1:
        return x
    total, *others = F.split(x, num_outputs=groups, axis=1)
    for other in others:
        total = other + total
    return total
