"""Make the variants of a trained network that ``dmr export --forms`` writes.

=============  ======================================================================
``plain``      as it was trained
``bn-folded``  BN is part of the convolutions before it
``folded``     the merge's factor too is part of the convolutions around it
``fused``      ``folded`` as oneDNN's operators: for CPUs and MXNet only
``int8``       ``folded`` as oneDNN's INT8 operators; each tensor's range spans its
               smallest to its largest value on training images
``onnx``       ``folded`` as an ONNX model, for ONNX Runtime and others
=============  ======================================================================

All but INT8 compute the same function up to rounding.
"""

import numpy as np

from ..data.preprocessing import batch_size
from ..models.equivalence import arrays_of
from ..runtime import mx
from .folding import fold_bn, fold_scaling
from .graph import Graph, Node

PLAIN, INT8, ONNX = "plain", "int8", "onnx"

#: In the order in which they are made and listed.
VARIANTS = ("plain", "bn-folded", "folded", "fused", "int8", "onnx")


def make(name, net, preprocessing=None, calibration=None):
    """Make one variant of a network.

    Parameters
    ----------
    name : str
        One of :data:`VARIANTS`. ``onnx`` yields the graph that becomes the ONNX model.
    net : Network
        Initialised; its first device's parameters are taken.
    preprocessing : (mean, std), optional
        R, G, B in 0-255, to include in the graph, which then takes (n, height, width, 3) pixels.
    calibration : numpy.ndarray, optional
        (n, ...) training images as the graph takes them, for INT8.

    Returns
    -------
    mx.sym.Symbol
        Maps ``data`` to logits.
    dict of str to numpy.ndarray
        Parameters and running statistics.
    """
    symbol, arrays = net.portable_symbol(), arrays_of(net)
    arrays = {key: array.astype(np.float32) for key, array in arrays.items()}
    if preprocessing is not None:
        symbol, arrays = _with_preprocessing(symbol, arrays, *preprocessing)
    if name != PLAIN:
        symbol, arrays = fold_bn(symbol, arrays)
    if name not in (PLAIN, "bn-folded"):
        symbol, arrays = fold_scaling(symbol, arrays)
    needed = {*symbol.list_arguments(), *symbol.list_auxiliary_states()}
    arrays = {key: array for key, array in arrays.items() if key in needed}
    if name == "fused":
        symbol = symbol.get_backend_symbol("MKLDNN")
    elif name == INT8:
        symbol, arrays = _quantized(symbol, arrays, calibration)
    return symbol, arrays


def _with_preprocessing(symbol, arrays, mean, std):
    """Let the graph take pixels: (n, height, width, 3), 0 to 255, RGB."""
    graph, shape = Graph(symbol), {"__shape__": "(1, 3, 1, 1)"}
    (data,) = (node for node in graph.nodes() if node.op == "null" and node.name == "data")
    means, scales = Node("null", "input_mean", shape), Node("null", "input_scale", shape)
    planes = Node("transpose", "input_planes", {"axes": "(0, 3, 1, 2)"})
    centred = Node("broadcast_sub", "input_centred", {}, [(planes, 0), (means, 0)])
    scaled = Node("broadcast_mul", "input_scaled", {}, [(centred, 0), (scales, 0)])
    graph.replace((data, 0), (scaled, 0))
    planes.inputs = [(data, 0)]
    mean, std = (np.array(values, np.float32).reshape(1, 3, 1, 1) for values in (mean, std))
    return graph.symbol(), {**arrays, "input_mean": mean, "input_scale": 1 / std}


def _quantized(symbol, arrays, calibration):
    size = min(len(calibration), batch_size(max(calibration.shape[1:])))
    parameters = {key: mx.nd.array(array) for key, array in arrays.items()}
    auxiliary = {key: parameters.pop(key) for key in symbol.list_auxiliary_states()}
    quantized, parameters, auxiliary = mx.contrib.quantization.quantize_model_mkldnn(
        symbol,
        parameters,
        auxiliary,
        data_names=("data",),
        label_names=None,
        ctx=mx.cpu(),
        calib_mode="naive",
        calib_data=mx.io.NDArrayIter(calibration, batch_size=size),
        quantized_dtype="auto",
        excluded_sym_names=_before_the_last_sum(symbol),
    )
    return quantized, {key: array.asnumpy() for key, array in {**parameters, **auxiliary}.items()}


def _before_the_last_sum(symbol):
    """Return the names of the last block's inner sums, which stay in float32.

    Rounding to INT8 between two branches of the last block directly affects the features, and
    costs more accuracy than all other rounding. The convolutions fused with these sums stay in
    float32 too.
    """
    found, waiting = set(), [node for node, _ in Graph(symbol).outputs]
    while waiting:
        node = waiting.pop()
        is_sum = node.op == "elemwise_add"
        for source, _ in node.inputs:
            if source.op == "elemwise_add":
                waiting.append(source)
                if is_sum and any(operand.op == "Convolution" for operand, _ in source.inputs):
                    found.add(source.name)
            elif not is_sum and source.op != "Convolution":
                waiting.append(source)
    return sorted(found)
