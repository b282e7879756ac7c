"""Training: several devices as one, resume to the same bits, exact evaluation, logs."""

import json
import os
import shlex
import shutil
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from run_folders import configuration

from dmr_gluon import devices, get_model
from dmr_gluon.data.datasets import open_prepared
from dmr_gluon.data.reader import Batch
from dmr_gluon.devices import make_devices, training_devices
from dmr_gluon.errors import DMRError, Failed
from dmr_gluon.models.serialization import prepare_to_run
from dmr_gluon.paper.recipes import CIFAR, IMAGENET
from dmr_gluon.runs import log as runlog
from dmr_gluon.runs.directory import RunDirectory, claim_run_directory
from dmr_gluon.runs.trained_network import load_run
from dmr_gluon.runtime import mx
from dmr_gluon.system.cuda import GPU, parse_gpus
from dmr_gluon.training import evaluate as evaluation
from dmr_gluon.training import step
from dmr_gluon.training.checkpointer import Checkpointer
from dmr_gluon.training.distributed import ALONE
from dmr_gluon.training.epoch import StepsOfEpoch
from dmr_gluon.training.evaluate import evaluate
from dmr_gluon.training.fit import fit
from dmr_gluon.training.optimizer import make_optimizer
from dmr_gluon.training.options import RunOptions
from dmr_gluon.training.plan import Plan
from dmr_gluon.training.state import TrainingState
from dmr_gluon.training.step import HostBuffers, TrainingStep, split_over


def without_bn():
    net = mx.gluon.nn.HybridSequential(prefix="n_")
    with net.name_scope():
        net.add(
            mx.gluon.nn.Conv2D(8, 3, in_channels=3, activation="relu"),
            mx.gluon.nn.GlobalAvgPool2D(),
            mx.gluon.nn.Dense(10, in_units=8),
        )
    return net


def steps_on(devices, net, kv_store="device", steps=3, batch=8):
    """A few updates on random data; returns the weights of every device."""
    mx.random.seed(1)
    net.initialize(mx.init.Xavier(), ctx=devices)
    net.hybridize()
    random = np.random.RandomState(0)
    step = TrainingStep(net, make_optimizer(CIFAR), devices, kv_store)
    losses = []
    for _ in range(steps):
        data = random.standard_normal((batch, 3, 16, 16)).astype(np.float32)
        results = step(data, random.randint(0, 10, batch), lr=0.1)
        losses.append(sum(float(loss.asscalar()) for loss, _ in results))
    weights = {
        name: [array.asnumpy() for array in p.list_data()]
        for name, p in net.collect_params().items()
    }
    return weights, losses


def test_batches_for_gpus_wait_in_pinned_memory(monkeypatch):
    # Of the first of the devices: GPU 0 may be somebody else's.
    assert HostBuffers([mx.gpu(4), mx.gpu(5)])._context == mx.cpu_pinned(4)
    assert HostBuffers([mx.cpu(0)])._context.device_type == "cpu"


def test_pinned_memory_is_allocated_once(monkeypatch):
    """The wheel for CPUs has such contexts too; what they hold is ordinary memory."""
    made, empty = [], mx.nd.empty

    def counted(shape, ctx):
        made.append(ctx)
        return empty(shape, ctx=ctx)

    host = HostBuffers([mx.gpu(0)])
    monkeypatch.setattr(mx.nd, "empty", counted)
    batches = [np.random.RandomState(i).rand(8 - i % 2, 3).astype(np.float32) for i in range(40)]
    parts = [split_over([mx.cpu(0), mx.cpu(1)], batch, host) for batch in batches]
    for batch, halves in zip(batches, parts):
        found = np.concatenate([half.asnumpy() for half in halves])
        assert (found == batch).all()
    assert made == [mx.cpu_pinned(0)] * 2 * HostBuffers.COUNT  # there are two shapes


def test_the_ring_of_pinned_buffers_changes_no_bit(monkeypatch):
    devices = [mx.cpu(0), mx.cpu(1)]
    expected, losses = steps_on(devices, without_bn(), batch=7)
    monkeypatch.setattr(step, "HostBuffers", lambda _: HostBuffers([mx.gpu(0)]))
    found, with_ring = steps_on(devices, without_bn(), batch=7)
    assert with_ring == losses
    for name in expected:
        assert all((a == b).all() for a, b in zip(expected[name], found[name])), name


@pytest.mark.parametrize("kv_store", ["device", "local"])
@pytest.mark.parametrize("batch", [8, 7])
def test_two_devices_make_the_same_update_as_one(kv_store, batch):
    one, losses_of_one = steps_on([mx.cpu(0)], without_bn(), batch=batch)
    two, losses_of_two = steps_on([mx.cpu(0), mx.cpu(1)], without_bn(), kv_store, batch=batch)
    for name, ((alone,), (first, second)) in zip(one, zip(one.values(), two.values())):
        assert (first == second).all(), name
        np.testing.assert_allclose(first, alone, rtol=1e-5, atol=1e-6, err_msg=name)
    np.testing.assert_allclose(losses_of_two, losses_of_one, rtol=1e-5)


def test_two_devices_train_with_bn_and_keep_equal_weights():
    weights, losses = steps_on([mx.cpu(0), mx.cpu(1)], get_model("cifar_dmrnet8"), steps=2)
    assert np.isfinite(losses).all()
    for name, (first, second) in weights.items():
        same = (first == second).all()
        assert same != name.endswith(("running_mean", "running_var")), name


def test_a_batch_is_split_in_order_into_near_equal_parts():
    devices = [mx.cpu(i) for i in range(3)]
    parts = split_over(devices, np.arange(8))
    assert [part.asnumpy().tolist() for part in parts] == [[0, 1], [2, 3, 4], [5, 6, 7]]
    assert [part.context for part in parts] == devices
    assert len(split_over(devices, np.arange(2))) == 2


def test_replicas_that_drift_apart_end_the_run(digits, short_recipe, tmp_path, monkeypatch):
    """One device's weights are changed, as by a sum that failed for it alone."""
    options = RunOptions(data_dir=digits, run_dir=str(tmp_path / "run"), cpus=2)
    update, steps = TrainingStep.update, []

    def broken(self, *arguments):
        results = update(self, *arguments)
        steps.append(1)
        if len(steps) == at:
            self.flat.arrays[0].list_data()[1][5] += 1e-6
        return results

    monkeypatch.setattr(TrainingStep, "update", broken)
    for at, saved in ((1, "epoch-0000.npz"), (3, "epoch-0000.npz")):
        steps.clear()
        with pytest.raises(Failed, match="the devices have different weights"):
            fit(replace(short_recipe, epochs=1, steps=5), options)
        assert len(steps) == (1 if at == 1 else 5)
        assert os.listdir(f"{options.run_dir}/checkpoints") == [saved]
        shutil.rmtree(options.run_dir)


def test_for_gpus_a_smaller_last_batch_is_filled_up(short_run, digits, short_recipe, monkeypatch):
    """No new shape, and the same counts. The device only says that it is a GPU."""
    prepared, net, shapes = open_prepared(digits), load_run(short_run), []
    expected = evaluate(net, prepared, short_recipe, [mx.cpu()])

    def split(devices, data, host):
        shapes.append(data.shape)
        return [mx.nd.array(data)]

    monkeypatch.setattr(evaluation, "split_over", split)
    assert evaluate(net, prepared, short_recipe, [mx.gpu(0)]) == expected
    assert len(set(shapes)) == 1 and len(shapes) > 1


class TestRun:
    def test_the_run_directory_holds_what_users_expect(self, short_run):
        assert {
            "config.json", "log.jsonl", "model-symbol.json", "model-0002.params", "checkpoints",
            "curve.png", "lock",
        } == set(os.listdir(short_run))  # fmt: skip

    def test_the_log(self, short_run, short_recipe):
        events = runlog.read(os.path.join(short_run, "log.jsonl"))
        assert [event["event"] for event in events] == ["start", "epoch", "epoch", "end"]
        start, first, second, end = events
        assert start["recipe"]["lr"] == 0.1 and start["seed"] == 1
        assert start["versions"]["mxnet"] == "1.9.1"
        assert first["epoch"] == 1 and first["images"] == 1437 and first["step"] == 23
        assert (first["lr"], second["lr"]) == (0.1, 0.0001)
        assert second["train_loss"] < first["train_loss"]
        assert end["test_error"] == second["test_error"]

    def test_evaluation_is_exact_at_any_batch_size_and_device_count(
        self, short_run, short_recipe, digits
    ):
        prepared = open_prepared(digits)
        results = set()
        for count, batch_size in ((1, 64), (1, 7), (1, 400), (2, 64), (3, 5)):
            devices = [mx.cpu(i) for i in range(count)]
            net = load_run(short_run, devices)
            result = evaluate(net, prepared, replace(short_recipe, batch_size=batch_size), devices)
            results.add((result.images, result.wrong, result.wrong_top5, round(result.loss, 4)))
        assert len(results) == 1
        logged = runlog.epochs(os.path.join(short_run, "log.jsonl"))[-1]
        assert 100 * results.pop()[1] / 360 == logged.test_error

    def test_the_same_seed_gives_the_same_bits(
        self, short_run, short_recipe, digits, tmp_path, capsys
    ):
        fit(short_recipe, RunOptions(data_dir=digits, run_dir=str(tmp_path / "again")))
        printed = capsys.readouterr().out
        # Said once: how large the files will be, and where the time went.
        assert "cifar_dmrnet8: depth 8, 0.155 M parameters; digits: 1437 training" in printed
        assert printed.count("checkpoints of 1.2 MB") == printed.count("\ntime: ") == 1
        assert parameters(tmp_path / "again") == parameters(short_run)

    def test_a_run_from_before_networks_had_more_fields_goes_on(
        self, short_run, short_recipe, digits, tmp_path, capsys
    ):
        copy = tmp_path / "copy"
        shutil.copytree(short_run, copy)
        config = json.loads((copy / "config.json").read_text())
        for name in ("branch_layers", "inner_width", "ends", "projections", "stem_norm", "form"):
            del config["network"][name]
        (copy / "config.json").write_text(json.dumps(config))
        fit(short_recipe, RunOptions(data_dir=digits, run_dir=str(copy), resume=True))
        assert "nothing to do" in capsys.readouterr().out
        assert load_run(str(copy)).spec == load_run(short_run).spec

    def test_a_damaged_checkpoint_is_passed_over(self, short_run, short_recipe, digits, tmp_path):
        copy = tmp_path / "copy"
        shutil.copytree(short_run, copy)
        runlog.forget_after(str(copy / "log.jsonl"), 2)  # it has not ended yet
        newest = copy / "checkpoints" / "epoch-0002.npz"
        content = bytearray(newest.read_bytes())
        content[len(content) // 2] ^= 0xFF
        newest.write_bytes(content)
        fit(short_recipe, RunOptions(data_dir=digits, run_dir=str(copy), resume=True))
        assert parameters(copy) == parameters(short_run)

    def test_a_finished_run_has_nothing_to_do(
        self, short_run, short_recipe, digits, tmp_path, capsys
    ):
        copy = tmp_path / "copy"
        shutil.copytree(short_run, copy)
        fit(short_recipe, RunOptions(data_dir=digits, run_dir=str(copy), resume=True))
        assert "nothing to do" in capsys.readouterr().out

    @pytest.mark.parametrize(
        "lost", ["log.jsonl", "model-0002.params", "the end", "the last epoch"]
    )
    def test_resume_mends_what_a_sudden_stop_left_undone(
        self, short_run, short_recipe, digits, tmp_path, lost
    ):
        copy = tmp_path / "copy"
        shutil.copytree(short_run, copy)
        lines = (copy / "log.jsonl").read_text().splitlines(keepends=True)
        if lost.startswith("the"):
            kept = lines[:-1] if lost == "the end" else lines[:-2]
            (copy / "log.jsonl").write_text("".join(kept))
            (copy / "curve.png").unlink()
        else:
            (copy / lost).unlink()
        fit(short_recipe, RunOptions(data_dir=digits, run_dir=str(copy), resume=True))
        assert parameters(copy) == parameters(short_run)
        events = runlog.read(copy / "log.jsonl")
        assert events[-1]["event"] == "end" and (copy / "curve.png").exists()
        assert [e["epoch"] for e in events if e["event"] == "epoch"][-1] == 2

    def test_resume_refuses_another_data_set_of_the_same_name(
        self, short_run, short_recipe, digits, tmp_path
    ):
        other = tmp_path / "digits"
        shutil.copytree(digits, other)
        manifest = (other / "manifest.json").read_text()
        (other / "manifest.json").write_text(manifest.replace("79.64", "80.64"))
        with pytest.raises(DMRError, match="mean"):
            fit(short_recipe, RunOptions(data_dir=str(other), run_dir=short_run, resume=True))

    def test_images_of_another_size_leave_no_run_behind(self, short_recipe, digits, tmp_path):
        with pytest.raises(DMRError, match="give --image-size 32"):
            fit(
                replace(short_recipe, image_size=28),
                RunOptions(data_dir=digits, run_dir=str(tmp_path / "run")),
            )
        assert not (tmp_path / "run").exists()

    @pytest.mark.parametrize(
        "changes, options, words",
        [
            ({}, {}, "--resume"),
            ({"pad": 3}, {"resume": True}, "pad 4, not 3"),
            ({}, {"resume": True, "seed": 2}, "seed 1"),
        ],
    )
    def test_a_run_is_never_mixed_with_another(
        self, short_run, short_recipe, digits, changes, options, words
    ):
        with pytest.raises(DMRError, match=words):
            fit(
                replace(short_recipe, **changes),
                RunOptions(data_dir=digits, run_dir=short_run, **options),
            )

    def test_a_loss_that_is_not_finite_stops_the_run(self, short_recipe, digits, tmp_path):
        with pytest.raises(DMRError, match="lower --lr"):
            fit(
                replace(short_recipe, lr=1e14),
                RunOptions(data_dir=digits, run_dir=str(tmp_path / "run")),
            )

    def test_tensorboard_that_is_missing_leaves_no_run_behind(
        self, short_recipe, digits, tmp_path, monkeypatch
    ):
        for name in ("tensorboardX", "tensorboardX.event_file_writer"):
            monkeypatch.setitem(sys.modules, name, None)
        with pytest.raises(DMRError, match="pip install 'tensorboardX"):
            fit(
                short_recipe,
                RunOptions(data_dir=digits, run_dir=str(tmp_path / "run"), tensorboard=True),
            )
        assert not (tmp_path / "run").exists()

    def test_its_command_can_be_given_again(self, monkeypatch):
        words = ["train_cifar.py", "--data-dir", "my data"]
        monkeypatch.setattr(sys, "argv", words)
        assert shlex.split(configuration()[0]["command"]) == words

    def test_a_folder_that_cannot_be_written_gives_one_line(self, short_recipe, digits, tmp_path):
        (tmp_path / "file").write_text("")
        with pytest.raises(DMRError, match="Not a directory"):
            fit(short_recipe, RunOptions(data_dir=digits, run_dir=str(tmp_path / "file" / "run")))


def parameters(run):
    """The final parameters of a run, as bytes."""
    run = RunDirectory(run)
    arrays = mx.nd.load(f"{run.model_prefix}-{run.model_epoch():04d}.params")
    return {name: array.asnumpy().tobytes() for name, array in arrays.items()}


def test_labels_that_differ_from_the_manifest_are_found(short_run, short_recipe, digits):
    prepared = open_prepared(digits)
    wrong = replace(
        prepared, splits={"test": replace(prepared.split("test"), per_class=(36,) * 10)}
    )
    with pytest.raises(DMRError, match="labels"):
        evaluate(load_run(short_run), wrong, short_recipe, [mx.cpu()])


@pytest.mark.parametrize("label", [-1, 10])
def test_a_label_that_is_no_class_is_named(short_run, short_recipe, digits, monkeypatch, label):
    batch = Batch(np.zeros((2, 3, 32, 32), np.float32), np.array([3, label]))
    monkeypatch.setattr(evaluation, "evaluation_batches", lambda *_: [batch])
    with pytest.raises(DMRError, match=f"has the label {label}, but there are 10 classes"):
        evaluate(load_run(short_run), open_prepared(digits), short_recipe, [mx.cpu()])


class TestDevices:
    @pytest.mark.parametrize(
        "text, numbers", [("0", [0]), ("0-7", list(range(8))), ("0,2,4-6", [0, 2, 4, 5, 6])]
    )
    def test_lists_and_ranges(self, text, numbers):
        assert parse_gpus(text) == numbers

    @pytest.mark.parametrize("text", ["", "x", "3-1", "0,,1", "-1", "0,0-2", "0-9999999999"])
    def test_what_is_no_list(self, text):
        with pytest.raises(DMRError, match="--gpus"):
            parse_gpus(text)

    @pytest.mark.skipif(mx.context.num_gpus() > 0, reason="this machine has GPUs")
    def test_gpus_that_are_not_there(self):
        with pytest.raises(DMRError, match="asks for GPU 7, but MXNet finds none"):
            make_devices("0-7")

    def test_a_gpu_that_does_not_fit_is_named_before_cuda_fails(self, monkeypatch, capsys):
        gpus = [GPU(0, "V100", (7, 0)), GPU(1, "H100", (9, 0)), GPU(2, "RTX 4090", (8, 9))]
        gpus += [GPU(3, "K80", (3, 7)), GPU(4, "unknown", (0, 0))]
        monkeypatch.setattr(devices, "find_gpus", lambda: gpus)
        devices.warn_of_unfit_gpus([0, 2, 4])
        assert capsys.readouterr().err == ""
        devices.warn_of_unfit_gpus([0, 1, 3])
        new, old = capsys.readouterr().err.splitlines()
        assert "GPU 1 has compute capability 9.0" in new and "supports 5.0 to 8.9" in new
        assert "GPU 3 has compute capability 3.7" in old

    def test_without_a_driver_there_is_nothing_to_warn_of(self, monkeypatch, capsys):
        monkeypatch.setattr(devices, "find_gpus", list)
        monkeypatch.setattr(devices, "find_gpus", list)
        devices.warn_of_unfit_gpus([0])
        assert capsys.readouterr().err == ""

    @pytest.mark.parametrize(
        "capability, override, found",
        [((8, 0), None, True), ((8, 6), "0", False), ((7, 5), None, False)],
    )
    def test_tf32_is_said(self, monkeypatch, capability, override, found):
        gpus = [GPU(3, "x", capability)]
        monkeypatch.setattr("dmr_gluon.system.cuda.find_gpus", lambda: gpus)
        monkeypatch.delenv("NVIDIA_TF32_OVERRIDE", raising=False)
        if override:
            monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", override)
        assert devices.uses_tf32(IMAGENET, [mx.gpu(3)]) == found
        assert not devices.uses_tf32(replace(IMAGENET, dtype="float16"), [mx.gpu(3)])
        for other in (mx.gpu(1), mx.cpu()):
            assert not devices.uses_tf32(IMAGENET, [other])

    def test_sync_bn_and_float16_exclude_each_other(self, monkeypatch):
        monkeypatch.setattr(devices, "make_devices", lambda *_: [mx.gpu(0), mx.gpu(1)])
        recipe, options = replace(IMAGENET, sync_bn=True), RunOptions(data_dir="x", kv_store="nccl")
        assert training_devices(recipe, options) == [mx.gpu(0), mx.gpu(1)]
        with pytest.raises(DMRError, match="SyncBatchNorm supports float32 only"):
            training_devices(replace(recipe, dtype="float16"), options)

    def test_cpu_contexts(self):
        assert make_devices(cpus=2) == [mx.cpu(0), mx.cpu(1)]
        with pytest.raises(DMRError, match="at least 1"):
            make_devices(cpus=0)

    @pytest.mark.parametrize("threads, warned", [("1", False), ("2", True)])
    def test_contexts_that_share_cores_are_told(self, monkeypatch, capfd, threads, warned):
        monkeypatch.setenv("OMP_NUM_THREADS", threads)
        monkeypatch.setattr("dmr_gluon.system.machine.usable_cores", lambda: 2)
        training_devices(CIFAR, RunOptions(data_dir="x", cpus=2))
        assert ("share_cores(2) before anything imports MXNet" in capfd.readouterr().err) == warned

    @pytest.mark.parametrize(
        "cores, batch, accumulate, workers, expected",
        [
            (1, 64, 1, 1, 1),  # no more contexts than cores
            (64, 64, 1, 1, 2),  # as on the paper's two GPUs
            (64, 256, 1, 1, 8),  # and on its eight
            (6, 256, 1, 1, 2),  # equal parts, and three cores each
            (3, 64, 1, 1, 1),  # with two, a core would be idle
            (12, 256, 1, 1, 4),
            (64, 256, 2, 2, 2),  # of what a worker computes at a time
            (64, 16, 1, 1, 1),
        ],
    )
    def test_automatic_contexts_have_the_papers_32_images(
        self, monkeypatch, cores, batch, accumulate, workers, expected
    ):
        monkeypatch.setattr("dmr_gluon.training.options.usable_cores", lambda: cores)
        if workers > 1:
            monkeypatch.setenv("DMLC_ROLE", "worker")
            monkeypatch.setenv("DMLC_NUM_WORKER", str(workers))
        recipe = replace(CIFAR, batch_size=batch, accumulate=accumulate)
        options = RunOptions(data_dir="x", cpus="auto")
        assert options.contexts(recipe) == expected
        assert training_devices(recipe, options) == [mx.cpu(i) for i in range(expected)]
        assert RunOptions(data_dir="x", cpus=3).contexts(recipe) == 3
        for wrong in ("x", "0"):  # connecting to the others refuses it
            monkeypatch.setenv("DMLC_NUM_WORKER", wrong)
            assert options.contexts(recipe) >= expected

    @pytest.mark.parametrize("cpus", ["2", "Auto", 1.5])
    def test_no_other_words_or_fractions_of_contexts(self, cpus):
        with pytest.raises(DMRError, match="cpus must be a whole number or 'auto', not "):
            RunOptions(data_dir="x", cpus=cpus)

    def test_gpus_and_automatic_contexts_exclude_each_other(self):
        with pytest.raises(DMRError, match="not both"):
            RunOptions(data_dir="x", cpus="auto", gpus="0")

    @pytest.mark.parametrize(
        "recipe, options, flag",
        [
            ({"dtype": "float16"}, {}, "--dtype float16"),
            ({"sync_bn": True}, {"cpus": 2}, "--sync-bn"),
            ({}, {"kv_store": "nccl"}, "--kv-store nccl"),
        ],
    )
    def test_what_needs_gpus(self, recipe, options, flag):
        with pytest.raises(DMRError, match=f"{flag} is for GPUs; leave it out"):
            training_devices(replace(CIFAR, **recipe), RunOptions(data_dir="x", **options))

    def test_fewer_gpus_than_are_asked_for(self, monkeypatch):
        monkeypatch.setattr(mx.runtime.Features, "is_enabled", lambda *_: True)
        monkeypatch.setattr(mx.context, "num_gpus", lambda: 2)
        monkeypatch.setattr(devices, "warn_of_unfit_gpus", lambda _: None)
        with pytest.raises(DMRError, match="asks for GPU 3, but MXNet finds 2"):
            make_devices("0-3")
        assert make_devices("0,1") == [mx.gpu(0), mx.gpu(1)]


def test_runs_started_together_get_folders_of_their_own(tmp_path):
    names = [os.path.basename(claim_run_directory(tmp_path / "runs", "a")) for _ in range(3)]
    assert names == ["a-001", "a-002", "a-003"]


def test_running_statistics_become_their_mean_over_the_devices():
    both = [mx.cpu(0), mx.cpu(1)]
    net = get_model("cifar_dmrnet8")
    net.initialize(ctx=both)
    expected, random = {}, np.random.RandomState(0)
    statistics = [p for name, p in net.collect_params().items() if "running" in name]
    for parameter in statistics:
        values = random.standard_normal((2, *parameter.shape)).astype(np.float32)
        for array, value in zip(parameter.list_data(), values):
            array[:] = value
        expected[parameter.name] = values.mean(axis=0)
    keeper = SimpleNamespace(net=net, step=SimpleNamespace(devices=both), group=ALONE)
    Checkpointer.average_running_statistics(keeper)
    for parameter in statistics:
        for array in parameter.list_data():
            np.testing.assert_allclose(array.asnumpy(), expected[parameter.name], rtol=1e-6)


def test_what_is_left_is_noted_while_a_run_goes_on(tmp_path):
    steps = SimpleNamespace(
        at=SimpleNamespace(epoch=1, steps=4, loss=300.0, images=200),
        plan=Plan(count=640, batch=64, per_epoch=10, total=30, epochs=3),
        run=RunDirectory(tmp_path),
        beaten=0.0,
    )
    StepsOfEpoch.beat(steps, 32.0)
    found = json.loads((tmp_path / "progress.json").read_text())
    assert found.pop("time") and found == {
        "epochs": 3, "epoch": 2, "step": 4, "steps": 10, "train_loss": 1.5,
        "images_per_second": 32.0, "seconds_left": 16 * 2,
    }  # fmt: skip
    steps.run, steps.beaten = RunDirectory(tmp_path / "none"), 0.0
    StepsOfEpoch.beat(steps, 32.0)  # a training does not end because of it


def test_nothing_is_summed_up_before_a_step():
    for at in (
        TrainingState(),
        TrainingState(epoch=3, steps=5, images=9, loss=2.5, wrong=1).next_epoch(),
    ):
        assert (at.steps, at.images, at.loss, at.wrong) == (0, 0, 0, 0)


def test_checkpoints_of_earlier_versions_have_another_word_for_reshuffling():
    assert TrainingState.of({"epoch": 2, "fresh": [0, 4]}).reshuffled_at == [0, 4]
    assert TrainingState.of({"epoch": 2, "reshuffled_at": [3]}).reshuffled_at == [3]


def test_errors_are_shares_of_the_images():
    found = evaluation.Evaluation(images=200, wrong=40, wrong_top5=10, loss=1.0)
    assert (found.error, found.top5_error) == (20, 5)


def test_the_counts_of_an_evaluation_equal_numpys():
    random = np.random.RandomState(0)
    logits = np.rint(2 * random.standard_normal((200, 10)))  # with equal ones, as argmax takes them
    labels = random.randint(0, 10, 200)
    parts = (slice(0, 120), slice(120, 200))
    counts = sum(evaluation._count(10, [mx.nd.array(logits[p])], labels[p]) for p in parts)
    *seen, wrong, wrong_top5, loss = counts
    order = np.argsort(-logits, axis=1, kind="stable")
    place = np.argmax(order == labels[:, None], axis=1)
    assert (wrong, wrong_top5) == ((place > 0).sum(), (place > 4).sum())
    probability = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    expected = -np.log(probability[np.arange(200), labels]).sum()
    np.testing.assert_allclose(loss, expected, rtol=1e-6)
    assert seen == np.bincount(labels, minlength=10).tolist()


@pytest.mark.parametrize("fused", [False, True])
def test_how_much_of_bns_running_statistics_stays(fused):
    """Each step adds what is left of the batch's own; the training does not depend on it."""
    weights = []
    for momentum in (0.9, 0.99):
        mx.random.seed(3)
        net = get_model("cifar_dmrnet8")
        net.use_bn_momentum(momentum)
        net.initialize()
        if fused:
            prepare_to_run(net, [mx.cpu()])
        step = TrainingStep(net, make_optimizer(CIFAR), [mx.cpu()])
        images = np.random.RandomState(0).standard_normal((8, 3, 32, 32)).astype(np.float32)
        for _ in range(2):
            step(images, np.arange(8) % 10, lr=0.1)
        mx.nd.waitall()
        mean = net.collect_params()["stem_bn_running_mean"].data().asnumpy()
        weights.append((momentum, mean, net.collect_params()["stem_conv_weight"].data().asnumpy()))
    (_, one, first), (_, other, second) = weights
    assert (first == second).all()
    # 1 - 0.9 squared, 1 - 0.99 squared of the same two batches, nearly alike.
    assert np.abs(one).max() > 5 * np.abs(other).max() > 0
