"""The paper's networks a second time, written by hand in MXNet's Symbol API.

Each module has a ``get_symbol`` like MXNet's own image-classification examples. The symbol takes
``data`` and ``softmax_label``. Its variables hold their initialisers and apply weight decay to
every parameter, so ``mx.mod.Module(symbol).fit(iterator)`` trains it as the paper does, given an
optimiser with the paper's learning rate, momentum and weight decay.
"""

from dmr_gluon.errors import DMRError
from dmr_gluon.models.names import get_spec
from dmr_gluon.models.spec import MERGE_AND_RUN, PLAIN, RESIDUAL

from . import dilnet, dmrnet, plain, resnet


def get_symbol(name, classes=None):
    """Build a network by the name that :func:`dmr_gluon.get_model` takes.

    Parameters
    ----------
    name : str
        Such as ``cifar_dmrnet56``.
    classes : int, optional
        Default: 10 for the ``cifar_`` networks, 1000 for the others.

    Returns
    -------
    Symbol
        Maps ``data`` and ``softmax_label`` to probabilities (N, classes).

    Raises
    ------
    DMRError
        For an unknown name or an equivalent form of a network.
    """
    spec = get_spec(name, classes=classes)
    cifar = spec.stem == "cifar"
    if spec.form == "grouped" or spec.inner_width != 1:
        raise DMRError(f"{name} is an equivalent form, which symbols/ does not contain")
    arguments = {
        "num_classes": spec.classes,
        "num_layers": spec.depth,
        "image_shape": (3, 32, 32) if cifar else (3, 224, 224),
        "width": spec.stem_channels // (16 if cifar else 64),
    }
    if spec.block == PLAIN:
        return plain.get_symbol(**arguments)
    ijcai = not spec.stem_norm
    if spec.block == RESIDUAL:
        blocks = sum(spec.blocks) if spec.branch_layers != 2 else None
        return resnet.get_symbol(residual_blocks=blocks, ijcai=ijcai, **arguments)
    arguments["branches"] = spec.branches
    if spec.block != MERGE_AND_RUN:
        return dilnet.get_symbol(**arguments)
    return dmrnet.get_symbol(
        mapping=spec.mapping, shared_ends=spec.ends != "unshared", ijcai=ijcai, **arguments
    )
