"""Networks as data: names and the specifications that they stand for.

Nothing here needs MXNet. :mod:`dmr_gluon.model` turns a :class:`NetworkSpec`
into a HybridBlock.

Names follow GluonCV's manner and always carry the depth that the paper gives
for that very network:

=====================  ======================================================
``cifar_resnet110``    residual network for 32x32 images, depth 110 (Table 1)
``cifar_dilnet56``     the same with inception-like blocks
``cifar_dmrnet56``     the same with merge-and-run blocks
``cifar_dmrnet32_w4``  four times wider (Table 3, "DMRNet-Wide")
``resnet101``          ImageNet network with bottleneck branches (section 4.5)
``dmrnet44``           its merge-and-run counterpart
=====================  ======================================================
"""

import difflib
import re
from dataclasses import dataclass, fields, replace
from typing import Dict, Tuple

from .errors import DMRError

RESIDUAL = "residual"
INCEPTION_LIKE = "inception_like"
MERGE_AND_RUN = "merge_and_run"

#: What stands in a name for each kind of block.
FAMILIES = {"resnet": RESIDUAL, "dilnet": INCEPTION_LIKE, "dmrnet": MERGE_AND_RUN}

#: Blocks in each of the four stages of the ImageNet networks, by depth.
#: ResNets: [7]'s Table 1. DMRNet-44: paper, section 4.5. DMRNet-29 and -71
#: stand beside ResNet-50 and -152 in the authors' released code.
IMAGENET_BLOCKS: Dict[str, Dict[int, Tuple[int, ...]]] = {
    "resnet": {50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)},
    "dmrnet": {29: (2, 2, 4, 1), 44: (2, 2, 8, 2), 71: (2, 4, 15, 2)},
}

_NAME = re.compile(r"(cifar_)?(resnet|dilnet|dmrnet)(\d+)(?:_w(\d+))?$")


@dataclass(frozen=True)
class NetworkSpec:
    """A network as a value.

    Parameters
    ----------
    name : str
        The name that :func:`network` read, for logs and files.
    block : str
        ``residual``, ``inception_like`` or ``merge_and_run`` (equations 1-3).
    stem : str
        ``cifar``: 3x3 convolution; ``imagenet``: 7x7 convolution of stride 2
        and 3x3 max pooling of stride 2. Each followed by BN and ReLU.
    blocks : tuple of int
        Number of blocks in each stage. Every stage but the first halves the
        image in its first block.
    channels : tuple of int
        Output channels of each stage.
    stem_channels : int
        Output channels of the stem.
    bottleneck : bool
        Branches of 1x1, 3x3, 1x1 convolutions with a quarter of the channels
        inside, instead of two 3x3 convolutions.
    branches : int
        K, the number of parallel residual branches (section 5; the paper's
        experiments have K = 2). A residual block has exactly one.
    mapping : str
        The skip connection of a merge-and-run block: ``mean`` (merge-and-run)
        or ``identity`` (Table 5).
    classes : int
        Number of outputs.
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

    def __post_init__(self):
        if self.block not in FAMILIES.values():
            raise DMRError(_unknown("block", self.block, FAMILIES.values()))
        if self.mapping not in ("mean", "identity"):
            raise DMRError(_unknown("mapping", self.mapping, ("mean", "identity")))
        for name, least in (("classes", 1), ("branches", 1), ("stem_channels", 1)):
            _require_count(name, getattr(self, name), least)
        for name in ("blocks", "channels"):
            values = getattr(self, name)
            if not isinstance(values, tuple):
                raise DMRError(f"{name} must be a tuple, one number per stage, not {values!r}")
            for value in values:
                _require_count(name, value, 1)
        if len(self.blocks) != len(self.channels):
            raise DMRError(
                f"{self.name}: {len(self.blocks)} numbers of blocks but "
                f"{len(self.channels)} numbers of channels; give one of each per stage"
            )
        if self.bottleneck and any(channels % 4 for channels in self.channels):
            raise DMRError(
                f"{self.name}: bottleneck branches need channels divisible by 4, "
                f"not {self.channels}"
            )
        if self.block == RESIDUAL and self.branches != 1:
            raise DMRError(
                f"{self.name}: a residual block has one branch, not {self.branches}; for "
                f"parallel branches use a dilnet or a dmrnet"
            )
        if self.mapping == "identity" and self.block != MERGE_AND_RUN:
            raise DMRError(
                f"{self.name}: mapping='identity' belongs to merge-and-run blocks (Table 5); "
                f"a {self.block} block has the identity already"
            )

    @property
    def layers_per_branch(self) -> int:
        """B of section 3.2: convolutions in one residual branch."""
        return 3 if self.bottleneck else 2

    @property
    def depth(self) -> int:
        """Layers on the longest path: stem, branches and FC (projections not counted)."""
        return self.layers_per_branch * sum(self.blocks) + 2


def network(name: str, classes: int = None, width: int = 1, **overrides) -> NetworkSpec:
    """Read a network's name.

    Parameters
    ----------
    name : str
        Such as ``cifar_dmrnet56``, ``cifar_dmrnet32_w4`` or ``dmrnet44``.
    classes : int, optional
        Default: 10 for the ``cifar_`` networks, 1000 for the others.
    width : int
        Multiplies the channels of the stem and of every stage; the same as
        ``_w4`` at the end of a name, and not to be given beside it.
    **overrides
        Any other field of :class:`NetworkSpec`, such as ``branches=3`` or
        ``mapping='identity'``.

    Raises
    ------
    DMRError
        For an unknown name, a depth that does not fit (with the nearest that
        do), or an override that does not exist or contradicts the network.
    """
    match = _NAME.match(str(name))
    if not match:
        raise DMRError(_unknown("model", name, example_names()))
    cifar, family, depth, suffix = match.groups()
    depth = int(depth)
    if suffix is not None:
        if width != 1:
            raise DMRError(f"model {name!r} already says its width; leave out width={width}")
        width = int(suffix)
    _require_count("width", width, 1)
    spec = (_cifar if cifar else _imagenet)(name, family, depth, width)
    changes = dict(overrides)
    if classes is not None:
        changes["classes"] = classes
    allowed = {field.name for field in fields(NetworkSpec)} - {"name", "stem"}
    for key in changes:
        if key not in allowed:
            raise DMRError(_unknown("network option", key, sorted(allowed | {"width"})))
    return replace(spec, **changes)


def _cifar(name, family, depth, width):
    per_stage, rest = divmod(depth - 2, 6)
    if rest or per_stage < 1:
        below = max(8, 6 * per_stage + 2)
        nearest = sorted({below, max(8, below + 6 if depth > 8 else 8)})
        raise DMRError(
            f"model {name!r}: depth {depth} does not fit 6n + 2 (three stages of n blocks, two "
            f"layers each, stem and FC); nearest that do: {_either(nearest)}"
        )
    return NetworkSpec(
        name=name,
        block=FAMILIES[family],
        stem="cifar",
        blocks=(per_stage,) * 3,
        channels=(16 * width, 32 * width, 64 * width),
        stem_channels=16 * width,
        bottleneck=False,
        branches=1 if family == "resnet" else 2,
        mapping="mean",
        classes=10,
    )


def _imagenet(name, family, depth, width):
    if family not in IMAGENET_BLOCKS:
        raise DMRError(
            f"model {name!r}: the paper has no ImageNet {family}; for 32x32 images use "
            f"cifar_{family}56, for ImageNet resnet101 or dmrnet44"
        )
    depths = IMAGENET_BLOCKS[family]
    if depth not in depths:
        nearest = sorted(sorted(depths, key=lambda known: abs(known - depth))[:2])
        raise DMRError(
            f"model {name!r}: no ImageNet {family} of depth {depth}; nearest that there are: "
            f"{_either(nearest)} (for 32x32 images: cifar_{family}...)"
        )
    return NetworkSpec(
        name=name,
        block=FAMILIES[family],
        stem="imagenet",
        blocks=depths[depth],
        channels=tuple(channels * width for channels in (256, 512, 1024, 2048)),
        stem_channels=64 * width,
        bottleneck=True,
        branches=1 if family == "resnet" else 2,
        mapping="mean",
        classes=1000,
    )


def example_names():
    """Names that are sure to work, for help texts and refusals."""
    names = [f"cifar_{family}{depth}" for depth in (14, 56, 110) for family in FAMILIES]
    names += ["cifar_dmrnet32_w4", "cifar_dmrnet50_w4"]
    names += [f"{family}{depth}" for family, depths in IMAGENET_BLOCKS.items() for depth in depths]
    return names


def _unknown(what, given, known):
    known = [str(value) for value in known]
    close = difflib.get_close_matches(str(given), known, n=3)
    return f"unknown {what} {str(given)!r}; " + (
        f"did you mean {_either(close)}?" if close else f"there are {', '.join(known)}"
    )


def _either(values):
    values = [str(value) for value in values]
    return values[0] if len(values) == 1 else ", ".join(values[:-1]) + " or " + values[-1]


def _require_count(name, value, least):
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise DMRError(f"{name} must be a whole number of at least {least}, not {value!r}")
