"""Plain networks: y = ReLU(H(x)), the residual networks without their skip connections."""

from dmr_gluon.runtime import mx

from . import layers


def get_symbol(num_classes=10, num_layers=26, image_shape=(3, 32, 32), width=1):
    """Build a plain network: a residual network of Table 1 without skip connections.

    Parameters
    ----------
    num_classes : int
        Number of outputs.
    num_layers : int
        Depth, 6n + 2.
    image_shape : tuple of int or str
        (channels, height, width); height 32.
    width : int
        Multiplies the channels of the stem and of every stage.

    Returns
    -------
    Symbol
        Maps ``data`` (N, *image_shape) and ``softmax_label`` (N,) to probabilities
        (N, num_classes).

    Raises
    ------
    DMRError
        For a depth that is not 6n + 2, or larger images.
    """
    layers.refuse_imagenet(image_shape, "plain network")
    layers.require_counts(num_classes=num_classes, width=width)
    per_stage = layers.cifar_blocks_per_stage(num_layers)

    data = layers.cifar_stem(mx.sym.var("data"), width)
    for block in layers.cifar_blocks(per_stage, width):
        data = layers.relu(layers.branch(data, block, 1), f"{block.name}_relu")
    return layers.softmax(layers.head(data, num_classes))
