"""Networks of inception-like blocks: y = ReLU(H1(x) + H2(x) + s(x)), equation 2 of the paper."""

from dmr_gluon.runtime import mx

from . import layers


def get_symbol(num_classes=10, num_layers=56, image_shape=(3, 32, 32), width=1, branches=2):
    """Build a deep inception-like network (DILNet).

    Parameters
    ----------
    num_classes : int
        Number of outputs.
    num_layers : int
        Depth, 6n + 2: L + 2 in Table 2.
    image_shape : tuple of int or str
        (channels, height, width); height 32.
    width : int
        Multiplies the channels of the stem and of every stage.
    branches : int
        K, the residual branches of a block; 2 in the paper.

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
    layers.refuse_imagenet(image_shape, "DILNet")
    layers.require_counts(num_classes=num_classes, width=width, branches=branches)
    per_stage = layers.cifar_blocks_per_stage(num_layers)

    data = layers.cifar_stem(mx.sym.var("data"), width)
    for block in layers.cifar_blocks(per_stage, width):
        runs = [layers.branch(data, block, k) for k in range(1, branches + 1)]
        summed = layers.total(runs) + layers.shortcut(data, block)
        data = layers.relu(summed, f"{block.name}_relu")
    return layers.softmax(layers.head(data, num_classes))
