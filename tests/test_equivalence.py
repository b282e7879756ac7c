"""Figures 4 and 5: one network in several forms, in inference and in training."""

import numpy as np
import pytest

from dmr_gluon import get_model
from dmr_gluon.analysis.conversion import convert_training
from dmr_gluon.analysis.symbol_parity import randomise
from dmr_gluon.errors import DMRError
from dmr_gluon.models.equivalence import convert, convert_arrays, fold
from dmr_gluon.runtime import mx
from dmr_gluon.training.optimizer import NAG2016
from dmr_gluon.training.step import TrainingStep

LR = 0.02


def batch(spec, images=8, seed=0):
    size = 32 if spec.stem == "cifar" else 64
    random = np.random.RandomState(seed)
    data = mx.nd.array(random.standard_normal((images, 3, size, size)))
    return data, mx.nd.array(random.randint(0, spec.classes, images))


def optimizer():
    return NAG2016(learning_rate=LR, momentum=0.9, wd=1e-4)


def trained(name, steps=20):
    """A network after some steps on random data, each on other data."""
    net = get_model(name)
    mx.random.seed(0)
    net.initialize()
    step = TrainingStep(net, optimizer(), [mx.cpu()])
    for i in range(steps):
        loss(step, i)
    return step


def loss(step, seed):
    ((total, _),) = step(*batch(step.net.spec, seed=seed), LR)
    value = float(total.asscalar())
    mx.nd.waitall()
    return value


def outputs(of, data):
    """Of a network, or of one that a step trains."""
    if not isinstance(of, TrainingStep):
        return of(data).asnumpy()
    with of.flat.apart():
        return of.net(data).asnumpy()


def assert_equal_outputs(one, other, data):
    expected, found = outputs(one, data), outputs(other, data)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize(
    "name",
    [
        "cifar_dilnet14",
        "cifar_dmrnet14",
        pytest.param("dmrnet44", marks=pytest.mark.slow),
    ],
)
def test_trained_networks_are_equal_in_both_forms_and_train_on_equally(name):
    branches = trained(name)
    variance = branches.net.collect_params()["stage2_block1_branch1_bn1_running_var"]
    assert np.abs(variance.data().asnumpy() - 1).max() > 0.05  # BN's statistics have moved
    grouped = convert_training(branches, optimizer(), "grouped")
    again = convert_training(grouped, optimizer(), "branches")
    data, _ = batch(branches.net.spec, seed=100)
    assert_equal_outputs(branches, grouped, data)
    assert_equal_outputs(branches, again, data)
    # The second loss is after an update in each form, momentum included.
    for seed in (101, 102):
        expected = loss(branches, seed)
        assert loss(grouped, seed) == pytest.approx(expected, rel=1e-4)
        assert loss(again, seed) == pytest.approx(expected, rel=1e-4)
    assert_equal_outputs(branches, convert(grouped.net, "branches"), data)


def test_momentum_is_part_of_the_conversion():
    branches = trained("cifar_dmrnet8", steps=5)
    forgetful = TrainingStep(convert(branches.net, "grouped"), optimizer(), [mx.cpu()])
    losses = [(loss(branches, seed), loss(forgetful, seed)) for seed in (101, 102, 103)]
    assert losses[0][1] == pytest.approx(losses[0][0], rel=1e-4)
    assert losses[2][1] != pytest.approx(losses[2][0], rel=1e-4)


@pytest.mark.parametrize(
    "name, changes",
    [
        ("cifar_dmrnet8_k3", {}),
        ("cifar_dmrnet8_k1", {}),
        ("cifar_dmrnet14_identity", {}),
        ("cifar_dmrnet14_unshared", {}),
        ("cifar_dmrnet14_identity_unshared", {}),
        ("cifar_dilnet8_k3", {}),
        ("cifar_dilnet8_w2", {}),
        pytest.param("dmrnet29", {"blocks": (1, 1, 2, 1)}, marks=pytest.mark.slow),
        pytest.param("dmrnet50_ijcai", {}, marks=pytest.mark.slow),
        pytest.param("dmrnet50_ijcai", {"blocks": (1, 1, 2, 1)}, marks=pytest.mark.slow),
    ],
)
def test_every_kind_of_network_converts_there_and_back(name, changes):
    net = randomise(get_model(name, **changes))
    net.cast("float64")
    data = batch(net.spec)[0].astype("float64")
    grouped = convert(net, "grouped")
    assert grouped.spec.form == "grouped"
    assert changes or grouped.spec.name == name + "_grouped"
    expected = net(data).asnumpy()
    found = grouped(data).asnumpy()
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-10 * np.abs(expected).max())
    again = convert(grouped, "branches")
    assert again.spec == net.spec
    for key, parameter in net.collect_params().items():
        same = again.collect_params()[key].data().asnumpy() == parameter.data().asnumpy()
        assert same.all(), key


def test_gradients_convert_like_parameters():
    """In double precision: a value that rounds to the other side of 0 changes a gradient."""
    for name in ("cifar_dilnet8_k3", "cifar_dmrnet14"):
        gradients = []
        net = randomise(get_model(name))
        net.cast("float64")
        grouped = convert(net, "grouped")
        data, label = (array.astype("float64") for array in batch(net.spec))
        for form in (net, grouped):
            with mx.autograd.record():
                total = mx.gluon.loss.SoftmaxCrossEntropyLoss()(form(data), label).sum()
            total.backward()
            gradients.append(
                {
                    key: parameter.grad().asnumpy()
                    for key, parameter in form.collect_params().items()
                    if parameter.grad_req != "null"
                }
            )
        expected = convert_arrays(gradients[0], net.spec, "grouped")
        assert set(expected) == set(gradients[1])
        for key, found in gradients[1].items():
            scale = np.abs(expected[key]).max()
            np.testing.assert_allclose(found, expected[key], rtol=0, atol=1e-9 * scale)


@pytest.mark.parametrize("branches", [2, 3])
def test_figure_4_to_the_letter(branches):
    name = f"cifar_dilnet14_k{branches}" if branches > 2 else "cifar_dilnet14"
    step = trained(name, steps=5)
    wide = fold(step.net)
    assert wide.spec.name == f"cifar_resnet14_inner{branches}"
    weights = wide.collect_params()
    # From narrow (16) to wide (16 K), and from wide back to narrow.
    assert weights["stage1_block1_branch1_conv1_weight"].shape == (16 * branches, 16, 3, 3)
    assert weights["stage1_block1_branch1_conv2_weight"].shape == (16, 16 * branches, 3, 3)
    data, _ = batch(step.net.spec, seed=7)
    assert_equal_outputs(step, wide, data)
    assert_equal_outputs(step, fold(convert(step.net, "grouped")), data)


@pytest.mark.parametrize(
    "name, function, words",
    [
        ("cifar_dmrnet8", fold, "inception-like"),
        ("cifar_resnet8", fold, "inception-like"),
        ("cifar_resnet8", lambda net: convert(net, "grouped"), "has one"),
        ("cifar_dmrnet8", lambda net: convert(net, "folded"), "form"),
    ],
)
def test_what_has_no_other_form_is_refused(name, function, words):
    net = get_model(name)
    net.initialize()
    with pytest.raises(DMRError, match=words):
        function(net)


def test_devices_types_and_prefixes_are_kept():
    devices = [mx.cpu(1), mx.cpu(2)]
    net = get_model("cifar_dmrnet8", prefix="my_branch1_stem2_")
    net.cast("float64")
    net.initialize(ctx=devices)
    grouped = convert(net, "grouped")
    parameter = grouped.collect_params()["my_branch1_stem2_stage1_block1_branches_conv1_weight"]
    assert parameter.list_ctx() == devices and np.dtype(parameter.dtype) == np.float64
    again = convert(grouped, "branches").collect_params()
    for name, expected in net.collect_params().items():
        assert (again[name].data(devices[1]) == expected.data(devices[1])).asnumpy().all()


def test_training_in_double_precision_converts_without_rounding():
    net = randomise(get_model("cifar_dmrnet8"))
    net.cast("float64")
    data, label = (array.astype("float64") for array in batch(net.spec))
    step = TrainingStep(net, optimizer(), [mx.cpu()])
    for _ in range(2):
        step(data, label, LR)
    mx.nd.waitall()
    other = convert_training(step, optimizer(), "grouped")
    for _ in range(2):
        ((expected, _),), ((found, _),) = step(data, label, LR), other(data, label, LR)
        assert found.asscalar() == pytest.approx(expected.asscalar(), rel=1e-12)


def test_a_network_without_parameters_is_refused():
    with pytest.raises(DMRError, match="not initialised"):
        convert(get_model("cifar_dmrnet8"), "grouped")
