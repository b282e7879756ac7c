"""Names of networks and what is refused."""

import json
import re
from dataclasses import asdict

import pytest

from dmr_gluon.errors import DMRError
from dmr_gluon.models.names import example_names, get_spec
from dmr_gluon.models.spec import NetworkSpec


def test_every_example_name_is_a_network_of_that_depth():
    assert {"cifar_dmrnet56", "resnet101", "dmrnet44", "dmrnet50_ijcai"} <= set(example_names())
    for name in example_names():
        depth = int(re.search(r"net(\d+)|plain(\d+)", name).group(0).strip("netplai"))
        assert get_spec(name).depth == depth and get_spec(name).name == name


def test_width_multiplies_every_channel_count():
    assert get_spec("cifar_dmrnet32_w4").channels == (64, 128, 256)
    assert get_spec("cifar_dmrnet32_w4").stem_channels == 64
    assert get_spec("cifar_dmrnet32", width=4).channels == (64, 128, 256)


@pytest.mark.parametrize(
    "name, words",
    [
        ("cifar_dmrnet57", "56 or 62"),
        ("cifar_dmrnet55", "50 or 56"),
        ("cifar_dmrnet3", "8 or 14"),
        ("dmrnet45", "dmrnet29 or dmrnet44 or dmrnet71"),
        ("resnet18", "resnet50 or resnet101"),
        ("dilnet44", "cifar_dilnet56"),
        ("cifar_dmrnt56", "did you mean"),
        ("cifar_dmrnet32_w0", "at least 1"),
        ("vgg", "unknown model"),
        ("cifar_dmrnet56\n", "unknown model"),
        ("cifar_dmrnet" + 5000 * "1", "unknown model"),
        ("cifar_resnet6000000002_blocks3", "unknown model"),
        ("cifar_resnet999999998_blocks3", "branch_layers must be at most 1000"),
        ("cifar_resnet999999998_blocks4", "a multiple of 3 that divides the 999999996 layers"),
    ],
)
def test_a_name_that_does_not_fit_is_refused_with_what_would(name, words):
    with pytest.raises(DMRError, match=words):
        get_spec(name)


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"classes": 0}, "classes"),
        ({"branches": 0}, "branches"),
        ({"mapping": "median"}, "mapping"),
        ({"brunches": 3}, "did you mean branches"),
        ({"width": 2.5}, "width"),
        ({"blocks": (1, 2)}, "blocks"),
    ],
)
def test_an_override_that_does_not_fit_is_refused(changes, words):
    with pytest.raises(DMRError, match=words):
        get_spec("cifar_dmrnet14", **changes)


def test_a_residual_block_has_one_branch_and_the_identity():
    with pytest.raises(DMRError, match="one branch"):
        get_spec("cifar_resnet14", branches=2)
    with pytest.raises(DMRError, match="merge-and-run"):
        get_spec("cifar_dilnet14", mapping="identity")


def test_a_width_is_not_given_twice():
    with pytest.raises(DMRError, match="already gives its width"):
        get_spec("cifar_dmrnet32_w4", width=2)


@pytest.mark.parametrize(
    "name",
    [
        "cifar_dmrnet14_k1",
        "cifar_dilnet14_w2_k4_grouped",
        "cifar_dmrnet14_identity_unshared_grouped",
        "cifar_resnet14_blocks3",
        "cifar_resnet14_inner2",
        "cifar_plain20_w3",
        "dmrnet50_ijcai_k3",
        "resnet50_w2",
    ],
)
def test_names_and_specifications_are_inverse(name):
    assert get_spec(name).name == name
    assert get_spec(name, classes=7).name == name
    assert NetworkSpec.from_json(json.loads(json.dumps(asdict(get_spec(name))))) == get_spec(name)


def test_what_differs_goes_into_the_name():
    assert get_spec("cifar_dmrnet14", branches=3, mapping="identity").name == (
        "cifar_dmrnet14_k3_identity"
    )
    spec = get_spec("cifar_dmrnet14", blocks=(1, 2, 1), branches=2)
    assert spec.name == "cifar_dmrnet14(blocks=(1, 2, 1))"
    assert get_spec(spec.name) == spec
    assert get_spec("cifar_dmrnet14_k3", branches=2).name == "cifar_dmrnet14"


@pytest.mark.parametrize(
    "name, words",
    [
        ("cifar_dmrnet14_q3", "_q3 is given twice or is not one of _wN"),
        ("cifar_dmrnet14_k", "_k is .* one of _wN"),
        ("cifar_dmrnet14_identity2", "_identity2 is"),
        ("cifar_dmrnet14_k2_k3", "_k3 is given twice"),
        ("cifar_resnet26_blocks5", "a multiple of 3 that divides the 24 layers"),
        ("cifar_dmrnet26_blocks3", "cifar_resnet"),
        ("cifar_dmrnet14_ijcai", "ImageNet"),
        ("dmrnet44_ijcai", "dmrnet50_ijcai"),
        ("plain50", "cifar_plain56"),
        ("cifar_dmrnet8_w100000000", "at most 65536"),
        ("cifar_dmrnet99999998", "at most 500"),
    ],
)
def test_an_ending_that_does_not_fit_is_refused(name, words):
    with pytest.raises(DMRError, match=words):
        get_spec(name)


@pytest.mark.parametrize(
    "name, changes, words",
    [
        ("cifar_plain14", {"branches": 2}, "one branch"),
        ("cifar_plain14", {"mapping": "identity"}, "merge-and-run"),
        ("cifar_plain14", {"projections": False}, "no skip connection"),
        ("cifar_resnet14", {"form": "grouped"}, "parallel branches"),
        ("cifar_resnet14", {"ends": "concatenated"}, "merge-and-run"),
        ("cifar_dilnet14", {"ends": "unshared"}, "merge-and-run"),
        ("resnet50", {"inner_width": 2}, "bottleneck"),
        ("resnet50", {"branch_layers": 3}, "bottleneck"),
        ("cifar_resnet14", {"branch_layers": 1, "inner_width": 2}, "two layers"),
        ("cifar_dmrnet14", {"ends": "open"}, "ends must be shared or"),
        ("cifar_dmrnet14", {"projections": "no"}, "projections cannot be a str"),
        ("cifar_dmrnet14", {"channels": (16, 32, 66), "bottleneck": True}, "divisible by 4"),
        ("cifar_dmrnet14", {"classes": 10**9}, "at most 1000000"),
    ],
)
def test_fields_that_do_not_go_together_are_refused(name, changes, words):
    with pytest.raises(DMRError, match=words):
        get_spec(name, **changes)


@pytest.mark.parametrize(
    "change", [{"stem_channels": []}, {"branch_layers": [2]}, {"blocks": 2}, {"classes": "10"}]
)
def test_a_specification_with_values_of_wrong_types_is_refused(change):
    with pytest.raises(DMRError, match=next(iter(change))):
        NetworkSpec.from_json({**asdict(get_spec("cifar_dmrnet14")), **change})


@pytest.mark.parametrize("change", [{"layers": 3}, {"block": None}])
def test_a_specification_of_another_version_is_refused(change):
    fields = {**asdict(get_spec("cifar_dmrnet14")), **change}
    if change.get("block", "") is None:
        del fields["block"]
    with pytest.raises(DMRError, match="this version"):
        NetworkSpec.from_json(fields)


@pytest.mark.parametrize("blocks, layers", [(3, 8), (6, 4), (12, 2)])
def test_long_residual_blocks_share_the_layers(blocks, layers):
    """Figure 6: the same 24 layers in fewer and longer blocks."""
    spec = get_spec(f"cifar_resnet26_blocks{blocks}")
    assert (spec.blocks, spec.branch_layers) == ((blocks // 3,) * 3, layers)
    assert spec.depth == 26
