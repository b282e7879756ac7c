"""Compare what each device computes with a CPU in double precision, and with NumPy."""

import numpy as np

from ..analysis.symbol_parity import randomise
from ..models.names import get_spec
from ..models.network import Network
from ..models.serialization import prepare_to_run
from ..runtime import mx
from ..training.optimizer import NAG2016
from .checks import bounded, relative_difference

#: Title, network, image size, number of images, and whether the network is deep: rounding then
#: flips a ReLU now and then, which changes gradients.
SUBJECTS = (
    ("residual blocks", "cifar_resnet8", 32, 8, False),
    ("inception-like blocks", "cifar_dilnet8", 32, 8, False),
    ("merge-and-run blocks", "cifar_dmrnet8", 32, 8, False),
    ("a deep small network", "cifar_dmrnet56", 32, 4, True),
    ("a large network", "dmrnet44", 64, 4, True),
)

#: Bounds on outputs, gradients and running statistics, by precision and depth. On CPUs, float32
#: differs by 4e-7, 1e-5 and 5e-7 in shallow networks, by 7e-5, 4e-2 and 2e-5 in deep ones; with the
#: inputs of convolutions rounded to TF32, by 4e-4, 1e-1, 2e-4 and by 7e-2, 9e-1, 2e-2.
BOUNDS = {
    ("float32", False): (1e-4, 1e-2, 1e-4),
    ("float32", True): (1e-2, 2e-1, 1e-2),
    ("TF32", False): (5e-3, 3e-1, 5e-3),
    ("TF32", True): (3e-1, None, 1e-1),
}

_LRS, _MOMENTUM, _DECAY = (0.1, 0.1, 0.01, 0.01), 0.9, 1e-2


def check_arithmetic(devices, precision="float32"):
    """Check outputs, gradients and running statistics of networks, and the optimisers' steps.

    Parameters
    ----------
    devices : list of Context
    precision : str
        ``float32`` or ``TF32``: what the devices compute convolutions in.

    Yields
    ------
    Check
    """
    for title, name, size, count, deep in SUBJECTS:
        random = np.random.RandomState(0)
        images = random.standard_normal((count, 3, size, size))
        weights = random.standard_normal((count, get_spec(name).classes))
        expected = _compute(name, images, weights, mx.cpu(), "float64")
        found = [_compute(name, images, weights, device, "float32") for device in devices]
        values = {}
        for (kind, arrays), bound in zip(expected.items(), BOUNDS[precision, deep]):
            differences = [
                relative_difference(one[kind][key], array)
                for one in found
                for key, array in arrays.items()
            ]
            values[kind] = np.max(differences), bound  # unlike max, keeps NaN
        yield bounded(f"{title}, {name}, {precision}", values)
    if precision == "float32":
        yield from check_optimizers(devices)


def check_tf32(devices):
    """Check the networks with looser bounds, for devices that compute convolutions in TF32."""
    yield from check_arithmetic(devices, "TF32")


def _compute(name, images, weights, device, dtype):
    """Run a forward and a backward pass; return {kind: {name: array}}."""
    net = randomise(Network(get_spec(name)))
    net.collect_params().reset_ctx(device)
    net.cast(dtype)
    if dtype == "float32":
        prepare_to_run(net, [device])
    data, weights = (mx.nd.array(array, ctx=device, dtype=dtype) for array in (images, weights))
    with mx.autograd.record():
        outputs = net(data)
        loss = (outputs * weights).sum()
    loss.backward()
    mx.nd.waitall()  # the running statistics are written in the backward pass
    parameters = net.collect_params().items()
    return {
        "outputs": {"logits": outputs.asnumpy()},
        "gradients": {key: p.grad().asnumpy() for key, p in parameters if p.grad_req != "null"},
        "statistics": {key: p.data().asnumpy() for key, p in parameters if p.grad_req == "null"},
    }


def check_optimizers(devices):
    """Check four steps of each optimiser, with a drop of the learning rate, against NumPy."""
    for title, make, formula, dtype, bound in (
        ("NAG of 2016", NAG2016, _nag2016, "float32", 1e-5),
        ("SGD with momentum", mx.optimizer.SGD, _sgd, "float32", 1e-5),
        ("NAG of 2016, float16 with float32 masters", NAG2016, _nag2016, "float16", 1e-3),
    ):
        weight, *gradients = np.random.RandomState(0).standard_normal((5, 1000)).astype(dtype)
        expected, momentum = weight.astype(np.float64), 0.0
        for lr, gradient in zip(_LRS, gradients):
            expected, momentum = formula(expected, momentum, gradient, lr)
        differences = []
        for device in devices:
            optimizer = make(momentum=_MOMENTUM, wd=_DECAY, multi_precision=dtype == "float16")
            array = mx.nd.array(weight, ctx=device, dtype=dtype)
            state = optimizer.create_state_multi_precision(0, array)
            for lr, gradient in zip(_LRS, gradients):
                optimizer.set_learning_rate(lr)
                gradient = mx.nd.array(gradient, ctx=device, dtype=dtype)
                optimizer.update_multi_precision(0, array, gradient, state)
            differences.append(relative_difference(array.asnumpy(), expected))
        values = {"weights": (np.max(differences), bound)}
        yield bounded(f"steps of {title}, against NumPy", values)


def _nag2016(weight, momentum, gradient, lr):
    gradient = gradient + _DECAY * weight
    momentum = _MOMENTUM * momentum + gradient
    return weight - lr * (gradient + _MOMENTUM * momentum), momentum


def _sgd(weight, velocity, gradient, lr):
    velocity = _MOMENTUM * velocity - lr * (gradient + _DECAY * weight)
    return weight + velocity, velocity
