"""Information flow: idempotent mappings, and equation (5) in networks as they run."""

from fractions import Fraction

import numpy as np
import pytest

from dmr_gluon import get_model
from dmr_gluon.analysis.mapping import equation_five, is_idempotent, mapping_matrix
from dmr_gluon.analysis.symbol_parity import randomise
from dmr_gluon.errors import DMRError
from dmr_gluon.models.blocks import MergeAndRun
from dmr_gluon.runtime import mx


def images(size=32):
    return mx.nd.array(np.random.RandomState(0).standard_normal((4, 3, size, size)))


@pytest.mark.parametrize("branches", range(1, 9))
def test_both_mappings_are_idempotent(branches):
    for mapping in ("mean", "identity"):
        assert is_idempotent(mapping_matrix(branches, mapping))
    assert sum(map(sum, mapping_matrix(branches))) == branches


def test_a_mapping_that_is_not_idempotent_is_noticed():
    assert not is_idempotent([[Fraction(1, 2), Fraction(1, 3)], [Fraction(1, 2), Fraction(2, 3)]])


@pytest.mark.parametrize(
    "name", ["cifar_dmrnet20", "cifar_dmrnet20_k3", "cifar_dmrnet20_identity", "dmrnet29"]
)
def test_equation_five_holds(name):
    size = 32 if name.startswith("cifar") else 64
    assert equation_five(randomise(get_model(name)), images(size)) < 1e-5


def test_equation_five_does_not_hold_for_another_factor(monkeypatch):
    correct = MergeAndRun._merge
    monkeypatch.setattr(MergeAndRun, "_merge", lambda *given: 1.02 * correct(*given))
    assert equation_five(randomise(get_model("cifar_dmrnet20")), images()) > 1e-3


@pytest.mark.parametrize(
    "name, words",
    [
        ("cifar_resnet20", "merge-and-run"),
        ("cifar_dmrnet20_grouped", "merge-and-run"),
        ("cifar_dmrnet8", "deeper"),
    ],
)
def test_networks_that_it_does_not_speak_of_are_refused(name, words):
    with pytest.raises(DMRError, match=words):
        equation_five(randomise(get_model(name)), images())
