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


SHOWN = """\
cifar_dmrnet20: depth 20, 543,834 parameters
  stem                            conv 3x3 3->16, BN, ReLU                                 464
  stage1_block1 to stage1_block3  3 x MergeAndRun                                   9,344 each
    branch1, branch2              conv 3x3 16->16, BN, ReLU, conv 3x3 16->16, BN    4,672 each
  stage2_block1                   MergeAndRun                                           29,056
    branch1, branch2              conv 3x3/2 16->32, BN, ReLU, conv 3x3 32->32, BN 13,952 each
    proj1, proj2                  conv 1x1/2 16->32, BN                               576 each
  stage2_block2, stage2_block3    2 x MergeAndRun                                  37,120 each
    branch1, branch2              conv 3x3 32->32, BN, ReLU, conv 3x3 32->32, BN   18,560 each
  stage3_block1                   MergeAndRun                                          115,456
    branch1, branch2              conv 3x3/2 32->64, BN, ReLU, conv 3x3 64->64, BN 55,552 each
    proj1, proj2                  conv 1x1/2 32->64, BN                             2,176 each
  stage3_block2                   MergeAndRun                                          147,968
    branch1, branch2              conv 3x3 64->64, BN, ReLU, conv 3x3 64->64, BN   73,984 each
  stage3_block3                   MergeAndRun; one output                              147,968
    branch1, branch2              conv 3x3 64->64, BN, ReLU, conv 3x3 64->64, BN   73,984 each
  pool                            global average pooling                                     0
  head_fc                         FC 64->10                                                650"""


class TestPrinted:
    def test_equal_neighbours_are_one_line(self):
        found = str(get_model("cifar_dmrnet20"))
        assert [line.split() for line in found.splitlines()] == [
            line.split() for line in SHOWN.splitlines()
        ]
        for name in ("cifar_dmrnet56", "resnet152", "cifar_plain110"):
            lines = str(get_model(name)).splitlines()
            assert len(lines) < 30 and len({len(line) for line in lines[1:]}) == 1

    @pytest.mark.parametrize(
        "name", ["dmrnet44", "cifar_dmrnet14_unshared", "cifar_dmrnet14_grouped", "dmrnet50_ijcai"]
    )
    def test_the_counts_add_up(self, name):
        head, *lines = str(get_model(name)).splitlines()
        total = 0
        for line in lines:
            if not line.startswith("    "):
                count = int(re.search(r"([0-9,]+)(?: each)?$", line)[1].replace(",", ""))
                names = line.split("  ")[1]
                first, last = re.findall(r"\d+", names)[-1:], re.search(r"(\d+)\D*(?:,| to)", names)
                times = int(first[0]) - int(last[1]) + 1 if "each" in line else 1
                total += times * count
        assert total == int(re.search("([0-9,]+) parameters", head)[1].replace(",", ""))

    def test_what_was_changed_is_shown(self):
        net = get_model("cifar_dmrnet8", prefix="a_", norm_layer=mx.gluon.nn.GroupNorm)
        with net.name_scope():
            net.output = mx.gluon.nn.Dense(100)
        shown = str(net)
        assert re.search("bn1 +GroupNorm", shown) and re.search(r"dense\d+ +FC \?->100 +\?", shown)
        assert "cifar_dmrnet8: depth 8, ? parameters" in shown
        assert "; identity mapping" in str(get_model("cifar_dmrnet14_identity"))
