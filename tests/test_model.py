"""Networks: outputs against NumPy, published parameter counts, names, forms."""

import json
import re

import numpy as np
import pytest
from numpy_reference import Reference
from test_blocks import images, parameters_of, randomise

from dmr_gluon import get_model
from dmr_gluon.runtime import mx

#: Trained parameters in millions. The paper prints 1.7 (Table 2), 14.9 (Table 3), 43.3 and
#: 44.5 (Table 4).
PARAMETERS = {
    "cifar_dmrnet56": 1.710426,
    "cifar_dmrnet32_w4": 14.851,
    "dmrnet44": 43.338,
    "resnet101": 44.549,
}


@pytest.mark.parametrize(
    "name, family, blocks, changes",
    [
        ("cifar_resnet20", "resnet", 3, {}),
        ("cifar_dilnet14", "dilnet", 2, {}),
        ("cifar_dmrnet14", "dmrnet", 2, {}),
        ("cifar_dmrnet8", "dmrnet", 1, {"branches": 3}),
        ("cifar_dmrnet14", "dmrnet", 2, {"mapping": "identity"}),
    ],
)
def test_outputs_equal_numpy(name, family, blocks, changes):
    net = get_model(name, **changes)
    randomise(net)
    x = images(2, 3, 32, 32)
    expected = Reference(parameters_of(net)).cifar_network(x, family, blocks, **changes)
    found = net(mx.nd.array(x)).asnumpy()
    scale = max(1, np.abs(expected).max())
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * scale)
    assert np.abs(expected).max() > 0.1


@pytest.mark.parametrize("name, millions", PARAMETERS.items())
def test_parameter_counts(name, millions):
    parameters = get_model(name).collect_params().values()
    count = sum(int(np.prod(p.shape)) for p in parameters if p.grad_req != "null")
    digits = len(str(millions).split(".")[1])
    assert round(count / 1e6, digits) == millions


def test_depth_is_the_papers():
    depths = {"cifar_resnet110": 110, "cifar_dmrnet56": 56, "dmrnet44": 44, "resnet101": 101}
    assert {name: get_model(name).spec.depth for name in depths} == depths


def test_imagenet_network_runs_at_224():
    net = get_model("dmrnet29", classes=7)
    net.initialize()
    assert net(mx.nd.zeros((1, 3, 224, 224))).shape == (1, 7)


def test_parameter_names_are_structural():
    names = set(get_model("cifar_dmrnet14").collect_params())
    assert {
        "stem_conv_weight",
        "stem_bn_gamma",
        "stage2_block1_branch1_conv1_weight",
        "stage2_block1_branch1_bn1_gamma",
        "stage2_block1_proj1_conv_weight",
        "stage2_block1_proj2_bn_running_var",
        "head_fc_weight",
        "head_fc_bias",
    } <= names
    layer = r"(conv|bn)\d?_(weight|gamma|beta|running_mean|running_var)"
    pattern = rf"(stem|stage\d_block\d_(branch|proj)\d)_{layer}|head_fc_(weight|bias)"
    assert all(re.fullmatch(pattern, name) for name in names)
    assert not any("_proj" in name for name in names if "block2" in name or "stage1" in name)


def test_a_prefix_goes_before_every_name():
    assert all(
        name.startswith("a_") for name in get_model("cifar_dmrnet8", prefix="a_").collect_params()
    )


def test_the_symbol_does_not_depend_on_what_was_built_before():
    texts = [get_model("cifar_dmrnet14").portable_symbol().tojson() for _ in range(2)]
    assert texts[0] == texts[1]


@pytest.mark.parametrize("form", ["hybridized", "static", "fused", "executor"])
@pytest.mark.parametrize(
    "name, changes",
    [
        ("cifar_resnet8", {}),
        ("cifar_dilnet8", {}),
        ("cifar_dmrnet14", {}),
        ("cifar_dmrnet8", {"branches": 3}),
    ],
)
def test_every_form_gives_the_same_outputs(name, changes, form):
    net = get_model(name, **changes)
    randomise(net)
    x = mx.nd.array(images(4, 3, 32, 32))
    expected = net(x).asnumpy()
    if form == "executor":
        # MXNet's own fusion of convolution, BN, sum and ReLU is at work here.
        executor = net.portable_symbol().simple_bind(mx.cpu(), grad_req="null", data=x.shape)
        executor.copy_params_from(
            {k: p.data() for k, p in net.collect_params().items() if p.grad_req != "null"},
            {k: p.data() for k, p in net.collect_params().items() if p.grad_req == "null"},
        )
        found = executor.forward(is_train=False, data=x)[0].asnumpy()
    else:
        if form == "fused":
            net.fuse_for_cpu()
        net.hybridize(static_alloc=form != "hybridized", static_shape=form != "hybridized")
        found = net(x).asnumpy()
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-5 * np.abs(expected).max())


@pytest.mark.parametrize("name", ["cifar_dmrnet20", "cifar_dilnet14"])
def test_fused_training_gives_the_same_gradients_and_statistics(name):
    results = []
    for fused in (False, True):
        net = get_model(name)
        randomise(net)
        if fused:
            net.fuse_for_cpu()
        net.hybridize()
        with mx.autograd.record():
            loss = (net(mx.nd.array(images(4, 3, 32, 32))) ** 2).sum()
        loss.backward()
        results.append(
            {
                name: (p.grad() if p.grad_req != "null" else p.data()).asnumpy()
                for name, p in net.collect_params().items()
            }
        )
    for name, expected in results[0].items():
        np.testing.assert_allclose(
            results[1][name],
            expected,
            rtol=0,
            atol=1e-4 * np.abs(expected).max(),
            err_msg=name,
        )


def test_the_portable_symbol_holds_no_fused_operator():
    net = get_model("cifar_dmrnet8")
    net.fuse_for_cpu()
    operators = {node["op"] for node in json.loads(net.portable_symbol().tojson())["nodes"]}
    assert operators == {
        "null", "Convolution", "BatchNorm", "Activation", "elemwise_add", "_mul_scalar", "Pooling",
        "Flatten", "FullyConnected",
    }  # fmt: skip


def test_initialisation_is_the_papers():
    net = get_model("cifar_dmrnet14", width=2)
    mx.random.seed(0)
    net.initialize()
    values = parameters_of(net)
    weight = values["stage3_block2_branch1_conv2_weight"]
    fan_in = weight[0].size
    assert weight.std() == pytest.approx((2 / fan_in) ** 0.5, rel=0.02)
    assert abs(weight.mean()) < 0.02 * weight.std()
    bound = (1 / values["head_fc_weight"].shape[1]) ** 0.5
    assert 0.95 * bound < np.abs(values["head_fc_weight"]).max() <= bound
    assert (values["stem_bn_gamma"] == 1).all() and (values["head_fc_bias"] == 0).all()
