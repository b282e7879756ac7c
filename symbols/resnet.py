"""Residual networks: y = ReLU(H(x) + s(x)), equation 1 of the paper."""

from dmr_gluon.errors import DMRError
from dmr_gluon.runtime import mx

from . import layers

#: Blocks in each stage, by depth: Table 1 of [7].
IMAGENET_UNITS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}
#: The same in the authors' later version (IJCAI 2018).
IJCAI_UNITS = {98: (2, 4, 22, 4)}


def get_symbol(
    num_classes=10,
    num_layers=110,
    image_shape=(3, 32, 32),
    width=1,
    residual_blocks=None,
    ijcai=False,
):
    """Build a residual network.

    Parameters
    ----------
    num_classes : int
        Number of outputs.
    num_layers : int
        Depth: 6n + 2 for 32x32 images (Table 1); 50, 101 or 152 for larger ones (section 4.5);
        98 with ``ijcai``.
    image_shape : tuple of int or str
        (channels, height, width). Height 32 selects the CIFAR networks, more the ImageNet ones.
    width : int
        Multiplies the channels of the stem and of every stage.
    residual_blocks : int, optional
        Number of blocks in the whole network, for Figure 6 (32x32 images only): 3 or 6 blocks
        with long branches instead of (num_layers - 2) / 2 blocks with two layers.
    ijcai : bool
        The authors' later version (ImageNet only): no BN or ReLU in the stem, no shortcut where
        the width changes.

    Returns
    -------
    Symbol
        Maps ``data`` (N, *image_shape) and ``softmax_label`` (N,) to probabilities
        (N, num_classes).

    Raises
    ------
    DMRError
        For a depth or a combination that is not in the paper.
    """
    imagenet = layers.is_imagenet(image_shape)
    layers.require_counts(num_classes=num_classes, width=width)
    if imagenet and residual_blocks is not None:
        raise DMRError("residual_blocks (Figure 6) is for 32x32 images only; leave it out")
    if ijcai and not imagenet:
        raise DMRError("ijcai=True is for ImageNet only; give an image_shape such as 3,224,224")

    data = mx.sym.var("data")
    if imagenet:
        units = layers.imagenet_units(num_layers, IJCAI_UNITS if ijcai else IMAGENET_UNITS)
        blocks = layers.imagenet_blocks(units, width)
        data = layers.imagenet_stem(data, width, normalised=not ijcai)
    else:
        if residual_blocks is None:
            blocks = layers.cifar_blocks(layers.cifar_blocks_per_stage(num_layers), width)
        else:
            blocks = _figure_6_blocks(num_layers, residual_blocks, width)
        data = layers.cifar_stem(data, width)

    for block in blocks:
        summed = layers.branch(data, block, 1)
        if not (ijcai and block.widens):
            summed = summed + layers.shortcut(data, block)
        data = layers.relu(summed, f"{block.name}_relu")
    return layers.softmax(layers.head(data, num_classes))


def _figure_6_blocks(num_layers, residual_blocks, width):
    layers.require_counts(num_layers=num_layers, residual_blocks=residual_blocks)
    layers_per_branch, rest = divmod(num_layers - 2, residual_blocks)
    if rest or layers_per_branch < 1 or residual_blocks % 3:
        raise DMRError(
            f"residual_blocks={residual_blocks} must be a multiple of 3 that divides "
            f"num_layers - 2 = {num_layers - 2}"
        )
    return layers.cifar_blocks(residual_blocks // 3, width, layers_per_branch)
