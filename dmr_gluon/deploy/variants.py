"""The forms in which a trained network can be exported.

===============  ====================================================================
``plain``        as it was trained
``bn-folded``    BN is part of the convolutions before it
``folded``       and the merge's factor is part of the convolutions around it
``fused``        ``folded`` as oneDNN's operators: for CPUs and MXNet only
``grouped``      ``folded`` of the grouped form (Figures 4 and 5): all branches in one
                 convolution
``int8``         ``folded`` as oneDNN's INT8 operators, each tensor's range from the
                 smallest and largest value on training images
``int8-entropy`` with ranges chosen to lose the least information (KL divergence)
``onnx``         ``folded`` as an ONNX model, for ONNX Runtime and others
===============  ====================================================================

All but INT8 are the same function up to rounding.
"""

from dataclasses import dataclass

import numpy as np

from ..data.preprocessing import batch_size
from ..errors import DMRError
from ..models.equivalence import arrays_of, convert
from ..models.network import Network
from ..models.spec import INCEPTION_LIKE, MERGE_AND_RUN
from ..runtime import mx
from .folding import fold_bn, fold_scaling
from .graph import Graph, Node

PLAIN = "plain"
ONNX = "onnx"

#: In the order in which they are made and listed.
FORMS = ("plain", "bn-folded", "folded", "fused", "grouped", "int8", "int8-entropy", "onnx")
INT8 = ("int8", "int8-entropy")
CPU_ONLY = ("fused", *INT8, ONNX)


@dataclass(frozen=True)
class Form:
    """A network as a symbol and its parameters.

    Attributes
    ----------
    symbol : mx.sym.Symbol
        From ``data`` to logits.
    arrays : dict of str to numpy.ndarray
        Parameters and running statistics.
    """

    symbol: object
    arrays: dict


def available(spec):
    """The forms that a network has.

    Parameters
    ----------
    spec : NetworkSpec

    Returns
    -------
    tuple of str
    """
    parallel = spec.block in (MERGE_AND_RUN, INCEPTION_LIKE) and spec.form == "branches"
    return tuple(name for name in FORMS if parallel or name != "grouped")


def require_form(name, spec):
    """Refuse a form that a network does not have."""
    if name not in available(spec):
        raise DMRError(f"{spec.name} has no form {name!r}; it has {', '.join(available(spec))}")


def make(name, net, preprocessing=None, calibration=None):
    """One form of a network.

    Parameters
    ----------
    name : str
        One of ``FORMS``. Of ``onnx`` this is what is then written as an ONNX model.
    net : Network
        Initialised; on its first device.
    preprocessing : (mean, std), optional
        R, G, B in 0-255, to make part of the graph: it then takes (n, height, width, 3) pixels.
    calibration : numpy.ndarray, optional
        (n, ...) training images as the graph takes them, for INT8.

    Returns
    -------
    Form

    Raises
    ------
    DMRError
        For a network that does not have this form.
    """
    require_form(name, net.spec)
    if name == "grouped":
        if (
            net.portable_symbol().tojson()
            != Network(net.spec, net.prefix).portable_symbol().tojson()
        ):
            raise DMRError(f"{net.spec.name} has replaced layers, and so no form 'grouped'")
        net = convert(net, "grouped")
    symbol, arrays = net.portable_symbol(), arrays_of(net)
    arrays = {key: array.astype(np.float32) for key, array in arrays.items()}
    if preprocessing is not None:
        symbol, arrays = _with_preprocessing(symbol, arrays, *preprocessing)
    if name != PLAIN:
        symbol, arrays = fold_bn(symbol, arrays)
    if name not in (PLAIN, "bn-folded"):
        symbol, arrays = fold_scaling(symbol, arrays)
    if name == "fused":
        symbol = symbol.get_backend_symbol("MKLDNN")
    elif name in INT8:
        symbol, arrays = _quantized(symbol, arrays, name, calibration)
    return Form(symbol, arrays)


def _with_preprocessing(symbol, arrays, mean, std):
    """The graph, taking pixels: (n, height, width, 3), 0 to 255, RGB."""
    graph = Graph(symbol)
    (data,) = (node for node in graph.nodes() if node.op == "null" and node.name == "data")
    readers = [
        (node, place)
        for node in graph.nodes()
        for place, source in enumerate(node.inputs)
        if source == (data, 0)
    ]
    shape = {"__shape__": "(1, 3, 1, 1)"}
    planes = Node("transpose", "input_planes", {"axes": "(0, 3, 1, 2)"}, [(data, 0)])
    centred = Node(
        "broadcast_sub", "input_centred", {}, [(planes, 0), (Node("null", "input_mean", shape), 0)]
    )
    scaled = Node(
        "broadcast_mul", "input_scaled", {}, [(centred, 0), (Node("null", "input_scale", shape), 0)]
    )
    for node, place in readers:
        node.inputs[place] = (scaled, 0)
    mean, std = (np.array(values, np.float32).reshape(1, 3, 1, 1) for values in (mean, std))
    return graph.symbol(), {**arrays, "input_mean": mean, "input_scale": 1 / std}


def _quantized(symbol, arrays, name, calibration):
    parameters = {key: mx.nd.array(array) for key, array in arrays.items()}
    auxiliary = {key: parameters.pop(key) for key in symbol.list_auxiliary_states()}
    quantized, parameters, auxiliary = mx.contrib.quantization.quantize_model_mkldnn(
        symbol,
        parameters,
        auxiliary,
        data_names=("data",),
        label_names=None,
        ctx=mx.cpu(),
        calib_mode="entropy" if name == "int8-entropy" else "naive",
        calib_data=mx.io.NDArrayIter(calibration, batch_size=_calibration_batch(calibration)),
        quantized_dtype="auto",
        excluded_sym_names=_before_the_last_sum(symbol),
    )
    return quantized, {key: array.asnumpy() for key, array in {**parameters, **auxiliary}.items()}


def _calibration_batch(images):
    """The largest divisor of their number that is no more than a usual batch.

    NDArrayIter would fill up a last batch with images that it has had.
    """
    most = batch_size(max(images.shape[1:]))
    return max(size for size in range(1, most + 1) if len(images) % size == 0)


def _before_the_last_sum(symbol):
    """The sums of branches, but for the outermost, after which no convolution comes.

    What is rounded to INT8 once more between two branches of the last block goes straight into
    the features, and costs more errors than all other rounding. These sums and the convolutions
    that they are fused with stay in float32.
    """
    waiting = [node for node, _ in Graph(symbol).outputs]
    found = set()
    while waiting:
        node = waiting.pop()
        sources = [source for source, _ in node.inputs if source.op != "null"]
        if node.op != "elemwise_add":
            waiting += [source for source in sources if source.op != "Convolution"]
            continue
        inner = [source for source in sources if source.op == "elemwise_add"]
        waiting += inner
        found |= {
            source.name
            for source in inner
            if any(operand.op == "Convolution" for operand, _ in source.inputs)
        }
    return sorted(found)
