"""Read network names. Needs no MXNet.

:func:`get_spec` turns a name into a :class:`~dmr_gluon.models.spec.NetworkSpec`, from
which :mod:`dmr_gluon.models.network` builds a HybridBlock. A name is a family, the
network's depth in the paper, and a suffix for each deviation from the standard network:

==================================  ============================================
``cifar_resnet110``                 residual network for 32x32 images (Table 1)
``cifar_dilnet56``                  the same with inception-like blocks
``cifar_dmrnet56``                  the same with merge-and-run blocks
``cifar_dmrnet32_w4``               four times wider (Table 3, "DMRNet-Wide")
``cifar_dmrnet56_k3``               three branches in every block (section 5)
``cifar_dmrnet50_identity``         identity mapping, M = I (Table 5)
``cifar_dmrnet50_unshared``         a stem and an FC for every branch (Table 5)
``cifar_resnet26_blocks3``          three residual blocks, long ones (Figure 6)
``cifar_plain26``                   no skip connections at all (Figure 6)
``resnet101``, ``dmrnet44``         for ImageNet, bottleneck branches (Table 4)
``resnet98_ijcai``                  the authors' later pair for ImageNet, of the
``dmrnet50_ijcai``                  paper's second version (IJCAI 2018)
``cifar_dmrnet56_grouped``          the branches as grouped convolutions (Fig. 5)
``cifar_resnet14_inner2``           branches twice as wide inside (Figure 4)
==================================  ============================================

Anything else that a :class:`~dmr_gluon.models.spec.NetworkSpec` describes is written as a call:
``cifar_dmrnet14(blocks=(1, 2, 1))``. Registered blocks, mappings and networks have names of the
same forms: ``cifar_my_block56``, ``cifar_dmrnet56_mymapping``, ``my_net(depth=3)``.
"""

import re
from dataclasses import fields, replace
from typing import Any, Dict, Optional, Tuple

from ..errors import DMRError
from .custom_spec import BUILDERS, MAPPINGS, CustomSpec, call_text, split_call
from .spec import (
    BLOCK_KINDS,
    FAMILIES,
    PAPERS,
    NetworkSpec,
    Spec,
    require_count,
    tuples_from_lists,
    unknown,
)

#: Blocks in each of the four stages of the ImageNet networks, by depth.
#: ResNets: [7]'s Table 1. DMRNet-44: paper, section 4.5. DMRNet-29 and -71:
#: the counterparts of ResNet-50 and -152 in the authors' released code.
IMAGENET_BLOCKS: Dict[str, Dict[int, Tuple[int, ...]]] = {
    "resnet": {50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)},
    "dmrnet": {29: (2, 2, 4, 1), 44: (2, 2, 8, 2), 71: (2, 4, 15, 2)},
}

#: The pair of the paper's version of 2018, names ending in ``_ijcai``.
IJCAI_BLOCKS: Dict[str, Dict[int, Tuple[int, ...]]] = {
    "resnet": {98: (2, 4, 22, 4)},
    "dmrnet": {50: (1, 2, 11, 2)},
}

_NAME = re.compile(r"(cifar_)?([a-z_]+?)([0-9]{1,9})((?:_[a-z]+[0-9]{0,9})*)")
_SUFFIX = re.compile(r"(w|k|blocks|inner)([0-9]+)")


def get_spec(
    name: str, classes: Optional[int] = None, width: int = 1, **overrides: Any
) -> NetworkSpec:
    """Turn a name of one of the paper's networks, or of one like them, into its spec.

    As :func:`read_spec`, except that registered networks are refused: they have no such spec.
    """
    spec = read_spec(name, classes, width, **overrides)
    if isinstance(spec, CustomSpec):
        raise DMRError(f"{name} is a registered network: only its builder knows what is inside")
    return spec


def read_spec(name: str, classes: Optional[int] = None, width: int = 1, **overrides: Any) -> Spec:
    """Turn a network's name into its spec.

    Parameters
    ----------
    name : str
        Such as ``cifar_dmrnet56``, ``cifar_dmrnet32_w4`` or ``dmrnet44``.
    classes : int, optional
        Default: 10 for the ``cifar_`` networks, 1000 for the others.
    width : int
        Multiplies the channels of the stem and of every stage, as the suffix
        ``_w4`` does; give one or the other.
    **overrides
        Any other field of :class:`NetworkSpec`, such as ``branches=3`` or
        ``mapping='identity'``; arguments of a registered network's builder. The spec's name then
        includes them.

    Returns
    -------
    NetworkSpec or CustomSpec
        The latter for registered networks.

    Raises
    ------
    DMRError
        For an unknown name, an invalid depth (naming valid ones), or an override
        that does not exist or contradicts the network.
    """
    base, own = split_call(str(name))
    overrides = tuples_from_lists({**own, **overrides})
    if base in BUILDERS:
        overrides = {**overrides, "width": width} if width != 1 else overrides
        return CustomSpec(call_text(base, overrides), 1000 if classes is None else classes)
    width = overrides.pop("width", width)
    standard = _read(base, width)
    allowed = {field.name for field in fields(NetworkSpec)} - {"name", "stem", "classes"}
    for option in overrides:
        if option not in allowed:
            raise DMRError(unknown("network option", option, sorted(allowed | {"width"})))
    classes = standard.classes if classes is None else classes
    spec = replace(standard, classes=classes, **overrides)
    short = name_of(spec)
    if not short.endswith("_custom"):
        return replace(spec, name=short)
    changed = {key: one for key, one in overrides.items() if one != getattr(standard, key)}
    return replace(spec, name=call_text(name_of(standard), changed))


def name_of(spec: Spec) -> str:
    """Return the name that :func:`read_spec` reads as this spec, or one ending in ``_custom``."""
    if isinstance(spec, CustomSpec):
        return spec.name
    cifar = spec.stem == "cifar"
    usual_branches = 2 if spec.parallel else 1
    width = spec.stem_channels // (16 if cifar else 64)
    base = f"{'cifar_' if cifar else ''}{spec.family}{spec.depth}"
    suffixes = [
        (not spec.stem_norm, "_ijcai"),
        (width != 1, f"_w{width}"),
        (spec.branches != usual_branches, f"_k{spec.branches}"),
        (spec.branch_layers != 2, f"_blocks{sum(spec.blocks)}"),
        (spec.inner_width != 1, f"_inner{spec.inner_width}"),
        (spec.mapping != "mean", f"_{spec.mapping}"),
        (spec.ends == "unshared", "_unshared"),
        (spec.form == "grouped", "_grouped"),
    ]
    name = base + "".join(suffix for applies, suffix in suffixes if applies)
    try:
        same = replace(_read(name), classes=spec.classes) == replace(spec, name=name)
    except DMRError:
        same = False
    if same:
        return name
    if "(" in spec.name and read_spec(spec.name, spec.classes) == spec:
        return spec.name
    return f"{base}_custom"


def _read(name, width=1):
    match = _NAME.fullmatch(name)
    if not match or match[2] not in FAMILIES:
        raise DMRError(unknown("model", name, example_names()))
    cifar, family, depth = bool(match[1]), match[2], int(match[3])
    suffixes = _read_suffixes(name, match[4])
    if "w" in suffixes and width != 1:
        raise DMRError(f"model {name!r} already gives its width; leave out width={width}")
    width = suffixes.get("w", width)
    require_count("width", width)
    ijcai, branch_layers, ends = "ijcai" in suffixes, 2, "shared"
    if ijcai and cifar:
        raise DMRError(f"model {name!r}: _ijcai is for ImageNet networks")
    blocks = _cifar_blocks(name, depth) if cifar else _imagenet_blocks(name, family, depth, ijcai)
    if "blocks" in suffixes:
        blocks, branch_layers = _long_blocks(name, cifar, family, depth, suffixes["blocks"])
    if ijcai and family == "dmrnet":
        ends = "concatenated"
    block = FAMILIES[family]
    stages = (16, 32, 64) if cifar else (256, 512, 1024, 2048)
    return NetworkSpec(
        name=name,
        block=block,
        stem="cifar" if cifar else "imagenet",
        blocks=blocks,
        channels=tuple(width * channels for channels in stages),
        stem_channels=width * (16 if cifar else 64),
        bottleneck=not cifar,
        branches=suffixes.get("k", 2 if BLOCK_KINDS[block].parallel else 1),
        mapping=next((word for word in suffixes if word in MAPPINGS), "mean"),
        classes=10 if cifar else 1000,
        branch_layers=branch_layers,
        inner_width=suffixes.get("inner", 1),
        ends="unshared" if "unshared" in suffixes else ends,
        projections=not ijcai,
        stem_norm=not ijcai,
        form="grouped" if "grouped" in suffixes else "branches",
    )


def _read_suffixes(name, tail):
    """Parse ``_w4_identity`` into {"w": 4, "identity": True}."""
    suffixes: Dict[str, int] = {}
    words = [*(name for name in MAPPINGS if name != "mean"), "unshared", "grouped", "ijcai"]
    for suffix in tail.split("_")[1:]:
        match = _SUFFIX.fullmatch(suffix)
        word = match[1] if match else suffix
        if word in suffixes or not (match or word in words):
            raise DMRError(
                f"model {name!r}: _{suffix} is given twice or is not one of _wN, _kN, _blocksN, "
                f"_innerN, {', '.join(f'_{word}' for word in words)}"
            )
        suffixes[word] = int(match[2]) if match else True
    return suffixes


def _cifar_blocks(name, depth):
    """Return the blocks in each stage of a network of depth 6n + 2 (Table 1)."""
    per_stage, rest = divmod(depth - 2, 6)
    if rest or per_stage < 1:
        below = max(8, 6 * per_stage + 2)
        raise DMRError(
            f"model {name!r}: depth {depth} is not 6n + 2 (three stages of n two-layer blocks, "
            f"stem and FC); try {below} or {below + 6}"
        )
    return (per_stage,) * 3


def _long_blocks(name, cifar, family, depth, count):
    """Return the blocks in each stage, and the layers in a branch, of ``count`` long blocks."""
    if not cifar or family != "resnet":
        raise DMRError(f"model {name!r}: _blocksN is for cifar_resnet networks (Figure 6)")
    if count < 3 or count % 3 or (depth - 2) % count:
        raise DMRError(
            f"model {name!r}: the number of blocks must be a multiple of 3 that divides the "
            f"{depth - 2} layers, not {count}"
        )
    return (count // 3,) * 3, (depth - 2) // count


def _imagenet_blocks(name, family, depth, ijcai):
    """Look up the blocks in each stage."""
    table = IJCAI_BLOCKS if ijcai else IMAGENET_BLOCKS
    if FAMILIES[family] not in PAPERS:
        family = "dmrnet" if BLOCK_KINDS[family].parallel else "resnet"
    depths = table.get(family, {})
    if depth not in depths:
        ending = "_ijcai" if ijcai else ""
        known = [f"{family}{one}{ending}" for one in depths] or ["resnet101", "dmrnet44"]
        raise DMRError(
            f"model {name!r}: the paper has no such ImageNet network; use {' or '.join(known)}, "
            f"or cifar_{family}56 for 32x32 images"
        )
    return depths[depth]


def example_names():
    """Return valid names for help texts and error messages."""
    names = [f"cifar_{family}{depth}" for depth in (14, 56, 110) for family in FAMILIES]
    names += ["cifar_dmrnet32_w4", "cifar_dmrnet50_w4", "cifar_dmrnet56_k3"]
    names += ["cifar_dmrnet50_identity", "cifar_dmrnet50_unshared", "cifar_resnet26_blocks3"]
    for table, ending in ((IMAGENET_BLOCKS, ""), (IJCAI_BLOCKS, "_ijcai")):
        names += [f"{family}{depth}{ending}" for family in table for depth in table[family]]
    return [*names, *BUILDERS]


#: The former name of :func:`get_spec`, which the package exports.
network = get_spec
