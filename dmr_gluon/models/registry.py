"""Register blocks, mappings and networks of one's own, for ``get_model`` and ``--model``."""

import contextlib
import inspect
import re
from typing import Any, Callable, Optional

from ..errors import DMRError
from ..runtime import mx
from .blocks import InceptionLike, MergeAndRun, Residual
from .custom_spec import BUILDERS, MAPPINGS
from .names import get_spec
from .network import BLOCKS
from .spec import (
    BLOCK_KINDS,
    FAMILIES,
    INCEPTION_LIKE,
    MERGE_AND_RUN,
    PAPERS,
    RESIDUAL,
)


def register_block(name: str, block: Callable[..., Any], like: Optional[str] = None) -> None:
    """Register a building block, of which ``cifar_NAME56`` and others then consist.

    Parameters
    ----------
    name : str
        Small letters and underscores, such as ``se_merge_and_run``.
    block : type
        A HybridBlock. Its constructor is called with ``channels``, ``stride``, ``in_channels`` and
        ``prefix``, and with those of ``bottleneck``, ``layers``, ``inner_width``,
        ``projections``, ``branches``, ``mapping`` and ``last`` that it has; see
        :class:`~dmr_gluon.MergeAndRun`.
    like : str, optional
        The paper's block that it stands in for: ``residual`` and ``inception_like`` blocks take
        and return one tensor, ``merge_and_run`` blocks a list of K. Default: the paper's block
        that ``block`` inherits from, or ``residual``.

    Raises
    ------
    DMRError
        For a name that is not allowed, or a block that is none.
    """
    if not inspect.isclass(block) or not issubclass(block, mx.gluon.HybridBlock):
        raise DMRError(f"register_block({name!r}): give a class that inherits from HybridBlock")
    _check_name(name, "[a-z_]*[a-z]", "small letters and underscores", (*PAPERS, *FAMILIES))
    if like is None:
        parents = {MERGE_AND_RUN: MergeAndRun, RESIDUAL: Residual, INCEPTION_LIKE: InceptionLike}
        like = next((kind for kind, one in parents.items() if issubclass(block, one)), RESIDUAL)
    if like not in PAPERS or like not in BLOCK_KINDS:
        raise DMRError(f"register_block({name!r}): like must be one of {', '.join(BLOCK_KINDS)}")
    BLOCK_KINDS[name] = BLOCK_KINDS[like]._replace(family=name)
    FAMILIES[name] = name
    BLOCKS[name] = _with_options_it_has(block)


def register_mapping(name: str, matrix: Callable[[int], Any]) -> None:
    """Register a mapping between the streams of merge-and-run blocks: M of equation (4).

    Parameters
    ----------
    name : str
        Small letters; ``cifar_dmrnet56_NAME`` is the network with it.
    matrix : callable
        Takes K and returns M, K x K, with M M = M (section 5).

    Raises
    ------
    DMRError
        For a name that is not allowed, or a matrix for K = 2 that is not idempotent.
    """
    taken = (*PAPERS, "w", "k", "blocks", "inner", "unshared", "grouped", "ijcai", "custom")
    _check_name(name, "[a-z]+", "small letters", taken)
    MAPPINGS[name] = matrix


def register_network(name: str, builder: Callable[..., Any]) -> None:
    """Register a network: any HybridBlock that maps images to logits.

    Parameters
    ----------
    name : str
        Small letters, digits and underscores, such as ``my_net``.
    builder : callable
        ``builder(classes, **options)`` returns a HybridBlock, which maps (batch, 3, height,
        width) to (batch, classes). ``my_net(depth=3)`` is the network with these options.

    Raises
    ------
    DMRError
        For a name that is not allowed, or one of the paper's networks.
    """
    if not callable(builder):
        raise DMRError(f"register_network({name!r}): give a function that builds a HybridBlock")
    taken = [*PAPERS, *FAMILIES]
    if name not in BUILDERS:
        with contextlib.suppress(DMRError):
            get_spec(str(name))
            taken.append(name)
    _check_name(name, "[a-z][a-z0-9_]*", "small letters, digits and underscores", taken)
    BUILDERS[name] = builder


def _check_name(name, pattern, allowed, taken):
    if not re.fullmatch(pattern, str(name)):
        raise DMRError(f"{name!r} cannot be registered: a name consists of {allowed}")
    if name in taken and not (name in FAMILIES and FAMILIES[name] not in PAPERS):
        raise DMRError(f"{name!r} cannot be registered: this package has it; choose another name")


def _with_options_it_has(block):
    """Return a constructor that drops the options of the paper's blocks that this one lacks."""
    parameters = inspect.signature(block).parameters.values()
    if any(one.kind is one.VAR_KEYWORD for one in parameters):
        return block
    names = {one.name for one in parameters}
    return lambda **options: block(**{key: one for key, one in options.items() if key in names})
