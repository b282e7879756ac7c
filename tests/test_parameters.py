"""Parameters of another network or another run are refused wherever they are read."""

import json
import os
import shutil
from dataclasses import replace

import pytest

from dmr_gluon import get_model
from dmr_gluon.cli import main as cli
from dmr_gluon.deploy.bundle import read_bundle, write_description
from dmr_gluon.deploy.load import load_bundle
from dmr_gluon.deploy.store import publish
from dmr_gluon.errors import DMRError
from dmr_gluon.models.serialization import save_model
from dmr_gluon.runs.trained_network import load_run
from dmr_gluon.runtime import mx
from dmr_gluon.training.fit import fit
from dmr_gluon.training.options import RunOptions


@pytest.fixture
def copy(short_run, tmp_path):
    """A run of two epochs of cifar_dmrnet8, whose parameters and log may be changed."""
    shutil.copytree(short_run, tmp_path / "run")
    return tmp_path / "run"


def _surplus(arrays):
    return {**arrays, "arg:more_weight": mx.nd.zeros(3)}


def _missing(arrays):
    return {name: array for name, array in arrays.items() if name != "arg:head_fc_bias"}


def _misshapen(arrays):
    return {**arrays, "arg:stem_conv_weight": mx.nd.zeros((16, 3, 5, 5))}


FAULTS = [
    (_surplus, "more_weight"),
    (_missing, "head_fc_bias"),
    (_misshapen, "stem_conv_weight"),
]


def change(path, function):
    mx.nd.save(str(path), function(mx.nd.load(str(path))))


@pytest.mark.parametrize("fault, name", FAULTS)
def test_a_run_refuses_arrays_that_do_not_fit(copy, fault, name):
    change(copy / "model-0002.params", fault)
    with pytest.raises(DMRError, match=f"model-0002.params does not fit cifar_dmrnet8: {name}"):
        load_run(copy)


def test_a_deeper_networks_parameters_are_refused(copy):
    """They have all that the shallower one needs."""
    net = get_model("cifar_dmrnet14")
    net.initialize()
    save_model(net, str(copy / "model"), 2)
    for command in (["eval"], ["export", "--out", f"{copy}-out"]):
        with pytest.raises(DMRError, match="does not fit cifar_dmrnet8: stage1_block2"):
            cli._main([command[0], str(copy), *command[1:]])


COMMANDS = [
    ["eval"],
    ["export", "--out", "OUT"],
    ["publish", "OUT"],
]


@pytest.mark.parametrize("command", COMMANDS)
def test_another_trainings_parameters_are_refused(copy, tmp_path, command):
    """Of the same network, as after another seed."""
    net = get_model("cifar_dmrnet8")
    net.initialize()
    save_model(net, str(copy / "model"), 2)
    out = str(tmp_path / "out")
    arguments = [out if word == "OUT" else word for word in command[1:]]
    with pytest.raises(DMRError, match="does not hold the parameters .* epoch 2.* --resume"):
        cli._main([command[0], str(copy), *arguments])
    assert not (tmp_path / "out" / "bundle.json").exists()


def test_averaged_networks_are_recognised(copy, short_recipe, digits):
    averaged = str(copy) + "-averaged"
    recipe = replace(short_recipe, ema_decay=0.9, steps=3)
    fit(recipe, RunOptions(data_dir=digits, run_dir=averaged))
    load_run(averaged)


def test_a_log_of_an_earlier_version_has_no_hash(copy):
    log = copy / "log.jsonl"
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    for line in lines:
        line.pop("parameters_sha256", None)
    log.write_text("".join(json.dumps(line) + "\n" for line in lines))
    load_run(copy)


class TestError:
    """What eval finds beside what the log says."""

    def log(self, run, more):
        """Let the log have so many more wrong images in the last epoch."""
        log = run / "log.jsonl"
        lines = [json.loads(line) for line in log.read_text().splitlines()]
        for line in lines:
            if line.get("epoch") == 2:
                line["test_error"] += 100 * more / 360
        log.write_text("".join(json.dumps(line) + "\n" for line in lines))

    def test_the_same(self, copy, capsys):
        cli._main(["eval", str(copy)])
        assert capsys.readouterr().out.count("\n") == 1

    def test_another_that_rounding_does_not_explain(self, copy):
        self.log(copy, 30)
        with pytest.raises(DMRError, match=r"log.jsonl records \d+ wrong of 360 images for epoch"):
            cli._main(["eval", str(copy)])

    def test_a_little_that_rounding_explains(self, copy, capsys):
        self.log(copy, 1)
        cli._main(["eval", str(copy)])
        assert "; other devices and other numbers of threads round" in capsys.readouterr().out

    def test_other_images_are_not_compared(self, copy, capsys):
        self.log(copy, 30)
        cli._main(["eval", str(copy), "--split", "train"])
        assert capsys.readouterr().out.count("\n") == 1

    def test_nothing_to_compare_with(self, copy, capsys):
        os.remove(copy / "log.jsonl")
        cli._main(["eval", str(copy)])
        assert "note: " in capsys.readouterr().out


@pytest.fixture(params=FAULTS)
def wrong(request, plain_bundle, tmp_path):
    """A bundle with parameters that do not fit, whose hashes are right; and the array's name."""
    fault, name = request.param
    folder = tmp_path / "bundle"
    shutil.copytree(plain_bundle, folder)
    content = read_bundle(folder)
    names = content.pop("files")
    del content["format"], content["sha256"]
    change(folder / "model-0000.params", fault)
    write_description(folder, content, names)
    return folder, name


def test_a_bundle_with_another_networks_parameters_is_refused(wrong):
    folder, _ = wrong
    with pytest.raises(DMRError, match="the form plain cannot be run") as refused:
        load_bundle(folder)
    assert str(refused.value).count("\n") == 0


def test_a_store_with_another_networks_parameters_is_refused(wrong, tmp_path):
    folder, name = wrong
    publish(folder, tmp_path / "store")
    with pytest.raises(DMRError, match=f"does not fit cifar_dmrnet8: {name} .*; publish it again"):
        get_model("cifar_dmrnet8", pretrained=True, root=tmp_path / "store")


def test_the_example_without_this_package_refuses_them(wrong, digits, command):
    folder, name = wrong
    done = command("examples/plain_mxnet.py", folder, digits)
    assert done.returncode == 1 and done.stderr.count("error: ") == 1, done.stderr
    assert f"another network's parameters: {name}" in done.stderr
