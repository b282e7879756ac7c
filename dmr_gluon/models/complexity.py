"""Count a network's parameters, multiply-adds and depth in its graph, not from formulas.

Works on any MXNet symbol that consists of these networks' operators.
"""

import functools
import json
import re
from dataclasses import dataclass
from typing import Tuple

import numpy as np

from ..errors import DMRError

#: Operators that count for the depth.
_LAYERS = ("Convolution", "FullyConnected")

#: Endings of the names of trained parameters.
_TRAINED = ("_weight", "_bias", "_gamma", "_beta")

#: Batch normalisation, alone and fused with the ReLU after it.
_NORMS = ("BatchNorm", "_contrib_BatchNormWithReLU")


@dataclass(frozen=True)
class Layer:
    """One operator with trained parameters: a convolution, BN or fully connected layer.

    Parameters
    ----------
    name : str
        Such as ``stage2_block1_branch1_conv1``.
    kind : str
        ``conv 3x3/2``, ``fc`` or ``bn``.
    output : tuple of int
        Shape of its output for one image: (channels, height, width) or (features,).
    parameters : int
        Number of trained values: weight, bias, gamma, beta.
    multiply_adds : int
        For one image. BN counts as 0: in inference it is folded into the convolution.
    activations : int
        Number of output values of a convolution or FC.
    """

    name: str
    kind: str
    output: Tuple[int, ...]
    parameters: int
    multiply_adds: int
    activations: int


@dataclass(frozen=True)
class Complexity:
    """Sizes of a network, for one image.

    Parameters
    ----------
    parameters, multiply_adds, activations : int
        Sums over the layers, see :class:`Layer`.
    depth : int
        Convolutions and FC on the longest path, projections not counted.
    layers : tuple of Layer
        In the order of the graph.
    """

    parameters: int
    multiply_adds: int
    activations: int
    depth: int
    layers: Tuple[Layer, ...]


def image_size(spec):
    """Return the height and width of a network's images in the paper."""
    return 32 if spec.stem == "cifar" else 224


@functools.lru_cache(maxsize=None)
def symbol_of(spec):
    """Return a network's portable symbol; cached."""
    from .network import Network

    return Network(spec).portable_symbol()


@functools.lru_cache(maxsize=None)
def complexity_of(spec) -> Complexity:
    """Return a network's sizes for the paper's image size; cached.

    Parameters
    ----------
    spec : NetworkSpec
    """
    return measure(symbol_of(spec), (3, image_size(spec), image_size(spec)))


def measure(symbol, image_shape) -> Complexity:
    """Count a network's parameters, multiply-adds, activations and depth.

    Parameters
    ----------
    symbol : mx.sym.Symbol
        With the input ``data``, such as a network's ``portable_symbol()``, an exported symbol
        or one of ``dmr_gluon.symbols``.
    image_shape : tuple of int
        (channels, height, width).

    Raises
    ------
    DMRError
        If the network does not accept the image size.
    """
    from ..runtime import mx

    inside = symbol.get_internals()
    try:
        arguments, shapes, _ = inside.infer_shape(data=(1, *image_shape))
    except mx.base.MXNetError as error:
        raise DMRError(
            f"the network does not take images of {image_shape} (channels, height, width)"
        ) from error
    shape_of = dict(zip(inside.list_outputs(), shapes))
    shape_of.update(zip(inside.list_arguments(), arguments))
    nodes = json.loads(symbol.tojson())["nodes"]
    layers = tuple(_layers(nodes, shape_of))
    return Complexity(
        parameters=sum(layer.parameters for layer in layers),
        multiply_adds=sum(layer.multiply_adds for layer in layers),
        activations=sum(layer.activations for layer in layers),
        depth=_depth(nodes),
        layers=layers,
    )


def _layers(nodes, shape_of):
    for node in nodes:
        if node["op"] not in (*_LAYERS, *_NORMS):
            continue
        inputs = [nodes[i]["name"] for i, *_ in node["inputs"] if nodes[i]["op"] == "null"]
        trained = [shape_of[name] for name in inputs if name.endswith(_TRAINED)]
        if not trained:
            continue  # the constant convolution of a fused merge
        output = shape_of[node["name"] + "_output"][1:]
        multiply_adds, activations, kind = 0, 0, "bn"
        if node["op"] in _LAYERS:
            activations = int(np.prod(output))
            # One multiply-add per output value and weight of its filter.
            multiply_adds = activations * int(np.prod(trained[0][1:]))
            kind = "fc" if node["op"] == "FullyConnected" else _convolution(node, trained[0])
        yield Layer(
            name=re.sub("_fwd$", "", node["name"]),  # Gluon's suffix
            kind=kind,
            output=tuple(output),
            parameters=sum(int(np.prod(shape)) for shape in trained),
            multiply_adds=multiply_adds,
            activations=activations,
        )


def _convolution(node, weight):
    attributes = node.get("attrs", {})
    stride = int(re.search(r"\d+", attributes.get("stride", "1"))[0])
    groups = int(attributes.get("num_group", 1))
    text = f"conv {weight[2]}x{weight[3]}" + (f"/{stride}" if stride > 1 else "")
    return text + (f" in {groups} groups" if groups > 1 else "")


def _depth(nodes):
    """Return the number of layers on the longest path, without projections."""
    longest = []
    for node in nodes:
        counts = node["op"] in _LAYERS and "_proj" not in node["name"]
        before = max((longest[i] for i, *_ in node["inputs"]), default=0)
        longest.append(before + counts)
    return max(longest)
