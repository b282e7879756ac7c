"""What is exported, loaded by processes that know nothing of this package."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import REPOSITORY

from dmr_gluon.deploy.export import export
from dmr_gluon.errors import DMRError
from dmr_gluon.runs.trained_network import load_run
from dmr_gluon.runtime import mx


def test_plain_mxnet_measures_the_same_error(bundle, short_run, digits, command):
    done = command(
        "examples/plain_mxnet.py", bundle, digits, "--log", os.path.join(short_run, "log.jsonl")
    )
    assert done.returncode == 0, done.stderr
    assert "the same as training logged" in done.stdout
    lines = (REPOSITORY / "examples" / "plain_mxnet.py").read_text().splitlines()
    assert not any("import" in line and "dmr_gluon" in line for line in lines)


def test_plain_mxnet_notices_another_error(bundle, digits, tmp_path, command):
    log = tmp_path / "log.jsonl"
    log.write_text('{"event": "epoch", "test_error": 99.5}\n')
    done = command("examples/plain_mxnet.py", bundle, digits, "--log", log)
    assert done.returncode == 1 and "99.5" in done.stderr


@pytest.mark.parametrize("change", [{"values": "pixels"}, {"mean": None}])
def test_plain_mxnet_refuses_what_it_cannot_give_images_to(
    bundle, digits, tmp_path, command, change
):
    content = json.loads((Path(bundle) / "bundle.json").read_text())
    content["input"].update(change)
    (tmp_path / "bundle.json").write_text(json.dumps(content))
    done = command("examples/plain_mxnet.py", tmp_path, digits)
    assert done.returncode == 1 and done.stderr.startswith("error: ")
    assert "without --preprocess" in done.stderr and done.stderr.count("\n") == 1


@pytest.mark.parametrize("form", ["SymbolBlock", "Module"])
def test_mxnets_own_loaders_give_the_runs_logits(bundle, short_run, form):
    data = mx.nd.array(np.random.RandomState(0).standard_normal((3, 3, 32, 32)))
    expected = load_run(short_run)(data).asnumpy()
    prefix = os.path.join(bundle, "model")
    if form == "SymbolBlock":
        net = mx.gluon.SymbolBlock.imports(
            prefix + "-symbol.json", ["data"], prefix + "-0000.params"
        )
        found = net(data).asnumpy()
    else:
        module = mx.mod.Module.load(prefix, 0, label_names=None)
        module.bind([("data", data.shape)], for_training=False)
        module.forward(mx.io.DataBatch([data]), is_train=False)
        found = module.get_outputs()[0].asnumpy()
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def test_the_run_itself_is_an_mxnet_checkpoint(short_run):
    symbol, arguments, auxiliary = mx.model.load_checkpoint(os.path.join(short_run, "model"), 2)
    assert "stage1_block1_branch1_conv1_weight" in arguments
    assert "stem_bn_running_mean" in auxiliary
    assert set(symbol.list_arguments()) == {"data", *arguments}


def test_the_bundle_says_what_goes_in_and_comes_out(bundle):
    with open(os.path.join(bundle, "bundle.json")) as file:
        content = json.load(file)
    assert content["classes"] == [str(digit) for digit in range(10)]
    assert content["input"]["shape"] == [3, 32, 32] and content["input"]["channels"] == "RGB"
    assert len(content["input"]["mean"]) == 3 and content["epochs"] == 2


def test_damaged_parameters_give_one_line(short_run, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(short_run, copy)
    (copy / "model-0002.params").write_bytes(b"damaged")
    with pytest.raises(DMRError, match="damaged"):
        load_run(str(copy))


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    with pytest.raises(DMRError, match="not a run"):
        export(tmp_path, tmp_path / "out")


def test_exporting_touches_nothing_else(short_run, tmp_path):
    (tmp_path / "model-mine.params").write_text("mine")
    export(short_run, tmp_path)
    assert (tmp_path / "model-mine.params").read_text() == "mine"


def test_exporting_into_a_run_is_refused(short_run):
    before = sorted(os.listdir(short_run))
    with pytest.raises(DMRError, match="is a run"):
        export(short_run, short_run)
    assert sorted(os.listdir(short_run)) == before
