"""Lengths of the paths through a network (section 3.2, Figure 3), exactly.

A path goes from the image to the classifier; its length is the number of layers on it. The
paths of a network are counted by a generating function: a polynomial in z in which the
coefficient of z^n is the number of paths of length n. A branch of B layers is z^B, a skip
connection 1, things in sequence are multiplied and things in parallel added. Needs no MXNet.
"""

import json
import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Dict

from ..errors import DMRError
from ..models.spec import INCEPTION_LIKE, MERGE_AND_RUN, RESIDUAL, NetworkSpec

Polynomial = Dict[int, int]  # exponent to coefficient


@dataclass(frozen=True)
class Distribution:
    """How many paths there are of each length.

    Parameters
    ----------
    counts : dict of int to int
        Number of paths by length, exact.
    """

    counts: Polynomial

    @property
    def total(self) -> int:
        """Number of paths."""
        return sum(self.counts.values())

    @property
    def mean(self) -> Fraction:
        """Average length, exact."""
        return Fraction(sum(n * count for n, count in self.counts.items()), self.total)

    @property
    def std(self) -> float:
        """Standard deviation of the length."""
        squares = Fraction(sum(n * n * count for n, count in self.counts.items()), self.total)
        return math.sqrt(squares - self.mean**2)

    def share(self, length) -> float:
        """Which part of the paths has that length, from 0 to 1."""
        return float(Fraction(self.counts.get(length, 0), self.total))


def of_paper(block: str, blocks: int, layers_per_branch: int = 2, branches: int = 2):
    """The distribution as the paper counts it, with blocks that are all alike.

    Parameters
    ----------
    block : str
        ``residual``: 1 + z^B; ``inception_like``: 1 + K z^B; ``merge_and_run``: K + z^B, for
        each of its K outputs has one branch and, through the merge, K skip connections.
    blocks : int
        Number of blocks: the paper compares L merge-and-run or inception-like blocks with
        2L residual ones.
    layers_per_branch : int
        B.
    branches : int
        K.

    Returns
    -------
    Distribution
        Stem and FC included, projections not.

    Raises
    ------
    DMRError
        For another kind of block.
    """
    polynomials = {
        RESIDUAL: {0: 1, layers_per_branch: 1},
        INCEPTION_LIKE: {0: 1, layers_per_branch: branches},
        MERGE_AND_RUN: {0: branches, layers_per_branch: 1},
    }
    if block not in polynomials:
        raise DMRError(f"path lengths are of {', '.join(polynomials)} blocks, not of {block!r}")
    paths = {2: 1}
    for _ in range(blocks):
        paths = _product(paths, polynomials[block])
    return Distribution(paths)


def of_network(spec: NetworkSpec, count_projections: bool = False) -> Distribution:
    """The distribution of a network as it is built.

    It differs from :func:`of_paper` for merge-and-run networks with shared ends: their last
    block gives one output, the sum of all branches and one mean, so that branches weigh more
    in it than in the other blocks.

    Parameters
    ----------
    spec : NetworkSpec
    count_projections : bool
        Count a projection in a skip connection as a layer, as section 4.3 does; section 3.2
        does not.
    """
    branch, streams = {spec.layers_per_branch: 1}, 1
    merge_and_run = spec.block == MERGE_AND_RUN
    if merge_and_run:
        streams = spec.branches
    paths = {1: 1}  # to each of the streams: they have equal numbers
    in_channels = spec.stem_channels
    for stage, (blocks, channels) in enumerate(zip(spec.blocks, spec.channels)):
        for block in range(blocks):
            changes = in_channels != channels or (stage > 0 and block == 0)
            in_channels = channels
            skip = _skip(spec, changes, count_projections)
            last = stage == len(spec.blocks) - 1 and block == blocks - 1
            into_branches = skips = 1
            if spec.block == INCEPTION_LIKE:
                into_branches = spec.branches
            elif merge_and_run and last and spec.ends == "shared":
                into_branches = skips = streams
                streams = 1
            elif merge_and_run and spec.mapping == "mean":
                skips = streams
            paths = _product(paths, _sum(_times(branch, into_branches), _times(skip, skips)))
    return Distribution(_product(paths, {1: streams}))


def of_graph(symbol) -> Distribution:
    """The distribution of a network, counted in its graph, operator by operator.

    Parameters
    ----------
    symbol : mx.sym.Symbol
        From ``data`` to logits. Convolutions and FC have length 1, projections and everything
        else 0.
    """
    nodes = json.loads(symbol.tojson())["nodes"]
    paths = []
    for node in nodes:
        if node["name"] == "data":
            paths.append({0: 1})
            continue
        layer = node["op"] in ("Convolution", "FullyConnected") and "_proj" not in node["name"]
        arriving: Polynomial = {}
        for source, *_ in node["inputs"]:
            arriving = _sum(arriving, paths[source])
        paths.append({length + layer: count for length, count in arriving.items()})
    return Distribution(paths[-1])


def _skip(spec, changes, count_projections):
    """The skip connection of one block."""
    if spec.block not in (RESIDUAL, INCEPTION_LIKE, MERGE_AND_RUN):
        return {}
    if not changes:
        return {0: 1}
    if not spec.projections:
        return {}
    return {1: 1} if count_projections else {0: 1}


def _times(polynomial, factor):
    return {exponent: factor * coefficient for exponent, coefficient in polynomial.items()}


def _sum(one, other):
    return {n: one.get(n, 0) + other.get(n, 0) for n in sorted(set(one) | set(other))}


def _product(one, other):
    result: Polynomial = {}
    for n, a in one.items():
        for m, b in other.items():
            result[n + m] = result.get(n + m, 0) + a * b
    return dict(sorted(result.items()))
