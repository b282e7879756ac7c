"""Compare the two implementations of every network.

The Gluon network and the symbol written by hand in ``symbols/`` get the same parameters and
images; names, outputs and gradients must agree.
"""

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
    """The differences between two implementations of a network.

    Parameters
    ----------
    names : bool
        Names, shapes and kinds (trained or running statistics) of all parameters are equal.
    outputs : float
        Largest difference of the logits in inference, relative to the largest logit.
    gradients : float
        Largest difference of any parameter's gradient, relative to that parameter's largest
        gradient.
    statistics : float
        Largest difference of BN's running statistics after one training batch, likewise.
    """

    names: bool
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
            value = random.uniform(0.7, 1.3, parameter.shape)
        elif name.endswith(("_beta", "_running_mean", "_bias")):
            value = random.uniform(-0.1, 0.1, parameter.shape)
        else:
            continue
        parameter.set_data(mx.nd.array(value))
    return net


def same_names(name) -> bool:
    """Return whether both implementations have the same parameters: names, shapes and kinds."""
    spec = get_spec(name)
    return _kinds(symbol_of(spec), spec) == _kinds(symbols.get_symbol(name), spec)


def compare(name, seed=0, fast=False) -> Agreement:
    """Compare the Gluon network of a name with the hand-written symbol.

    In double precision: in single precision the order of a sum now and then decides whether a
    ReLU passes a gradient.

    Parameters
    ----------
    name : str
    seed : int
        Seeds parameters, images and labels. The images are 32x32, or 64x64 for ImageNet
        networks.
    fast : bool
        Use the Gluon network's CPU form, except oneDNN's fused BN and ReLU, which supports
        single precision only.
    """
    spec = get_spec(name)
    size = _image_size(spec)
    images = 4 if size == 32 else 2
    net = randomise(Network(spec), seed)
    net.cast("float64")
    if fast:
        net.fuse_for_cpu()
        net.apply(lambda block: setattr(block, "fused", not isinstance(block, BatchNormRelu)))
    random = np.random.RandomState(seed + 1)
    data = mx.nd.array(random.standard_normal((images, 3, size, size)), dtype="float64")
    label = mx.nd.array(random.randint(0, spec.classes, images), dtype="float64")
    symbol = symbols.get_symbol(name)
    if not same_names(name):
        return Agreement(False, *[float("inf")] * 3)
    parameters = net.collect_params()
    values = {key: parameter.data() for key, parameter in parameters.items()}
    net.hybridize()
    output = "logits_output" if spec.ends == "unshared" else "head_fc_output"
    logits = symbol.get_internals()[output]
    found = _bind(logits, values, data=data).forward(is_train=False)[0].asnumpy()
    outputs = _difference(net(data).asnumpy(), found)
    executor = _bind(symbol, values, data=data, softmax_label=label)
    executor.forward(is_train=True)
    executor.backward()
    loss = mx.gluon.loss.SoftmaxCrossEntropyLoss()
    with mx.autograd.record():
        total = loss(net(data), label).sum()
    total.backward()
    mx.nd.waitall()  # the running statistics are written in the backward pass
    gradients, statistics = 0.0, 0.0
    for key, parameter in parameters.items():
        if parameter.grad_req == "null":
            found = executor.aux_dict[key].asnumpy()
            statistics = max(statistics, _difference(parameter.data().asnumpy(), found))
        else:
            found = executor.grad_dict[key].asnumpy()
            gradients = max(gradients, _difference(parameter.grad().asnumpy(), found))
    return Agreement(True, outputs, gradients, statistics)


def _image_size(spec):
    return 32 if spec.stem == "cifar" else 64


def _kinds(symbol, spec):
    """Return {name: (shape, whether it is trained)}."""
    size = _image_size(spec)
    arguments, _, states = symbol.infer_shape_partial(data=(1, 3, size, size))
    kinds = dict(zip(symbol.list_arguments(), ((shape, True) for shape in arguments)))
    kinds.update(zip(symbol.list_auxiliary_states(), ((shape, False) for shape in states)))
    return {name: kind for name, kind in kinds.items() if name not in ("data", "softmax_label")}


def _bind(symbol, values, **inputs):
    executor = symbol.simple_bind(
        mx.cpu(),
        grad_req={n: "write" if n in values else "null" for n in symbol.list_arguments()},
        type_dict={name: array.dtype for name, array in [*values.items(), *inputs.items()]},
        **{name: array.shape for name, array in inputs.items()},
    )
    for name, array in [*values.items(), *inputs.items()]:
        target = executor.arg_dict.get(name, executor.aux_dict.get(name))
        array.copyto(target)
    return executor


def _difference(expected, found):
    scale = np.abs(expected).max()
    return float(np.abs(found - expected).max() / scale) if scale else float(np.abs(found).max())
