"""GluonCV's way with networks: constructors, other norm layers, fine-tuning, features."""

import functools
import inspect
import json
import os

import numpy as np
import pytest
from test_blocks import assert_close, images, parameters_of, randomise

import dmr_gluon
from dmr_gluon import Backbone, get_model, model_zoo
from dmr_gluon.errors import DMRError
from dmr_gluon.models.names import get_spec
from dmr_gluon.models.network import Network
from dmr_gluon.models.serialization import save_model
from dmr_gluon.paper.numbers import NETWORKS
from dmr_gluon.runtime import mx

nn = mx.gluon.nn
IMAGENET = {"blocks": (1, 1, 1, 1), "channels": (16, 32, 64, 128), "stem_channels": 8}


def batch(size=32, count=4):
    return mx.nd.array(images(count, 3, size, size))


def step(net, classes, trained=None):
    """One step of SGD; the names of the parameters that it changed."""
    before = parameters_of(net)
    trainer = mx.gluon.Trainer(trained or net.collect_params(), "sgd", {"learning_rate": 0.1})
    with mx.autograd.record():
        loss = mx.gluon.loss.SoftmaxCrossEntropyLoss()(net(batch()), mx.nd.arange(4) % classes)
    loss.backward()
    trainer.step(4)
    assert np.isfinite(loss.asnumpy()).all()
    return {name for name, value in parameters_of(net).items() if (value != before[name]).any()}


def reloaded_logits(net, folder, x):
    """What plain MXNet computes from the saved network."""
    prefix = os.path.join(folder, "tuned")
    save_model(net, prefix, 3)
    loaded = mx.gluon.SymbolBlock.imports(
        f"{prefix}-symbol.json", ["data"], f"{prefix}-0003.params"
    )
    return loaded(x)


def randomised(net):
    randomise(net)
    return net


class TestConstructors:
    def test_there_is_one_for_every_network_of_the_paper(self):
        names = {published.name for published in NETWORKS}
        assert names <= set(model_zoo.get_model_list()) <= set(dir(model_zoo))
        for name in ("cifar_dmrnet56", "resnet101", "dmrnet44"):
            assert getattr(model_zoo, name)(classes=7).spec == get_spec(name, classes=7)

    def test_they_say_gluoncvs_arguments(self):
        first = list(inspect.signature(model_zoo.resnet101).parameters)[:6]
        assert first == ["classes", "pretrained", "ctx", "root", "norm_layer", "norm_kwargs"]

    def test_there_is_one_get_model(self):
        assert dmr_gluon.get_model is model_zoo.get_model

    def test_what_gluoncv_always_passes_is_taken(self):
        net = get_model("CIFAR_DMRNet8", pretrained=False, ctx=mx.cpu(1), root="~/.mxnet/models")
        assert net.spec.name == "cifar_dmrnet8"


class Refusing(nn.BatchNorm):
    """Says nothing of why it cannot be made."""

    def __init__(self, **_):
        raise AssertionError


class TestNormLayers:
    def pair(self, name="cifar_dmrnet8", **arguments):
        """The same parameters in the paper's network and in one with other norm layers."""
        ours, other = get_model(name), get_model(name, **arguments)
        randomise(ours)
        other.initialize()
        for key, parameter in other.collect_params().items():
            parameter.set_data(ours.collect_params()[key].data())
        return ours, other

    @pytest.mark.parametrize(
        "norm_layer", [nn.BatchNorm, functools.partial(nn.BatchNorm, center=True)]
    )
    @pytest.mark.parametrize("name", ["cifar_dmrnet8", "cifar_dilnet8_grouped"])
    def test_gluons_batchnorm_computes_the_same(self, name, norm_layer):
        ours, other = self.pair(name, norm_layer=norm_layer)
        assert set(ours.collect_params()) == set(other.collect_params())
        assert_close(other(batch()), ours(batch()).asnumpy())

    def test_every_bn_is_replaced_and_takes_our_epsilon(self):
        class Own(nn.BatchNorm):
            made = []

            def __init__(self, **kwargs):
                super().__init__(**kwargs)
                self.made.append(self._kwargs)

        net = get_model("cifar_dmrnet8", norm_layer=Own, norm_kwargs={"momentum": 0.5})
        gammas = [name for name in net.collect_params() if name.endswith("gamma")]
        assert len(Own.made) == len(gammas) > 10
        assert {(one["eps"], one["momentum"]) for one in Own.made} == {(2e-5, 0.5)}

    def test_saved_parameters_fit_networks_with_either(self, tmp_path):
        ours, other = self.pair(norm_layer=nn.BatchNorm)
        for source, target in ((ours, other), (other, ours)):
            source.save_parameters(str(tmp_path / "file"))
            target.load_parameters(str(tmp_path / "file"))

    def test_norm_kwargs_alone_freeze_our_statistics(self):
        _, net = self.pair(norm_kwargs={"use_global_stats": True})
        net.fuse_for_cpu()
        net.hybridize()
        expected = net(batch()).asnumpy()
        with mx.autograd.train_mode():
            assert_close(net(batch()), expected)
        assert not any("running" in name for name in step(net, 10))

    @pytest.mark.parametrize(
        "norms", [{"norm_kwargs": {"scale": False}}, {"norm_layer": nn.BatchNorm}]
    )
    def test_the_fast_form_with_other_norms_gives_the_same_outputs(self, norms):
        net = randomised(get_model("cifar_dmrnet20", **norms))
        expected = net(batch()).asnumpy()
        net.fuse_for_cpu()
        assert_close(net(batch()), expected)

    @pytest.mark.parametrize("form", [{}, {"norm_kwargs": {"use_global_stats": True}}])
    def test_the_statistics_of_several_devices_keep_the_options(self, form):
        net = get_model("cifar_dmrnet8", **form)
        net.synchronise_bn(2)
        nodes = json.loads(net(mx.sym.var("data")).tojson())["nodes"]
        bn = next(node for node in nodes if node["op"] == "_contrib_SyncBatchNorm")
        assert float(bn["attrs"]["eps"]) == pytest.approx(2e-5)
        assert bn["attrs"]["fix_gamma"] == "False"
        assert bn["attrs"]["use_global_stats"] == str(bool(form))

    @pytest.mark.parametrize(
        "norm_layer, norm_kwargs",
        [(nn.InstanceNorm, {"scale": True}), (nn.GroupNorm, {"num_groups": 4}),
         (nn.LayerNorm, {"axis": 1})],
    )  # fmt: skip
    def test_other_layers_train(self, norm_layer, norm_kwargs, tmp_path):
        net = get_model("cifar_dmrnet8", norm_layer=norm_layer, norm_kwargs=norm_kwargs)
        net.initialize()
        net(batch(count=1))  # finds out what shapes the parameters have
        changed = step(net, 10)
        assert {"stem_conv_weight", "stage2_block1_branch1_bn1_gamma", "head_fc_bias"} <= changed
        assert_close(reloaded_logits(net, tmp_path, batch()), net(batch()).asnumpy())

    def test_synchronised_bn_is_made(self):
        net = get_model(
            "cifar_dmrnet8",
            norm_layer=mx.gluon.contrib.nn.SyncBatchNorm,
            norm_kwargs={"num_devices": 2},
        )
        assert "SyncBatchNorm" in net.portable_symbol().tojson()

    @pytest.mark.parametrize(
        "arguments, words",
        [
            ({"norm_layer": nn.GroupNorm, "norm_kwargs": {"num_groups": 5}}, "GroupNorm does not"),
            ({"norm_layer": nn.LayerNorm}, "LayerNorm does not fit"),
            ({"norm_layer": nn.BatchNorm, "norm_kwargs": {"grups": 5}}, "grups"),
            ({"norm_kwargs": {"grups": 5}}, "grups"),
            ({"norm_layer": nn.Conv2D}, "Conv2D cannot be made"),
            ({"norm_layer": lambda **_: None}, "must be a HybridBlock"),
            ({"norm_layer": "BatchNorm"}, "BatchNorm"),
            ({"norm_layer": Refusing}, "Refusing cannot be made .*AssertionError"),
        ],
    )
    def test_what_cannot_be_is_refused_in_one_line(self, arguments, words):
        with pytest.raises(DMRError, match=words) as refused:
            get_model("cifar_dmrnet8", **arguments)
        assert "\n" not in str(refused.value) and len(str(refused.value)) < 400


class TestPortableSymbol:
    def test_it_does_not_depend_on_what_was_done_with_the_network(self):
        for name in ("cifar_dmrnet8", "cifar_dmrnet8_unshared"):
            expected = get_model(name).portable_symbol().tojson()
            net = get_model(name)
            net.initialize()
            net(batch())
            net.fuse_for_cpu()
            net.synchronise_bn(2)
            net.compute_in_float16()
            with mx.name.Prefix("other_"):
                assert net.portable_symbol().tojson() == expected
            assert net.portable_symbol().tojson() == expected

    def test_the_network_stays_as_fast_as_it_was(self):
        net = get_model("cifar_dmrnet8")
        net.fuse_for_cpu()
        before = net(mx.sym.var("data")).tojson().count("BatchNormWithReLU")
        net.portable_symbol()
        assert net(mx.sym.var("data")).tojson().count("BatchNormWithReLU") == before > 5


def replaced(net):
    net.replace_output(100)
    return net


def dense_in_scope(net):
    with net.name_scope():
        net.output = nn.Dense(100)
    net.output.initialize(mx.init.Xavier())
    return net


def dense(net):
    net.output = nn.Dense(100, in_units=64)
    net.output.initialize()
    return net


def new_net_with_old_features(net):
    tuned = get_model("cifar_dmrnet8", classes=100)
    tuned.features = net.features
    tuned.output.initialize()
    return tuned


class TestFineTuning:
    @pytest.fixture
    def trained(self):
        net = get_model("cifar_dmrnet8", classes=10)
        net.initialize()
        step(net, 10)
        return net

    @pytest.mark.parametrize("hybrid", [False, True])
    @pytest.mark.parametrize("idiom", [replaced, dense_in_scope, dense, new_net_with_old_features])
    def test_from_10_to_100_classes(self, trained, idiom, hybrid, tmp_path):
        if hybrid:
            trained.hybridize(static_alloc=True, static_shape=True)
            trained(batch())
        features = trained.features(batch()).asnumpy()
        net = idiom(trained)
        if hybrid:
            net.hybridize(static_alloc=True, static_shape=True)
        assert net(batch()).shape == (4, 100)
        np.testing.assert_array_equal(net.features(batch()).asnumpy(), features)
        changed = step(net, 100)
        assert "stem_conv_weight" in changed and "stage3_block1_branch2_conv2_weight" in changed
        assert set(net.output.collect_params()) <= changed
        assert_close(reloaded_logits(net, tmp_path, batch()), net(batch()).asnumpy())

    def test_the_output_alone(self, trained):
        trained.replace_output(100)
        trained.features.collect_params().setattr("grad_req", "null")
        assert step(trained, 100) == {"head_fc_weight", "head_fc_bias"}
        assert step(trained, 100, trained.collect_params("head_.*")) == {
            "head_fc_weight",
            "head_fc_bias",
        }

    @pytest.mark.parametrize("name", ["cifar_dmrnet8", "cifar_dmrnet8_unshared", "cifar_resnet8"])
    def test_a_replaced_output_is_like_a_new_networks(self, name):
        net = get_model(name, prefix="a_")
        net.initialize(ctx=[mx.cpu(0), mx.cpu(1)])
        net.replace_output(7)
        new = get_model(name, classes=7, prefix="a_")
        assert net.spec == new.spec
        assert net.portable_symbol().tojson() == new.portable_symbol().tojson()
        for parameter in net.output.collect_params().values():
            assert parameter.list_ctx() == [mx.cpu(0), mx.cpu(1)]

    def test_a_network_that_is_not_initialised_stays_so(self):
        net = get_model("cifar_dmrnet8")
        net.replace_output(7)
        with pytest.raises(RuntimeError):
            net.output.weight.data()

    def test_no_number_of_classes_is_refused_and_changes_nothing(self, trained):
        with pytest.raises(DMRError, match="classes must be"):
            trained.replace_output(0)
        assert trained(batch()).shape == (4, 10) and trained.spec.classes == 10


class TestFeatures:
    def streams(self, net, x):
        """Every stage's output, computed block by block."""
        x, found = net.features[0](x), []
        for stage in list(net.features)[1 : 1 + len(net.spec.blocks)]:
            for block in stage:
                x = block(x)
            found.append([one.asnumpy() for one in x] if isinstance(x, list) else x.asnumpy())
        return found

    @pytest.mark.parametrize("hybrid", [False, True])
    def test_three_strides_of_an_imagenet_network(self, hybrid):
        net = get_model("dmrnet44", **IMAGENET)
        randomise(net)
        backbone = Backbone(net, strides=(8, 16, 32))
        x = batch(64, 2)
        if hybrid:
            backbone.hybridize()
        maps = backbone(x)
        assert [one.shape for one in maps] == [(2, 32, 8, 8), (2, 64, 4, 4), (2, 128, 2, 2)]
        _, *expected = self.streams(net, x)
        for found, (first, second) in zip(maps[:2], expected[:2]):
            assert np.abs(first - second).max() > 0.01
            assert_close(found, (first + second) / 2)
        assert_close(maps[2], expected[2])
        assert_close(maps[2].mean((2, 3)), net.features(x).asnumpy())

    @pytest.mark.parametrize(
        "name", ["cifar_resnet8", "cifar_dilnet8_grouped", "cifar_dmrnet8_k3",
                 "cifar_dmrnet8_unshared", "cifar_dmrnet8_grouped"],
    )  # fmt: skip
    def test_every_kind_of_network(self, name):
        net = get_model(name)
        randomise(net)
        maps = Backbone(net, (4, 1, 2))(batch())
        last, first, middle = maps
        for found, expected in zip((first, middle, last), self.streams(net, batch())):
            if net.spec.form == "grouped" and net.spec.family == "dmrnet":
                alone = found is last
                expected = expected if alone else np.split(expected, 2, axis=1)
            if isinstance(expected, list):
                expected = np.mean(expected, axis=0)
            assert_close(found, expected)

    @pytest.mark.parametrize("prefix", ["", "a_"])
    def test_names_do_not_depend_on_what_is_around(self, prefix):
        backbone = Backbone(Network(get_spec("cifar_dmrnet8"), prefix=prefix), (2, 4))
        with mx.name.Prefix("ssd0_"):
            assert backbone(mx.sym.var("data")).list_outputs() == [
                prefix + "stride2_output",
                prefix + "stride4_output",
            ]

    def test_it_shares_the_networks_parameters(self):
        net = get_model("cifar_dmrnet8")
        backbone = Backbone(net, (1, 2))
        shared, whole = backbone.collect_params(), net.collect_params()
        assert all(whole[name] is parameter for name, parameter in shared.items())
        assert not any("stage3" in name or "head" in name for name in shared)

    def test_one_stride_gives_the_map_itself(self):
        net = get_model("cifar_dmrnet8")
        net.initialize()
        backbone = Backbone(net, (2,))
        assert backbone(batch()).shape == (4, 32, 16, 16)
        backbone.hybridize()
        assert backbone(batch()).shape == (4, 32, 16, 16)

    def test_slices_of_features_work_as_in_gluoncv(self):
        net = get_model("cifar_dmrnet8")
        net.initialize()
        assert net.features(batch()).shape == (4, 64)
        assert net.features[:-1](batch()).shape == (4, 64, 8, 8)
        assert [one.shape for one in net.features[:2](batch())] == [(4, 16, 32, 32)] * 2

    @pytest.mark.parametrize(
        "name, strides, words",
        [
            ("cifar_dmrnet8", (4, 8), "no features of stride 8; .* of stride 1, 2, 4"),
            ("dmrnet29", (2,), "stride 2; .* 4, 8, 16, 32"),
            ("cifar_dmrnet8", (2, 2), "once"),
            ("cifar_dmrnet8", (), "once"),
        ],
    )
    def test_what_there_is_not_is_refused(self, name, strides, words):
        with pytest.raises(DMRError, match=words):
            Backbone(get_model(name), strides)


def test_a_new_output_has_the_old_ones_type():
    net = get_model("cifar_dmrnet8")
    net.initialize()
    net.cast("float16")
    net.replace_output(3)
    assert {one.dtype for one in net.output.collect_params().values()} == {"float16"}


def test_tracing_leaves_a_block_that_is_met_twice_as_it_was():
    net = get_model("cifar_dmrnet8")
    net.again = net.features[0]
    net.fuse_for_cpu()
    net.portable_symbol()
    assert net.features[0][1].fused
