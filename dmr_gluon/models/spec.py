"""Describe a network as a value: :class:`NetworkSpec`. Needs no MXNet."""

import difflib
from dataclasses import dataclass
from typing import NamedTuple, Tuple

from ..errors import DMRError

PLAIN = "plain"
RESIDUAL = "residual"
INCEPTION_LIKE = "inception_like"
MERGE_AND_RUN = "merge_and_run"


class BlockKind(NamedTuple):
    """What the rest of the package needs to know about a kind of block.

    Parameters
    ----------
    family : str
        The word for it in a network's name.
    parallel : bool
        The block has K residual branches instead of one.
    streams : bool
        K tensors run from block to block instead of one.
    skip : bool
        The block has a skip connection.
    """

    family: str
    parallel: bool = False
    streams: bool = False
    skip: bool = True


#: The classes are in :data:`dmr_gluon.models.network.BLOCKS`, under the same keys.
BLOCK_KINDS = {
    PLAIN: BlockKind("plain", skip=False),
    RESIDUAL: BlockKind("resnet"),
    INCEPTION_LIKE: BlockKind("dilnet", parallel=True),
    MERGE_AND_RUN: BlockKind("dmrnet", parallel=True, streams=True),
}

#: From the word in a network's name to its kind of block.
FAMILIES = {kind.family: block for block, kind in BLOCK_KINDS.items()}

#: Upper bounds, far beyond any use, that keep counts and sizes within MXNet's integers.
MOST = {
    "classes": 1_000_000,
    "branches": 64,
    "stem_channels": 65_536,
    "channels": 65_536,
    "blocks": 500,
    "branch_layers": 1_000,
    "inner_width": 64,
}


@dataclass(frozen=True)
class NetworkSpec:
    """Everything that defines a network's architecture.

    Parameters
    ----------
    name : str
        The name that :func:`dmr_gluon.models.names.get_spec` reads, for logs and files.
    block : str
        ``residual``, ``inception_like`` or ``merge_and_run`` (equations 1-3), or
        ``plain``: a residual block without its skip connection.
    stem : str
        ``cifar``: 3x3 convolution; ``imagenet``: 7x7 convolution of stride 2
        and 3x3 max pooling of stride 2. BN and ReLU follow the convolution.
    blocks : tuple of int
        Number of blocks in each stage. The first block of every stage but the
        first halves the image.
    channels : tuple of int
        Output channels of each stage.
    stem_channels : int
        Output channels of the stem.
    bottleneck : bool
        Branches of 1x1, 3x3, 1x1 convolutions with a quarter of the channels
        inside, instead of 3x3 convolutions.
    branches : int
        K, the number of parallel residual branches (section 5; the paper's
        experiments have K = 2). A residual block has exactly one.
    mapping : str
        The skip connection of a merge-and-run block: ``mean`` (merge-and-run)
        or ``identity`` (Table 5).
    classes : int
        Number of outputs.
    branch_layers : int
        Number of 3x3 convolutions in a branch without a bottleneck (Figure 6 has long ones).
    inner_width : int
        Ratio of a branch's inner width to its output width (Figure 4).
    ends : str
        How the branches of a merge-and-run network begin and end. ``shared``: one
        stem, and the last block gives one tensor. ``unshared``: each branch has its
        own stem and FC, and the logits are averaged (Table 5). ``concatenated``: one
        stem, and one FC on the channels of all branches (IJCAI 2018).
    projections : bool
        1x1 convolutions as skip connections where the width changes. Without, a block
        that changes the width has no skip connection (IJCAI 2018).
    stem_norm : bool
        BN and ReLU in the stem (IJCAI 2018 has none).
    form : str
        ``branches``: a convolution for every branch. ``grouped``: the same network with
        all branches in one convolution of K groups (Figures 4 and 5).
    """

    name: str
    block: str
    stem: str
    blocks: Tuple[int, ...]
    channels: Tuple[int, ...]
    stem_channels: int
    bottleneck: bool
    branches: int
    mapping: str
    classes: int
    branch_layers: int = 2
    inner_width: int = 1
    ends: str = "shared"
    projections: bool = True
    stem_norm: bool = True
    form: str = "branches"

    def __post_init__(self):
        for name, known in (
            ("block", tuple(BLOCK_KINDS)),
            ("stem", ("cifar", "imagenet")),
            ("mapping", ("mean", "identity")),
            ("ends", ("shared", "unshared", "concatenated")),
            ("form", ("branches", "grouped")),
        ):
            if getattr(self, name) not in known:
                raise DMRError(unknown(name, getattr(self, name), known))
        for name, most in MOST.items():
            values, of_stages = getattr(self, name), name in ("blocks", "channels")
            if of_stages and not isinstance(values, tuple):
                raise DMRError(f"{name} must be a tuple, one number per stage, not {values!r}")
            for value in values if of_stages else (values,):
                require_count(name, value, most)
        for name in ("bottleneck", "projections", "stem_norm"):
            if not isinstance(getattr(self, name), bool):
                raise DMRError(f"{name} must be True or False, not {getattr(self, name)!r}")
        problem = next((text for wrong, text in self._contradictions() if wrong), None)
        if problem:
            raise DMRError(f"{self.name}: {problem}")

    def _contradictions(self):
        """Yield (whether it applies, what is wrong and what to do) for conflicting fields."""
        kind, block = self.kind, self.block.replace("_", "-")
        yield (
            len(self.blocks) != len(self.channels),
            f"{len(self.blocks)} numbers of blocks but {len(self.channels)} numbers of channels; "
            f"give one of each per stage",
        )
        yield (
            self.bottleneck and any(channels % 4 for channels in self.channels),
            f"bottleneck branches need channels divisible by 4, not {self.channels}",
        )
        yield (
            self.bottleneck and (self.branch_layers != 2 or self.inner_width != 1),
            "branch_layers and inner_width are for branches of 3x3 convolutions; a bottleneck "
            "branch has its own layers",
        )
        yield (
            not kind.parallel and self.branches != 1,
            f"a {block} block has one branch, not {self.branches}; for parallel branches use a "
            f"dilnet or a dmrnet",
        )
        yield (
            self.mapping == "identity" and not kind.streams,
            f"mapping='identity' belongs to merge-and-run blocks (Table 5); a {block} block has "
            f"{'the identity already' if kind.skip else 'no skip connection'}",
        )
        yield (
            self.ends == "unshared" and not kind.streams,
            f"ends='unshared' belongs to merge-and-run networks, whose branches are separate; "
            f"those of a {block} block are not",
        )
        yield (
            self.ends == "concatenated" and not kind.streams,
            f"ends='concatenated' belongs to merge-and-run networks; {block} blocks have one "
            f"stream",
        )
        yield (
            not kind.skip and not self.projections,
            "a plain block has no skip connection; leave out projections=False",
        )
        yield (
            self.form == "grouped" and not kind.parallel,
            f"the grouped form is for parallel branches (Figures 4 and 5); a {block} block has one",
        )
        yield (
            self.inner_width != 1 and self.branch_layers == 1,
            "inner_width needs a branch of at least two layers",
        )

    @property
    def kind(self) -> BlockKind:
        """The properties of its kind of block."""
        return BLOCK_KINDS[self.block]

    @property
    def parallel(self) -> bool:
        """Whether its blocks have K parallel branches."""
        return self.kind.parallel

    @property
    def streams(self) -> int:
        """Number of tensors that run from block to block."""
        return self.branches if self.kind.streams else 1

    @property
    def layers_per_branch(self) -> int:
        """B of section 3.2: convolutions in one residual branch."""
        return 3 if self.bottleneck else self.branch_layers

    @property
    def depth(self) -> int:
        """Layers on the longest path: stem, branches and FC (projections not counted)."""
        return self.layers_per_branch * sum(self.blocks) + 2

    @property
    def family(self) -> str:
        """``plain``, ``resnet``, ``dilnet`` or ``dmrnet``."""
        return self.kind.family

    @classmethod
    def from_json(cls, fields_by_name: dict) -> "NetworkSpec":
        """Restore a spec from the JSON form of ``dataclasses.asdict``.

        Raises
        ------
        DMRError
            For unknown or missing fields.
        """
        try:
            return cls(**tuples_from_lists(fields_by_name))
        except (TypeError, AttributeError) as error:
            raise DMRError(
                f"the network was not written by this version of dmr-gluon: {error}"
            ) from error


def tuples_from_lists(fields_by_name):
    """Turn the lists that JSON gives back into the tuples of specs and recipes.

    Parameters
    ----------
    fields_by_name : dict

    Returns
    -------
    dict
    """
    return {k: tuple(v) if isinstance(v, list) else v for k, v in fields_by_name.items()}


def unknown(what, given, known):
    """Word the refusal of an unknown value.

    Parameters
    ----------
    what : str
        The kind of value, such as ``model``.
    given : object
    known : sequence
        The valid values.

    Returns
    -------
    str
        Suggests the closest matches, or lists all valid values.
    """
    known = [str(value) for value in known]
    close = difflib.get_close_matches(str(given), known, n=3)
    return f"unknown {what} {str(given)!r}; " + (
        f"did you mean {either(close)}?" if close else f"there are {', '.join(known)}"
    )


def either(values):
    """Join values as in ``1, 2 or 3``.

    Parameters
    ----------
    values : sequence
        At least one.

    Returns
    -------
    str
    """
    values = [str(value) for value in values]
    return values[0] if len(values) == 1 else ", ".join(values[:-1]) + " or " + values[-1]


def require_count(name, value, most=None):
    """Require a whole number of at least 1.

    Parameters
    ----------
    name : str
        Named in the error message.
    value : object
    most : int, optional

    Raises
    ------
    DMRError
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise DMRError(f"{name} must be a whole number of at least 1, not {value!r}")
    if most and value > most:
        raise DMRError(f"{name} must be at most {most:,}, not {value:,}")
