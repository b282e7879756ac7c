"""The programs as a user calls them: their output, and one line for every refusal."""

import json
import os
import runpy
import shutil
import sys
from types import SimpleNamespace

import pytest
from conftest import REPOSITORY

from dmr_gluon.cli import main as cli
from dmr_gluon.datasets.registry import DATASETS
from dmr_gluon.errors import DMRError
from dmr_gluon.runtime import mx
from dmr_gluon.system.machine import usable_cores
from dmr_gluon.training import evaluate as evaluation
from dmr_gluon.training.evaluate import Evaluation

NO_GPUS = pytest.mark.skipif(mx.context.num_gpus() > 0, reason="this machine has GPUs")


def dmr(command, *arguments, **options):
    return command("-m", "dmr_gluon.cli.main", *arguments, **options)


@pytest.fixture
def script(monkeypatch):
    """Run a training script in this process."""

    def call(name, *arguments):
        monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
        runpy.run_path(str(REPOSITORY / name), run_name="script")["main"]()

    return call


def assert_refused(done, words):
    """Check for exit status 2 and one line that says what to do."""
    assert done.returncode == 2, done
    assert done.stderr.count("\n") == 1 and done.stderr.startswith("error: "), done.stderr
    assert words in done.stderr, done.stderr


@pytest.mark.parametrize(
    "flags, words",
    [
        (["--model", "cifar_dmrnt56"], "did you mean cifar_dmrnet56"),
        (["--model", "cifar_dmrnet57"], "try 56 or 62"),
        (["--batch-size", "x"], "invalid int value: 'x'"),
        (["--kv-store", "dist_sync"], "dmr launch -n 2 -s 1"),
        (["--dtype", "float16"], "is for GPUs"),
        (["--sync-bn", "--cpus", "2"], "is for GPUs"),
        (["--recipe", "authors"], "no recipe 'authors' for the digits"),
        (["--keep", "0"], "keep must be at least 1"),
        (["--reading-threads", "0"], "reading_threads must be at least 1"),
        (["--schedule", "cosine", "--lr-drops", "0.5"], "--lr-drops is for --schedule steps"),
        (["--steps", "10", "--warmup-epochs", "5"], "leaves none of 10 steps"),
        pytest.param(["--gpus", "0-7"], "MXNet finds none", marks=NO_GPUS),
    ],
)
def test_train_cifar_refuses(script, digits, tmp_path, flags, words):
    """In this process; test_missing_data_is_refused shows the exit status and the one line."""
    run = tmp_path / "run"
    with pytest.raises(DMRError) as refused:
        script("train_cifar.py", "--data-dir", digits, "--run-dir", run, *flags)
    assert words in str(refused.value) and "\n" not in str(refused.value)
    assert not run.exists()


@pytest.mark.parametrize("name", ["train_cifar.py", "train_svhn.py", "train_imagenet.py"])
def test_missing_data_is_refused(command, tmp_path, name):
    assert_refused(command(name, "--data-dir", tmp_path / "none"), "dmr prepare")


@pytest.mark.parametrize("name, words", [("pets", "pets"), ("cats", "folder SRC --name cats")])
def test_a_missing_set_names_the_command_that_makes_it(script, monkeypatch, tmp_path, name, words):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(DATASETS, "pets", None)  # a set that somebody has registered
    with pytest.raises(DMRError, match=f"make it with 'dmr prepare {words} --out data/{name}'"):
        script("train_cifar.py", "--dataset", name)


def test_a_record_file_without_its_index_is_refused(script, digits, tmp_path):
    os.symlink(os.path.join(digits, "train.rec"), tmp_path / "train.rec")
    os.symlink(os.path.join(digits, "manifest.json"), tmp_path / "manifest.json")
    with pytest.raises(DMRError, match="train.idx is missing"):
        script("train_cifar.py", "--data-dir", tmp_path)


@pytest.mark.parametrize(
    "arguments, words",
    [
        ([], "required: COMMAND; see dmr --help"),
        (["prepare"], "{digits, folder, recordio, cifar10, "),
        (["prepare", "digits"], "--out"),
        (["prepare", "folder", "/no-such-folder", "--out", "x"], "has no images"),
        (["prepare", "folder", ".", "--out", "x", "--resize", "0"], "--resize 0"),
        (["prepare", "imagenet", "--out", "x"], "download.php and name their folder with --source"),
        (["prepare", "svhn", "--source", ".", "--mirror", "x", "--out", "x"], "not allowed with"),
        (["prepare", "cifar100", "--source", "/no-such-folder", "--out", "x"], "is neither"),
        (["prepare", "svhn", "--source", ".", "--out", "x"], "train_32x32.mat cannot be read"),
        (["prepare", "imagenet", "--source", ".", "--out", "x"], "neither ILSVRC2012_img_train"),
        (["show", "/no-such-folder"], "no prepared data set"),
        (["check", "/no-such-folder"], "no prepared data set"),
        (["eval", "/no-such-folder"], "is not a run"),
        (["export", "/no-such-folder", "--out", "x"], "is not a run"),
        (["plot", "/no-such-folder"], "config.json"),
        (["trian"], "invalid choice"),
        (["networks", "cifar_dmrnet15"], "14 or 20"),
        (["networks", "--classes", "3"], "dmr networks NAME"),
        (["networks", "cifar_dmrnet8", "--classes", "0"], "classes"),
        (["paths", "--plot", "x.xyz"], "x.xyz"),
        (["paths", "--plot", "picture"], "supported formats"),
        (["networks", "--no-such"], "unrecognized arguments: --no-such"),
        (["paths", "cifar_dmrnet8", "--plot", "x.png"], "leave out the names"),
        (
            ["import-authors", "/no-such-folder", "3"],
            "no-such-folder-0003.params cannot be read",
        ),
    ],
)
def test_dmr_refuses(monkeypatch, tmp_path, arguments, words):
    """In this process; the next test shows the exit status and the one line."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DMRError) as refused:
        cli._main(arguments)
    assert words in str(refused.value) and "\n" not in str(refused.value)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    "arguments, words",
    [([], "required: COMMAND"), (["eval", "/no-such-folder"], "is not a run")],
)
def test_a_refusal_is_one_line_and_an_exit_status(command, tmp_path, arguments, words):
    assert_refused(dmr(command, *arguments, cwd=tmp_path), words)


def test_the_whole_way(command, capsys, tmp_path):
    """Prepare, train, evaluate, export, plot: `make demo` in seconds."""
    data, run, out = tmp_path / "digits", tmp_path / "run", tmp_path / "export"
    prepared = printed(capsys, "prepare", "digits", "--out", data)
    assert "1437 train, 360 test images 32x32, 10 classes" in prepared
    done = command(
        "train_cifar.py", "--data-dir", data, "--run-dir", run, "--model", "cifar_dmrnet8",
        "--epochs", "1", "--steps", "8", "--batch-size", "16",
    )  # fmt: skip
    assert done.returncode == 0 and "epoch 1/1  lr 0.0001" in done.stdout, done
    with open(run / "log.jsonl") as file:
        logged = [json.loads(line) for line in file][1]["test_error"]
    done = dmr(command, "eval", run)
    assert done.stdout.startswith(f"test error {logged:.2f}% ("), done
    assert "of 360 images" in done.stdout
    printed(capsys, "export", run, "--out", out)
    model = {"model-symbol.json", "model-0000.params"}
    assert set(os.listdir(out)) == {*model, "bundle.json", "example.png"}
    # The statistics of another set do not change what is fed to the network.
    other = tmp_path / "other"
    shutil.copytree(data, other)
    manifest = (other / "manifest.json").read_text()
    (other / "manifest.json").write_text(manifest.replace("79.64", "200.0"))
    again = printed(capsys, "eval", run, "--data-dir", other)
    assert again.startswith(f"test error {logged:.2f}% (")
    with pytest.raises(DMRError, match="x.xyz"):
        cli._main(["plot", str(run), "--out", str(tmp_path / "x.xyz")])
    picture = tmp_path / "curve.svg"
    printed(capsys, "plot", run, run, "--out", picture)
    assert "<svg" in picture.read_text()


def test_a_set_is_checked_and_training_refuses_a_damaged_one(script, capsys, digits, tmp_path):
    assert "train: 1437 records, 10 classes" in printed(capsys, "check", digits)
    copy = tmp_path / "copy"
    shutil.copytree(digits, copy)
    content = bytearray((copy / "train.rec").read_bytes())
    offset = int((copy / "train.idx").read_text().splitlines()[700].split("\t")[1])
    content[offset + 12] ^= 0xFF  # in the label
    (copy / "train.rec").write_bytes(content)
    with pytest.raises(SystemExit, match="1"):
        cli._main(["check", str(copy)])
    found = capsys.readouterr().out
    assert f"record 700 at byte {offset}" in found and "prepare the set again" in found
    with pytest.raises(DMRError, match="record 700 .* is not a whole number"):
        cli._main(["show", str(copy)])
    with pytest.raises(DMRError, match=f"train.rec, record 700 at byte {offset}"):
        script("train_cifar.py", "--data-dir", copy, "--run-dir", tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_set_is_shown_as_training_sees_it(capsys, digits, tmp_path):
    out = tmp_path / "images.svg"
    assert printed(capsys, "show", digits, "--out", out) == f"{out}\n"
    assert out.read_text().count("<image") == 72  # 36 of training, 36 of evaluation


def test_classes_that_look_like_formulas_are_shown(capsys, digits, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(digits, copy)
    manifest = json.loads((copy / "manifest.json").read_text())
    manifest.update(classes=[rf"${i}\foo$" for i in range(10)], dataset=r"$\foo$")
    (copy / "manifest.json").write_text(json.dumps(manifest))
    assert printed(capsys, "show", copy) == f"{copy}/images.png\n"


def test_cifar_is_prepared_from_the_command_line(capsys, tmp_path):
    from test_official import cifar, tar_of

    tar_of(tmp_path / "cifar-10-python.tar.gz", cifar(10)[0])
    out = tmp_path / "out"
    found = printed(capsys, "prepare", "cifar10", "--source", tmp_path, "--out", out, "--partial")
    assert "partial-cifar10, 20 train, 4 test images 32x32, 10 classes" in found


def test_imagenet_is_prepared_from_the_command_line(capsys, tmp_path):
    from test_imagenet import write

    write(tmp_path / "source")
    arguments = ("--source", tmp_path / "source", "--out", tmp_path / "out", "--short-side", 40)
    found = printed(capsys, "prepare", "imagenet", *arguments, "--partial")
    assert "partial-imagenet, 9 train, 4 test images 53x40, 3 classes" in found


def test_a_folder_of_images_from_the_command_line(capsys, tmp_path):
    import cv2
    import numpy as np

    for split in ("train", "test"):
        for name in ("a", "b"):
            os.makedirs(tmp_path / "images" / split / name)
            for i in range(3):
                image = np.full((50, 40, 3), 40 * i, np.uint8)
                cv2.imwrite(str(tmp_path / "images" / split / name / f"{i}.png"), image)
    arguments = ("--out", tmp_path / "out", "--name", "grey", "--resize", "32x32")
    found = printed(capsys, "prepare", "folder", tmp_path / "images", *arguments)
    assert "grey, 6 train, 6 test images 32x32, 2 classes" in found


def printed(capsys, *arguments):
    """Run a subcommand in this process and return its output."""
    cli._main([str(argument) for argument in arguments])
    return capsys.readouterr().out


def test_networks_and_paths_are_listed_and_drawn(capsys, tmp_path):
    listed = printed(capsys, "networks")
    assert "cifar_dmrnet50_w4" in listed and "24.8 b" in listed and "Unresolved" in listed
    assert listed.count("\n") > 50
    layers = printed(capsys, "networks", "cifar_dmrnet8", "--classes", "7")
    assert "stage2_block1_proj2_conv" in layers and "154,775 parameters" in layers
    found = printed(capsys, "paths", "--plot", tmp_path / "paths.svg")
    assert "DMRNet, L = 9      8.00       2.83" in found
    found = printed(capsys, "paths", "cifar_resnet14")
    assert "cifar_resnet14     8.00       2.45" in found
    assert "     2      1   1.5625\n     4      6   9.3750" in found
    assert os.listdir(tmp_path) == ["paths.svg"]


@pytest.mark.parametrize("classes, shown", [(5, ""), (6, "top-5 error 10.00%, ")])
def test_eval_shows_a_top5_error_where_there_are_more_classes(
    capsys, short_run, monkeypatch, classes, shown
):
    prepared = SimpleNamespace(classes=list(range(classes)), splits={})
    for name, value in [
        ("data.datasets.open_as_trained", prepared),
        ("data.check.check_quickly", None),
        ("training.evaluate.evaluate", Evaluation(10, 4, 1, 1.25)),
    ]:
        monkeypatch.setattr(f"dmr_gluon.{name}", lambda *_, value=value, **options: value)
    done = printed(capsys, "eval", short_run)
    assert done == f"test error 40.00% (4 of 10 images), {shown}loss 1.2500\n"


@pytest.mark.parametrize(
    "cores, flags, expected", [(8, [], 1), (24, [], 3), (24, ["--cpus", "2"], 2)]
)
def test_eval_divides_a_runs_images_over_contexts(
    short_run, capsys, monkeypatch, cores, flags, expected
):
    used, whole = [], printed(capsys, "eval", short_run)
    monkeypatch.setattr("dmr_gluon.cli.evaluation.usable_cores", lambda: cores)
    for name in ("OMP_NUM_THREADS", "MXNET_CPU_TEMP_COPY"):  # what is set is kept
        monkeypatch.setenv(name, "1")
    evaluate = evaluation.evaluate

    def noted(net, prepared, recipe, devices, *rest, **options):
        used.extend(devices)
        return evaluate(net, prepared, recipe, devices, *rest, **options)

    monkeypatch.setattr(evaluation, "evaluate", noted)
    assert printed(capsys, "eval", short_run, *flags) == whole
    assert used == [mx.cpu(i) for i in range(expected)]


def test_eval_shares_the_cores_before_a_plugin_imports_mxnet(short_run, command, tmp_path):
    plugin = tmp_path / "mine.py"
    names = "OMP_NUM_THREADS", "MXNET_CPU_TEMP_COPY"
    show = f"print(*(os.environ[name] for name in {names}))"
    plugin.write_text(f"import os\nfrom dmr_gluon.runtime import mx\n{show}\n")
    arguments = ("-m", "dmr_gluon.cli.main", "eval", short_run, "--cpus", "2", "--plugin", plugin)
    done = command(*arguments, **dict.fromkeys(names, ""))
    assert done.stdout.startswith(f"{max(1, usable_cores() // 2)} 32\n"), done.stderr


def test_eval_says_in_one_line_that_memory_was_short(short_run, monkeypatch):
    def evaluate(*_, **options):
        raise mx.base.MXNetError("Traceback ...\ncudaMalloc failed: out of memory")

    monkeypatch.setattr("dmr_gluon.training.evaluate.evaluate", evaluate)
    with pytest.raises(DMRError, match="MXNet stopped: cudaMalloc failed: out of memory; .*--gpus"):
        cli._main(["eval", short_run])


def test_eval_names_parameters_that_are_damaged(short_run, tmp_path):
    """A flipped bit makes a name invalid UTF-8."""
    copy = tmp_path / "run"
    shutil.copytree(short_run, copy)
    path = copy / "model-0002.params"
    path.write_bytes(path.read_bytes().replace(b"arg:stem_conv_weight", b"arg:stem_\xe3onv_weight"))
    with pytest.raises(DMRError, match="model-0002.params is damaged"):
        cli._main(["eval", str(copy)])


def test_a_curve_of_a_damaged_log_is_refused(short_run, tmp_path):
    shutil.copytree(short_run, tmp_path / "run")
    with open(tmp_path / "run" / "log.jsonl", "a") as file:
        file.write('{"event": "epoch", "epoch": 3}\n')
    with pytest.raises(DMRError, match="line 5 of .* is damaged"):
        cli._main(["plot", str(tmp_path / "run")])


def test_eval_refuses_a_damaged_set(digits, short_run, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(digits, copy)
    with open(copy / "test.rec", "r+b") as file:
        file.seek(12)
        file.write(b"\0\0\x80\x7f")  # a label that is infinite
    with pytest.raises(DMRError, match="record 0 .* label inf is not a whole number"):
        cli._main(["eval", short_run, "--data-dir", str(copy)])


def test_a_checkpoint_of_the_authors_is_imported(capsys, tmp_path):
    from test_authors import stand_in, write

    write(str(tmp_path / "theirs"), stand_in("dmrnet", (1, 1, 1)))
    found = printed(capsys, "import-authors", tmp_path / "theirs", "400", "--dataset", "svhn")
    assert "cifar_dmrnet8, 10 classes: 87 tensors, all mapped" in found
    assert "predict the same" in found
    assert {"bundle.json", "mapping.json"} <= set(os.listdir(tmp_path / "theirs-imported"))


def test_version_and_help(command):
    from dmr_gluon import __version__

    assert dmr(command, "--version").stdout.strip() == __version__
    for script in ("train_cifar.py", "train_svhn.py", "train_imagenet.py"):
        assert "--gpus" in command(script, "--help").stdout
