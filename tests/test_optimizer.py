"""Nesterov momentum against the formula of 2016, and the step schedule."""

from dataclasses import replace

import numpy as np
import pytest

from dmr_gluon.paper.recipes import CIFAR, IMAGENET
from dmr_gluon.runtime import mx
from dmr_gluon.training.optimizer import learning_rate, make_optimizer

SHAPES = [(5, 3), (7,), (32, 16, 3, 3)]


def run_both(rates=(0.1, 0.01), steps=20, wd=1e-4, momentum=0.9, batch=64, shapes=SHAPES):
    """Twenty updates by the optimiser and, in float64, by the formula.

    The first half of them at the first rate.
    """
    random = np.random.RandomState(0)
    recipe = replace(CIFAR, weight_decay=wd, momentum=momentum)
    updater = mx.optimizer.get_updater(make_optimizer(recipe))
    updater.optimizer.rescale_grad = 1 / batch
    start = [random.standard_normal(shape).astype(np.float32) for shape in shapes]
    found = [mx.nd.array(w) for w in start]
    expected = [w.astype(np.float64) for w in start]
    m = [np.zeros_like(w) for w in expected]
    for step in range(steps):
        lr = rates[step >= steps // 2]
        updater.optimizer.set_learning_rate(lr)
        gradients = [random.standard_normal(s).astype(np.float32) * batch for s in shapes]
        updater(list(range(len(shapes))), [mx.nd.array(g) for g in gradients], found)
        for i, g in enumerate(gradients):
            decayed = g.astype(np.float64) / batch + wd * expected[i]
            m[i] = momentum * m[i] + decayed
            expected[i] = expected[i] - lr * (decayed + momentum * m[i])
    return [w.asnumpy() for w in found], expected


@pytest.mark.parametrize("rates", [(0.1, 0.01), (0.01, 0.1)], ids=["drop", "rise"])
@pytest.mark.parametrize("wd", [0, 1e-4, 1e-2])
def test_nesterov_equals_the_2016_formula_across_a_change(wd, rates):
    for found, expected in zip(*run_both(rates, wd=wd)):
        assert np.abs(found - expected).max() <= 1e-6 * np.abs(expected).max()


def test_only_float16_has_a_master_copy():
    optimizer = make_optimizer(replace(CIFAR, dtype="float16"))
    state = optimizer.create_state_multi_precision(0, mx.nd.ones(3, dtype="float16"))
    assert [array.dtype for array in state] == [np.float32, np.float32]
    for dtype in ("float32", "float64"):
        state = optimizer.create_state_multi_precision(0, mx.nd.ones(3, dtype=dtype))
        assert isinstance(state, mx.nd.NDArray) and state.dtype == np.dtype(dtype)


def test_mxnets_own_nag_differs_after_a_drop():
    # The reason for having our own: if this fails, MXNet's can be used.
    own = mx.optimizer.create("nag", learning_rate=0.1, momentum=0.9)
    weights = []
    for optimizer in (own, make_optimizer(replace(CIFAR, weight_decay=0))):
        updater, weight = mx.optimizer.get_updater(optimizer), mx.nd.zeros(1)
        for lr in (0.1, 0.1, 0.01):
            optimizer.set_learning_rate(lr)
            updater(0, mx.nd.ones(1), weight)
        weights.append(weight.asscalar())
    assert abs(weights[0] - weights[1]) > 0.05


def test_weight_decay_reaches_every_parameter():
    net = mx.gluon.nn.HybridSequential()
    net.add(mx.gluon.nn.Dense(2, in_units=2), mx.gluon.nn.BatchNorm(in_channels=2))
    net.initialize(mx.init.One())
    trainer = mx.gluon.Trainer(net.collect_params(), make_optimizer(CIFAR), kvstore=None)
    for parameter in net.collect_params().values():
        parameter.set_data(mx.nd.ones(parameter.shape))
        if parameter.grad_req != "null":
            parameter.data()._fresh_grad = True
    trainer.step(1)
    for name, parameter in net.collect_params().items():
        decayed = parameter.grad_req != "null"
        assert (parameter.data().asnumpy() < 1).all() == decayed, name


def test_imagenet_has_plain_momentum():
    assert type(make_optimizer(IMAGENET)).__name__ == "SGD"
    assert type(make_optimizer(CIFAR)).__name__ == "NAG2016"
    assert type(make_optimizer(replace(CIFAR, momentum=0))).__name__ == "SGD"  # there is none


def test_the_cifar_schedule_drops_at_a_half_three_quarters_and_seven_eighths():
    rates = [learning_rate(CIFAR, step, 800) for step in range(800)]
    changes = [step for step in range(1, 800) if rates[step] != rates[step - 1]]
    assert changes == [400, 600, 700]
    assert sorted(set(rates), reverse=True) == [0.1, 0.01, 0.001, 0.0001]


def test_the_imagenet_schedule_drops_every_thirty_epochs():
    rates = [learning_rate(IMAGENET, epoch * 10, 1000) for epoch in range(100)]
    assert [epoch for epoch in range(1, 100) if rates[epoch] != rates[epoch - 1]] == [30, 60, 90]
