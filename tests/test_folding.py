"""BN and scaling folded into other weights: the same function, with less to compute."""

import json
from collections import Counter

import numpy as np
import pytest

from dmr_gluon import Network, get_model
from dmr_gluon.deploy import folding
from dmr_gluon.deploy import variants as forms
from dmr_gluon.deploy.folding import fold_bn, fold_scaling
from dmr_gluon.deploy.graph import Graph
from dmr_gluon.deploy.variants import make
from dmr_gluon.models.equivalence import arrays_of
from dmr_gluon.models.names import get_spec
from dmr_gluon.runtime import mx

NETWORKS = (
    "cifar_dmrnet14", "cifar_dmrnet8_k3", "cifar_dmrnet8_identity", "cifar_dmrnet8_unshared",
    "cifar_dmrnet8_grouped", "cifar_dilnet8", "cifar_resnet14", "cifar_plain14",
)  # fmt: skip


def trained_looking(name, **overrides):
    """A network whose BN statistics and parameters are not the initial ones."""
    net = get_model(name, **overrides)
    net.initialize()
    random = np.random.RandomState(0)
    ranges = {"gamma": (0.5, 1.5), "beta": (-0.3, 0.3), "_mean": (-0.3, 0.3), "_var": (0.5, 2)}
    for key, parameter in net.collect_params().items():
        for ending, (low, high) in ranges.items():
            if key.endswith(ending):
                parameter.set_data(mx.nd.array(random.uniform(low, high, parameter.shape)))
    return net


def logits(symbol, arrays, data):
    executor = symbol.simple_bind(mx.cpu(), grad_req="null", data=data.shape)
    for name, array in {**executor.arg_dict, **executor.aux_dict}.items():
        if name != "data":
            array[:] = arrays[name]
    return executor.forward(is_train=False, data=data)[0].asnumpy()


def operators(symbol):
    return Counter(node["op"] for node in json.loads(symbol.tojson())["nodes"])


@pytest.fixture(scope="module")
def images():
    return np.random.RandomState(1).standard_normal((3, 3, 32, 32)).astype(np.float32)


@pytest.mark.parametrize("name", NETWORKS)
def test_folding_keeps_the_function(name, images):
    net = trained_looking(name)
    expected = net(mx.nd.array(images)).asnumpy()
    folded = fold_bn(net.portable_symbol(), arrays_of(net))
    scaled = fold_scaling(*folded)
    assert operators(folded[0])["BatchNorm"] == 0
    for symbol, arrays in (folded, scaled):
        found = logits(symbol, arrays, images)
        np.testing.assert_allclose(found, expected, rtol=0, atol=2e-6 * np.abs(expected).max())


def test_the_merges_factor_is_gone_and_costs_no_bit(images):
    net = trained_looking("cifar_dmrnet14")
    folded = fold_bn(net.portable_symbol(), arrays_of(net))
    scaled = fold_scaling(*folded)
    assert operators(folded[0])["_mul_scalar"] == 6 and operators(scaled[0])["_mul_scalar"] == 0
    # One addition too: both streams of the first block are the same tensor.
    assert operators(folded[0])["elemwise_add"] - operators(scaled[0])["elemwise_add"] == 1
    # Powers of two: not rounding, but equal.
    np.testing.assert_array_equal(logits(*folded, images), logits(*scaled, images))


def test_scales_do_not_grow_without_end(images, monkeypatch):
    # Nine blocks in a stage would scale the last ones by 2 to the 8th.
    monkeypatch.setattr(folding, "_MOST_SCALE", 2.0**3)
    net = trained_looking("cifar_dmrnet8", blocks=(9, 1, 1), channels=(4, 4, 4), stem_channels=4)
    folded = fold_bn(net.portable_symbol(), arrays_of(net))
    scaled = fold_scaling(*folded)
    # Twice, one multiplication undoes the scale and the block's own one stays.
    assert operators(scaled[0])["_mul_scalar"] == 4
    largest = max(np.abs(array).max() for array in scaled[1].values())
    assert largest <= 2**4 * max(np.abs(array).max() for array in folded[1].values())
    np.testing.assert_array_equal(logits(*folded, images), logits(*scaled, images))


def test_a_bn_that_follows_no_convolution_stays():
    data = mx.sym.var("data")
    normed = mx.sym.BatchNorm(mx.sym.Activation(data, act_type="relu"), name="bn", fix_gamma=False)
    twice = mx.sym.Convolution(normed, kernel=(1, 1), num_filter=2, no_bias=True, name="conv")
    both = mx.sym.concat(twice, mx.sym.BatchNorm(twice, name="second", fix_gamma=False))
    random = np.random.RandomState(0)
    arrays = {"conv_weight": random.standard_normal((2, 3, 1, 1))}
    for name, width in (("bn", 3), ("second", 2)):
        for part in ("gamma", "beta", "moving_mean", "moving_var"):
            arrays[f"{name}_{part}"] = random.uniform(0.5, 1.5, width)
    arrays = {name: array.astype(np.float32) for name, array in arrays.items()}
    image = random.standard_normal((2, 3, 4, 4)).astype(np.float32)
    symbol, folded = fold_bn(both, arrays)
    assert operators(symbol)["BatchNorm"] == 2
    np.testing.assert_array_equal(logits(symbol, folded, image), logits(both, arrays, image))


def test_bn_with_a_fixed_gamma_is_folded_with_ones():
    conv = mx.sym.Convolution(
        mx.sym.var("data"), kernel=(3, 3), num_filter=4, num_group=2, name="conv"
    )
    symbol = mx.sym.BatchNorm(conv, name="bn", fix_gamma=True, eps=1e-3)
    random = np.random.RandomState(0)
    shapes = {"conv_weight": (4, 1, 3, 3), "conv_bias": 4}
    shapes.update({f"bn_{part}": 4 for part in ("gamma", "beta", "moving_mean", "moving_var")})
    arrays = {
        name: random.uniform(0.5, 1.5, shape).astype(np.float32) for name, shape in shapes.items()
    }
    image = random.standard_normal((2, 2, 6, 6)).astype(np.float32)
    expected = logits(symbol, arrays, image)
    np.testing.assert_allclose(logits(*fold_bn(symbol, arrays), image), expected, atol=1e-5)


def test_a_symbol_read_and_written_is_the_same():
    symbol = Network(get_spec("cifar_dmrnet8")).portable_symbol()
    again = Graph(symbol).symbol()
    assert again.list_arguments() == symbol.list_arguments()
    assert again.list_auxiliary_states() == symbol.list_auxiliary_states()
    assert operators(again) == operators(symbol)


def test_normalising_in_the_graph(images):
    net = trained_looking("cifar_dmrnet8")
    mean, std = (120.0, 110.0, 100.0), (60.0, 50.0, 40.0)
    pixels = np.random.RandomState(2).randint(0, 256, (3, 32, 32, 3)).astype(np.float32)
    data = ((pixels - np.float32(mean)) / np.float32(std)).transpose(0, 3, 1, 2)
    expected = net(mx.nd.array(data)).asnumpy()
    for name in ("plain", "folded"):
        found = logits(*make(name, net, (mean, std)), pixels)
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def test_fused_and_int8_hold_onednns_operators_and_no_others(images):
    net = trained_looking("cifar_dmrnet8")
    fused = operators(make("fused", net)[0])
    assert not fused["Convolution"] and not fused["_mul_scalar"] and not fused["Activation"]
    calibration = np.repeat(images, 6, axis=0)
    int8 = operators(make("int8", net, calibration=calibration)[0])
    assert int8["_sg_mkldnn_conv"] == fused["_sg_mkldnn_conv"] > 10
    # The input is quantised, and once more what is inside the last block's sum.
    assert int8["_contrib_quantize_v2"] == 2
    residual, _ = make("int8", trained_looking("cifar_resnet14"), calibration=calibration)
    int8 = operators(residual)
    assert int8["_contrib_quantize_v2"] == 1 and not int8["_contrib_dequantize"]


def test_what_stays_float32_in_int8():
    def kept(name):
        net = trained_looking(name)
        return forms._before_the_last_sum(
            fold_scaling(*fold_bn(net.portable_symbol(), arrays_of(net)))[0]
        )

    assert kept("cifar_resnet14") == []
    for name, sums in (("cifar_dmrnet14", 1), ("cifar_dmrnet14_k3", 2), ("cifar_dilnet14", 1)):
        found = kept(name)
        assert len(found) == sums and all("stage3_block2__plus" in one for one in found)


def test_what_others_use_too_is_left_alone():
    random = np.random.RandomState(0)
    weight, bias = mx.sym.var("weight"), mx.sym.var("bias")
    data = mx.sym.var("data")
    one, two = (
        mx.sym.BatchNorm(
            mx.sym.Convolution(data * 1, weight, bias, kernel=(1, 1), num_filter=3, name=f"c{i}"),
            name=f"bn{i}",
            fix_gamma=False,
        )  # fmt: skip
        for i in (1, 2)
    )
    halves = (
        mx.sym.Activation(one, act_type="relu") * 0.5,
        mx.sym.Activation(two, act_type="relu"),
    )
    symbol = mx.sym.concat(*halves)
    shapes = {"weight": (3, 3, 1, 1), "bias": 3}
    for name in ("bn1", "bn2"):
        shapes.update({f"{name}_{part}": 3 for part in _BN})
    arrays = {
        name: random.uniform(0.5, 1.5, shape).astype(np.float32) for name, shape in shapes.items()
    }
    image = random.standard_normal((2, 3, 4, 4)).astype(np.float32)
    expected = logits(symbol, arrays, image)
    folded = fold_bn(symbol, arrays)
    assert operators(folded[0])["BatchNorm"] == 2
    for found in (folded, fold_scaling(*folded)):
        np.testing.assert_allclose(logits(*found, image), expected, atol=1e-5)


def test_scaled_streams_of_shared_convolutions():
    """A convolution whose weights another one has too cannot take up a scale."""
    weight = mx.sym.var("weight")
    data = mx.sym.Activation(mx.sym.var("data"), act_type="relu")
    options = {"kernel": (1, 1), "num_filter": 3, "no_bias": True}
    a = mx.sym.Convolution(data, weight, name="a", **options)
    b = mx.sym.Convolution(data * 0.25, weight, name="b", **options)
    read_twice = mx.sym.Convolution(data, name="c", **options)
    symbol = mx.sym.Group([a + data * 0.5, b, read_twice + data * 0.5, read_twice])
    random = np.random.RandomState(0)
    arrays = {
        name: random.standard_normal((3, 3, 1, 1)).astype(np.float32)
        for name in ("weight", "c_weight")
    }
    image = random.standard_normal((2, 3, 4, 4)).astype(np.float32)

    def outputs(symbol, arrays):
        executor = symbol.simple_bind(mx.cpu(), grad_req="null", data=image.shape)
        for name in set(executor.arg_dict) - {"data"}:
            executor.arg_dict[name][:] = arrays[name]
        return [one.asnumpy() for one in executor.forward(is_train=False, data=image)]

    for found, expected in zip(outputs(*fold_scaling(symbol, arrays)), outputs(symbol, arrays)):
        np.testing.assert_allclose(found, expected, atol=1e-5)


_BN = ("gamma", "beta", "moving_mean", "moving_var")
