"""Information flow through merge-and-run mappings (section 3.2, equations 4 and 5)."""

from fractions import Fraction

import numpy as np

from ..errors import DMRError
from ..models.custom_spec import mapping_matrix as matrix_of
from ..models.spec import PAPERS


def mapping_matrix(branches, mapping="mean"):
    """Return M of equation (4) for K branches, exactly.

    Parameters
    ----------
    branches : int
        K.
    mapping : str
        ``mean`` (section 5), ``identity``, or a registered one.

    Returns
    -------
    numpy.ndarray of Fraction
        K x K: 1/K everywhere, or the identity; of float for a registered mapping.
    """
    if mapping not in PAPERS:
        return matrix_of(mapping, branches)
    if mapping == "identity":
        return np.eye(branches, dtype=int) * Fraction(1)
    return np.full((branches, branches), Fraction(1, branches))


def is_idempotent(matrix):
    """Return whether M M = M, in exact arithmetic."""
    matrix = np.array(matrix, dtype=object)
    return bool((matrix @ matrix == matrix).all())


def equation_five(net, images):
    """Measure how far a running network deviates from equation (5).

    Within a stage, the streams x after block t are

        x_(t+1) = H_t + M (H_t' + ... + H_(t-1)) + M x_t'

    for any earlier block t': its input and the outputs of all branches since then reach block t
    directly. Without the ReLUs (the paper's first footnote) this is exact. Here the part that
    each ReLU cuts off, max(0, -(H_t + M x_t)), counts as output of the branch, so nothing is
    neglected.

    Parameters
    ----------
    net : Network
        With merge-and-run blocks in ``branches`` form, initialised and not hybridized.
    images : NDArray
        (n, 3, height, width).

    Returns
    -------
    float
        Largest difference between the two sides, relative to the largest value, over all pairs
        of blocks in a stage. The left side is the output of the network's blocks, the right side
        is computed from the branches alone.

    Raises
    ------
    DMRError
        For another kind of network, or one without two consecutive blocks of equal width.
    """
    spec = net.spec
    if not spec.kind.streams or spec.form != "branches":
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
                continue  # s is a projection, or the block has one output
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
    """Stack K tensors along a new first axis, in float64."""
    return np.stack([stream.asnumpy().astype(np.float64) for stream in streams])


def _apply(matrix, x):
    return np.tensordot(matrix, x, axes=1)
