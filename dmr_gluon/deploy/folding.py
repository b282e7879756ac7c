"""A trained network's graph with less to compute, for inference: BN and scaling folded away.

Both work on a symbol and its parameters, whatever blocks they come from, and leave alone what
they do not know.
"""

import numpy as np

from .graph import Graph, Node

#: So far a tensor may be scaled before it is scaled back: far within float32, and in INT8 each
#: tensor has its own scale.
_MOST_SCALE = 2.0**24

#: What passes a scale on; ReLU and, of streams of one scale, Concat do so too.
_HOMOGENEOUS = ("Pooling", "Flatten", "SliceChannel", "mean", "transpose", "Reshape")


def fold_bn(symbol, arrays):
    """Every BN that follows a convolution becomes part of its weights and bias.

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
    """Multiplications by constants, as of a merge's mean, become part of other weights.

    The factor 1/K of the mean of K streams is not applied to the sum. The tensor is remembered
    as K times too large instead; so is what a branch adds to it (its last convolution's weights
    and bias are multiplied), so is the ReLU of that sum; and the next convolutions divide
    their weights. By powers of two, as with two branches, all this is exact.

    Parameters
    ----------
    symbol : mx.sym.Symbol
        With BN folded: a BN ends what can be carried over.
    arrays : dict of str to numpy.ndarray

    Returns
    -------
    mx.sym.Symbol, dict of str to numpy.ndarray
        Equal in inference, up to rounding where a factor is no power of two.
    """
    graph, arrays = Graph(symbol), dict(arrays)
    return _Scaling(graph, arrays).run()


class _Scaling:
    """``scales``: by how much what stands for each node's output is larger than that was."""

    def __init__(self, graph, arrays):
        self.graph, self.arrays = graph, arrays
        self.scales, self.readers = {}, graph.readers()
        self.passed_over = set()  # whose first input stands for their output
        self.added = 0

    def run(self):
        order = self.graph.nodes()
        for node in order:
            self.scales[node] = self._scale_of(node)
        self.graph.outputs = [self._unscaled(source) for source in self.graph.outputs]
        for node in order:
            if node in self.passed_over:
                self.graph.replace((node, 0), node.inputs[0])
        return _finished(self.graph, self.arrays)

    def _scale_of(self, node):
        """The scale of a node's output, after what had to be changed in it."""
        scale = self.scales[node.inputs[0][0]] if node.inputs else 1.0
        if node.op in ("Convolution", "FullyConnected"):
            if scale != 1 and _has_its_own(node, self.arrays, self.readers):
                weight, bias = _weight_and_bias(node, self.arrays)
                self.arrays[node.inputs[1][0].name] = (weight / scale).astype(np.float32)
                return 1.0
        elif node.op == "_mul_scalar" and float(node.attrs["scalar"]) > 0:
            factor = float(node.attrs["scalar"])
            if scale / factor <= _MOST_SCALE:
                self.passed_over.add(node)
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
        """f(c x) = c f(x) for c > 0."""
        if node.op == "Concat":
            return len({self.scales[source] for source, _ in node.inputs}) == 1
        return node.op in _HOMOGENEOUS or node.attrs.get("act_type") == "relu"

    def _scale_of_sum(self, node):
        (left, _), (right, _) = node.inputs
        if node.inputs[0] == node.inputs[1]:  # x + x is 2 x
            self.passed_over.add(node)
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
        """Can a convolution's output be scaled, because only one sum reads it?"""
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
    """Are weight and bias given, and nobody else's?"""
    return all(
        source.op == "null" and source.name in arrays and readers.get(source, 1) == 1
        for source, _ in conv.inputs[1:]
    )


def _weight_and_bias(conv, arrays):
    """In double precision; zeros where there is no bias."""
    weight = arrays[conv.inputs[1][0].name].astype(np.float64)
    if conv.attrs.get("no_bias", "False") == "True":
        return weight, np.zeros(len(weight))
    return weight, arrays[conv.inputs[2][0].name].astype(np.float64)


def _put(conv, arrays, weight, bias):
    """Give a convolution weights, and a bias if it has none."""
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
