"""Names of networks and what is refused."""

import re

import pytest

from dmr_gluon.errors import DMRError
from dmr_gluon.networks import example_names, network


def test_every_example_name_is_a_network_of_that_depth():
    for name in example_names():
        depth = int(re.search(r"net(\d+)|plain(\d+)", name).group(0).strip("netplai"))
        assert network(name).depth == depth and network(name).name == name


def test_width_multiplies_every_channel_count():
    assert network("cifar_dmrnet32_w4").channels == (64, 128, 256)
    assert network("cifar_dmrnet32_w4").stem_channels == 64
    assert network("cifar_dmrnet32", width=4).channels == (64, 128, 256)


@pytest.mark.parametrize(
    "name, words",
    [
        ("cifar_dmrnet57", "56 or 62"),
        ("cifar_dmrnet55", "50 or 56"),
        ("cifar_dmrnet3", "8"),
        ("dmrnet45", "29 or 44"),
        ("resnet18", "50 or 101"),
        ("dilnet44", "cifar_dilnet56"),
        ("cifar_dmrnt56", "did you mean"),
        ("cifar_dmrnet32_w0", "at least 1"),
        ("vgg", "unknown model"),
    ],
)
def test_a_name_that_does_not_fit_is_refused_with_what_would(name, words):
    with pytest.raises(DMRError, match=words):
        network(name)


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
        network("cifar_dmrnet14", **changes)


def test_a_residual_block_has_one_branch_and_the_identity():
    with pytest.raises(DMRError, match="one branch"):
        network("cifar_resnet14", branches=2)
    with pytest.raises(DMRError, match="merge-and-run"):
        network("cifar_dilnet14", mapping="identity")


def test_a_width_is_not_given_twice():
    with pytest.raises(DMRError, match="already says its width"):
        network("cifar_dmrnet32_w4", width=2)
