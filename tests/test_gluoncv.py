"""Our networks inside GluonCV's detectors and tools."""

import re
import sys

import numpy as np
import pytest
from conftest import REPOSITORY
from test_blocks import assert_close, images, parameters_of
from test_store import write

from dmr_gluon import Backbone, Network, get_model, model_zoo, register_in_gluoncv
from dmr_gluon.deploy.store import publish
from dmr_gluon.errors import DMRError
from dmr_gluon.runtime import mx  # before gluoncv: it puts back what MXNet misses in NumPy

gluoncv = pytest.importorskip("gluoncv")

from gluoncv.model_zoo.ssd import SSD  # noqa: E402
from gluoncv.model_zoo.ssd.ssd import get_ssd  # noqa: E402
from gluoncv.model_zoo.ssd.target import SSDTargetGenerator  # noqa: E402
from gluoncv.nn.feature import (  # noqa: E402
    FeatureExpander,
    FeatureExtractor,
    FPNFeatureExpander,
)

TINY = {"blocks": (1, 1, 1, 1), "channels": (16, 32, 64, 128), "stem_channels": 8}
STRIDES = ["stride8", "stride16", "stride32"]
#: One more map of half the size, from the expander.
ANCHORS = {"sizes": [10, 30, 60, 90, 120], "ratios": [[1, 2, 0.5]] * 4, "steps": [8, 16, 32, 64]}


def network(**arguments):
    return get_model("dmrnet44", **TINY, **arguments)


def batch():
    return mx.nd.array(images(2, 3, 128, 128))


def train_a_step(ssd):
    """One step on made-up boxes, small and large; the loss, and which parameters changed."""
    with mx.autograd.train_mode():
        _, _, anchors = ssd(batch())
    target = SSDTargetGenerator()
    boxes = mx.nd.array([[[40, 40, 55, 55], [8, 8, 120, 120]], [[50, 50, 90, 90], [0, 0, 99, 99]]])
    classes = mx.nd.array([[[0], [1]], [[1], [0]]])
    trainer = mx.gluon.Trainer(ssd.collect_params(), "sgd", {"learning_rate": 0.01})
    before = parameters_of(ssd)
    with mx.autograd.record():
        class_scores, box_offsets, _ = ssd(batch())
        with mx.autograd.pause():
            class_targets, box_targets, _ = target(anchors, class_scores, boxes, classes)
        losses, *_ = gluoncv.loss.SSDMultiBoxLoss()(
            [class_scores], [box_offsets], [class_targets], [box_targets]
        )
    mx.autograd.backward(losses)
    trainer.step(1)
    after = parameters_of(ssd)
    assert (class_targets.asnumpy() > 0).any()
    changed = {name for name in before if (before[name] != after[name]).any()}
    return float(losses[0].sum().asscalar()), changed


class TestSSD:
    @pytest.mark.parametrize("hybrid", [False, True])
    def test_a_step_trains_backbone_expander_and_predictors(self, hybrid):
        net = network()
        ssd = SSD(Backbone(net), 128, STRIDES, [32], classes=["a", "b"], min_depth=16, **ANCHORS)
        ssd.initialize()
        if hybrid:
            ssd.hybridize()
        loss, changed = train_a_step(ssd)
        assert np.isfinite(loss) and loss > 0
        ours = set(Backbone(net).collect_params())
        assert ours <= set(ssd.collect_params())
        assert ours - changed == set(), "every parameter of the backbone learns"
        own = {name for name in set(ssd.collect_params()) - ours if "anchor" not in name}
        assert len(own) == 10 + 4 * 2 * 2, "an expander with two BNs, four maps' two predictors"
        assert own - changed == set(), "and every other one"
        weight = "stage2_block1_branch2_conv1_weight"
        shared = ssd.collect_params()[weight].data().asnumpy()
        assert (net.collect_params()[weight].data().asnumpy() == shared).all()

    def test_boxes_come_out(self):
        backbone = Backbone(network(), (8, 16, 32))
        ssd = get_ssd(
            backbone, 128, STRIDES, [32], classes=["a", "b"], dataset="own", min_depth=16, **ANCHORS
        )
        ssd.initialize()
        identities, scores, boxes = ssd(batch())
        assert boxes.shape == (2, 100, 4) and scores.shape == identities.shape == (2, 100, 1)

    def test_a_backbone_alone_as_features(self):
        def features(**arguments):
            return Backbone(network(**arguments), (8, 16, 32))

        anchors = {name: values[:-1] for name, values in ANCHORS.items()}
        ssd = SSD(None, 128, features, None, classes=["a"], **anchors)
        ssd.initialize()
        ssd.hybridize()
        with mx.autograd.record():
            scores, *_ = ssd(batch())
        assert scores.shape == (2, 4 * (16**2 + 8**2 + 4**2), 2)


class TestFeatures:
    def test_the_extractor_gives_the_maps_by_name(self):
        backbone = Backbone(network(), (4, 8, 16, 32))
        backbone.initialize()
        extractor = FeatureExtractor(backbone, ["stride32", "stride8_output"])
        _, stride8, _, stride32 = backbone(batch())
        for found, expected in zip(extractor(batch()), (stride32, stride8)):
            assert_close(found, expected.asnumpy())

    @pytest.mark.parametrize("prefix", ["", "a_"])
    def test_expanders_share_the_parameters(self, prefix):
        backbone = Backbone(network(prefix=prefix), (8, 16))
        expander = FeatureExpander(backbone, ["stride8", "stride16"], [8], min_depth=8)
        expander.initialize()
        parameters = expander.collect_params()
        assert all(parameters[name] is one for name, one in backbone.collect_params().items())
        assert [one.shape for one in expander(batch())] == [
            (2, 32, 16, 16), (2, 64, 8, 8), (2, 8, 4, 4),
        ]  # fmt: skip

    def test_a_pyramid(self):
        pyramid = FPNFeatureExpander(Backbone(network(), (8, 16, 32)), STRIDES, [8, 8, 8])
        pyramid.initialize()
        assert [one.shape[1:] for one in pyramid(batch())] == [(8, 16, 16), (8, 8, 8), (8, 4, 4)]


class TestRegistered:
    @pytest.fixture(scope="class", autouse=True)
    def names(self):
        return register_in_gluoncv("cifar_dmrnet8", "cifar_dmrnet26_k4", "CIFAR_DMRNET20")

    def test_gluoncv_knows_our_names_and_keeps_its_own(self, names):
        assert set(model_zoo.get_model_list()) < set(names)
        assert {*names, "cifar_resnet20_v1", "resnet50_v1"} <= set(
            gluoncv.model_zoo.get_model_list()
        )
        zoo = gluoncv.model_zoo
        assert zoo.get_model("dmrnet44").spec == get_model("dmrnet44").spec
        assert zoo.get_model("cifar_dmrnet26_k4").spec.branches == 4
        assert zoo.get_model("cifar_dmrnet20", classes=7).spec.classes == 7
        assert not isinstance(zoo.get_model("cifar_resnet20_v1"), Network)

    def test_gluoncvs_arguments(self, tmp_path):
        net = get_model("cifar_dmrnet8", classes=3)
        net.initialize()
        publish(write(net, tmp_path / "bundle"), str(tmp_path / "store"))
        trained = gluoncv.model_zoo.get_model(
            "cifar_dmrnet8", pretrained=True, root=str(tmp_path / "store"), ctx=[mx.cpu(1)]
        )
        assert trained.collect_params()["head_fc_weight"].list_ctx() == [mx.cpu(1)]
        found, expected = parameters_of(trained), parameters_of(net)
        assert all((found[name] == expected[name]).all() for name in expected)
        frozen = {"norm_layer": mx.gluon.nn.BatchNorm, "norm_kwargs": {"use_global_stats": True}}
        net = gluoncv.model_zoo.get_model("cifar_dmrnet8", pretrained=False, **frozen)
        assert "use_global_stats=True" in str(net.features[0][1])

    def test_what_gluoncvs_scripts_pass_for_other_networks_is_refused(self):
        for name in ("last_gamma", "use_se", "batch_norm"):
            with pytest.raises(DMRError, match=f"unknown network option '{name}'"):
                gluoncv.model_zoo.get_model("dmrnet44", **{name: True})

    def test_what_is_no_network_is_not_registered(self):
        with pytest.raises(DMRError, match="56 or 62"):
            register_in_gluoncv("cifar_dmrnet57")
        assert "cifar_dmrnet57" not in gluoncv.model_zoo.get_model_list()


def test_without_gluoncv_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "gluoncv.model_zoo", None)
    with pytest.raises(
        DMRError, match=r"GluonCV cannot be imported .*pip install 'dmr-gluon\[gluon"
    ):
        register_in_gluoncv()


def test_gluoncvs_norm_layers():
    from gluoncv.nn.block import BatchNormCudnnOff

    net = get_model("cifar_dmrnet8", norm_layer=BatchNormCudnnOff)
    net.initialize()
    x = mx.nd.array(images(2, 3, 32, 32))
    expected = get_model("cifar_dmrnet8")
    expected.initialize()
    for name, parameter in expected.collect_params().items():
        parameter.set_data(net.collect_params()[name].data())
    assert_close(net(x), expected(x).asnumpy())


def test_gluoncvs_export_of_our_networks(tmp_path):
    net = get_model("cifar_dmrnet8")
    net.initialize()
    expected = net(mx.nd.array(images(2, 3, 32, 32))).asnumpy()
    prefix = str(tmp_path / "net")
    gluoncv.utils.export_block(prefix, net, data_shape=(3, 32, 32), preprocess=None, layout="CHW")
    loaded = mx.gluon.SymbolBlock.imports(
        f"{prefix}-symbol.json", ["data"], f"{prefix}-0000.params"
    )
    assert_close(loaded(mx.nd.array(images(2, 3, 32, 32))), expected)


def test_the_examples_of_the_documentation(tmp_path, monkeypatch, few):
    net = get_model("cifar_dmrnet56")
    net.initialize()
    publish(write(net, tmp_path / "bundle"), str(tmp_path / "store"))
    monkeypatch.chdir(tmp_path)
    text = (REPOSITORY / "docs" / "gluoncv.md").read_text()
    blocks = re.findall("```python\n(.*?)```", text, flags=re.DOTALL)
    assert len(blocks) == 10
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "mine").symlink_to(few)
    exec("\n".join(blocks), {})
