"""The parts that the networks share: convolutions, branches, shortcuts, stems, heads.

Every variable has its own initialiser and, where Module would exempt it from weight decay, a
``wd_mult``; so a plain ``Module.fit`` initialises and decays as the paper's training does.
"""

from functools import reduce
from operator import add
from typing import List, NamedTuple, Tuple

from dmr_gluon.errors import DMRError
from dmr_gluon.models.spec import require_count
from dmr_gluon.runtime import mx

# [6] of the paper: Gaussian, variance 2 / fan-in.
CONVOLUTION_INIT = mx.init.Xavier("gaussian", "in", 2)
# Authors' code.
FC_INIT = mx.init.Xavier("uniform", "in", 1)


class Convolution(NamedTuple):
    """One convolution of a branch, padded to keep the image's size at a stride of 1."""

    channels: int
    kernel: int
    stride: int


class Block(NamedTuple):
    """One block's name and dimensions, independent of its skip connection."""

    name: str
    channels: int
    stride: int
    widens: bool
    is_last: bool
    convolutions: Tuple[Convolution, ...]


def cifar_blocks(per_stage: int, width: int, layers_per_branch: int = 2) -> List[Block]:
    """List the blocks for 32x32 images: three stages of 16w, 32w, 64w channels (Table 1)."""

    def branch(channels, stride):
        rest = (Convolution(channels, 3, 1),) * (layers_per_branch - 1)
        return (Convolution(channels, 3, stride),) + rest

    return _blocks((per_stage,) * 3, (16 * width, 32 * width, 64 * width), 16 * width, branch)


def imagenet_blocks(units: Tuple[int, ...], width: int) -> List[Block]:
    """List the blocks for ImageNet: four stages of 256w to 2048w channels (section 4.5).

    The 3x3 convolution has the stride, as in the authors' code; in [7] the first 1x1 has it.
    """

    def bottleneck(channels, stride):
        inner = channels // 4
        shapes = (inner, 1, 1), (inner, 3, stride), (channels, 1, 1)
        return tuple(Convolution(*shape) for shape in shapes)

    channels = tuple(width * channels for channels in (256, 512, 1024, 2048))
    return _blocks(units, channels, 64 * width, bottleneck)


def _blocks(units, stage_channels, stem_channels, branch):
    blocks, channels_before = [], stem_channels
    for stage, (count, channels) in enumerate(zip(units, stage_channels), 1):
        for number in range(1, count + 1):
            stride = 2 if stage > 1 and number == 1 else 1
            blocks.append(
                Block(
                    name=f"stage{stage}_block{number}",
                    channels=channels,
                    stride=stride,
                    widens=channels != channels_before,
                    is_last=stage == len(units) and number == count,
                    convolutions=branch(channels, stride),
                )
            )
            channels_before = channels
    return blocks


def convolution(data, name, shape: Convolution):
    """Add a convolution without bias: the BN after it has one."""
    return mx.sym.Convolution(
        data,
        weight=mx.sym.var(f"{name}_weight", init=CONVOLUTION_INIT),
        num_filter=shape.channels,
        kernel=(shape.kernel, shape.kernel),
        stride=(shape.stride, shape.stride),
        pad=(shape.kernel // 2, shape.kernel // 2),
        no_bias=True,
        name=name,
    )


def batch_norm(data, name):
    """Add BN with learned gamma (by default, the Symbol API fixes it at one)."""
    return mx.sym.BatchNorm(
        data,
        gamma=mx.sym.var(f"{name}_gamma", init=mx.init.One()),
        # Module decays only weights and gammas; the authors decay every parameter.
        beta=mx.sym.var(f"{name}_beta", init=mx.init.Zero(), wd_mult=1.0),
        moving_mean=mx.sym.var(f"{name}_running_mean", init=mx.init.Zero()),
        moving_var=mx.sym.var(f"{name}_running_var", init=mx.init.One()),
        eps=2e-5,
        momentum=0.9,
        fix_gamma=False,
        name=name,
    )


def relu(data, name):
    """Add ReLU."""
    return mx.sym.Activation(data, act_type="relu", name=name)


def branch(data, block: Block, number: int):
    """Add a residual branch H: Conv-BN-ReLU-...-Conv-BN. The block's sum precedes its last ReLU."""
    name = f"{block.name}_branch{number}"
    for layer, shape in enumerate(block.convolutions, 1):
        data = convolution(data, f"{name}_conv{layer}", shape)
        data = batch_norm(data, f"{name}_bn{layer}")
        if layer < len(block.convolutions):
            data = relu(data, f"{name}_relu{layer}")
    return data


def shortcut(data, block: Block, number: int = 1):
    """Add a skip connection s: the identity, or 1x1 convolution and BN where the width changes."""
    if not block.widens:
        return data
    name = f"{block.name}_proj{number}"
    data = convolution(data, f"{name}_conv", Convolution(block.channels, 1, block.stride))
    return batch_norm(data, f"{name}_bn")


def total(terms):
    """Add up several symbols."""
    return reduce(add, terms)


def mean(terms):
    """Average several symbols."""
    return total(terms) / len(terms)


def cifar_stem(data, width, name="stem"):
    """Add a 3x3 convolution of 16w channels, BN and ReLU (Table 1)."""
    data = convolution(data, f"{name}_conv", Convolution(16 * width, 3, 1))
    return relu(batch_norm(data, f"{name}_bn"), f"{name}_relu")


def imagenet_stem(data, width, name="stem", normalised=True):
    """Add 7x7 convolution, BN, ReLU and max pooling; without BN and ReLU if not normalised."""
    data = convolution(data, f"{name}_conv", Convolution(64 * width, 7, 2))
    if normalised:
        data = relu(batch_norm(data, f"{name}_bn"), f"{name}_relu")
    return mx.sym.Pooling(
        data, kernel=(3, 3), stride=(2, 2), pad=(1, 1), pool_type="max", name=f"{name}_pool"
    )


def head(data, num_classes, name="head"):
    """Add global average pooling and FC: the logits."""
    data = mx.sym.Pooling(
        data, global_pool=True, kernel=(1, 1), pool_type="avg", name=f"{name}_pool"
    )
    return mx.sym.FullyConnected(
        data,
        weight=mx.sym.var(f"{name}_fc_weight", init=FC_INIT),
        bias=mx.sym.var(f"{name}_fc_bias", init=mx.init.Zero(), wd_mult=1.0),
        num_hidden=num_classes,
        name=f"{name}_fc",
    )


def softmax(logits):
    """Add softmax with the gradient of the cross-entropy; Module divides it by the batch size."""
    return mx.sym.SoftmaxOutput(logits, mx.sym.var("softmax_label"), name="softmax")


def is_imagenet(image_shape) -> bool:
    """Return whether images are large enough for the ImageNet networks.

    Parameters
    ----------
    image_shape : tuple of int or str
        (channels, height, width), or ``"3,32,32"`` as in the command lines of MXNet's examples.

    Raises
    ------
    DMRError
        For anything else, and for images of less than 32 pixels.
    """
    try:
        sizes = image_shape.split(",") if isinstance(image_shape, str) else image_shape
        _, height, width = map(int, sizes)
    except (TypeError, ValueError):
        raise DMRError(
            f"image_shape must be (channels, height, width) or '3,32,32', not {image_shape!r}"
        ) from None
    if min(height, width) < 32:
        raise DMRError(f"image_shape {image_shape!r} is too small; the networks need 32 pixels")
    return height > 32


def refuse_imagenet(image_shape, network):
    """Refuse large images for a network that the paper has for 32x32 images only."""
    if is_imagenet(image_shape):
        raise DMRError(
            f"the paper's {network} is for 32x32 images only; image_shape {image_shape!r} needs "
            f"symbols/resnet.py or symbols/dmrnet.py"
        )


def cifar_blocks_per_stage(num_layers) -> int:
    """Return n for the depth 6n + 2: three stages of n blocks of two layers, stem and FC."""
    require_count("num_layers", num_layers)
    per_stage, rest = divmod(num_layers - 2, 6)
    if rest or per_stage < 1:
        below = max(8, 6 * per_stage + 2)
        raise DMRError(
            f"num_layers={num_layers} is not 6n + 2, the depth of networks for 32x32 images; try "
            f"{below} or {below + 6}"
        )
    return per_stage


def imagenet_units(num_layers, units_by_depth) -> Tuple[int, ...]:
    """Look up the blocks per stage of an ImageNet network."""
    if num_layers not in units_by_depth:
        known = ", ".join(map(str, units_by_depth))
        raise DMRError(f"num_layers={num_layers!r}: no such ImageNet network; use one of {known}")
    return units_by_depth[num_layers]


def require_counts(**counts):
    """Require whole numbers of at least 1."""
    for name, count in counts.items():
        require_count(name, count)
