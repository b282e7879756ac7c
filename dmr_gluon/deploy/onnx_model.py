"""Write a network as an ONNX model.

MXNet's own exporter writes the nodes. This module corrects three of its faults: it declares the
newest opset of the installed onnx package for nodes of opset 13, lists the weights among the
inputs, which keeps ONNX Runtime from folding constants, and omits the output's shape.
"""

import warnings

import numpy as np

from ..errors import DMRError, last_line
from ..runtime import mx

#: The opset of the nodes that MXNet 1.9.1 writes, and its IR version.
_OPSET, _IR_VERSION = 13, 7


def require_onnx():
    """Import and return onnx, or say how to install it."""
    try:
        import onnx
        import onnx.mapping  # noqa: F401 -- used by mx.onnx
        import onnxruntime  # noqa: F401 -- used to compare the model
    except (ImportError, TypeError) as error:  # protobuf raises TypeErrors
        raise DMRError(
            "the form onnx needs the packages onnx (below 1.18) and onnxruntime; "
            "pip install 'onnx<1.18' onnxruntime (the extra [onnx] of dmr-gluon)"
        ) from error
    return onnx


def write_onnx(symbol, arrays, path, shape, classes):
    """Write an ONNX model for batches of any size, checked by onnx.

    Parameters
    ----------
    symbol : mx.sym.Symbol
    arrays : dict of str to numpy.ndarray
    path : str
    shape : tuple of int
        The shape of one image, as the graph takes it.
    classes : int

    Raises
    ------
    DMRError
        If onnx is not installed, or MXNet's exporter lacks one of the operators.
    OSError
    """
    onnx = require_onnx()
    onnx.checker.DEFAULT_CONTEXT.opset_imports = {"": _OPSET}  # the exporter checks its nodes
    parameters = {name: mx.nd.array(array) for name, array in arrays.items()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            mx.onnx.export_model(
                symbol, parameters, [(1, *shape)], np.float32, path,
                dynamic=True, dynamic_input_shapes=[("N", *shape)],
            )  # fmt: skip
        except Exception as error:  # an unknown operator, or one that it exports wrongly
            raise DMRError(
                f"MXNet's ONNX exporter: {last_line(error)}; leave out the form onnx"
            ) from error
    model = onnx.load(path)
    weights = {tensor.name for tensor in model.graph.initializer}
    inputs = [entry for entry in model.graph.input if entry.name not in weights]
    (output,) = (entry.name for entry in model.graph.output)
    del model.graph.input[:], model.graph.output[:], model.opset_import[:]
    model.graph.input.extend(inputs)
    kind = onnx.TensorProto.FLOAT
    model.graph.output.extend([onnx.helper.make_tensor_value_info(output, kind, ["N", classes])])
    model.opset_import.extend([onnx.helper.make_opsetid("", _OPSET)])
    model.ir_version = _IR_VERSION
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)
