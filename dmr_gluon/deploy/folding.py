"""Fold BN and scaling into the weights of a trained network's graph, for inference.

Both passes work on the symbol and parameters of any blocks, and skip operators they do not know.
"""

import numpy as np

from .graph import Graph, Node

#: Largest scale of a tensor: far within float32, and in INT8 each tensor has its own scale.
_MOST_SCALE = 2.0**24

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
        Equal in inference.
    """
    graph, arrays = Graph(symbol), dict(arrays)
    readers = graph.readers()
    for bn in graph.nodes():
        if bn.op != "BatchNorm":
            continue
        conv, output = bn.inputs[0]
        if conv.op != "Convolution" or readers[conv] > 1 or output != 0:
            continue
        if bn.attrs.get("axis", "1") != "1" or not _has_its_own(conv, arrays, readers):
            continue
        gamma, beta, mean, variance = (
            arrays[node.name].astype(np.float64) for node, _ in bn.inputs[1:]
        )
        if bn.attrs.get("fix_gamma", "True") == "True":
            gamma = np.ones_like(gamma)
        scale = gamma / np.sqrt(variance + float(bn.attrs.get("eps", 1e-3)))
        weight, bias = _weight_and_bias(conv, arrays)
        bias = beta + (bias - mean) * scale
        weight = weight * scale.reshape(-1, *[1] * (weight.ndim - 1))
        _put(conv, arrays, weight, bias)
        graph.replace((bn, 0), (conv, 0))
    return _finished(graph, arrays)


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
        Equal in inference, up to rounding unless all factors are powers of two.
    """
    graph, arrays = Graph(symbol), dict(arrays)
    return _Scaling(graph, arrays).run()


class _Scaling:
    """Tracks in ``scales`` the ratio of each node's new output to its original one."""

    def __init__(self, graph, arrays):
        self.graph, self.arrays = graph, arrays
        self.scales, self.readers = {}, graph.readers()
        self.dropped = set()  # replaced by their first input
        self.added = 0

    def run(self):
        order = self.graph.nodes()
        for node in order:
            self.scales[node] = self._scale_of(node)
        self.graph.outputs = [self._unscaled(source) for source in self.graph.outputs]
        for node in order:
            if node in self.dropped:
                self.graph.replace((node, 0), node.inputs[0])
        return _finished(self.graph, self.arrays)

    def _scale_of(self, node):
        """Return the scale of a node's output; changes the node if necessary."""
        scale = self.scales[node.inputs[0][0]] if node.inputs else 1.0
        if node.op in ("Convolution", "FullyConnected"):
            if scale != 1 and _has_its_own(node, self.arrays, self.readers):
                weight, bias = _weight_and_bias(node, self.arrays)
                self.arrays[node.inputs[1][0].name] = (weight / scale).astype(np.float32)
                return 1.0
        elif node.op == "_mul_scalar" and float(node.attrs["scalar"]) > 0:
            factor = float(node.attrs["scalar"])
            if scale / factor <= _MOST_SCALE:
                self.dropped.add(node)
                return scale / factor
            node.attrs["scalar"] = repr(factor / scale)
            return 1.0
        elif node.op == "elemwise_add":
            return self._scale_of_sum(node)
        elif self._passes_on(node):
            return scale
        node.inputs = [self._unscaled(source) for source in node.inputs]
        return 1.0

    def _passes_on(self, node):
        """Return whether f(c x) = c f(x) for c > 0."""
        if node.op == "Concat":
            return len({self.scales[source] for source, _ in node.inputs}) == 1
        return node.op in _HOMOGENEOUS or node.attrs.get("act_type") == "relu"

    def _scale_of_sum(self, node):
        (left, _), (right, _) = node.inputs
        if node.inputs[0] == node.inputs[1]:  # x + x is 2 x
            self.dropped.add(node)
            return self.scales[left] / 2
        for free, other in ((left, right), (right, left)):
            if self.scales[free] == self.scales[other]:
                return self.scales[free]
            if self._is_free(free):
                factor = self.scales[other] / self.scales[free]
                weight, bias = _weight_and_bias(free, self.arrays)
                _put(free, self.arrays, weight * factor, bias * factor)
                self.scales[free] = self.scales[other]
                return self.scales[other]
        node.inputs = [self._unscaled(source) for source in node.inputs]
        return 1.0

    def _is_free(self, node):
        """Return whether a convolution's output can be scaled because only one sum reads it."""
        return (
            node.op == "Convolution"
            and self.readers[node] == 1
            and _has_its_own(node, self.arrays, self.readers)
        )

    def _unscaled(self, source):
        node, _ = source
        scale = self.scales[node]
        if scale == 1:
            return source
        self.added += 1
        back = Node("_mul_scalar", f"unscale{self.added}", {"scalar": repr(1 / scale)}, [source])
        self.scales[back] = 1.0
        return back, 0


def _has_its_own(conv, arrays, readers):
    """Return whether weight and bias are known and not shared."""
    return all(
        source.op == "null" and source.name in arrays and readers.get(source, 1) == 1
        for source, _ in conv.inputs[1:]
    )


def _weight_and_bias(conv, arrays):
    """Return weight and bias in double precision; a missing bias is zeros."""
    weight = arrays[conv.inputs[1][0].name].astype(np.float64)
    if conv.attrs.get("no_bias", "False") == "True":
        return weight, np.zeros(len(weight))
    return weight, arrays[conv.inputs[2][0].name].astype(np.float64)


def _put(conv, arrays, weight, bias):
    """Set a convolution's weight and bias, adding the bias if it has none."""
    weight_node = conv.inputs[1][0]
    arrays[weight_node.name] = weight.astype(np.float32)
    if conv.attrs.get("no_bias", "False") == "True":
        conv.attrs["no_bias"] = "False"
        name = weight_node.name[: -len("weight")] + "bias"
        conv.inputs.append((Node("null", name), 0))
    arrays[conv.inputs[2][0].name] = bias.astype(np.float32)


def _finished(graph, arrays):
    symbol = graph.symbol()
    needed = {*symbol.list_arguments(), *symbol.list_auxiliary_states()}
    return symbol, {name: array for name, array in arrays.items() if name in needed}
