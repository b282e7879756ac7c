"""Checkpoints in the authors' naming, built here with mx.sym from the facts about their code."""

import json
import os

import numpy as np
import pytest

from dmr_gluon.deploy.bundle import read_bundle
from dmr_gluon.deploy.import_authors import import_checkpoint
from dmr_gluon.errors import DMRError
from dmr_gluon.runtime import mx

S = mx.sym


def conv_bn(name, x, channels, kernel=3, stride=1, relu=True):
    x = S.Convolution(
        x,
        num_filter=channels,
        kernel=(kernel, kernel),
        stride=(stride, stride),
        pad=(kernel // 2, kernel // 2),
        no_bias=True,
        name=name + "_conv",
    )
    x = S.BatchNorm(x, fix_gamma=False, momentum=0.9, eps=2e-5, name=name + "_bn")
    return S.Activation(x, act_type="relu", name=name + "_relu") if relu else x


def two(name, x, channels, stride):
    x = conv_bn(name + "_two1", x, channels, 3, stride)
    return conv_bn(name + "_two2", x, channels, relu=False)


def line(name, x, channels, stride, changes):
    return conv_bn(name + "_line", x, channels, 1, stride, relu=False) if changes else x


def stand_in(family, blocks, width=1, classes=10):
    """A network in the authors' naming: skip first in sums, streams as a pair, as theirs are."""
    x = conv_bn("g0", S.var("data"), 16 * width)
    streams = (x, x)
    before = 16 * width
    for stage, count in enumerate(blocks, 1):
        channels = 16 * width * 2 ** (stage - 1)
        for block in range(1, count + 1):
            name = f"g{stage}_b{block}"
            stride = 2 if stage > 1 and block == 1 else 1
            shape = (channels, stride)
            changes = channels != before
            before = channels
            if family == "dmrnet":
                lines = [line(f"{name}_l{k}", s, *shape, changes) for k, s in enumerate(streams, 1)]
                deep = [two(f"{name}_d{k}", s, *shape) for k, s in enumerate(streams, 1)]
                fuse = 0.5 * (lines[0] + lines[1])
                if stage == 3 and block == count:
                    both = S.Activation(fuse + deep[0] + deep[1], act_type="relu")
                    streams = (both, both)
                else:
                    streams = tuple(S.Activation(fuse + d, act_type="relu") for d in deep)
                x = streams[0]
                continue
            if family == "plain":
                x = conv_bn(name + "_p1", x, channels, 3, stride)
                continue
            y = line(name + "_p0", x, *shape, changes)
            for branch in ("p1", "p2") if family == "dilnet" else ("p2",):
                y = y + two(f"{name}_{branch}", x, *shape)
            x = S.Activation(y, act_type="relu")
    x = S.Pooling(x, global_pool=True, kernel=(8, 8), pool_type="avg", name="cls_pool")
    x = S.FullyConnected(S.Flatten(x), num_hidden=classes, name="cls_fc")
    return S.SoftmaxOutput(x, name="softmax")


def write(prefix, symbol, change=None):
    """A checkpoint with random parameters, optionally changed before it is written."""
    random = np.random.RandomState(0)
    arguments, _, states = symbol.infer_shape(data=(1, 3, 32, 32))
    parameters = {}
    for kind, names, shapes in (
        ("arg", symbol.list_arguments(), arguments),
        ("aux", symbol.list_auxiliary_states(), states),
    ):
        for name, shape in zip(names, shapes):
            if name in ("data", "softmax_label"):
                continue
            value = random.standard_normal(shape) * _scale(name, shape)
            if name.endswith(("gamma", "moving_var")):
                value = 1 + np.abs(value)
            parameters[f"{kind}:{name}"] = mx.nd.array(value)
    if change:
        change(parameters)
    symbol.save(prefix + "-symbol.json")
    mx.nd.save(prefix + "-0400.params", parameters)
    return parameters


def _scale(name, shape):
    """Of random values that keep signals small enough for a softmax that says something."""
    if not name.endswith("weight"):
        return 0.1
    fan_in = int(np.prod(shape[1:]))
    return 0.1 / fan_in if name.startswith("cls") else (1 / fan_in) ** 0.5


def predict(prefix, images):
    module = mx.mod.Module.load(prefix, 400)
    module.bind([("data", images.shape)], for_training=False)
    module.forward(mx.io.DataBatch([images]), is_train=False)
    return module.get_outputs()[0].asnumpy()


@pytest.mark.parametrize(
    "family, blocks, width, classes, name",
    [
        ("dmrnet", (2, 2, 2), 1, 10, "cifar_dmrnet14"),
        ("dilnet", (1, 1, 1), 1, 100, "cifar_dilnet8"),
        pytest.param("resnet", (4, 4, 4), 1, 100, "cifar_resnet26", marks=pytest.mark.slow),
        pytest.param("dmrnet", (1, 1, 1), 2, 100, "cifar_dmrnet8_w2", marks=pytest.mark.slow),
        pytest.param("plain", (2, 2, 2), 1, 10, "cifar_plain8", marks=pytest.mark.slow),
        # Their depths that do not divide by three give stages of unequal length.
        ("resnet", (1, 2, 1), 1, 10, "cifar_resnet8(blocks=(1, 2, 1))"),
    ],
)
def test_a_checkpoint_is_recognised_and_predicts_the_same(
    family, blocks, width, classes, name, tmp_path
):
    prefix, out = str(tmp_path / "theirs"), str(tmp_path / "ours")
    parameters = write(prefix, stand_in(family, blocks, width, classes))
    imported, mapping, difference = import_checkpoint(prefix, 400, out)
    assert imported.spec.name == name and imported.spec.classes == classes
    assert len(mapping) == len(parameters)
    assert difference < 1e-5
    images = mx.nd.array(np.random.RandomState(5).standard_normal((4, 3, 32, 32)))
    net = mx.gluon.SymbolBlock.imports(
        os.path.join(out, "model-symbol.json"), ["data"], os.path.join(out, "model-0000.params")
    )
    ours = mx.nd.softmax(net(images)).asnumpy()
    np.testing.assert_allclose(ours, predict(prefix, images), rtol=0, atol=1e-5)
    assert ours.max() < 0.999  # else there would be nothing to compare


def test_their_networks_without_an_equal_here_are_refused(tmp_path):
    """Their fuse3, whose branches have layers ``_0`` and ``_1``."""

    def change(parameters):
        for name in list(parameters):
            parameters[name.replace("_two1_", "_0_").replace("_two2_", "_1_")] = parameters.pop(
                name
            )

    prefix = str(tmp_path / "theirs")
    write(prefix, stand_in("resnet", (1, 1, 1)), change)
    with pytest.raises(DMRError, match="or none of g1_b1_d1_two1_conv_weight"):
        import_checkpoint(prefix, 400, str(tmp_path / "ours"))


def test_what_is_written_says_where_every_tensor_came_from(tmp_path):
    prefix, out = str(tmp_path / "theirs"), str(tmp_path / "ours")
    write(prefix, stand_in("dmrnet", (1, 1, 1)))
    import_checkpoint(prefix, 400, out, dataset="cifar10")
    with open(os.path.join(out, "mapping.json")) as file:
        mapping = json.load(file)
    assert mapping["stage2_block1_proj2_bn_running_var"] == "g2_b1_l2_line_bn_moving_var"
    assert mapping["stage3_block1_branch1_conv2_weight"] == "g3_b1_d1_two2_conv_weight"
    bundle = read_bundle(out)
    assert sorted(os.listdir(out)) == sorted([*bundle["files"], "bundle.json"])
    assert bundle["input"]["mean"] == [125.307, 122.95, 113.865]
    assert bundle["input"]["std"] == [62.993, 62.089, 66.705]
    assert bundle["imported_from"] == "theirs" and bundle["epochs"] == 400


def test_a_mapping_of_someone_else_is_not_overwritten(tmp_path):
    prefix, out = str(tmp_path / "theirs"), tmp_path / "ours"
    write(prefix, stand_in("dmrnet", (1, 1, 1)))
    out.mkdir()
    (out / "mapping.json").write_text("mine")
    with pytest.raises(DMRError, match="mapping.json exists and belongs to no bundle"):
        import_checkpoint(prefix, 400, str(out))
    assert os.listdir(out) == ["mapping.json"] and (out / "mapping.json").read_text() == "mine"


def test_without_a_symbol_the_parameters_are_read(tmp_path):
    prefix = str(tmp_path / "theirs")
    write(prefix, stand_in("dilnet", (1, 1, 1)))
    os.remove(prefix + "-symbol.json")
    assert import_checkpoint(prefix, 400, str(tmp_path / "ours"))[2] is None


def rename(old, new):
    return lambda parameters: parameters.update({new: parameters.pop(old)})


@pytest.mark.parametrize(
    "change, words",
    [
        (
            rename("arg:g3_b1_d1_two1_conv_weight", "arg:g3_b1_d1_two3_conv_weight"),
            "g3_b1_d1_two1_conv_weight is missing",
        ),
        (rename("arg:g2_b1_l1_line_bn_beta", "arg:g2_b1_l1_line_bn_bias"), "g2_b1_l1_line_bn_beta"),
        (lambda p: p.pop("aux:g3_b1_d2_two2_bn_moving_var"), "g3_b1_d2_two2_bn_moving_var is miss"),
        (lambda p: p.pop("arg:cls_fc_bias"), "cls_fc_bias is missing"),
        (lambda p: p.pop("arg:g0_conv_weight"), "has no g0_conv_weight, no cls"),
        (
            lambda p: p.update({"arg:g2_b1_d1_two2_conv_weight": mx.nd.zeros((32, 32, 1, 1))}),
            r"g2_b1_d1_two2_conv_weight has the shape \(32, 32, 1, 1\)",
        ),
        (lambda p: p.update({"arg:g1_b1_l1_line_conv_weight": mx.nd.zeros((16,))}), "not part"),
    ],
)
def test_a_tensor_that_does_not_fit_is_refused_by_name(change, words, tmp_path):
    prefix = str(tmp_path / "theirs")
    write(prefix, stand_in("dmrnet", (1, 1, 1)), change)
    with pytest.raises(DMRError, match=words):
        import_checkpoint(prefix, 400, str(tmp_path / "ours"))
    assert not (tmp_path / "ours").exists()


def test_a_network_that_computes_something_else_is_refused(tmp_path):
    """The parameters of one network with the symbol of another, of the same names."""
    prefix = str(tmp_path / "theirs")
    symbol = stand_in("dmrnet", (1, 1, 1))
    write(prefix, symbol)
    text = symbol.tojson().replace('"scalar": "0.5"', '"scalar": "1.0"')
    assert text != symbol.tojson()
    with open(prefix + "-symbol.json", "w") as file:
        file.write(text)
    with pytest.raises(DMRError, match="predicts differently"):
        import_checkpoint(prefix, 400, str(tmp_path / "ours"))


def test_files_that_are_no_checkpoint_are_refused(tmp_path):
    prefix = str(tmp_path / "theirs")
    with pytest.raises(DMRError, match="0400.params cannot be read .No such file.*PREFIX EPOCH"):
        import_checkpoint(prefix, 400, str(tmp_path / "ours"))
    for content in (b"damaged", b""):
        (tmp_path / "theirs-0400.params").write_bytes(content)
        with pytest.raises(DMRError, match="0400.params is damaged; name a checkpoint"):
            import_checkpoint(prefix, 400, str(tmp_path / "ours"))
    mx.nd.save(prefix + "-0400.params", [mx.nd.zeros(1)])
    with pytest.raises(DMRError, match="0400.params is damaged; name a checkpoint"):
        import_checkpoint(prefix, 400, str(tmp_path / "ours"))
    write(prefix, stand_in("dmrnet", (1, 1, 1)))
    with pytest.raises(DMRError, match="10 classes, cifar100 has 100"):
        import_checkpoint(prefix, 400, str(tmp_path / "ours"), dataset="cifar100")
    for content in ("", "no symbol", "{}"):
        (tmp_path / "theirs-symbol.json").write_text(content)
        with pytest.raises(DMRError, match="symbol.json cannot be run"):
            import_checkpoint(prefix, 400, str(tmp_path / "ours"))


def test_a_checkpoint_is_not_overwritten_by_what_is_made_of_it(tmp_path):
    prefix = str(tmp_path / "model")
    write(prefix, stand_in("dmrnet", (1, 1, 1)))
    os.rename(prefix + "-0400.params", prefix + "-0000.params")
    before = (tmp_path / "model-0000.params").read_bytes()
    with pytest.raises(DMRError, match="exists and belongs to no bundle"):
        import_checkpoint(prefix, 0, str(tmp_path))
    assert (tmp_path / "model-0000.params").read_bytes() == before
    import_checkpoint(prefix, 0, str(tmp_path / "ours"))
