"""A run that is stopped anywhere and resumed ends with the bits of one that never stopped."""

import contextlib
import errno
import hashlib
import json
import os
import pty
import resource
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import REPOSITORY

from dmr_gluon.data.datasets import open_prepared
from dmr_gluon.errors import DMRError, Failed, Stopped
from dmr_gluon.paper.recipes import RECIPES
from dmr_gluon.runs import directory as runs_module
from dmr_gluon.runs import log as runlog
from dmr_gluon.runs.directory import RunDirectory
from dmr_gluon.runs.reader import read_run
from dmr_gluon.runs.trained_network import load_run
from dmr_gluon.runtime import mx
from dmr_gluon.system import machine
from dmr_gluon.system.signals import say
from dmr_gluon.training import checkpoint, epoch, trainer
from dmr_gluon.training import estimate as estimating
from dmr_gluon.training import fit as fitting
from dmr_gluon.training.checkpointer import Checkpointer
from dmr_gluon.training.distributed import ALONE
from dmr_gluon.training.fit import fit
from dmr_gluon.training.identity import changes_at_resume
from dmr_gluon.training.options import RunOptions
from dmr_gluon.training.plan import Plan
from dmr_gluon.training.progress import duration
from dmr_gluon.training.step import TrainingStep
from dmr_gluon.training.stopping import stop_signals

#: Of an epoch: 96 images in batches of 16.
STEPS = 6


def result(path):
    """Hashes of a finished run's parameters and checkpoint, and its log but for times."""
    run = RunDirectory(path)
    files = sorted(Path(path).glob("model-*"))
    assert f"model-{run.model_epoch():04d}.params" in [file.name for file in files]
    hashes = {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}
    found = {"models": hashes}
    _, arrays, state = checkpoint.read_newest(run.checkpoints)
    found["checkpoint"] = {name: array.tobytes() for name, array in arrays.items()}
    found["best"] = state["best"]
    timed = ("time", "seconds", "images_per_second", "images_per_second_overall")
    found["log"] = [
        {name: value for name, value in line.items() if name not in timed}
        for line in runlog.read(run.log)
        if line["event"] == "epoch"
    ]
    assert runlog.read(run.log)[-1]["event"] == "end"
    return found


@pytest.fixture
def stop_at(monkeypatch):
    """Send this process a signal in one of its steps, counted over all epochs of this process."""

    def arrange(step, number=signal.SIGTERM):
        original, count = TrainingStep.update, [0]

        def call(self, *arguments):
            count[0] += 1
            if count[0] == step:
                signal.raise_signal(number)
            return original(self, *arguments)

        monkeypatch.setattr(TrainingStep, "update", call)

    return arrange


@pytest.fixture(scope="module")
def recipe(short_recipe):
    """Two epochs, with averaged weights."""
    return replace(short_recipe, batch_size=16, epochs=2, ema_decay=0.9)


@pytest.fixture(scope="module")
def runs(few, recipe, tmp_path_factory):
    """Options and result of a run on so many devices that was not stopped; made once."""
    made = {}

    def run(cpus):
        if cpus not in made:
            folder = str(tmp_path_factory.mktemp("whole") / "run")
            options = RunOptions(data_dir=few, run_dir=folder, cpus=cpus)
            fit(recipe, options)
            made[cpus] = options, result(folder)
        return made[cpus]

    return run


@pytest.fixture(
    params=[
        pytest.param(1, id="one device"),
        pytest.param(2, id="two devices", marks=pytest.mark.slow),
    ]
)
def whole(request, runs):
    return runs(request.param)


@pytest.fixture
def alone(runs):
    """Result on one device."""
    return runs(1)[1]


class TestSignals:
    @pytest.mark.parametrize("step", [5, pytest.param(STEPS, marks=pytest.mark.slow), STEPS + 3])
    def test_stopped_within_an_epoch(self, whole, recipe, tmp_path, stop_at, monkeypatch, step):
        options, expected = whole
        options = replace(options, run_dir=str(tmp_path / "run"))
        stop_at(step)
        with pytest.raises(Stopped, match="--resume") as stopped:
            fit(recipe, options)
        monkeypatch.undo()
        assert stopped.value.signal == signal.SIGTERM
        (*_, last) = runlog.read(RunDirectory(options.run_dir).log)
        # The signal is seen with the loss, two steps later; at an epoch's end, after it.
        assert last["event"] == "stop" and step <= last["step"] <= step + 3
        fit(recipe, replace(options, resume=True))
        assert result(options.run_dir) == expected

    def test_a_second_ctrl_c_stops_at_once_and_handlers_are_put_back(self):
        with stop_signals() as stop:
            signal.raise_signal(signal.SIGTERM)
            assert stop.received == signal.SIGTERM
            signal.raise_signal(signal.SIGTERM)  # no more than the first
            with pytest.raises(KeyboardInterrupt):
                signal.raise_signal(signal.SIGINT)
        assert stop.received == signal.SIGTERM
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler

    def test_a_closed_terminal_is_a_wish_too_and_what_is_ignored_stays_so(self, monkeypatch):
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # as in a shell's background
        try:
            with stop_signals() as stop:
                signal.raise_signal(signal.SIGINT)
                assert stop.received == 0
                signal.raise_signal(signal.SIGHUP)
                assert stop.received == signal.SIGHUP
        finally:
            signal.signal(signal.SIGINT, before)

    def test_what_is_said_to_a_terminal_that_is_gone_ends_nothing(self):
        ours, theirs = pty.openpty()
        os.close(ours)
        with open(theirs, "w") as terminal:
            with pytest.raises(OSError):
                print("a", file=terminal, flush=True)
            say("b", terminal)
            print("c", file=terminal, flush=True)


@pytest.mark.parametrize("cpus", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_checkpoints_within_epochs_change_nothing(runs, recipe, tmp_path, cpus):
    options, expected = runs(cpus)
    options = replace(options, run_dir=str(tmp_path / "run"), checkpoint_steps=2, keep=9)
    fit(recipe, options)
    assert result(options.run_dir) == expected
    names = sorted(os.listdir(os.path.join(options.run_dir, "checkpoints")))
    assert names == [
        "epoch-0000-step-000002.npz", "epoch-0000-step-000004.npz", "epoch-0000.npz",
        "epoch-0001-step-000002.npz", "epoch-0001-step-000004.npz", "epoch-0001.npz",
        "epoch-0002.npz",
    ]  # fmt: skip
    # From one of each epoch the run comes to the same end.
    for name in (names[1], names[3]):
        cut = tmp_path / name
        shutil.copytree(options.run_dir, cut)
        for later in names[names.index(name) + 1 :]:
            os.remove(cut / "checkpoints" / later)
        runlog.forget_after(RunDirectory(cut).log, names.index(name) // 3)
        RunDirectory(cut).keep_only_models(range(names.index(name) // 3 + 1))
        fit(recipe, replace(options, run_dir=str(cut), resume=True, checkpoint_steps=None))
        assert result(cut) == expected


@pytest.fixture
def half(recipe, few, tmp_path, stop_at, monkeypatch):
    """Options of a run that was stopped in its second epoch."""
    options = RunOptions(data_dir=few, run_dir=str(tmp_path / "half"))
    stop_at(STEPS + 3)
    with pytest.raises(Stopped):
        fit(recipe, options)
    monkeypatch.undo()
    return replace(options, resume=True)


class TestResume:
    def test_the_best_epochs_model_stays_what_it_was(self, half, recipe):
        before = Path(half.run_dir, "model-0001.params").read_bytes()
        # With so high a learning rate the second epoch is not the best.
        fit(replace(recipe, lr=5.0, lr_drops=()), half)
        config = RunDirectory(half.run_dir).config()
        assert config["unlike_the_paper"]["lr"] == [5.0, 0.1]
        assert Path(half.run_dir, "model-0001.params").read_bytes() == before

    def test_checkpoints_after_a_damaged_one_are_kept(
        self, half, recipe, stop_at, monkeypatch, capsys
    ):
        newest, _ = sorted(Path(half.run_dir, "checkpoints").iterdir())
        later = newest.with_name("epoch-0001-step-000004.npz")
        later.write_bytes(newest.read_bytes()[:5000])
        newest.unlink()
        stop_at(3)
        with pytest.raises(Stopped):
            fit(recipe, replace(half, keep=1))
        monkeypatch.undo()
        assert "is damaged" in capsys.readouterr().out
        assert not later.exists()
        path, _, state = checkpoint.read_newest(RunDirectory(half.run_dir).checkpoints)
        assert state["steps"] == 5 and "step" in path

    def test_a_checkpoint_is_made_after_some_time(self, recipe, few, tmp_path):
        options = RunOptions(data_dir=few, run_dir=str(tmp_path / "run"), keep=99)
        fit(replace(recipe, steps=9), replace(options, checkpoint_minutes=0.0))
        names = sorted(os.listdir(options.run_dir + "/checkpoints"))
        assert len(names) >= 4 and any("step" in name for name in names)

    def test_a_learning_rate_that_is_changed_on_purpose_stays(self, half, recipe, capsys):
        shutil.copytree(half.run_dir, half.run_dir + "-again")
        fit(replace(recipe, lr=0.05), half)
        assert "lr 0.1 -> 0.05" in capsys.readouterr().out
        log = runlog.read(RunDirectory(half.run_dir).log)
        (resumed,) = [event for event in log if event["event"] == "resume"]
        assert resumed["changes"] == {"lr": [0.1, 0.05]}
        assert RunDirectory(half.run_dir).config()["recipe"]["lr"] == 0.05
        assert runlog.epochs(RunDirectory(half.run_dir).log)[-1].lr == 0.05 / 1000
        fit(recipe, replace(half, run_dir=half.run_dir + "-again"))
        assert result(half.run_dir) != result(half.run_dir + "-again")

    def test_a_run_belongs_to_one_process(self, half, recipe, monkeypatch):
        run = RunDirectory(half.run_dir)
        with run.lock():
            # One that is just ending is waited for.
            monkeypatch.setattr(runs_module, "_PATIENCE", 0.5)
            began = time.monotonic()
            with pytest.raises(DMRError, match="another process"):
                fit(recipe, half)
            assert time.monotonic() - began > 0.5

    def test_where_it_cannot_be_locked_a_line_says_so(self, half, recipe, monkeypatch, capsys):
        def refuse(*_):
            raise OSError(errno.ENOLCK, "No locks available")

        monkeypatch.setattr(machine.fcntl, "flock", refuse)
        fit(recipe, half)
        assert capsys.readouterr().out.count("cannot be locked: let no other process") == 1

    @pytest.mark.parametrize("how", ["cut", "flipped", "exchanged"])
    def test_a_damaged_checkpoint_is_passed_over(self, half, recipe, alone, capsys, how):
        newest, before = sorted(Path(half.run_dir, "checkpoints").iterdir())
        assert "step" in newest.name and before.name == "epoch-0001.npz"
        if how == "exchanged":  # whole as an archive, and yet not what was written
            with np.load(newest) as archive:
                arrays = {name: archive[name].copy() for name in archive.files}
            arrays["parameter/head_fc_bias"][0] += 1
            np.savez(newest, **arrays)
        else:
            with open(newest, "rb") as file:
                content = bytearray(file.read())
            if how == "cut":
                del content[len(content) // 2 :]
            else:
                content[len(content) // 2] ^= 0xFF
            with open(newest, "wb") as file:
                file.write(content)
        fit(recipe, half)
        printed = capsys.readouterr().out
        assert "is damaged" in printed and "continuing" in printed
        assert result(half.run_dir) == alone

    def test_other_devices_go_on_with_the_mean_of_the_running_statistics(
        self, recipe, few, tmp_path, stop_at, monkeypatch
    ):
        options = RunOptions(data_dir=few, run_dir=str(tmp_path / "run"), cpus=2)
        stop_at(3)
        with pytest.raises(Stopped):
            fit(recipe, options)
        monkeypatch.undo()
        run = RunDirectory(options.run_dir)
        ((first, second),) = checkpoint.read_newest(run.checkpoints)[1]["statistics"]
        assert (first != second).any()
        found, train_epoch = [], epoch.StepsOfEpoch.train_epoch

        def look(self):
            arrays = [p.data().asnumpy() for p in checkpoint.running_statistics(self.step.net)]
            found.append(np.concatenate([array.ravel() for array in arrays]))
            train_epoch(self)

        monkeypatch.setattr(epoch.StepsOfEpoch, "train_epoch", look)
        fit(recipe, replace(options, cpus=1, resume=True))
        np.testing.assert_allclose(found[0], (first + second) / 2, rtol=1e-6)
        assert len(runlog.epochs(run.log)) == 2
        (resumed,) = [event for event in runlog.read(run.log) if event["event"] == "resume"]
        assert resumed["moved"] == {"devices": ["2 cpu", "1 cpu"]} and "changes" not in resumed
        compared = read_run(options.run_dir)
        assert compared.remarks == ("continued on 1 cpu instead of 2 cpu after epoch 0",)
        assert compared.changes == () and compared.setup.bn_images == 8
        assert run.config()["resumed_on"] == {"devices": ["cpu(0)"], "workers": 1}
        # From now on that is where it is: going on there again is no move, going back is one.
        begun = run.config()
        here = {**begun, "devices": ["cpu(0)"]}
        assert changes_at_resume(run, begun, here) == ({}, {})
        there = {"devices": ["1 cpu", "2 cpu"]}
        assert changes_at_resume(run, begun, begun) == ({}, there)

    @pytest.mark.parametrize("line", [b"\xff\xfe", b"[1]", b"3", b'{"epoch": 1}'])
    def test_a_log_that_is_damaged_is_refused_with_its_line(self, half, recipe, line):
        log = Path(RunDirectory(half.run_dir).log)
        start, *others = log.read_bytes().splitlines(keepends=True)
        log.write_bytes(b"".join([start, line + b"\n", *others]))
        with pytest.raises(DMRError, match="line 2 of .*log.jsonl"):
            fit(recipe, half)

    def test_what_was_killed_while_it_was_written_goes(self, half, recipe):
        left = [
            Path(half.run_dir, "checkpoints", "epoch-0001-step-000003.npz.part"),
            Path(half.run_dir, "model-0001.params.part"),
        ]
        for path in left:
            path.write_bytes(b"half")
        fit(recipe, half)
        assert not any(path.exists() for path in left)

    def test_no_change_goes_without_a_line_of_the_log(self, half, recipe, monkeypatch):
        def killed(*_):
            raise KeyboardInterrupt

        monkeypatch.setattr(RunDirectory, "create", killed)
        with pytest.raises(KeyboardInterrupt):
            fit(replace(recipe, lr=0.05), half)
        assert runlog.read(RunDirectory(half.run_dir).log)[-1]["changes"] == {"lr": [0.1, 0.05]}

    def test_a_change_that_would_do_nothing_is_refused(self, whole, recipe, tmp_path):
        options, expected = whole
        shutil.copytree(options.run_dir, tmp_path / "run")
        with pytest.raises(DMRError, match="--lr would change nothing"):
            fit(
                replace(recipe, lr=0.05),
                replace(options, run_dir=str(tmp_path / "run"), resume=True),
            )
        assert result(tmp_path / "run") == expected


class TestFolders:
    @pytest.mark.parametrize("name", ["model-0000.params", "checkpoints/epoch-0007.npz"])
    def test_files_that_a_new_run_could_replace_are_left_alone(self, few, recipe, tmp_path, name):
        other = tmp_path / "run" / name
        other.parent.mkdir(parents=True)
        other.write_text("precious")
        with pytest.raises(DMRError, match=f"{name} is there.*choose another --run-dir"):
            fit(recipe, RunOptions(data_dir=few, run_dir=str(tmp_path / "run")))
        assert other.read_text() == "precious"
        assert sorted(os.listdir(tmp_path / "run")) == sorted(["lock", name.split("/")[0]])

    def test_a_run_that_was_killed_while_it_began_can_begin_again(self, few, recipe, tmp_path):
        (tmp_path / "run" / "checkpoints").mkdir(parents=True)
        for name in ("lock", "config.json.part"):
            (tmp_path / "run" / name).touch()
        fit(replace(recipe, steps=1), RunOptions(data_dir=few, run_dir=str(tmp_path / "run")))

    def test_a_folder_may_have_any_name(self, tmp_path):
        folder = f"{tmp_path}//[a]"
        os.mkdir(folder)
        for number in (1, 2, 3):
            path = checkpoint.write(folder, number, {"x": np.zeros(1)}, {})
            checkpoint.keep_only(path, 2, best=1)
        assert sorted(os.listdir(folder)) == [f"epoch-{n:04d}.npz" for n in (1, 2, 3)]
        checkpoint.keep_only(path, 1)
        assert os.listdir(folder) == ["epoch-0003.npz"]


class TestNotFinite:
    @pytest.fixture
    def poisoned(self, monkeypatch):
        """Weights become NaN in a step, once or whenever that step comes."""

        def arrange(step, times):
            original, count, left = TrainingStep.update, [0], [times]

            def call(self, *arguments):
                count[0] += 1
                if count[0] >= step and left[0]:
                    left[0] -= 1
                    weight = self.net.output.weight
                    weight.set_data(weight.data() * float("nan"))
                return original(self, *arguments)

            monkeypatch.setattr(TrainingStep, "update", call)

        return arrange

    def test_it_stops_with_what_led_there(self, recipe, few, tmp_path, poisoned):
        options = RunOptions(data_dir=few, run_dir=str(tmp_path / "run"), checkpoint_steps=4)
        poisoned(STEPS + 5, 1)
        with pytest.raises(DMRError) as refused:
            fit(recipe, options)
        text = str(refused.value)
        assert "the loss is nan in step 5 of epoch 2 with learning rate 0.001" in text
        assert "epoch-0001-step-000004.npz" in text and "--on-nan rollback" in text
        # What is kept can be used.
        _, arrays, _ = checkpoint.read_newest(RunDirectory(options.run_dir).checkpoints)
        assert all(np.isfinite(array).all() for array in arrays.values())
        fit(recipe, replace(options, resume=True, on_nan="rollback"))

    def test_the_learning_rate_is_that_of_the_step(self, recipe, few, tmp_path, poisoned):
        poisoned(5, 1)
        with pytest.raises(
            DMRError, match=f"step 5 of epoch 1 with learning rate {0.5 / STEPS:g};"
        ):
            fit(
                replace(recipe, warmup_epochs=1),
                RunOptions(data_dir=few, run_dir=str(tmp_path / "run")),
            )

    @pytest.mark.parametrize("on_nan", ["stop", "rollback"])
    def test_a_test_loss_that_is_not_finite_is_one_too(
        self, recipe, few, tmp_path, monkeypatch, on_nan
    ):
        original, left = trainer.evaluate, [1]

        def evaluate_once_wrong(*arguments, **options):
            found = original(*arguments, **options)
            if left[0]:
                left[0] -= 1
                return replace(found, loss=float("nan"))
            return found

        monkeypatch.setattr(trainer, "evaluate", evaluate_once_wrong)
        options = RunOptions(data_dir=few, run_dir=str(tmp_path / "run"), on_nan=on_nan)
        if on_nan == "stop":
            with pytest.raises(DMRError, match="test loss is nan after epoch 1.*epoch-0000.npz"):
                fit(recipe, options)
        else:
            fit(recipe, options)
        log = Path(RunDirectory(options.run_dir).log).read_text()
        assert "NaN" not in log and ('"rollback"' in log) == (on_nan == "rollback")

    @pytest.fixture
    def orders(self, monkeypatch):
        """From which steps on the rest of an epoch was drawn anew, at every beginning of one."""
        found, original = [], epoch.training_batches

        def batches(*arguments, reshuffled_at, **keywords):
            found.append(list(reshuffled_at))
            return original(*arguments, reshuffled_at=reshuffled_at, **keywords)

        monkeypatch.setattr(epoch, "training_batches", batches)
        return found

    def test_rollback_goes_on_in_another_order(
        self, recipe, few, tmp_path, poisoned, orders, capsys
    ):
        options = RunOptions(
            data_dir=few, run_dir=str(tmp_path / "run"), checkpoint_steps=4, on_nan="rollback",
            log_steps=1,
        )  # fmt: skip
        poisoned(STEPS + 5, 1)
        fit(recipe, options)
        assert "rolling back to" in capsys.readouterr().out
        assert orders == [[], [], [4]]
        log = runlog.read(RunDirectory(options.run_dir).log)
        (back,) = [event for event in log if event["event"] == "rollback"]
        assert back["step"] == STEPS + 4 and STEPS + 5 <= back["at"] <= STEPS + 6
        epochs = runlog.epochs(RunDirectory(options.run_dir).log)
        assert [line.images for line in epochs] == [96, 96]
        # Of the steps that were given up nothing is left.
        places = [(e["epoch"], e["step"]) for e in log if e["event"] == "steps"]
        assert places == [(n, step) for n in (1, 2) for step in range(1, STEPS + 1)]
        assert all(np.isfinite(line.train_loss) for line in epochs)
        assert (log[-1]["event"], log[-1]["epochs"]) == ("end", 2)
        whole = sum(sum(line.seconds.values()) for line in epochs)
        assert whole <= log[-1]["seconds"] + 0.1

    def test_it_gives_up_after_three_rollbacks(self, recipe, few, tmp_path, poisoned, orders):
        options = RunOptions(data_dir=few, run_dir=str(tmp_path / "run"), on_nan="rollback")
        poisoned(3, 1000)
        with pytest.raises(DMRError, match="after 3 rollbacks"):
            fit(recipe, options)
        # Each time in an order of its own, also if the run is resumed then.
        assert orders == [[], [0], [0, 0], [0, 0, 0]]
        _, _, state = checkpoint.read_newest(RunDirectory(options.run_dir).checkpoints)
        assert state["reshuffled_at"] == [0, 0, 0]

    def test_without_any_checkpoint_it_says_so(self, recipe, few, tmp_path, poisoned, monkeypatch):
        poisoned(3, 1)
        monkeypatch.setattr(Checkpointer, "restore", lambda _: None)
        with pytest.raises(DMRError, match="the loss is nan .*; there is no checkpoint in .*run"):
            fit(recipe, RunOptions(data_dir=few, run_dir=str(tmp_path / "run"), on_nan="rollback"))

    def test_weights_that_are_not_finite_are_never_saved(self, recipe, few, tmp_path, monkeypatch):
        """The loss of the last step is finite, and the step itself was what broke the weights."""
        original, count = TrainingStep.update, [0]

        def call(self, *arguments):
            results = original(self, *arguments)
            count[0] += 1
            if count[0] == 4:
                bias = self.net.output.bias
                bias.set_data(bias.data() * float("inf"))
            return results

        monkeypatch.setattr(TrainingStep, "update", call)
        run = str(tmp_path / "run")
        with pytest.raises(DMRError, match="head_fc_bias is not finite"):
            fit(recipe, RunOptions(data_dir=few, run_dir=run, checkpoint_steps=4))
        assert os.listdir(os.path.join(run, "checkpoints")) == ["epoch-0000.npz"]


class TestDisks:
    def limited(self, run_dir, few, size, *more):
        """A training in a process that cannot write files beyond a size."""
        return subprocess.run(
            [sys.executable, "train_cifar.py", "--data-dir", few, "--run-dir", run_dir, *more],
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size)),
        )

    def test_a_full_disk_leaves_the_checkpoint_before(self, half, recipe, few, alone):
        done = self.limited(half.run_dir, few, 800_000, "--resume")
        assert done.returncode == 1 and len(done.stderr.splitlines()) == 1, done.stderr
        assert "--resume" in done.stderr and "File too large" in done.stderr
        assert not [n for n in os.listdir(half.run_dir + "/checkpoints") if n.endswith(".part")]
        fit(recipe, half)
        assert result(half.run_dir) == alone

    def test_data_that_is_lost_within_an_epoch_is_no_refusal(
        self, whole, recipe, tmp_path, monkeypatch
    ):
        options, expected = whole
        options = replace(options, run_dir=str(tmp_path / "run"))
        batches = epoch.training_batches

        def failing(*arguments, **keywords):
            for i, batch in enumerate(batches(*arguments, **keywords)):
                if i == 4:
                    raise DMRError("a file is damaged: record 7 cannot be read")
                yield batch

        monkeypatch.setattr(epoch, "training_batches", failing)
        with pytest.raises(Failed, match="record 7"):
            fit(recipe, options)
        monkeypatch.undo()
        fit(recipe, replace(options, resume=True))
        assert result(options.run_dir) == expected

    def test_mxnets_errors_are_no_refusals(self, recipe, few, tmp_path, monkeypatch):
        def broken(*_):
            raise mx.base.MXNetError("Traceback ...\nCUDA: unspecified launch failure")

        options = RunOptions(data_dir=few, run_dir=str(tmp_path / "run"))
        for place, name in ((fitting, "training_devices"), (TrainingStep, "update")):
            monkeypatch.setattr(place, name, broken)
            with pytest.raises(Failed, match="MXNet stopped: CUDA: unspecified") as stopped:
                fit(recipe, options)
            monkeypatch.undo()
            advice = "--resume" if place is TrainingStep else "nothing was started"
            assert advice in str(stopped.value)


class TestKept:
    def test_the_last_and_the_best(self, few, recipe, tmp_path):
        # The second and third epoch learn nothing, so that the first one stays the best.
        recipe = replace(recipe, epochs=3, lr_drops=(0.34,), lr_factor=1e-9, ema_decay=0.0)
        run = RunDirectory(str(tmp_path / "run"))
        fit(recipe, RunOptions(data_dir=few, run_dir=run.path, keep=1))
        errors = [line.test_error for line in runlog.epochs(run.log)]
        best = 1 + int(np.argmin(errors))
        _, _, state = checkpoint.read_newest(run.checkpoints)
        assert state["best"] == {"epoch": best, "test_error": min(errors)}
        kept = sorted({best, 3})
        assert sorted(os.listdir(run.checkpoints)) == [f"epoch-{n:04d}.npz" for n in kept]
        params = sorted(name for name in os.listdir(run.path) if name.endswith(".params"))
        assert params == [f"model-{n:04d}.params" for n in kept]
        assert load_run(run, epoch=best) is not None
        with pytest.raises(DMRError, match="no parameters of epoch 9"):
            load_run(run, epoch=9)

    def test_a_run_of_some_steps(self, few, recipe, tmp_path):
        run = RunDirectory(str(tmp_path / "run"))
        fit(replace(recipe, steps=8), RunOptions(data_dir=few, run_dir=run.path))
        epochs = runlog.epochs(run.log)
        assert [(line.step, line.images) for line in epochs] == [(6, 96), (8, 32)]
        fit(
            replace(recipe, steps=5),
            RunOptions(data_dir=few, run_dir=str(tmp_path / "five")),
        )
        (only,) = runlog.epochs(RunDirectory(str(tmp_path / "five")).log)
        assert (only.step, only.images) == (5, 80)

    def test_an_estimate_leaves_nothing_behind(self, few, recipe, tmp_path, capsys, monkeypatch):
        monkeypatch.chdir(tmp_path)
        fit(recipe, RunOptions(data_dir=few, estimate=True))
        printed = capsys.readouterr().out
        assert "training images per second" in printed and "12 steps take" in printed
        assert os.listdir(tmp_path) == []

    def test_an_estimate_is_counted_from_its_steps(self, few, recipe, capsys, monkeypatch):
        """With a clock of its own: a step takes half a second, a batch of the evaluation 0.25."""
        clock = [0.0]

        class Step:
            devices, group = [mx.cpu()], ALONE
            flat = SimpleNamespace(apart=contextlib.nullcontext)

            def __call__(self, *_):
                clock[0] += 0.5

            def net(self, part):
                clock[0] += 0.25

        monkeypatch.setattr(estimating, "time", SimpleNamespace(monotonic=lambda: clock[0]))
        prepared, options = open_prepared(few), RunOptions(data_dir=few)
        plan = Plan.of(recipe, prepared, 1)
        estimating.estimate(Step(), recipe, prepared, plan, options)
        evaluations = 2 * 0.25 * prepared.split("test").count / 16
        assert capsys.readouterr().out == (
            "estimate from 4 steps: 32 training images per second; 12 steps take 00:06, "
            f"2 evaluations {duration(evaluations)}, {duration(6 + evaluations)} in all\n"
        )

    def test_how_far_it_is_can_be_read(self, half, few):
        beat = json.loads(Path(half.run_dir, "progress.json").read_text())
        assert (beat["epoch"], beat["epochs"], beat["steps"]) == (2, 2, STEPS)
        assert 5 <= beat["step"] <= 9


@pytest.mark.slow
def test_images_that_are_scaled_and_cropped_resume_to_the_same_bits(
    digits, tmp_path, stop_at, monkeypatch
):
    """ImageNet's pipeline, with the authors' augmentation, two devices and two portions."""
    recipe = replace(
        RECIPES["authors"]["imagenet"], model="dmrnet29", steps=12, batch_size=128, image_size=32,
        train_short_side=(36, 48), eval_short_side=36, accumulate=2,
    )  # fmt: skip
    options = RunOptions(data_dir=digits, run_dir=str(tmp_path / "whole"), cpus=2)
    fit(recipe, options)
    (line,) = runlog.epochs(RunDirectory(options.run_dir).log)
    assert line.images == 1437 and np.isfinite(line.train_loss)
    stopped = replace(options, run_dir=str(tmp_path / "stopped"))
    stop_at(5)
    with pytest.raises(Stopped):
        fit(recipe, stopped)
    monkeypatch.undo()
    fit(recipe, replace(stopped, resume=True))
    assert result(stopped.run_dir) == result(options.run_dir)


# Processes that are killed. Each run: started, killed at a random moment, resumed to its end.


def command(digits, run_dir, *more, workers=1):
    training = [sys.executable, "train_cifar.py", "--data-dir", digits, "--run-dir", run_dir]
    training += ["--model", "cifar_dmrnet8", "--epochs", "3", "--checkpoint-steps", "5", *more]
    if workers == 1:
        return training
    launch = [
        sys.executable,
        "-m",
        "dmr_gluon.cli.main",
        "launch",
        "-n",
        str(workers),
        "-s",
        "1",
        "--",
    ]
    return [*launch, *training, "--kv-store", "dist_sync"]


def start(arguments):
    return subprocess.Popen(
        arguments,
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def killed_and_resumed(digits, tmp_path, kinds, workers=1, more=()):
    """Hashes of runs that were killed and resumed, and of one that was not; kills that hit."""
    random = np.random.RandomState(len(kinds))
    began = time.monotonic()
    assert start(command(digits, str(tmp_path / "whole"), *more, workers=workers)).wait() == 0
    took = time.monotonic() - began
    results, hits = [], 0
    for number, kind in enumerate(kinds):
        path = str(tmp_path / str(number))
        process = start(command(digits, path, *more, workers=workers))
        time.sleep(took * random.uniform(0.2, 0.8))
        process.send_signal(kind)
        _, errors = process.communicate(timeout=120)
        assert process.returncode in (0, -kind, 128 + kind), errors
        hits += process.returncode != 0
        resume = ["--resume"] if RunDirectory(path).exists() else []
        process = start(command(digits, path, *more, *resume, workers=workers))
        _, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors
        results.append(result(path))
    return results, result(str(tmp_path / "whole")), hits


TWENTY_AND_FIVE = [signal.SIGKILL] * 20 + [signal.SIGTERM] * 5
FIVE = [signal.SIGKILL] * 4 + [signal.SIGTERM]


@pytest.mark.parametrize(
    "kinds, workers, more",
    [
        # test_own_blocks.py and test_finetuning.py kill a run too.
        pytest.param([signal.SIGKILL], 1, ["--steps", "30"], id="one kill", marks=pytest.mark.slow),
        pytest.param(TWENTY_AND_FIVE, 1, [], id="25", marks=pytest.mark.slow),
        pytest.param(FIVE, 1, ["--cpus", "2"], id="two devices", marks=pytest.mark.slow),
        pytest.param(FIVE, 2, [], id="two workers", marks=pytest.mark.slow),
    ],
)
def test_killed_runs_end_as_if_nothing_had_happened(digits, tmp_path, kinds, workers, more):
    results, expected, hits = killed_and_resumed(digits, tmp_path, kinds, workers, more)
    equal = sum(found == expected for found in results)
    print(f"{equal} of {len(kinds)} equal, {hits} of them hit while running")
    for kind, found in zip(kinds, results):
        for part, value in found.items():
            if value != expected[part]:
                wrong = (
                    [name for name in value if value[name] != expected[part][name]]
                    if (part == "checkpoint")
                    else (value, expected[part])
                )
                print(f"{kind!r}: {part} differs: {wrong}")
    assert equal == len(kinds) and hits >= 0.6 * len(kinds)
