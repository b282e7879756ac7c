"""Information flow through merge-and-run mappings (section 3.2, equations 4 and 5)."""

from fractions import Fraction

import numpy as np

from ..errors import DMRError
from ..models.spec import MERGE_AND_RUN


def mapping_matrix(branches, mapping="mean"):
    """M of equation (4) for K branches, exactly.

    Returns
    -------
    list of list of Fraction
        K x K: 1/K everywhere (section 5), or the identity.
    """
    ks = range(branches)
    if mapping == "identity":
        return [[Fraction(int(i == j)) for j in ks] for i in ks]
    return [[Fraction(1, branches) for _ in ks] for _ in ks]


def is_idempotent(matrix):
    """Whether M M = M, in exact arithmetic."""
    size = range(len(matrix))
    square = [[sum(matrix[i][k] * matrix[k][j] for k in size) for j in size] for i in size]
    return square == matrix


def equation_five(net, images):
    """Check equation (5) in a network as it runs.

    Inside a stage, the streams x after block t are

        x_(t+1) = H_t + M (H_t' + ... + H_(t-1)) + M x_t'

    for any earlier block t': what went in and what every branch since then has given reaches
    block t directly. That holds where no ReLU is in the way (the paper's first footnote). With
    the ReLU behind each sum, what it cuts off, max(0, -(H_t + M x_t)), counts as given by the
    branch; then nothing is neglected.

    Parameters
    ----------
    net : Network
        Of merge-and-run blocks, in the form of branches, initialised and not hybridized.
    images : NDArray
        (n, 3, height, width).

    Returns
    -------
    float
        Largest difference between the two sides, as a part of the largest value: the left one
        as the network's blocks give it, the right one from its branches alone, for every pair
        of blocks of one stage.

    Raises
    ------
    DMRError
        For another kind of network, or one without two blocks of equal width in a row.
    """
    spec = net.spec
    if spec.block != MERGE_AND_RUN or spec.form != "branches":
        raise DMRError(f"equation (5) is of merge-and-run blocks; {spec.name} has others")
    matrix = np.array(mapping_matrix(spec.branches, spec.mapping), dtype=np.float64)
    first, *stages = list(net.features._children.values())[: 1 + len(spec.blocks)]
    x = first(images)
    streams = x if isinstance(x, list) else [x] * spec.branches
    differences = []
    for stage in stages:
        inputs, given = [], []
        for block in stage._children.values():
            before, streams = streams, block(streams)
            if block.changes_width or block.last:
                continue  # s is a projection, or there is one output
            x = _stack(before)
            h = _stack([branch(x) for branch, x in zip(block.branches, before)])
            cut_off = np.maximum(-(h + _apply(matrix, x)), 0)
            inputs.append(x)
            given.append(h + cut_off)
            left = _stack(streams)
            for earlier in range(len(inputs) - 1):
                between = sum(given[earlier:-1])
                right = given[-1] + _apply(matrix, between) + _apply(matrix, inputs[earlier])
                differences.append(np.abs(left - right).max() / np.abs(left).max())
    if not differences:
        raise DMRError(f"{spec.name} has no two blocks of equal width in a row; take a deeper one")
    return float(max(differences))


def _stack(streams):
    """(K, everything else) as float64."""
    return np.stack([stream.asnumpy().astype(np.float64) for stream in streams])


def _apply(matrix, x):
    return np.tensordot(matrix, x, axes=1)
