"""Compare the two implementations of every network.

The Gluon network and the symbol written by hand in ``symbols/`` get the same parameters and
images; names, outputs and gradients must agree.
"""

import math
from dataclasses import dataclass

import numpy as np

from .. import symbols
from ..models.complexity import symbol_of
from ..models.layers import BatchNormRelu
from ..models.names import get_spec
from ..models.network import Network
from ..runtime import mx


@dataclass(frozen=True)
class Agreement:
    """Differences between two implementations, infinite if the names of their parameters differ.

    Parameters
    ----------
    outputs : float
        Of the logits in inference, see :func:`difference`.
    gradients : float
        Largest one of any parameter's gradient.
    statistics : float
        Largest one of BN's running statistics after one training batch.
    """

    outputs: float
    gradients: float
    statistics: float


def randomise(net, seed=0):
    """Initialise a network so that no BN parameter or statistic has its neutral value.

    Convolutions and FC get the paper's initialisation, which preserves the size of signals
    through any depth.
    """
    random = np.random.RandomState(seed)
    mx.random.seed(seed)
    net.initialize()
    for name, parameter in net.collect_params().items():
        if name.endswith(("_gamma", "_running_var")):
            parameter.set_data(mx.nd.array(random.uniform(0.7, 1.3, parameter.shape)))
        elif name.endswith(("_beta", "_running_mean", "_bias")):
            parameter.set_data(mx.nd.array(random.uniform(-0.1, 0.1, parameter.shape)))
    return net


def image_size_of(spec):
    """Return the height and width of images that suffice for a comparison."""
    return 32 if spec.stem == "cifar" else 64


def same_names(name) -> bool:
    """Return whether both implementations have the same parameters: names, shapes and kinds."""
    spec = get_spec(name)
    return _parameters(symbol_of(spec), spec) == _parameters(symbols.get_symbol(name), spec)


def _parameters(symbol, spec):
    """Return the shapes of trained parameters and of running statistics, by name."""
    size = image_size_of(spec)
    arguments, _, states = symbol.infer_shape_partial(data=(1, 3, size, size))
    trained = dict(zip(symbol.list_arguments(), arguments))
    trained = {n: s for n, s in trained.items() if n not in ("data", "softmax_label")}
    return trained, dict(zip(symbol.list_auxiliary_states(), states))


def compare(name, fast=False) -> Agreement:
    """Compare the Gluon network of a name with the hand-written symbol.

    In double precision: in single precision the order of a sum occasionally decides whether a
    ReLU passes a gradient.

    Parameters
    ----------
    name : str
    fast : bool
        Use the Gluon network's CPU form, except oneDNN's fused BN and ReLU, which only supports
        single precision.
    """
    if not same_names(name):
        return Agreement(*[math.inf] * 3)
    spec = get_spec(name)
    size = image_size_of(spec)
    ours, theirs = randomise(Network(spec)), _as_block(symbols.get_symbol(name), spec)
    ours.cast("float64")
    parameters, others = ours.collect_params(), theirs.collect_params()
    for key, parameter in parameters.items():
        others[key].set_data(parameter.data())
    if fast:
        ours.fuse_for_cpu()
        ours.apply(lambda block: setattr(block, "fused", not isinstance(block, BatchNormRelu)))
    ours.hybridize()
    random = np.random.RandomState(1)
    data = mx.nd.array(random.standard_normal((2, 3, size, size)), dtype="float64")
    label = mx.nd.array(random.randint(0, spec.classes, 2), dtype="float64")
    outputs = difference(ours(data), theirs(data, label)[1])
    with mx.autograd.record():
        loss = mx.gluon.loss.SoftmaxCrossEntropyLoss()(ours(data), label)
        probabilities, _ = theirs(data, label)
    mx.autograd.backward([loss, probabilities])
    mx.nd.waitall()  # the running statistics are written in the backward pass
    gradients, statistics = [], []
    for key, parameter in parameters.items():
        other = others[key]
        if parameter.grad_req == "null":
            statistics.append(difference(parameter.data(), other.data()))
        else:
            gradients.append(difference(parameter.grad(), other.grad()))
    return Agreement(outputs, float(np.max(gradients)), float(np.max(statistics)))


def _as_block(symbol, spec):
    """Return a Gluon block in double precision: images and labels to probabilities and logits.

    In the backward pass, the symbol's SoftmaxOutput yields the gradient of the loss.
    """
    logits = "logits_output" if spec.ends == "unshared" else "head_fc_output"
    inputs = [mx.sym.var(name, dtype="float64") for name in ("data", "softmax_label")]
    block = mx.gluon.SymbolBlock([symbol, symbol.get_internals()[logits]], inputs)
    block.initialize(mx.init.Zero())  # every parameter is set before it is used
    return block


def difference(expected, found):
    """Return the largest difference of two NDArrays, relative to the largest expected value."""
    expected, found = expected.asnumpy(), found.asnumpy()
    scale = np.abs(expected).max() or 1
    return float(np.abs(found - expected).max() / scale)
