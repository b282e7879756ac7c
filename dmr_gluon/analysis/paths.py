"""Count the paths through a network by their length, exactly (section 3.2, Figure 3).

A path leads from the image to the classifier; its length is its number of layers. Paths are
counted with generating functions: the coefficient of z^n is the number of paths of length n. A
branch of B layers is z^B and a skip connection 1; parts in sequence multiply, parallel parts add.
Needs no MXNet.
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
    """The number of paths of each length.

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
        """Return the fraction of paths of this length."""
        return float(Fraction(self.counts.get(length, 0), self.total))


def of_paper(block: str, blocks: int, layers_per_branch: int = 2, branches: int = 2):
    """Return the distribution as counted in the paper, with identical blocks.

    Parameters
    ----------
    block : str
        ``residual``: 1 + z^B; ``inception_like``: 1 + K z^B; ``merge_and_run``: K + z^B, as
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
        Includes stem and FC, but no projections.

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
    """Return the distribution of a network as it is built.

    It differs from :func:`of_paper` for merge-and-run networks with shared ends: their last
    block has a single output, the sum of all branches and one mean, so its branches have more
    weight than those of other blocks.

    Parameters
    ----------
    spec : NetworkSpec
    count_projections : bool
        Count a projection as a layer, as section 4.3 does and section 3.2 does not.

    Raises
    ------
    DMRError
        For a registered block or mapping, whose paths are not known.
    """
    if not spec.papers:
        raise DMRError(f"{spec.name}: paths are counted for the paper's blocks and mappings only")
    streams = spec.streams
    paths = {1: 1}  # to any one of the streams, which are all alike
    in_channels = spec.stem_channels
    for stage, (blocks, channels) in enumerate(zip(spec.blocks, spec.channels)):
        for block in range(blocks):
            changes = in_channels != channels or (stage > 0 and block == 0)
            in_channels = channels
            last = stage == len(spec.blocks) - 1 and block == blocks - 1
            branches, skips = spec.branches // spec.streams, 1  # into one output
            if spec.kind.streams and last and spec.ends == "shared":
                branches = skips = spec.branches
                streams = 1
            elif spec.mapping == "mean":
                skips = streams
            polynomial = {spec.layers_per_branch: branches}
            if spec.kind.skip and (spec.projections or not changes):
                polynomial = _sum(polynomial, {int(changes and count_projections): skips})
            paths = _product(paths, polynomial)
    return Distribution(_product(paths, {1: streams}))


def of_graph(symbol) -> Distribution:
    """Return the distribution of a network, counted in its graph, operator by operator.

    Parameters
    ----------
    symbol : mx.sym.Symbol
        Maps ``data`` to logits. Convolutions and FC have length 1, projections and everything
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


def _sum(one, other):
    return {n: one.get(n, 0) + other.get(n, 0) for n in sorted(set(one) | set(other))}


def _product(one, other):
    result: Polynomial = {}
    for n, a in one.items():
        for m, b in other.items():
            result[n + m] = result.get(n + m, 0) + a * b
    return dict(sorted(result.items()))
