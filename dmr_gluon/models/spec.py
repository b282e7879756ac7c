"""A network as a value: :class:`NetworkSpec`. Needs no MXNet."""

import difflib
from dataclasses import dataclass
from typing import Tuple

from ..errors import DMRError

PLAIN = "plain"
RESIDUAL = "residual"
INCEPTION_LIKE = "inception_like"
MERGE_AND_RUN = "merge_and_run"

#: What stands in a name for each kind of block.
FAMILIES = {
    "plain": PLAIN,
    "resnet": RESIDUAL,
    "dilnet": INCEPTION_LIKE,
    "dmrnet": MERGE_AND_RUN,
}

#: Bounds far beyond any use, within which counts and sizes stay what MXNet can hold.
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
    """A network as a value.

    Parameters
    ----------
    name : str
        What :func:`dmr_gluon.models.names.network` reads, for logs and files.
    block : str
        ``residual``, ``inception_like`` or ``merge_and_run`` (equations 1-3), or
        ``plain``: a residual block without its skip connection.
    stem : str
        ``cifar``: 3x3 convolution; ``imagenet``: 7x7 convolution of stride 2
        and 3x3 max pooling of stride 2. BN and ReLU follow the convolution.
    blocks : tuple of int
        Number of blocks in each stage. Every stage but the first halves the
        image in its first block.
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
        3x3 convolutions in a branch that is no bottleneck (Figure 6 has long ones).
    inner_width : int
        How many times wider than its output a branch is inside (Figure 4).
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
            ("block", tuple(FAMILIES.values())),
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
        """(is it so?, what is wrong and what to do) for fields that do not go together."""
        merge_and_run = self.block == MERGE_AND_RUN
        block = self.block.replace("_", "-")
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
            self.block in (PLAIN, RESIDUAL) and self.branches != 1,
            f"a {block} block has one branch, not {self.branches}; for parallel branches use a "
            f"dilnet or a dmrnet",
        )
        yield (
            self.mapping == "identity" and not merge_and_run,
            f"mapping='identity' belongs to merge-and-run blocks (Table 5); a {block} block has "
            f"{'no skip connection' if self.block == PLAIN else 'the identity already'}",
        )
        yield (
            self.ends == "unshared" and not merge_and_run,
            f"ends='unshared' belongs to merge-and-run networks, whose branches are separate; "
            f"those of a {block} block are not",
        )
        yield (
            self.ends == "concatenated" and not merge_and_run,
            f"ends='concatenated' belongs to merge-and-run networks; {block} blocks have one "
            f"stream",
        )
        yield (
            self.block == PLAIN and not self.projections,
            "a plain block has no skip connection; leave out projections=False",
        )
        yield (
            self.form == "grouped" and self.block in (PLAIN, RESIDUAL),
            f"the grouped form is for parallel branches (Figures 4 and 5); a {block} block has one",
        )
        yield (
            self.inner_width != 1 and self.branch_layers == 1,
            "inner_width needs a branch of at least two layers",
        )

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
        return next(family for family, block in FAMILIES.items() if block == self.block)

    @classmethod
    def from_json(cls, fields_by_name: dict) -> "NetworkSpec":
        """From what ``dataclasses.asdict`` and JSON have made of one.

        Raises
        ------
        DMRError
            For fields that are unknown or missing.
        """
        try:
            return cls(**tuples_from_lists(fields_by_name))
        except (TypeError, AttributeError) as error:
            raise DMRError(
                f"the network was not written by this version of dmr-gluon: {error}"
            ) from error


def tuples_from_lists(fields_by_name):
    """Fields as specs and recipes have them, which know no lists; JSON knows no tuples.

    Parameters
    ----------
    fields_by_name : dict

    Returns
    -------
    dict
    """
    return {k: tuple(v) if isinstance(v, list) else v for k, v in fields_by_name.items()}


def unknown(what, given, known):
    """What to say of something that there is not.

    Parameters
    ----------
    what : str
        Its kind, such as ``model``.
    given : object
    known : sequence
        What there is.

    Returns
    -------
    str
        With what was meant, or else with all that there is.
    """
    known = [str(value) for value in known]
    close = difflib.get_close_matches(str(given), known, n=3)
    return f"unknown {what} {str(given)!r}; " + (
        f"did you mean {either(close)}?" if close else f"there are {', '.join(known)}"
    )


def either(values):
    """``1, 2 or 3``.

    Parameters
    ----------
    values : sequence
        One at least.

    Returns
    -------
    str
    """
    values = [str(value) for value in values]
    return values[0] if len(values) == 1 else ", ".join(values[:-1]) + " or " + values[-1]


def require_count(name, value, most=None):
    """Refuse what is no whole number of at least 1.

    Parameters
    ----------
    name : str
        For the refusal.
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
