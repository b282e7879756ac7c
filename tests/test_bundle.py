"""Bundles: what dmr export writes, compares and refuses, and what load_bundle believes."""

import json
import os
import re
import shutil
import struct
import subprocess
import sys
import time

import numpy as np
import pytest
from conftest import EXPORTED, REPOSITORY

from dmr_gluon import get_model, load_bundle
from dmr_gluon.cli.main import _main
from dmr_gluon.data.datasets import open_prepared
from dmr_gluon.data.loader import evaluation_batches
from dmr_gluon.data.preprocessing import Preparation
from dmr_gluon.deploy import bundle_writer as writer
from dmr_gluon.deploy.bundle import read_bundle, write_description
from dmr_gluon.deploy.bundle_writer import ExportOptions, write_bundle
from dmr_gluon.deploy.export import export
from dmr_gluon.deploy.parity import Comparison, Worker, workers
from dmr_gluon.deploy.variants import VARIANTS
from dmr_gluon.errors import DMRError
from dmr_gluon.runs.trained_network import load_run
from dmr_gluon.runtime import mx
from dmr_gluon.standalone.logits_worker import portion
from dmr_gluon.system.timing import Speed


@pytest.fixture
def copy(bundle, tmp_path):
    shutil.copytree(bundle, tmp_path / "copy")
    return tmp_path / "copy"


@pytest.fixture
def out(plain_bundle, tmp_path):
    """A copy of the plain bundle, to be written into."""
    shutil.copytree(plain_bundle, tmp_path / "out")
    return tmp_path / "out"


@pytest.fixture
def run(short_run, digits, tmp_path):
    """A copy of the short run and of its data set, to change; ``run.data`` is the latter."""
    folder = Copied(shutil.copytree(short_run, tmp_path / "run"))
    folder.data = tmp_path / "digits"
    shutil.copytree(digits, folder.data)
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    config["dataset"]["directory"] = str(folder.data)
    (tmp_path / "run" / "config.json").write_text(json.dumps(config))
    return folder


class Copied(str):
    data = None


@pytest.fixture(scope="module")
def batch(digits, short_recipe):
    return next(iter(evaluation_batches(open_prepared(digits), short_recipe)))


@pytest.mark.parametrize("form", EXPORTED)
def test_every_form_gives_the_networks_logits(bundle, short_run, batch, form):
    loaded = load_bundle(bundle, form)
    expected = load_run(short_run)(mx.nd.array(batch.data)).asnumpy()
    found = loaded.logits(batch.data)
    scale = np.abs(expected).max()
    limit = 0.3 if form == "int8" else 1e-4
    np.testing.assert_allclose(found, expected, rtol=0, atol=limit * scale)
    one = loaded.logits(batch.data[:1])
    np.testing.assert_allclose(one, found[:1], rtol=0, atol=1e-5 * scale)


def test_a_bundle_of_version_0_1_still_opens(tmp_path):
    """Written by the first published layout of this package; loading runs its worked example."""
    folder = shutil.copytree(REPOSITORY / "tests" / "golden" / "old_bundle", tmp_path / "old")
    loaded = load_bundle(folder)
    assert loaded.description["network"]["name"] == "cifar_dmrnet8"
    assert loaded.classes == list("0123456789")
    assert loaded.logits(np.zeros((1, 3, 32, 32))).shape == (1, 10)


def test_the_description_says_what_was_compared(bundle, short_run, digits):
    found = read_bundle(bundle)
    assert list(found["forms"]) == list(EXPORTED)
    for name, entry in found["forms"].items():
        assert entry["compared"]["images"] == 100
        assert entry["compared"]["another_class"] == 0 or name == "int8"
        assert set(entry["files"]) <= set(found["files"])
    with open(os.path.join(short_run, "log.jsonl")) as file:
        epochs = [one for one in map(json.loads, file) if one["event"] == "epoch"]
    assert found["training"] == epochs[-1]
    assert found["dataset"] == "digits"
    assert found["example"]["label"] in found["classes"]
    assert "first test image" in found["example"]["from"]
    assert sorted(os.listdir(bundle)) == sorted([*found["files"], "bundle.json"])


@pytest.mark.parametrize("form, other", [("folded", "onnxruntime"), ("onnx", "mxnet")])
def test_forms_are_compared_by_processes_with_nothing_else(
    bundle, form, other, tmp_path, monkeypatch
):
    for name in ("dmr_gluon", other):
        (tmp_path / f"{name}.py").write_text(f"raise ImportError('{name} is not for it')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    entry = read_bundle(bundle)["forms"][form]
    files = [os.path.join(bundle, one) for one in entry["files"]]
    with workers({form: (entry["runtime"], files)}) as running:
        found = running[form].logits(np.zeros((1, 3, 32, 32)))
    assert found.shape == (1, 10)


def test_a_worker_that_cannot_load_says_which_file(bundle, tmp_path):
    (tmp_path / "model.onnx").write_bytes(b"nonsense")
    worker = Worker("onnx", "onnxruntime", [str(tmp_path / "model.onnx")])
    try:
        with pytest.raises(DMRError, match="model.onnx"):
            worker.wait()
    finally:
        worker.close()


@pytest.mark.parametrize("name", ["folded-0000.params", "example.png", "bundle.json", "model.onnx"])
def test_a_changed_byte_is_refused_by_the_files_name(copy, name):
    content = bytearray((copy / name).read_bytes())
    content[len(content) // 2] ^= 1
    (copy / name).write_bytes(content)
    form = "plain" if name in ("bundle.json", "example.png") else re.split("[-.]", name)[0]
    with pytest.raises(DMRError, match=f"{name} is damaged"):
        load_bundle(copy, "onnx" if form == "model" else form)


def test_what_another_form_needs_is_not_read(copy):
    """It may be hundreds of megabytes; publishing reads all."""
    (copy / "folded-0000.params").write_bytes(b"")
    load_bundle(copy)
    with pytest.raises(DMRError, match="folded-0000.params is damaged"):
        read_bundle(copy)


def test_onnx_is_predicted_without_mxnet(bundle, command):
    """Its import takes longer than the prediction of an image."""
    program = (
        "import sys; from dmr_gluon.cli.main import _main; _main(sys.argv[1:]); "
        "assert 'mxnet' not in sys.modules"
    )
    image = os.path.join(bundle, "example.png")
    done = command("-c", program, "predict", bundle, image, "--form", "onnx", "--csv")
    assert (done.returncode, done.stdout.count("example.png")) == (0, 5), done.stderr


def test_a_missing_file_is_refused_by_its_name(copy):
    (copy / "int8-symbol.json").unlink()
    with pytest.raises(DMRError, match="int8-symbol.json cannot be read"):
        load_bundle(copy, "int8")


def test_a_form_that_is_not_there(bundle):
    with pytest.raises(DMRError, match="has no form 'fused'; it has plain, folded, int8, onnx"):
        load_bundle(bundle, "fused")


def test_the_worked_example_is_worked(copy):
    """A bundle whose hashes are right, but which computes something else."""
    content = read_bundle(copy)
    content["forms"]["folded"]["logits"][0] += 0.1
    names = content.pop("files")
    for key in ("sha256", "format"):
        del content[key]
    write_description(copy, content, names)
    load_bundle(copy, "plain")
    with pytest.raises(DMRError, match="form folded. gives other logits for example.png"):
        load_bundle(copy, "folded")


def test_a_form_that_computes_something_else_is_not_written(short_run, out, monkeypatch):
    old, make = read_bundle(out), writer.make

    def wrong(name, *arguments):
        symbol, arrays = make(name, *arguments)
        if name == "bn-folded":
            arrays["head_fc_bias"] = arrays["head_fc_bias"] + np.float32(0.01)
        return symbol, arrays

    monkeypatch.setattr(writer, "make", wrong)
    with pytest.raises(DMRError, match="bn-folded gives other outputs.*nothing was written"):
        export(short_run, out, options=ExportOptions(("bn-folded",)))
    assert read_bundle(out) == old
    assert not [name for name in os.listdir(out) if "folded" in name or name[0] == "."]


@pytest.mark.slow
def test_int8_that_loses_too_much_is_not_written(short_run, out, monkeypatch):
    make = writer.make
    before = {path.name: path.read_bytes() for path in out.iterdir()}

    def wrong(name, net, preprocessing, calibration):
        """In the place of INT8 a network that sees nothing but the digit 0."""
        symbol, arrays = make("plain", net, preprocessing)
        if name == "int8":
            arrays["head_fc_bias"] = np.float32([1e4] + [0] * 9)
        return symbol, arrays

    monkeypatch.setattr(writer, "make", wrong)
    arguments = ["export", short_run, "--out", str(out), "--forms", "int8"]
    with pytest.raises(DMRError, match="int8 makes .* points more errors .*--int8-limit"):
        _main(arguments)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    _main([*arguments, "--int8-limit", "100"])
    assert "int8" in read_bundle(out)["forms"]


def test_errors_are_counted():
    found = Comparison()
    expected = np.eye(4, dtype=np.float32)
    found.add(expected, np.roll(expected, 1, axis=0), np.arange(4))
    assert found.error == 100 and found.more_error == 100 and not found.equal


def test_values_that_are_no_numbers_are_not_equal():
    found = Comparison()
    logits = np.array([[1.0, np.nan, 0.0]], np.float32)
    found.add(np.array([[1.0, 0.5, 0.0]], np.float32), logits)
    assert not found.equal and found.error is None


def test_a_bundle_that_takes_pixels(short_run, digits, batch, tmp_path):
    export(short_run, tmp_path, options=ExportOptions(("folded",), preprocess=True))
    loaded = load_bundle(tmp_path, "folded")
    expects = loaded.description["input"]
    assert expects["layout"] == "NHWC" and expects["shape"] == [32, 32, 3]
    assert expects["values"] == "pixels"
    mean, std = np.float32(expects["mean"]), np.float32(expects["std"])
    pixels = np.rint(batch.data.transpose(0, 2, 3, 1) * std + mean)
    expected = load_run(short_run)(mx.nd.array(batch.data)).asnumpy()
    np.testing.assert_allclose(loaded.logits(pixels), expected, atol=1e-3)


def test_without_the_data_set_made_up_images_serve(run, tmp_path):
    shutil.rmtree(run.data)
    found = export(run, tmp_path / "a")
    assert found["example"]["label"] is None and "made up" in found["example"]["from"]
    compared = found["forms"]["plain"]["compared"]
    assert compared["images"] == 64 and compared["error"] is None
    load_bundle(tmp_path / "a")
    with pytest.raises(DMRError, match="INT8 needs training images"):
        export(run, tmp_path / "b", options=ExportOptions(("int8",)))
    with pytest.raises(DMRError, match="no prepared data set"):
        export(run, tmp_path / "b", data_dir="nowhere")


def test_so_they_do_where_another_set_is_in_its_place(run, tmp_path, capsys):
    manifest = json.loads((run.data / "manifest.json").read_text())
    manifest["classes"][0] = "naught"
    (run.data / "manifest.json").write_text(json.dumps(manifest))
    _main(["export", run, "--out", str(tmp_path / "out")])
    assert "note: no test images were found" in capsys.readouterr().out
    with pytest.raises(DMRError, match="has other classes than digits"):
        export(run, tmp_path / "out", data_dir=str(run.data))


@pytest.mark.parametrize("damage", ["cut", "label"])
def test_a_damaged_data_set_is_refused_and_not_made_up(run, tmp_path, damage):
    records = run.data / "test.rec"
    content = records.read_bytes()
    if damage == "cut":
        records.write_bytes(content[:1000])
    else:
        records.write_bytes(content[:12] + struct.pack("<f", 37) + content[16:])
    with pytest.raises(DMRError, match="has 1000 bytes|its label 37 is not one of 0 to 9"):
        export(run, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("damage", ["missing", "no JSON"])
def test_without_a_whole_log_a_network_is_exported_all_the_same(run, tmp_path, capsys, damage):
    log = os.path.join(run, "log.jsonl")
    os.remove(log)
    if damage == "no JSON":
        with open(log, "w") as file:
            file.write("{\n{}\n")
    _main(["export", run, "--out", str(tmp_path / "out"), "--check-images", "8"])
    assert "note: no complete line of that epoch's log was found" in capsys.readouterr().out
    assert read_bundle(tmp_path / "out")["training"] is None


def test_an_older_bundles_files_go(copy, short_run):
    export(short_run, copy, options=ExportOptions(check_images=8))
    assert sorted(os.listdir(copy)) == [
        "bundle.json", "example.png", "model-0000.params", "model-symbol.json",
    ]  # fmt: skip
    load_bundle(copy)


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--forms", "fuzed"], "there is no form 'fuzed'; there are plain, bn-folded"),
        (["--forms", "folded", "--int8-limit", "1"], "--int8-limit is for INT8"),
    ],
)
def test_wrong_flags_are_refused_first(short_run, tmp_path, arguments, message):
    out = tmp_path / "out"
    with pytest.raises(DMRError, match=message):
        _main(["export", short_run, "--out", str(out), *arguments])
    assert not out.exists()


@pytest.mark.slow
def test_all_forms_measured(short_run, tmp_path, capsys):
    pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    out = tmp_path / "all"
    _main(["export", short_run, "--out", str(out), "--all", "--int8-limit", "100"])
    table = (out / "forms.md").read_text()
    assert table in capsys.readouterr().out
    found = read_bundle(out)
    for name in VARIANTS:
        assert f"| {name} |" in table
        assert name in found["forms"]
    for entry in found["forms"].values():
        assert entry["compared"]["images"] == 360
        speed = entry["speed"]
        assert speed["images_per_second"]["32"] > 0 and speed["images_per_second"]["1"] > 0
        assert 0 < speed["p50"] <= speed["p95"]


@pytest.mark.slow
def test_forms_of_a_network_for_imagenet(tmp_path):
    """dmrnet44 with random weights: all float forms are equal."""
    net = get_model("dmrnet44")
    net.initialize()
    preparation = Preparation(224, (123.4, 112.8, 99.4), (69.0, 66.1, 68.3), 256)
    forms = tuple(name for name in VARIANTS if "int8" not in name)
    options = ExportOptions(forms, check_images=32)
    classes = [str(label) for label in range(1000)]
    found = write_bundle(net, str(tmp_path), preparation, options, epochs=0, classes=classes)
    for entry in found["forms"].values():
        assert entry["compared"]["another_class"] == 0
    load_bundle(tmp_path, "fused")


def test_an_export_that_is_stopped_leaves_nothing(short_run, tmp_path):
    out = tmp_path / "out"
    program = [sys.executable, "-m", "dmr_gluon.cli.main", "export", short_run, "--out", str(out)]
    program += ["--forms", "bn-folded,folded,fused"]  # much to do after the first file is there
    process = subprocess.Popen(program, cwd=REPOSITORY, stderr=subprocess.PIPE, text=True)
    while process.poll() is None and not list(out.glob(".export-*/*")):
        time.sleep(0.02)
    process.terminate()
    assert process.communicate(timeout=60)[1].endswith("stopped; no bundle was written\n")
    assert process.returncode == 143 and not out.exists()


def test_a_batch_in_portions_gives_the_same_logits(bundle):
    loaded = load_bundle(bundle)
    images = np.random.RandomState(0).standard_normal((64, 3, 32, 32)).astype(np.float32)
    sizes = []
    loaded.net.register_forward_pre_hook(lambda _, inputs: sizes.append(len(inputs[0])))
    for count, expected in ((64, [32, 32]), (50, [25, 25]), (53, [53]), (1, [1])):
        found = loaded.logits(images[:count])
        whole = loaded.net(mx.nd.array(images[:count])).asnumpy()
        assert sizes[:-1] == expected
        np.testing.assert_allclose(found, whole, rtol=0, atol=1e-5 * np.abs(whole).max())
        sizes.clear()


@pytest.mark.parametrize("side, most", [(32, 32), (64, 32), (224, 16)])
def test_portions_are_equal_and_not_small(side, most):
    for count in range(200):
        size = portion(count, side)
        assert size == count or (count % size == 0 and most / 2 < size <= most) or count == 0


def test_a_killed_process_is_said_to_be_killed(bundle):
    files = [os.path.join(bundle, name) for name in ("model-symbol.json", "model-0000.params")]
    with workers({"plain": ("mxnet", files)}) as running:
        running["plain"]._process.kill()
        with pytest.raises(DMRError, match=r"the form plain\) was ended by SIGKILL"):
            running["plain"].logits(np.zeros((1, 3, 32, 32)))


def test_files_that_are_no_bundles_are_not_overwritten(short_run, tmp_path):
    (tmp_path / "model-symbol.json").write_text("mine")
    with pytest.raises(DMRError, match="model-symbol.json exists and belongs to no bundle"):
        export(short_run, tmp_path)
    assert os.listdir(tmp_path) == ["model-symbol.json"]


@pytest.mark.parametrize("content", ["", '{"format": 1, "files": {"app.js": {}}}'])
def test_what_another_program_calls_a_bundle_is_left_alone(short_run, tmp_path, content):
    files = {"bundle.json": content, "app.js": "theirs", "model-symbol.json": "theirs"}
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(DMRError, match="bundle.json is damaged"):
        export(short_run, tmp_path)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == files


def made_bundle(folder, **files):
    """A folder with these files, listed by a bundle.json; and their names."""
    folder.mkdir()
    for name, text in files.items():
        (folder / name).write_text(text)
    write_description(str(folder), {}, files)
    return str(folder), list(files)


class Killed(BaseException):
    pass


@pytest.mark.parametrize("older", [True, False])
@pytest.mark.parametrize("number", [1, 2, 3])
def test_killed_while_files_get_their_names(tmp_path, monkeypatch, number, older):
    """What is then there is refused, and the next export may replace it."""
    out, replace, calls = tmp_path / "out", os.replace, []
    if older:
        made_bundle(out, a="old", b="old")
    else:
        out.mkdir()

    def replacing(*paths):
        calls.append(paths)
        if len(calls) == number:
            raise Killed
        replace(*paths)

    new = made_bundle(tmp_path / "new", a="new", c="new")
    monkeypatch.setattr(os, "replace", replacing)
    with pytest.raises(Killed):
        writer._move_in(*new, str(out), ["a", "b"] if older else [])
    monkeypatch.undo()
    with pytest.raises(DMRError, match="is damaged|cannot be read"):
        read_bundle(out)
    again = made_bundle(tmp_path / "again", a="new", c="new")
    old = read_bundle(out, others=False)["files"] if (out / "bundle.json").exists() else []
    writer._move_in(*again, str(out), old)
    assert sorted(os.listdir(out)) == ["a", "bundle.json", "c"]
    assert set(read_bundle(out)["files"]) == {"a", "c"}


def test_operators_that_mxnet_does_not_have_are_one_line(bundle, monkeypatch):
    def refuse(*_, **__):
        raise mx.base.MXNetError("Traceback:\nCannot find Operator _sg_mkldnn_conv\n")

    monkeypatch.setattr(mx.sym, "load_json", refuse)
    with pytest.raises(DMRError, match="form int8 cannot be run on cpu.0. .Cannot find Operator"):
        load_bundle(bundle, "int8")


def test_one_image_does_not_excuse_another():
    found = Comparison()
    expected = np.array([[1e6, 0, 0], [1, 2, 3]], np.float32)
    found.add(expected, np.array([[1e6, 0, 0], [1, 2, 3.01]], np.float32))
    assert not found.equal
    with pytest.raises(DMRError, match="not finite"):
        Comparison().add(np.array([[np.inf, 0]]), np.array([[np.inf, 0]]))


def test_int8_is_judged_by_the_classes_where_errors_are_not_known():
    found = Comparison()
    expected = np.eye(4, dtype=np.float32)
    found.add(expected, np.roll(expected, 1, axis=0))
    assert found.more_error == 100


def test_a_device_that_is_not_there_is_one_line(bundle):
    with pytest.raises(DMRError, match="cannot be run on gpu.99."):
        load_bundle(bundle, device=mx.gpu(99))
    with pytest.raises(DMRError, match="form int8 runs on CPUs"):
        load_bundle(bundle, "int8", device=mx.gpu(0))


def test_what_onnx_does_not_know_is_one_line(tmp_path):
    net = get_model(
        "cifar_dmrnet8", norm_layer=mx.gluon.nn.GroupNorm, norm_kwargs={"num_groups": 4}
    )
    net.initialize()
    with pytest.raises(DMRError, match="leave out the form onnx"):
        write_bundle(
            net, str(tmp_path / "onnx"), Preparation(32, None, None), ExportOptions(("onnx",)),
            epochs=0, classes=list("0123456789"),
        )  # fmt: skip
    assert not (tmp_path / "onnx").exists()


def test_speeds_are_compared_round_by_round():
    slow = Speed({1: [[0.2, 0.1, 0.2], [0.4]], 32: [[3.2], [1.6]]})
    fast = Speed({1: [[0.1, 0.1], [0.1]], 32: [[1.6], [0.8]]})
    assert slow.images_per_second == {1: pytest.approx(3.75), 32: pytest.approx(15)}
    assert fast.by(slow) == {1: pytest.approx(3), 32: pytest.approx(2)}
    assert slow.latency[0] == pytest.approx(200) and 200 < slow.latency[1] <= 400


def test_the_onnx_model_has_constants_as_initializers_only(bundle):
    onnx = pytest.importorskip("onnx")
    model = onnx.load(os.path.join(bundle, "model.onnx"))
    assert [entry.name for entry in model.graph.input] == ["data"]
    assert [(one.domain, one.version) for one in model.opset_import] == [("", 13)]
    (output,) = model.graph.output
    for entry, shape in ((model.graph.input[0], [3, 32, 32]), (output, [10])):
        count, *rest = entry.type.tensor_type.shape.dim
        assert count.dim_param and [one.dim_value for one in rest] == shape
    assert not {"BatchNormalization", "Mul"} & {node.op_type for node in model.graph.node}
