"""One update: what devices and portions do together, averages, float16, schedules."""

import json
from dataclasses import replace

import numpy as np
import pytest

from dmr_gluon import get_model
from dmr_gluon.models.layers import BatchNorm
from dmr_gluon.paper.recipes import CIFAR, IMAGENET
from dmr_gluon.runtime import mx
from dmr_gluon.training import checkpoint
from dmr_gluon.training import flat_parameters as buckets
from dmr_gluon.training.flat_parameters import FlatParameters, trained_parameters
from dmr_gluon.training.optimizer import learning_rate, make_optimizer
from dmr_gluon.training.state import NotFinite
from dmr_gluon.training.step import LossScale, TrainingStep, WeightAverage, finite_flags

ONE, TWO = [mx.cpu(0)], [mx.cpu(0), mx.cpu(1)]


def train(devices, steps=3, batch=12, fused=False, **changes):
    """A few updates on random data; the step, and its network's parameters by name."""
    mx.random.seed(1)
    net, recipe = get_model("cifar_dmrnet8"), replace(CIFAR, **changes)
    net.initialize(ctx=devices)
    if fused:
        net.fuse_for_cpu()
    net.hybridize(static_alloc=True, static_shape=True)
    step = TrainingStep(net, make_optimizer(recipe), devices, recipe=recipe)
    random = np.random.RandomState(0)
    for _ in range(steps):
        data = random.standard_normal((batch, 3, 16, 16)).astype(np.float32)
        step(data, random.randint(0, 10, batch), lr=0.05)
    mx.nd.waitall()
    return step, {name: p.list_data()[0].asnumpy() for name, p in net.collect_params().items()}


def assert_equal(found, expected, statistics=True, rtol=2e-4):
    for name, array in expected.items():
        if statistics or "running" not in name:
            scale = np.abs(array).max()
            assert np.abs(found[name] - array).max() <= rtol * scale, name


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("batch", [12, 11])
def test_portions_on_one_device_do_what_as_many_devices_do(fused, batch):
    """Gradient accumulation: the batch of two GPUs on one, BN's statistics included."""
    _, expected = train(TWO, batch=batch, fused=fused)
    _, found = train(ONE, batch=batch, fused=fused, accumulate=2)
    # The running statistics of one device take in each portion, one after the other.
    assert_equal(found, expected, statistics=False)
    _, alone = train(ONE, batch=batch, fused=fused)
    with pytest.raises(AssertionError):
        assert_equal(alone, expected, statistics=False)


def test_two_devices_with_two_portions_do_what_four_devices_do():
    _, expected = train([mx.cpu(i) for i in range(4)])
    _, found = train(TWO, accumulate=2)
    assert_equal(found, expected, statistics=False)


def test_synchronised_bn_is_ours_with_the_devices_counted():
    """On one device it must give BN's numbers; several wait for ever on CPUs, now and then."""
    net, expected = (get_model("cifar_dmrnet8") for _ in range(2))
    mx.random.seed(1)
    net.initialize()
    expected.initialize()
    for name, parameter in net.collect_params().items():
        expected.collect_params()[name].set_data(parameter.data())
    data = mx.nd.random.normal(shape=(4, 3, 16, 16))
    norms = []
    net.apply(lambda block: isinstance(block, BatchNorm) and norms.append(block))
    for norm in norms:
        norm.devices = "1"  # not 1, and yet one device: takes the other operator
    assert "SyncBatchNorm" in net(mx.sym.var("data")).tojson()
    gradients = []
    for one in (net, expected):
        with mx.autograd.record():
            loss = (one(data) ** 2).sum()
        loss.backward()
        gradients.append(one.features[0][0].weight.grad().asnumpy())
        mx.nd.waitall()
    np.testing.assert_allclose(*gradients, rtol=1e-3, atol=1e-3 * np.abs(gradients[1]).max())
    for name, parameter in net.collect_params().items():
        other = expected.collect_params()[name].data().asnumpy()
        np.testing.assert_allclose(parameter.data().asnumpy(), other, rtol=1e-3, atol=1e-5)
    net.synchronise_bn(8)
    text = net(mx.sym.var("data")).tojson()
    operators = [node for node in json.loads(text)["nodes"] if "BatchNorm" in node["op"]]
    assert {node["op"] for node in operators} == {"_contrib_SyncBatchNorm"}
    assert {node["attrs"]["ndev"] for node in operators} == {"8"}
    assert len({node["attrs"]["key"] for node in operators}) == len(operators) == len(norms)


def test_label_smoothing_is_the_cross_entropy_with_smoothed_labels():
    logits = np.random.RandomState(0).standard_normal((4, 10))
    best = logits.argmax(axis=1)
    labels = best + [0, 1, -1, -1]  # one is right, and not all others are on one side

    class Fixed(mx.gluon.HybridBlock):
        def __init__(self):
            super().__init__(prefix="f_")
            with self.name_scope():
                self.logits = self.params.get(
                    "logits", shape=(4, 10), init=mx.init.Constant(mx.nd.array(logits))
                )

        def hybrid_forward(self, F, x, logits):
            return logits + 0 * F.sum(x)

    net = Fixed()
    net.initialize()
    step = TrainingStep(net, make_optimizer(CIFAR), ONE, recipe=replace(CIFAR, label_smoothing=0.1))
    ((total, wrong),) = step(np.zeros((4, 3, 2, 2)), labels, lr=1.0)
    assert wrong.asscalar() == 3
    probability = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    wanted = np.full((4, 10), 0.01)
    wanted[np.arange(4), labels] += 0.9
    np.testing.assert_allclose(total.asscalar(), -(wanted * np.log(probability)).sum(), rtol=1e-5)
    gradient = net.logits.grad().asnumpy()
    np.testing.assert_allclose(gradient, probability - wanted, atol=1e-6)


def test_the_average_of_the_weights_follows_its_formula():
    net = get_model("cifar_dmrnet8")
    net.initialize()
    average = WeightAverage(FlatParameters(net), decay=0.6)
    parameters = trained_parameters(net)
    expected = [p.data().asnumpy().astype(np.float64) for p in parameters]
    random = np.random.RandomState(0)
    for step in range(1, 6):
        kept = min(0.6, (1 + step) / (10 + step))
        for i, parameter in enumerate(parameters):
            weight = random.standard_normal(parameter.shape).astype(np.float32)
            parameter.set_data(mx.nd.array(weight))
            expected[i] = kept * expected[i] + (1 - kept) * weight
        average.update(step)
    last = [p.data().asnumpy() for p in parameters]
    with average:
        for parameter, array in zip(parameters, expected):
            np.testing.assert_allclose(parameter.data().asnumpy(), array, atol=1e-6)
    assert all((p.data().asnumpy() == array).all() for p, array in zip(parameters, last))


class Scaled(mx.gluon.HybridBlock):
    """Logits: the mean of each of ten channels times a weight, in float16 if asked to.

    MXNet has no float16 convolutions for CPUs, but it has this.
    """

    def __init__(self):
        super().__init__(prefix="s_")
        with self.name_scope():
            self.weight = self.params.get("weight", shape=(1, 10), init=mx.init.One())
            self.norm = mx.gluon.nn.BatchNorm(in_channels=10, prefix="bn_")

    def compute_in_float16(self):
        self.cast("float16")

    def hybrid_forward(self, F, x, weight):
        means = self.norm(F.cast(F.mean(x, axis=(2, 3)), "float32"))
        return F.cast(F.broadcast_mul(F.cast(means, weight_type(weight)), weight), "float32")


def weight_type(weight):
    return np.dtype(weight.dtype).name


def scaled_step(recipe):
    net = Scaled()
    net.initialize()
    step = TrainingStep(net, make_optimizer(recipe), ONE, recipe=recipe)
    if step.loss_scale:
        step.loss_scale.scale = 256.0  # these gradients would overflow with more
    return step


def scaled_data(step):
    random = np.random.RandomState(step)
    return random.standard_normal((8, 10, 2, 2)).astype(np.float32), random.randint(0, 10, 8)


#: Of an optimiser with master weights, as checkpoints have them.
_STATES = ("velocity", "master")


@pytest.mark.parametrize("nesterov", [True, False])
class TestFloat16:
    def steps(self, nesterov, dtype, count=6, step=None, first=0):
        recipe = replace(CIFAR, nesterov=nesterov, dtype=dtype)
        step = step or scaled_step(recipe)
        for i in range(first, first + count):
            step(*scaled_data(i), lr=0.05 if i < 4 else 0.005)
        return step

    def test_master_weights_follow_float32(self, nesterov):
        half, single = (self.steps(nesterov, dtype) for dtype in ("float16", "float32"))
        weight = half.net.weight.data()
        assert weight.dtype == np.float16 and half.net.norm.gamma.data().dtype == np.float32
        arrays = checkpoint.arrays_of(half)
        velocity, master = (arrays[f"{kind}/{half.net.weight.name}"] for kind in _STATES)
        assert master.dtype == velocity.dtype == np.float32
        expected = single.net.weight.data().asnumpy()
        np.testing.assert_allclose(master, expected, atol=2e-4)
        assert (weight.asnumpy() == master.astype(np.float16)).all()
        assert (weight.asnumpy().astype(np.float32) != master).any()

    def test_an_overflow_changes_nothing_and_halves_the_scale(self, nesterov):
        step = self.steps(nesterov, "float16")
        before = step.net.weight.data().asnumpy()
        step.loss_scale.scale = 2.0**24
        step(*scaled_data(7), lr=0.05)
        assert (step.net.weight.data().asnumpy() == before).all()
        assert step.loss_scale.scale == 2.0**23
        while (step.net.weight.data().asnumpy() == before).all():
            step(*scaled_data(7), lr=0.05)
        assert 1 < step.loss_scale.scale < 2.0**23

    def test_it_resumes_with_the_same_bits(self, nesterov):
        whole = self.steps(nesterov, "float16")
        half = self.steps(nesterov, "float16", count=3)
        arrays = checkpoint.arrays_of(half)
        assert {name.split("/")[0] for name in arrays} == {"parameter", "velocity", "master"}
        other = scaled_step(replace(CIFAR, nesterov=nesterov, dtype="float16"))
        checkpoint.fill(arrays, other, lr=0.05)
        vars(other.loss_scale).update(vars(half.loss_scale))
        self.steps(nesterov, "float16", count=3, step=other, first=3)
        for name, parameter in whole.net.collect_params().items():
            found = other.net.collect_params()[name].data().asnumpy()
            assert (found == parameter.data().asnumpy()).all(), name


def test_the_networks_parts_that_become_float16():
    """As far as that goes without a GPU: types, the graph's casts, BN in float32."""
    net = get_model("cifar_dmrnet8")
    net.initialize()
    net.compute_in_float16()
    types = {name: np.dtype(p.dtype).name for name, p in net.collect_params().items()}
    for name, dtype in types.items():
        assert dtype == ("float32" if "_bn" in name or "stem_bn" in name else "float16"), name
    symbol = net(mx.sym.var("data"))
    types, outputs, _ = symbol.infer_type(data="float32")
    assert [np.dtype(t).name for t in outputs] == ["float32"]
    assert np.float16 in types
    assert "Cast" not in net.portable_symbol().tojson()


def test_float16_fetches_the_next_batch_while_gradients_are_looked_at(monkeypatch):
    order, step = [], scaled_step(replace(CIFAR, dtype="float16"))
    after = step.loss_scale.after
    monkeypatch.setattr(step.loss_scale, "after", lambda ok: order.append("look") or after(ok))
    data, label = scaled_data(0)
    step.update(step.place(data, label), 0.1, len(label), lambda: order.append("fetch"))
    assert order == ["fetch", "look"]


@pytest.mark.parametrize("value", ["inf", "nan"])
def test_one_value_that_is_not_finite_is_seen(value):
    arrays = [mx.nd.ones(1000, dtype=dtype) for dtype in ("float16", "float32", "float32")]

    def seen():
        return [int(flag.asscalar()) for flag in finite_flags(arrays)]

    assert seen() == [1, 1]  # one for each type
    arrays[1][777] = float(value)
    assert seen() == [1, 0]


def test_a_loss_scale_that_cannot_fall_further_ends_the_run():
    scale = LossScale()
    while scale.scale > 1:
        assert not scale.after(False)
    assert (scale.scale, scale.skipped) == (1.0, 16)
    assert scale.after(True) and scale.skipped == 16
    with pytest.raises(NotFinite, match="even with a loss scale of 1"):
        scale.after(False)


class TestBuckets:
    def test_several_of_them_train_as_one_does(self, monkeypatch):
        one, expected = train(ONE)
        monkeypatch.setattr(buckets, "_MOST", 3000)
        several, found = train(ONE)
        assert len(one.flat.arrays) == 1 < len(several.flat.arrays)
        assert all((found[name] == array).all() for name, array in expected.items())
        states = (checkpoint.arrays_of(step) for step in (one, several))
        for (name, array), (other, same) in zip(*(sorted(state.items()) for state in states)):
            assert name == other and (array == same).all()

    def test_parameters_begin_where_gpus_like_it_and_do_not_overlap(self):
        net = get_model("cifar_dmrnet8")
        parameters = buckets.trained_parameters(net)
        end = 0
        for parameter, (number, start) in zip(parameters, buckets.places_of(parameters)):
            assert number == 0 and start % 64 == 0 and end <= start < end + 64
            end = start + int(np.prod(parameter.shape))

    @pytest.mark.parametrize("gpus", [2, 8])
    def test_several_gpus_have_several_sums_each(self, gpus):
        parameters = buckets.trained_parameters(get_model("cifar_dmrnet56"))
        size = sum(int(np.prod(p.shape)) for p in parameters)
        places = buckets.places_of(parameters, gpus)
        filled = [0] * (max(number for number, _ in places) + 1)
        for parameter, (number, start) in zip(parameters, places):
            assert start >= filled[number]
            filled[number] = start + int(np.prod(parameter.shape))
        assert 2 * gpus <= len(filled) <= 4 * gpus and max(filled) <= size / (2 * gpus)

    def test_pieces_are_what_was_joined(self):
        net = get_model("cifar_dmrnet8")
        net.initialize()
        random, made = np.random.RandomState(0), FlatParameters(net)
        pieces = {p.name: random.standard_normal(p.shape) for p in trained_parameters(net)}
        found = made.pieces(made.join(pieces))
        assert found.keys() == pieces.keys()
        assert all((found[name] == piece).all() for name, piece in pieces.items())
        assert made.join({}) == [None]

    def test_parameters_are_set_and_read_as_ever(self):
        net = get_model("cifar_dmrnet8")
        net.initialize(ctx=TWO)
        parameters = trained_parameters(net)
        before = [p.data(TWO[1]).asnumpy() for p in parameters]
        (long,) = FlatParameters(net).arrays
        assert all((p.data(TWO[1]).asnumpy() == b).all() for p, b in zip(parameters, before))
        parameters[0].set_data(mx.nd.full(parameters[0].shape, 5))
        for array in long.list_data():
            assert (array[: before[0].size].asnumpy() == 5).all()
            assert not (array[before[0].size :].asnumpy() == 5).any()

    def test_a_second_step_on_a_network_takes_over_from_the_first(self):
        step, _ = train(ONE)
        net, data = step.net, mx.nd.ones((2, 3, 16, 16))
        net.replace_output(3)
        again = TrainingStep(net, make_optimizer(CIFAR), ONE)
        before = {name: p.data().asnumpy() for name, p in net.collect_params().items()}
        again(data.asnumpy(), np.zeros(2), lr=0.1)
        mx.nd.waitall()
        moved = [
            name
            for name, p in net.collect_params().items()
            if (p.data().asnumpy() != before[name]).any()
        ]
        assert set(moved) == set(before)

    def test_a_learning_rate_of_its_own_has_arrays_of_its_own_a_weight_decay_is_refused(self):
        net = get_model("cifar_dmrnet8")
        net.initialize()
        net.output.weight.lr_mult = 10
        assert [bucket.lr_mult for bucket in FlatParameters(net).arrays] == [1, 10]
        net.output.weight.wd_mult = 10
        with pytest.raises(ValueError, match="head_fc_weight has a wd_mult"):
            TrainingStep(net, make_optimizer(CIFAR), ONE)

    def test_fewer_images_than_devices_are_refused(self):
        step, _ = train(TWO)
        with pytest.raises(ValueError, match="1 images are not enough for 2 parts"):
            step(np.ones((1, 3, 16, 16), np.float32), np.zeros(1), lr=0.1)

    def test_a_checkpoint_has_a_velocity_for_every_trained_parameter(self):
        step, _ = train(ONE)
        arrays = checkpoint.arrays_of(step)
        found = {n[9:]: a.shape for n, a in arrays.items() if n.startswith("velocity/")}
        assert found == {p.name: p.shape for p in trained_parameters(step.net)}

    def test_a_network_predicts_apart_and_training_goes_on_from_there(self):
        step, _ = train(ONE, fused=True)
        data = mx.nd.ones((2, 3, 16, 16))
        weights = step.flat.arrays[0].data()
        before = weights.asnumpy()
        with step.flat.apart():
            for _ in range(3):  # in the second one MXNet uses what it made of the weights
                logits = step.net(data).asnumpy()
        assert (weights.asnumpy() == before).all()
        step(data.asnumpy(), np.zeros(2), lr=0.1)
        assert (weights.asnumpy() != before).any()
        with step.flat.apart():
            assert np.abs(step.net(data).asnumpy() - logits).max() > 1e-3


def test_the_loss_scale_doubles_after_a_while():
    scale = LossScale()
    assert scale.scale == 65536
    for _ in range(LossScale.WAIT - 1):
        assert scale.after(True)
    assert scale.scale == LossScale.FIRST
    scale.after(True)
    assert scale.scale == 2 * LossScale.FIRST
    assert not scale.after(False) and scale.scale == LossScale.FIRST


class TestSchedules:
    def test_cosine(self):
        recipe = replace(CIFAR, schedule="cosine")
        rates = [learning_rate(recipe, step, 100, 10) for step in range(100)]
        expected = 0.05 * (1 + np.cos(np.pi * np.arange(100) / 100))
        np.testing.assert_allclose(rates, expected, rtol=1e-9)

    def test_warm_up_rises_along_a_line_to_the_schedule(self):
        for recipe in (CIFAR, IMAGENET, replace(CIFAR, schedule="cosine")):
            warm = replace(recipe, warmup_epochs=2.5)
            rates = [learning_rate(warm, step, 1000, 10) for step in range(1000)]
            np.testing.assert_allclose(rates[:25], 0.1 * np.arange(1, 26) / 25)
            assert rates[25] == 0.1 and min(rates) > 0
            if recipe.schedule == "steps":
                expected = [learning_rate(recipe, step, 1000, 10) for step in range(25, 1000)]
                assert rates[25:] == expected
