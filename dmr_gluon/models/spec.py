"""Describe a network as a value: :class:`NetworkSpec`. Needs no MXNet."""

import difflib
from dataclasses import dataclass, field
from typing import Dict, NamedTuple, Tuple, Union

from ..errors import DMRError
from ..system.settings import check_settings, check_types
from .custom_spec import MAPPINGS, CustomSpec, is_identifier, mapping_matrix

PLAIN = "plain"
RESIDUAL = "residual"
INCEPTION_LIKE = "inception_like"
MERGE_AND_RUN = "merge_and_run"


class BlockKind(NamedTuple):
    """Properties of a kind of block.

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
#: :func:`dmr_gluon.register_block` adds to both.
BLOCK_KINDS: Dict[str, BlockKind] = {
    PLAIN: BlockKind("plain", skip=False),
    RESIDUAL: BlockKind("resnet"),
    INCEPTION_LIKE: BlockKind("dilnet", parallel=True),
    MERGE_AND_RUN: BlockKind("dmrnet", parallel=True, streams=True),
}

#: From the word in a network's name to its kind of block.
FAMILIES = {kind.family: block for block, kind in BLOCK_KINDS.items()}

#: The paper's own blocks and mappings.
PAPERS = (*BLOCK_KINDS, *MAPPINGS)


@dataclass(frozen=True)
class NetworkSpec:
    """A network's architecture.

    Parameters
    ----------
    name : str
        The name that :func:`dmr_gluon.models.names.get_spec` reads, for logs and files.
    block : str
        ``residual``, ``inception_like`` or ``merge_and_run`` (equations 1-3),
        ``plain`` (a residual block without its skip connection), or a registered one.
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
        The skip connection of a merge-and-run block: ``mean`` (merge-and-run),
        ``identity`` (Table 5), or a registered one.
    classes : int
        Number of outputs.
    branch_layers : int
        Number of 3x3 convolutions in a branch without a bottleneck (Figure 6 has long ones).
    inner_width : int
        Ratio of a branch's inner width to its output width (Figure 4).
    ends : str
        How the branches of a merge-and-run network begin and end. ``shared``: one
        stem, and the last block returns one tensor. ``unshared``: each branch has its
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

    Raises
    ------
    DMRError
        If a value has the wrong type or is out of range, or if fields contradict each other.
    """

    # The upper bounds are far beyond any use; they keep numbers within MXNet's integers.
    name: str
    block: str = field(metadata={"choices": BLOCK_KINDS})
    stem: str = field(metadata={"choices": ("cifar", "imagenet")})
    blocks: Tuple[int, ...] = field(metadata={"least": 1, "most": 500})
    channels: Tuple[int, ...] = field(metadata={"least": 1, "most": 65_536})
    stem_channels: int = field(metadata={"least": 1, "most": 65_536})
    bottleneck: bool
    branches: int = field(metadata={"least": 1, "most": 64})
    mapping: str = field(metadata={"choices": MAPPINGS})
    classes: int = field(metadata={"least": 1, "most": 1_000_000})
    branch_layers: int = field(default=2, metadata={"least": 1, "most": 1_000})
    inner_width: int = field(default=1, metadata={"least": 1, "most": 64})
    ends: str = field(
        default="shared", metadata={"choices": ("shared", "unshared", "concatenated")}
    )
    projections: bool = True
    stem_norm: bool = True
    form: str = field(default="branches", metadata={"choices": ("branches", "grouped")})

    def __post_init__(self):
        try:
            check_types(self)
        except TypeError as error:
            raise DMRError(str(error)) from error
        check_settings(self)
        conflict = self._conflict()
        if conflict:
            raise DMRError(f"{self.name}: {conflict}")

    def _conflict(self):
        """Describe the first contradiction between fields; return None if there is none."""
        kind, block = self.kind, self.block.replace("_", "-")
        if len(self.blocks) != len(self.channels) or not self.blocks:
            return f"blocks {self.blocks} and channels {self.channels} differ in length or are none"
        if self.bottleneck and any(channels % 4 for channels in self.channels):
            return f"bottleneck branches need channels divisible by 4, not {self.channels}"
        if self.bottleneck and (self.branch_layers, self.inner_width) != (2, 1):
            return "branch_layers and inner_width do not apply to bottleneck branches"
        if self.inner_width != 1 and self.branch_layers == 1:
            return "inner_width needs a branch of at least two layers"
        if self.branches != 1 and not kind.parallel:
            return f"a {block} block has one branch; for parallel branches use a dilnet or a dmrnet"
        if self.form == "grouped" and not kind.parallel:
            return f"form='grouped' is for parallel branches; a {block} block has one branch"
        if (self.mapping, self.ends) != ("mean", "shared") and not kind.streams:
            return f"mapping and ends are for merge-and-run networks, not for {block} blocks"
        if not self.projections and not kind.skip:
            return "a plain block has no skip connection; leave out projections=False"
        if self.form == "grouped" and not self.papers:
            return "form='grouped' is for the paper's blocks and mappings"
        if self.mapping not in PAPERS:
            mapping_matrix(self.mapping, self.branches)
        return None

    @property
    def papers(self) -> bool:
        """Whether block and mapping are the paper's own, not registered ones."""
        return {self.block, self.mapping} <= set(PAPERS)

    @property
    def kind(self) -> BlockKind:
        """Properties of the network's kind of block."""
        return BLOCK_KINDS[self.block]

    @property
    def parallel(self) -> bool:
        """Whether the blocks have K parallel branches."""
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
    def from_json(cls, fields_by_name: dict) -> "Spec":
        """Restore a spec from the JSON form of ``dataclasses.asdict``.

        Returns
        -------
        NetworkSpec or CustomSpec
            The latter for a network that a user's code builds, and for one with a block or
            mapping that nobody has registered in this process.

        Raises
        ------
        DMRError
            If fields are unknown, missing or invalid.
        """
        try:
            if set(fields_by_name) == {"name", "classes"}:
                return CustomSpec(**fields_by_name)
            block, mapping = fields_by_name["block"], fields_by_name["mapping"]
            known = block in BLOCK_KINDS and mapping in MAPPINGS
            if not known and is_identifier(block) and is_identifier(mapping):
                return CustomSpec(fields_by_name["name"], fields_by_name["classes"])
            return cls(**tuples_from_lists(fields_by_name))
        except (TypeError, AttributeError, KeyError) as error:
            raise DMRError(
                f"the network was not written by this version of dmr-gluon: {error}"
            ) from error


Spec = Union[NetworkSpec, CustomSpec]


def tuples_from_lists(fields_by_name):
    """Turn the lists of a JSON object into tuples, as specs and recipes have them.

    Parameters
    ----------
    fields_by_name : dict

    Returns
    -------
    dict
    """
    return {k: tuple(v) if isinstance(v, list) else v for k, v in fields_by_name.items()}


def unknown(what, given, known):
    """Return the error message for an unknown value.

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
    close = difflib.get_close_matches(str(given), known, n=3)
    advice = f"did you mean {' or '.join(close)}?" if close else f"use one of {', '.join(known)}"
    return f"unknown {what} {str(given)!r}; {advice}"


def require_count(name, value):
    """Require an integer of at least 1.

    Parameters
    ----------
    name : str
        Named in the error message.
    value : object

    Raises
    ------
    DMRError
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise DMRError(f"{name} must be an integer of at least 1, not {value!r}")
