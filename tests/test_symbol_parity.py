"""Every network in both implementations, in every form in which MXNet runs it."""

import warnings
from types import SimpleNamespace

import numpy as np
import pytest

from dmr_gluon import get_model
from dmr_gluon.analysis import symbol_parity
from dmr_gluon.analysis.verify import KINDS
from dmr_gluon.models.complexity import measure
from dmr_gluon.models.serialization import save_model
from dmr_gluon.paper.numbers import NETWORKS
from dmr_gluon.runtime import mx

symbols = symbol_parity.symbols
#: Of these the fast tests compare numbers; of all, make test-all. `dmr verify --full` does too.
QUICK = [name for name in KINDS if name.startswith("cifar_")]
EVERY = [*KINDS, *(row.name for row in NETWORKS if row.name not in KINDS)]


def marked(quick):
    return [n if n in quick else pytest.param(n, marks=pytest.mark.slow) for n in EVERY]


@pytest.mark.parametrize("name", EVERY)
def test_names_shapes_and_counts_are_equal(name):
    assert symbol_parity.same_names(name)
    net = get_model(name)
    size = 32 if net.spec.stem == "cifar" else 224
    ours = measure(net.portable_symbol(), (3, size, size))
    theirs = measure(symbols.get_symbol(name), (3, size, size))
    assert theirs.parameters == ours.parameters and theirs.depth == ours.depth
    assert theirs.multiply_adds == ours.multiply_adds
    # Layers of parallel branches may come in another order.
    assert sorted(map(str, theirs.layers)) == sorted(map(str, ours.layers))


@pytest.mark.parametrize("name", marked(QUICK))  # dmr verify compares the others
def test_outputs_and_gradients_are_equal(name):
    agreement = symbol_parity.compare(name)
    assert agreement.outputs < 1e-10 and agreement.gradients < 1e-8
    assert agreement.statistics < 1e-10


@pytest.mark.parametrize("name", [*marked(QUICK), "cifar_dmrnet20", "cifar_dmrnet20_k3"])
def test_the_fast_form_has_the_same_outputs_and_gradients(name):
    agreement = symbol_parity.compare(name, fast=True)
    assert agreement.outputs < 1e-10 and agreement.gradients < 1e-8
    assert agreement.statistics < 1e-10


def test_another_network_is_noticed(monkeypatch):
    """A merge of another size, in one of the two."""
    get_symbol = symbols.dmrnet.get_symbol
    monkeypatch.setattr(symbols.layers, "mean", lambda terms: symbols.layers.total(terms) * 0.49)
    agreement = symbol_parity.compare("cifar_dmrnet8")
    assert min(agreement.outputs, agreement.gradients) > 1e-4
    monkeypatch.undo()
    assert symbol_parity.compare("cifar_dmrnet8").outputs < 1e-10
    # Running statistics that move faster, in the hand-written one alone.
    sym = SimpleNamespace(**vars(mx.sym))
    sym.BatchNorm = lambda *inputs, **options: mx.sym.BatchNorm(
        *inputs, **{**options, "momentum": 0.8}
    )
    monkeypatch.setattr(symbols.layers, "mx", SimpleNamespace(sym=sym, init=mx.init))
    assert symbol_parity.compare("cifar_dmrnet8").statistics > 1e-4
    monkeypatch.undo()
    monkeypatch.setattr(
        symbols.dmrnet, "get_symbol", lambda **options: get_symbol(**{**options, "branches": 3})
    )
    assert not symbol_parity.same_names("cifar_dmrnet8")
    assert symbol_parity.compare("cifar_dmrnet8").outputs == float("inf")


@pytest.mark.parametrize("name", marked([*QUICK, "dmrnet29"]))
def test_imperative_hybridized_exported_and_module_give_equal_outputs(name, tmp_path):
    net = symbol_parity.randomise(get_model(name))
    size = 32 if net.spec.stem == "cifar" else 64
    data = mx.nd.array(np.random.RandomState(1).standard_normal((2, 3, size, size)))
    expected = net(data).asnumpy()
    net.hybridize()
    found = {"hybridized": net(data)}
    prefix = str(tmp_path / "model")
    save_model(net, prefix, 0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        loaded = mx.gluon.SymbolBlock.imports(
            prefix + "-symbol.json", ["data"], prefix + "-0000.params"
        )
    found["SymbolBlock"] = loaded(data)
    module = mx.mod.Module.load(prefix, 0, label_names=None)
    module.bind([("data", data.shape)], for_training=False)
    module.forward(mx.io.DataBatch([data]), is_train=False)
    found["Module"] = module.get_outputs()[0]
    # The hand-written symbol with the exported parameters: one file serves both.
    module = mx.mod.Module(symbols.get_symbol(name))
    module.bind([("data", data.shape)], for_training=False)
    module.set_params(*mx.model.load_params(prefix, 0))
    module.forward(mx.io.DataBatch([data]), is_train=False)
    probabilities = module.get_outputs()[0].asnumpy()
    for form, output in found.items():
        scale = np.abs(expected).max()
        np.testing.assert_allclose(
            output.asnumpy(), expected, rtol=0, atol=1e-5 * scale, err_msg=form
        )
    # Softmax turns absolute differences of the logits into relative ones.
    tolerance = 1e-5 * max(1, np.abs(expected).max())
    softmax = mx.nd.softmax(mx.nd.array(expected)).asnumpy()
    np.testing.assert_allclose(probabilities, softmax, rtol=0, atol=tolerance)
