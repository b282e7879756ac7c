"""Callbacks of ``fit``: what they are told, that they change nothing, and that they stop a run."""

import os
import sys
from dataclasses import replace

import numpy as np
import pytest
from test_distributed import launched
from test_distributed import run as run_program
from test_resume import result

from dmr_gluon import RunOptions, export, fit, publish
from dmr_gluon.data.datasets import open_prepared
from dmr_gluon.errors import DMRError, Failed
from dmr_gluon.runs import log as runlog
from dmr_gluon.runs.directory import RunDirectory
from dmr_gluon.runs.reader import read_runs
from dmr_gluon.runs.trained_network import load_run
from dmr_gluon.runtime import mx
from dmr_gluon.training.evaluate import evaluate


@pytest.fixture(scope="module")
def recipe(short_recipe):
    """Two epochs of six steps, with averaged weights."""
    return replace(short_recipe, batch_size=16, epochs=2, ema_decay=0.9)


class Notes:
    """Notes what it is told; stops where it is told to."""

    def __init__(self, stop_at=None):
        self.steps, self.epochs, self.stop_at = [], [], stop_at

    def on_step(self, state):
        self.steps.append(state)
        return (state.epoch, state.step) == self.stop_at

    def on_epoch(self, state):
        self.epochs.append(state)
        return state.record.epoch == self.stop_at


@pytest.fixture(scope="module")
def whole(few, recipe, tmp_path_factory):
    """A run without callbacks."""
    return fit(recipe, RunOptions(few, tmp_path_factory.mktemp("whole") / "run", log_steps=1))


class TestWhatTheyAreTold:
    @pytest.fixture(scope="class")
    def noted(self, few, recipe, tmp_path_factory):
        """A run on two devices with callbacks, one of which predicts."""
        notes, errors = Notes(), []

        def predicts(state):
            prepared, devices = open_prepared(few), [mx.cpu(0), mx.cpu(1)]
            errors.append(evaluate(state.net, prepared, recipe, devices).error)
            state.net.collect_params()["head_fc_bias"].set_data(mx.nd.ones(10))  # of a copy
            return np.zeros(3)  # only True stops

        folder = tmp_path_factory.mktemp("noted") / "run"
        options = RunOptions(few, folder, cpus=2, log_steps=1)
        return fit(recipe, options, callbacks=[notes, predicts]), notes, errors

    def test_every_step(self, noted, recipe):
        run, notes, _ = noted
        expected = [(epoch, step) for epoch in (1, 2) for step in range(1, 7)]
        assert [(state.epoch, state.step) for state in notes.steps] == expected
        assert {state.images for state in notes.steps} == {16}
        for epoch in (1, 2):  # the log has means since the start of the epoch
            states = notes.steps[6 * epoch - 6 : 6 * epoch]
            for count in range(1, 7):
                point = run.points[epoch, count]
                for name in ("loss", "error"):
                    mean = np.mean([getattr(state, name) for state in states[:count]])
                    assert mean == pytest.approx(point[f"train_{name}"])
            assert states[-1].lr == run.epochs[epoch].lr

    def test_every_epoch(self, noted):
        run, notes, errors = noted
        assert [state.record for state in notes.epochs] == list(run.epochs.values())
        assert [state.run for state in notes.epochs] == [run.path] * 2
        assert errors == [record.test_error for record in run.epochs.values()]
        assert "callbacks" in run.epochs[2].seconds

    def test_they_change_nothing(self, noted, few, recipe, tmp_path):
        run, *_ = noted
        without = RunOptions(few, str(tmp_path / "without"), cpus=2)
        fit(recipe, without)
        assert result(run.path) == result(without.run_dir)


class TestStopping:
    @pytest.mark.parametrize("stop_at", [(1, 2), (1, 6), (2, 3), 1])
    def test_a_stopped_run_is_saved_and_resumed_to_the_same_bits(
        self, few, recipe, whole, tmp_path, capsys, stop_at
    ):
        notes = Notes(stop_at)
        options = RunOptions(few, str(tmp_path / "run"))
        run = fit(recipe, options, callbacks=[notes])
        done = {(1, 2): 4, (1, 6): 6, (2, 3): 11, 1: 6}[stop_at]  # two steps are under way
        assert run.state == "stopped" and len(notes.steps) == done
        last = runlog.read(RunDirectory(run).log)[-1]
        assert (last["event"], last["by"], last["step"]) == ("stop", "callback", done)
        assert "signal" not in last
        assert "stopped by a callback after epoch" in capsys.readouterr().out
        later = Notes()
        run = fit(recipe, replace(options, resume=True), callbacks=[later])
        assert run.state == "finished" and len(later.steps) == 12 - done
        assert result(run.path) == result(whole.path)

    def test_any_of_several_stops_and_all_are_called(self, few, recipe, tmp_path):
        notes = Notes()
        functions = [lambda state: np.float32(1) < 2, notes]  # a bool of NumPy's
        run = fit(recipe, RunOptions(few, tmp_path / "run"), callbacks=functions)
        assert run.state == "stopped" and len(notes.epochs) == 1

    def test_a_stop_in_the_last_epoch_is_its_end(self, few, recipe, tmp_path):
        run = fit(recipe, RunOptions(few, tmp_path / "run"), callbacks=[Notes(2)])
        assert run.state == "finished" and run.last == 2

    def test_the_first_worker_stops_all(self, few, tmp_path):
        program = """
import os, sys
from dataclasses import replace
from dmr_gluon import RunOptions, fit, recipes

class Stops:
    steps = 0
    def on_step(self, state):
        self.steps += 1
        assert state.images == 8  # of both workers
        return os.environ["DMR_WORKER"] == "1" or (state.epoch, state.step) == (1, 2)

stops = Stops()
recipe = replace(recipes.DIGITS, model="cifar_dmrnet8", batch_size=8, epochs=2)
run = fit(recipe, RunOptions(*sys.argv[1:], kv_store="dist_sync"), callbacks=[stops])
print("worker", os.environ["DMR_WORKER"], stops.steps, run and run.state)
os._exit(0)
"""
        path = str(tmp_path / "run")
        program = program.replace("os._exit", "sys.stdout.flush(); os._exit")
        done = run_program(launched(sys.executable, "-c", program, few, path))
        assert done.returncode == 0, done.stderr
        last = runlog.read(RunDirectory(path).log)[-1]
        assert (last["event"], last["by"]) == ("stop", "callback")
        # It is told of step 2 after step 4; the other learns it with step 5, two steps later.
        assert last["step"] == 7
        assert f"worker 0 {last['step']} stopped" in done.stdout, done.stdout
        assert "worker 1 0 None" in done.stdout


class TestFailures:
    def test_an_exception_is_named_and_the_run_can_be_resumed(self, few, recipe, whole, tmp_path):
        def broken(state):
            return state.record.test_eror

        options = RunOptions(few, str(tmp_path / "run"))
        words = "callback .*broken raised AttributeError.*test_eror"
        with pytest.raises(Failed, match=words) as it:
            fit(recipe, options, callbacks=[broken])
        assert isinstance(it.value.__cause__.__cause__, AttributeError)
        assert {"epoch-0001.npz"} < set(os.listdir(f"{options.run_dir}/checkpoints"))
        fit(recipe, replace(options, resume=True))
        assert result(options.run_dir) == result(whole.path)

    @pytest.mark.parametrize(
        "callbacks, words",
        [(print, "must be a list"), ([3], "neither a function"), ([Notes], "neither a function")],
    )
    def test_what_is_no_callback_is_refused_before_anything(
        self, few, recipe, tmp_path, callbacks, words
    ):
        with pytest.raises(DMRError, match=words):
            fit(recipe, RunOptions(few, str(tmp_path / "run")), callbacks=callbacks)
        assert not (tmp_path / "run").exists()


class TestTheRun:
    def test_it_has_the_history(self, whole):
        logged = runlog.epochs(RunDirectory(whole.path).log)
        assert list(whole.epochs.values()) == logged
        assert whole.best == min(logged, key=lambda record: record.test_error)
        assert whole.series("test_error") == ([1, 2], [record.test_error for record in logged])
        assert repr(whole) == (
            f"<Run {whole.path}: finished after epoch 2, test error {logged[1].test_error:.2f}%>"
        )

    @pytest.mark.slow  # most other tests pass a run as a path
    def test_it_is_taken_for_its_path(self, whole, few, recipe, tmp_path):
        assert os.fspath(whole) == str(whole) == whole.path
        assert load_run(whole).spec.name == recipe.model
        assert export(whole, tmp_path / "bundle", data_dir=few)["network"]
        entry, new = publish(whole, tmp_path / "store")
        assert new and entry["network"] == recipe.model
        assert read_runs([whole]) == [whole]
        assert fit(recipe, RunOptions(few, whole, resume=True)) == whole
