"""What each device computes, beside a CPU in double precision, and beside NumPy."""

import numpy as np

from ..analysis.symbol_parity import randomise
from ..models.names import get_spec
from ..models.network import Network
from ..models.serialization import prepare_to_run
from ..runtime import mx
from ..training.optimizer import NAG2016
from .checks import bounded, relative_difference

#: What is compared: its description, network, height of the images, number of images, and
#: whether it is deep: there rounding flips a ReLU now and then, which gradients feel.
SUBJECTS = (
    ("residual blocks", "cifar_resnet8", 32, 8, False),
    ("inception-like blocks", "cifar_dilnet8", 32, 8, False),
    ("merge-and-run blocks", "cifar_dmrnet8", 32, 8, False),
    ("a deep small network", "cifar_dmrnet56", 32, 4, True),
    ("a large network", "dmrnet44", 64, 4, True),
)

#: Bounds of outputs, gradients and running statistics: shallow and deep, without and with TF32.
#: On CPUs float32 comes to 4e-7, 1e-5, 5e-7 and 7e-5, 4e-2, 2e-5; with the inputs of convolutions
#: rounded as TF32 rounds them, to 4e-4, 1e-1, 2e-4 and 7e-2, 9e-1, 2e-2.
BOUNDS = {
    ("float32", False): (1e-4, 1e-2, 1e-4),
    ("float32", True): (1e-2, 2e-1, 1e-2),
    ("TF32", False): (5e-3, 3e-1, 5e-3),
    ("TF32", True): (3e-1, None, 1e-1),
}

_ADVICE = (
    "the device computes something else: another driver or cuDNN may help; with MXNET_USE_FUSION=0 "
    "in the environment it is not the fusion of pointwise operators, with "
    "MXNET_CUDNN_AUTOTUNE_DEFAULT=0 not the choice of algorithms"
)


def check_arithmetic(devices, precision="float32"):
    """Forward, gradients and running statistics of networks, and the optimisers' steps.

    Parameters
    ----------
    devices : list of Context
    precision : str
        ``float32`` or ``TF32``: what the devices compute convolutions in.

    Yields
    ------
    Check
    """
    for description, name, size, count, deep in SUBJECTS:
        spec = get_spec(name)
        random = np.random.RandomState(0)
        images = random.standard_normal((count, 3, size, size))
        weights = random.standard_normal((count, spec.classes))
        expected = _computed(Network(spec), images, weights, mx.cpu(), "float64")
        worst = (0.0, 0.0, 0.0)
        for device in devices:
            net = Network(spec)
            found = _computed(net, images, weights, device, "float32")
            worst = np.maximum(worst, [_worst(*pair) for pair in zip(found, expected)])
        bounds = BOUNDS[precision, deep]
        values = dict(zip(("outputs", "gradients", "statistics"), zip(worst, bounds)))
        yield bounded(f"{description}, {name}, {precision}", values, _ADVICE)
    if precision == "float32":
        yield from check_optimizers(devices)


def _computed(net, images, weights, device, dtype):
    """Outputs, gradients and running statistics of a training step, by name, as NumPy arrays."""
    randomise(net)
    net.collect_params().reset_ctx(device)
    if dtype == "float64":
        net.cast(dtype)
        net.hybridize()
    else:
        prepare_to_run(net, [device])
    data, weights = (mx.nd.array(array, ctx=device, dtype=dtype) for array in (images, weights))
    with mx.autograd.record():
        outputs = net(data)
        loss = (outputs * weights).sum()
    loss.backward()
    mx.nd.waitall()  # the running statistics are written in the backward pass
    parameters = net.collect_params().items()
    gradients = {name: p.grad().asnumpy() for name, p in parameters if p.grad_req != "null"}
    statistics = {name: p.data().asnumpy() for name, p in parameters if p.grad_req == "null"}
    return {"outputs": outputs.asnumpy()}, gradients, statistics


def _worst(found, expected):
    return max(relative_difference(found[name], expected[name]) for name in expected)


def check_optimizers(devices):
    """Four steps of each optimiser, with a drop of the learning rate, beside NumPy."""
    for title, multi_precision, make, formula in (
        ("NAG of 2016", False, NAG2016, _nag2016),
        ("SGD with momentum", False, mx.optimizer.SGD, _sgd),
        ("NAG of 2016, float16 with float32 masters", True, NAG2016, _nag2016),
    ):
        dtype = "float16" if multi_precision else "float32"
        random = np.random.RandomState(0)
        weight = random.standard_normal(1000).astype(dtype)
        gradients = random.standard_normal((4, 1000)).astype(dtype)
        expected = weight.astype(np.float64)
        momentum = np.zeros_like(expected)
        for lr, gradient in zip(_LRS, gradients):
            expected, momentum = formula(expected, momentum, gradient.astype(np.float64), lr)
        off = 0.0
        for device in devices:
            optimizer = make(momentum=_MOMENTUM, wd=_DECAY, multi_precision=multi_precision)
            array = mx.nd.array(weight, ctx=device, dtype=dtype)
            state = optimizer.create_state_multi_precision(0, array)
            for lr, gradient in zip(_LRS, gradients):
                optimizer.set_learning_rate(lr)
                gradient = mx.nd.array(gradient, ctx=device, dtype=dtype)
                optimizer.update_multi_precision(0, array, gradient, state)
            off = max(off, relative_difference(array.asnumpy().astype(np.float64), expected))
        bound = 1e-3 if multi_precision else 1e-5
        yield bounded(f"steps of {title}, beside NumPy", {"weights": (off, bound)}, _ADVICE)


_LRS, _MOMENTUM, _DECAY = (0.1, 0.1, 0.01, 0.01), 0.9, 1e-2


def _nag2016(weight, momentum, gradient, lr):
    gradient = gradient + _DECAY * weight
    momentum = _MOMENTUM * momentum + gradient
    return weight - lr * (gradient + _MOMENTUM * momentum), momentum


def _sgd(weight, velocity, gradient, lr):
    velocity = _MOMENTUM * velocity - lr * (gradient + _DECAY * weight)
    return weight + velocity, velocity
