"""Networks of merge-and-run blocks, equation 3 of the paper and section 5 for K branches.

m = mean of s_k(x_k) over the K streams; y_k = ReLU(H_k(x_k) + m).
"""

from dmr_gluon.errors import DMRError
from dmr_gluon.runtime import mx

from . import layers

#: Blocks in each stage, by depth. 44: section 4.5; 29 and 71: the counterparts of ResNet-50 and
#: -152 in the authors' code.
IMAGENET_UNITS = {29: (2, 2, 4, 1), 44: (2, 2, 8, 2), 71: (2, 4, 15, 2)}
#: The same in the authors' later version (IJCAI 2018).
IJCAI_UNITS = {50: (1, 2, 11, 2)}


def get_symbol(
    num_classes=10,
    num_layers=56,
    image_shape=(3, 32, 32),
    width=1,
    branches=2,
    mapping="mean",
    shared_ends=True,
    ijcai=False,
):
    """Build a deep merge-and-run network (DMRNet).

    Parameters
    ----------
    num_classes : int
        Number of outputs.
    num_layers : int
        Depth: 6n + 2 for 32x32 images, L + 2 in Table 2; 29, 44 or 71 for larger ones
        (section 4.5); 50 with ``ijcai``.
    image_shape : tuple of int or str
        (channels, height, width). Height 32 selects the CIFAR networks, more the ImageNet ones.
    width : int
        Multiplies the channels of the stem and of every stage.
    branches : int
        K, the number of parallel streams; 2 in the paper's experiments.
    mapping : str
        ``mean`` (merge-and-run) or ``identity``: every stream keeps its own skip connection
        (Table 5).
    shared_ends : bool
        If False, every stream has its own stem and FC, and the logits are averaged (Table 5,
        "w/o sharing"; the paper does not say how the FCs join).
    ijcai : bool
        The authors' later version (ImageNet only): no BN or ReLU in the stem, no shortcut and
        no merging where the width changes, all streams concatenated before the FC.

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
    layers.require_counts(num_classes=num_classes, width=width, branches=branches)
    if mapping not in ("mean", "identity"):
        raise DMRError(f"mapping must be 'mean' or 'identity', not {mapping!r}")
    if ijcai and not imagenet:
        raise DMRError("ijcai=True is for ImageNet only; give an image_shape such as 3,224,224")
    if ijcai and (mapping == "identity" or not shared_ends):
        raise DMRError("ijcai=True has neither mapping='identity' nor shared_ends=False (Table 5)")

    if imagenet:
        units = layers.imagenet_units(num_layers, IJCAI_UNITS if ijcai else IMAGENET_UNITS)
        blocks = layers.imagenet_blocks(units, width)
    else:
        blocks = layers.cifar_blocks(layers.cifar_blocks_per_stage(num_layers), width)

    data = mx.sym.var("data")

    def stem(name):
        if imagenet:
            return layers.imagenet_stem(data, width, name, normalised=not ijcai)
        return layers.cifar_stem(data, width, name)

    streams = [stem("stem")] * branches
    if not shared_ends:
        streams = [stem(f"stem{k}") for k in range(1, branches + 1)]

    for block in blocks:
        runs = [layers.branch(x, block, k) for k, x in enumerate(streams, 1)]
        if ijcai and block.widens:
            streams = _relus(runs, block)
            continue
        skips = [layers.shortcut(x, block, k) for k, x in enumerate(streams, 1)]
        if block.is_last and shared_ends and not ijcai:
            # One output, so that the FC is no wider than a residual network's.
            summed = layers.total(runs) + layers.mean(skips)
            streams = [layers.relu(summed, f"{block.name}_relu")]
            continue
        if mapping == "mean":
            skips = [layers.mean(skips)] * branches
        streams = _relus([run + skip for run, skip in zip(runs, skips)], block)

    return layers.softmax(_logits(streams, num_classes, shared_ends))


def _relus(streams, block):
    return [layers.relu(x, f"{block.name}_relu{k}") for k, x in enumerate(streams, 1)]


def _logits(streams, num_classes, shared_ends):
    if shared_ends:
        features = streams[0] if len(streams) == 1 else mx.sym.concat(*streams, name="streams")
        return layers.head(features, num_classes)
    each = [layers.head(x, num_classes, f"head{k}") for k, x in enumerate(streams, 1)]
    return mx.sym.mean(mx.sym.stack(*each), axis=0, name="logits")
