"""Where our parameters stand in PyTorch's twins. Plain Python."""

import re

_NAME = re.compile(
    r"(?:(stage\d+_block\d+)_)?(\w+?)_(weight|bias|gamma|beta|running_mean|running_var)"
)
_KINDS = {"gamma": "weight", "beta": "bias"}


def twin_name(name):
    """The name in a twin's ``state_dict`` of one of our parameters.

    ``stage2_block1_branch1_bn1_gamma`` becomes ``stage2_block1.branch1.bn1.weight``.
    """
    block, place, kind = _NAME.fullmatch(name).groups()
    return ".".join(filter(None, (block, *place.split("_"), _KINDS.get(kind, kind))))
