"""What users register: mappings, builders of networks, and their names. Needs no MXNet."""

import ast
import re
from dataclasses import dataclass
from typing import Any, Callable, Dict, Tuple

from ..errors import DMRError
from ..system.settings import check_types

#: The paper's mappings, which blocks implement themselves, and the functions from K to M (K x K)
#: that :func:`dmr_gluon.register_mapping` adds.
MAPPINGS: Dict[str, Any] = {"mean": None, "identity": None}

#: The functions that build registered networks, see :func:`dmr_gluon.register_network`.
BUILDERS: Dict[str, Callable[..., Any]] = {}


@dataclass(frozen=True)
class CustomSpec:
    """A network of which only a user's code, or its own graph, knows the architecture.

    Parameters
    ----------
    name : str
        A registered network's name, with its arguments: ``my_net(depth=3)``; or any name that
        was given to :func:`dmr_gluon.fit`.
    classes : int
        Number of outputs.
    """

    name: str
    classes: int

    def __post_init__(self):
        check_types(self)


def file_name(name):
    """Return a network's name without what does not belong in the name of a file."""
    return re.sub("[^a-z0-9_]+", "_", name.lower()).strip("_")


def split_call(name: str) -> Tuple[str, Dict[str, Any]]:
    """Split ``my_net(depth=3)`` into ``my_net`` and {"depth": 3}."""
    base = name.partition("(")[0]
    if base == name:
        return name, {}
    try:
        call = ast.parse(name, mode="eval").body
        if not isinstance(call, ast.Call) or call.args or not isinstance(call.func, ast.Name):
            raise ValueError
        return base, {str(one.arg): ast.literal_eval(one.value) for one in call.keywords}
    except (SyntaxError, ValueError):
        raise DMRError(
            f"model {name!r} cannot be read; write NAME or NAME(OPTION=VALUE, ...), such as "
            f"'cifar_dmrnet14(blocks=(1, 2, 1))'"
        ) from None


def call_text(base, options):
    """Return the inverse of :func:`split_call`."""
    listed = ", ".join(f"{key}={value!r}" for key, value in sorted(options.items()))
    return f"{base}({listed})" if listed else base


def mapping_matrix(mapping, branches):
    """Return the matrix M of a registered mapping, equation (4).

    Parameters
    ----------
    mapping : str
    branches : int
        K.

    Returns
    -------
    numpy.ndarray
        K x K.

    Raises
    ------
    DMRError
        If its function does not return a K x K matrix with M M = M, from which section 3.2
        derives the flow of information.
    """
    import numpy as np

    matrix = np.asarray(MAPPINGS[mapping](branches), np.float64)
    if matrix.shape != (branches, branches) or not np.allclose(matrix @ matrix, matrix):
        raise DMRError(
            f"mapping {mapping!r}: for {branches} branches it must be a {branches} x {branches} "
            f"matrix M with M M = M, not {matrix.tolist()}"
        )
    return matrix


def is_identifier(name):
    """Return whether a name can be that of a registered block, mapping or network."""
    return isinstance(name, str) and name.isidentifier() and name.isascii() and name.islower()
