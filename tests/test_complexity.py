"""Sizes counted in the graph, against numbers from elsewhere and counts by hand."""

import numpy as np
import pytest

from dmr_gluon import get_model
from dmr_gluon.errors import DMRError
from dmr_gluon.models.complexity import measure
from dmr_gluon.runtime import mx


def measured(name, size):
    return measure(get_model(name).portable_symbol(), (3, size, size))


@pytest.mark.parametrize(
    "name, billions",
    # Published for the stride in the 3x3 convolution: 4.1, 7.8 and 11.5 billion.
    [("resnet50", 4.089), ("resnet101", 7.801), ("resnet152", 11.514)],
)
def test_multiply_adds_of_the_resnets_are_the_well_known_ones(name, billions):
    assert measured(name, 224).multiply_adds / 1e9 == pytest.approx(billions, abs=5e-4)


def test_one_layer_by_hand():
    layers = {layer.name: layer for layer in measured("cifar_dmrnet8", 32).layers}
    conv = layers["stage2_block1_branch1_conv1"]
    assert conv.kind == "conv 3x3/2" and conv.output == (32, 16, 16)
    assert conv.parameters == 32 * 16 * 9 and conv.activations == 32 * 16 * 16
    assert conv.multiply_adds == 32 * 16 * 16 * 16 * 9
    fc = layers["head_fc"]
    assert fc.parameters == 650 and fc.multiply_adds == 640 and fc.output == (10,)
    bn = layers["stem_bn"]
    assert bn.parameters == 32 and bn.multiply_adds == 0


def test_groups_and_other_sizes_are_counted():
    grouped, branches = measured("cifar_dmrnet8_grouped", 32), measured("cifar_dmrnet8", 32)
    assert grouped.parameters == branches.parameters
    assert grouped.multiply_adds == branches.multiply_adds
    assert any("in 2 groups" in layer.kind for layer in grouped.layers)
    ratio = measured("cifar_dmrnet8", 64).multiply_adds / branches.multiply_adds
    assert ratio == pytest.approx(4, rel=1e-3)


def test_parameters_are_those_that_gluon_trains():
    net = get_model("dmrnet50_ijcai")
    trained = [p for p in net.collect_params().values() if p.grad_req != "null"]
    expected = sum(int(np.prod(p.shape)) for p in trained)
    assert measure(net.portable_symbol(), (3, 224, 224)).parameters == expected


def test_the_fast_form_for_cpus_counts_the_same():
    net = get_model("cifar_dmrnet8")
    net.fuse_for_cpu()
    fused = measure(net(mx.sym.var("data")), (3, 32, 32))
    plain = measured("cifar_dmrnet8", 32)
    assert fused.parameters == plain.parameters and fused.depth == plain.depth
    assert fused.multiply_adds == plain.multiply_adds


def test_images_that_do_not_fit_are_refused():
    with pytest.raises(DMRError, match="does not take images"):
        measure(get_model("cifar_dmrnet8").portable_symbol(), (4, 32, 32))
