"""The hand-written symbols for those who train with the Module API."""

import ast

import numpy as np
import pytest
from conftest import REPOSITORY

from dmr_gluon import get_model, symbols
from dmr_gluon.errors import DMRError
from dmr_gluon.runtime import mx
from dmr_gluon.symbols import dilnet, dmrnet, plain, resnet


def iterator(images=32, size=32, classes=10):
    random = np.random.RandomState(0)
    data = random.standard_normal((images, 3, size, size)).astype(np.float32)
    return mx.io.NDArrayIter(data, random.randint(0, classes, images), 16)


def test_they_share_no_code_that_builds_layers():
    allowed = {
        "dmr_gluon.errors",
        "dmr_gluon.runtime",
        "dmr_gluon.models.names",
        "dmr_gluon.models.spec",
    }
    for path in (REPOSITORY / "symbols").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and not node.level:
                names = [node.module]
            for name in names:
                assert name.split(".")[0] != "dmr_gluon" or name in allowed, (path, name)


@pytest.mark.parametrize(
    "symbol",
    [
        # test_record_iter.py trains a symbol too.
        pytest.param(lambda: dmrnet.get_symbol(num_layers=8), id="dmrnet", marks=pytest.mark.slow),
        pytest.param(lambda: dilnet.get_symbol(num_layers=8), id="dilnet", marks=pytest.mark.slow),
        pytest.param(lambda: resnet.get_symbol(num_layers=14), id="resnet", marks=pytest.mark.slow),
    ],
)
def test_module_trains_them_as_they_come(symbol):
    module = mx.mod.Module(symbol())
    data = iterator()
    losses = []
    mx.random.seed(0)
    module.fit(
        data,
        num_epoch=20,
        optimizer="nag",
        optimizer_params={"learning_rate": 0.05, "momentum": 0.9, "wd": 1e-4},
        eval_metric="ce",
        epoch_end_callback=lambda *_: losses.append(module.score(data, "ce")[0][1]),
    )
    assert losses[-1] < 0.5 * np.log(10)


def test_module_initialises_as_the_paper_says():
    module = mx.mod.Module(dmrnet.get_symbol(num_layers=14, width=2))
    module.bind([("data", (2, 3, 32, 32))], [("softmax_label", (2,))])
    # What the variables say goes before what is asked for here.
    module.init_params(mx.init.Constant(7))
    parameters, states = module.get_params()
    weight = parameters["stage3_block2_branch1_conv2_weight"].asnumpy()
    assert weight.std() == pytest.approx((2 / weight[0].size) ** 0.5, rel=0.02)
    fc = parameters["head_fc_weight"].asnumpy()
    bound = (1 / fc.shape[1]) ** 0.5
    assert 0.95 * bound < np.abs(fc).max() <= bound
    for name, array in {**parameters, **states}.items():
        if name.endswith(("gamma", "running_var")):
            assert (array.asnumpy() == 1).all(), name
        elif not name.endswith("weight"):
            assert (array.asnumpy() == 0).all(), name


def test_weight_decay_reaches_every_parameter():
    module = mx.mod.Module(dmrnet.get_symbol(num_layers=8))
    module.bind([("data", (2, 3, 32, 32))], [("softmax_label", (2,))])
    module.init_params()
    rate = {"learning_rate": 1.0, "wd": 0.25}
    module.init_optimizer(optimizer="sgd", optimizer_params=rate, kvstore=None)
    parameters, states = module.get_params()
    ones = {name: mx.nd.ones_like(array) for name, array in parameters.items()}
    module.set_params(ones, states)
    for array in module._exec_group.grad_arrays:
        for gradient in array:
            gradient[:] = 0
    module.update()
    for name, array in module.get_params()[0].items():
        assert (array.asnumpy() == 0.75).all(), name


def test_module_updates_as_gluon_does_with_the_momentum_of_2016():
    import dmr_gluon.training.optimizer  # noqa: F401  (registers nag2016)
    from dmr_gluon.training.step import TrainingStep

    options = {"learning_rate": 0.05, "momentum": 0.9, "wd": 1e-4}
    net = get_model("cifar_dmrnet8")
    mx.random.seed(0)
    net.initialize()
    module = mx.mod.Module(dmrnet.get_symbol(num_layers=8))
    data = iterator(images=48)
    module.bind(data.provide_data, data.provide_label)
    parameters = net.collect_params()
    states = {k: p.data() for k, p in parameters.items() if p.grad_req == "null"}
    trained = {k: p.data() for k, p in parameters.items() if p.grad_req != "null"}
    module.init_params(arg_params=trained, aux_params=states)
    module.init_optimizer(kvstore=None, optimizer="nag2016", optimizer_params=options)
    step = TrainingStep(net, mx.optimizer.create("nag2016", **options), [mx.cpu()])
    for i, batch in enumerate(data):
        lr = 0.05 if i < 2 else 0.005  # a drop, at which MXNet's own momentum differs
        module._optimizer.lr = lr
        module.forward_backward(batch)
        module.update()
        step(batch.data[0], batch.label[0], lr)
    mx.nd.waitall()
    found = module.get_params()[0]
    for name in trained:
        expected = parameters[name].data().asnumpy()
        scale = np.abs(expected).max()
        np.testing.assert_allclose(
            found[name].asnumpy(), expected, rtol=0, atol=1e-5 + 1e-3 * scale, err_msg=name
        )


def test_the_dispatcher_knows_the_names_of_the_package():
    for name, classes in (("cifar_dmrnet14_w2_k3", 7), ("resnet98_ijcai", None)):
        symbol = symbols.get_symbol(name, classes)
        parameters = get_model(name, classes=classes).collect_params()
        names = {*symbol.list_arguments(), *symbol.list_auxiliary_states()}
        assert names == {*parameters, "data", "softmax_label"}
    with pytest.raises(DMRError, match="equivalent form"):
        symbols.get_symbol("cifar_dmrnet14_grouped")
    with pytest.raises(DMRError, match="did you mean"):
        symbols.get_symbol("cifar_dmrnt14")


@pytest.mark.parametrize(
    "build, words",
    [
        (lambda: dmrnet.get_symbol(num_layers=15), "6n"),
        (lambda: dmrnet.get_symbol(num_layers=45, image_shape=(3, 224, 224)), "29, 44, 71"),
        (lambda: dmrnet.get_symbol(mapping="median"), "mean"),
        (lambda: dmrnet.get_symbol(branches=0), "branches"),
        (lambda: dmrnet.get_symbol(ijcai=True), "ImageNet"),
        (lambda: resnet.get_symbol(image_shape="3,x,32"), "image_shape"),
        (lambda: resnet.get_symbol(num_layers=26, residual_blocks=5), "multiple of 3"),
        (lambda: dilnet.get_symbol(image_shape=(3, 224, 224)), "32x32"),
        (lambda: plain.get_symbol(num_classes=0), "num_classes"),
    ],
)
def test_what_does_not_fit_is_refused(build, words):
    with pytest.raises(DMRError, match=words):
        build()
