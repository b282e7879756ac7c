"""Fold BN and scaling into the weights of a trained network's graph, for inference.

Both passes work on the symbol and parameters of any blocks, and skip operators they do not know.
"""

import numpy as np

from .graph import Graph, Node

#: Largest scale of a tensor: far within float32, and in INT8 each tensor has its own scale.
_MOST_SCALE = 2.0**48

#: Operators with f(c x) = c f(x); so are ReLU, and Concat of inputs of equal scale.
_HOMOGENEOUS = ("Pooling", "Flatten", "SliceChannel", "mean", "transpose", "Reshape")


def fold_bn(symbol, arrays):
    """Fold every BN that follows a convolution into its weights and bias.

    Parameters
    ----------
    symbol : mx.sym.Symbol
    arrays : dict of str to numpy.ndarray
        Parameters and running statistics, by name.

    Returns
    -------
    mx.sym.Symbol, dict of str to numpy.ndarray
        The same function in inference. Arrays of the folded BNs are still included.
    """
    graph, arrays = Graph(symbol), dict(arrays)
    readers = graph.readers()
    for bn in [node for node in graph.nodes() if node.op == "BatchNorm"]:
        conv, _ = bn.inputs[0]
        if not _is_free(conv, arrays, readers):
            continue
        gamma, beta, mean, variance = (
            arrays[node.name].astype(np.float64) for node, _ in bn.inputs[1:]
        )
        if bn.attrs.get("fix_gamma", "True") == "True":
            gamma = np.ones_like(gamma)
        scale = gamma / np.sqrt(variance + float(bn.attrs.get("eps", 1e-3)))
        _rescale(conv, arrays, scale, beta - mean * scale)
        graph.replace((bn, 0), (conv, 0))
    return graph.symbol(), arrays


def fold_scaling(symbol, arrays):
    """Fold multiplications by constants, such as the merge's 1/K, into other weights.

    Instead of multiplying, the pass records the tensor as K times too large. The branch that
    is added to it gets K times the weights and bias in its last convolution, ReLU passes the
    scale on, and the next convolutions divide their weights. This is exact for powers of two,
    such as K = 2.

    Parameters
    ----------
    symbol : mx.sym.Symbol
        With BN folded: scales do not pass a BN.
    arrays : dict of str to numpy.ndarray

    Returns
    -------
    mx.sym.Symbol, dict of str to numpy.ndarray
        The same function in inference: bit-identical if all factors are powers of two.
    """
    scaling = _Scaling(Graph(symbol), dict(arrays))
    return scaling.fold(), scaling.arrays


class _Scaling:
    """Track in ``scales`` the ratio of each node's new output to its original one."""

    def __init__(self, graph, arrays):
        self.graph, self.arrays, self.readers = graph, arrays, graph.readers()
        self.scales = {}
        self.dropped = []  # to be replaced by their first input

    def fold(self):
        """Return the symbol without scaling."""
        for node in self.graph.nodes():
            self.scales[node] = self._scale_of(node)
        self.graph.outputs = [self._unscaled(source) for source in self.graph.outputs]
        for node in self.dropped:
            self.graph.replace((node, 0), node.inputs[0])
        return self.graph.symbol()

    def _scale_of(self, node):
        """Return the scale of a node's output; change the node if necessary."""
        scale = self.scales[node.inputs[0][0]] if node.inputs else 1.0
        if node.op in ("Convolution", "FullyConnected"):
            if _has_its_own(node, self.arrays, self.readers):
                name = node.inputs[1][0].name
                self.arrays[name] = self.arrays[name] / np.float32(scale)
                return 1.0
        elif node.op == "_mul_scalar":
            factor = float(node.attrs["scalar"])
            if factor > 0 and scale / factor <= _MOST_SCALE:
                self.dropped.append(node)
                return scale / factor
        elif node.op == "elemwise_add":
            found = self._scale_of_sum(node)
            if found is not None:
                return found
        elif node.op == "Concat":
            if len({self.scales[source] for source, _ in node.inputs}) == 1:
                return scale
        elif node.op in _HOMOGENEOUS or node.attrs.get("act_type") == "relu":
            return scale
        node.inputs = [self._unscaled(source) for source in node.inputs]
        return 1.0

    def _scale_of_sum(self, node):
        """Return the common scale of both operands, after rescaling one if it can be; or None."""
        (left, _), (right, _) = node.inputs
        if node.inputs[0] == node.inputs[1]:  # x + x is 2 x
            self.dropped.append(node)
            return self.scales[left] / 2
        for free, other in ((left, right), (right, left)):
            factor = self.scales[other] / self.scales[free]
            if factor == 1:
                return self.scales[other]
            if _is_free(free, self.arrays, self.readers):
                _rescale(free, self.arrays, factor)
                self.scales[free] = self.scales[other]
                return self.scales[other]
        return None

    def _unscaled(self, source):
        """Return a source with a multiplication that undoes its scale, if it has one."""
        scale = self.scales[source[0]]
        if scale == 1:
            return source
        name, factor = f"unscale{len(self.scales)}", {"scalar": repr(1 / scale)}
        back = Node("_mul_scalar", name, factor, [source])
        self.scales[back] = 1.0
        return back, 0


def _has_its_own(conv, arrays, readers):
    """Return whether weight and bias are parameters that no other operator reads."""
    return all(
        source.name in arrays and readers.get(source, 1) == 1 for source, _ in conv.inputs[1:]
    )


def _is_free(node, arrays, readers):
    """Return whether the output of a convolution can be scaled: only one operator reads it."""
    return node.op == "Convolution" and readers[node] == 1 and _has_its_own(node, arrays, readers)


def _rescale(conv, arrays, scale, shift=0.0):
    """Let a convolution give ``scale * output + shift``, in each channel."""
    weight = conv.inputs[1][0].name
    if conv.attrs.get("no_bias", "False") == "True":
        conv.attrs["no_bias"] = "False"
        conv.inputs.append((Node("null", weight[: -len("weight")] + "bias"), 0))
        arrays[conv.inputs[2][0].name] = np.zeros(len(arrays[weight]))
    bias, rest = conv.inputs[2][0].name, arrays[weight].ndim - 1
    scale = np.asarray(scale, np.float64)
    arrays[weight] = (arrays[weight] * scale.reshape(-1, *[1] * rest)).astype(np.float32)
    arrays[bias] = (arrays[bias] * scale + shift).astype(np.float32)
