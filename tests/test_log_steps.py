"""Running means within an epoch: what they are, and that a stop changes nothing of them."""

import json
import os
from dataclasses import replace

import pytest

from dmr_gluon.errors import DMRError
from dmr_gluon.runs import log as runlog
from dmr_gluon.runs.reader import read_run
from dmr_gluon.training.fit import fit
from dmr_gluon.training.options import RunOptions


def steps_of(run_dir):
    events = runlog.read(os.path.join(run_dir, "log.jsonl"))
    return [
        {key: value for key, value in event.items() if key not in ("event", "time")}
        for event in events
        if event["event"] == "steps"
    ]


@pytest.fixture(scope="module")
def recipe(short_recipe):
    """Two epochs: 23 steps, 7 steps."""
    return replace(short_recipe, steps=30)


@pytest.fixture(scope="module")
def whole(recipe, digits, tmp_path_factory):
    """A run that nothing has stopped."""
    folder = str(tmp_path_factory.mktemp("whole") / "run")
    fit(recipe, RunOptions(data_dir=digits, run_dir=folder, log_steps=7))
    return folder


def test_means_since_the_beginning_of_the_epoch(whole):
    found = steps_of(whole)
    places = [(row["epoch"], row["step"], row["images"]) for row in found]
    assert places == [(1, 7, 448), (1, 14, 896), (1, 21, 1344), (2, 7, 448)]
    # The last epoch has seven steps: their mean is the epoch's own.
    (_, last) = runlog.epochs(os.path.join(whole, "log.jsonl"))
    assert {key: found[-1][key] for key in ("train_loss", "train_error", "images")} == {
        key: getattr(last, key) for key in ("train_loss", "train_error", "images")
    }
    run = read_run(whole)
    assert sorted(run.points) == [(1, 7), (1, 14), (1, 21), (2, 7)]
    assert found[1].items() <= run.points[1, 14].items()


class Killed(BaseException):
    """Stands for SIGKILL."""


@pytest.mark.parametrize("at", [3, *(pytest.param(at, marks=pytest.mark.slow) for at in (2, 4))])
def test_a_stop_anywhere_changes_nothing(whole, recipe, digits, tmp_path, monkeypatch, at):
    """Killed after a line that lies behind the last checkpoint: the line comes again, once."""
    folder, written = str(tmp_path / "run"), []
    append = runlog.append

    def killing(path, event, **values):
        append(path, event, **values)
        written.append(event)
        if written.count("steps") == at and event == "steps":
            raise Killed

    options = RunOptions(data_dir=digits, run_dir=folder, log_steps=7, checkpoint_steps=5)
    with monkeypatch.context() as patch:
        patch.setattr(runlog, "append", killing)
        with pytest.raises(Killed):
            fit(recipe, options)
    assert len(steps_of(folder)) == at
    fit(recipe, replace(options, resume=True))
    assert steps_of(folder) == steps_of(whole)
    read_run(folder)  # every line is whole


def test_a_run_that_is_resumed_logs_as_before(whole, recipe, digits, tmp_path, monkeypatch):
    """Without the flag; and a value that does not fit is refused."""
    from dmr_gluon.cli.training_flags import parse_training_flags
    from dmr_gluon.paper.recipes import CIFAR

    def parsed(*arguments):
        return parse_training_flags("", CIFAR, "digits", arguments=list(arguments))[1]

    assert parsed("--run-dir", whole, "--resume").log_steps == 7
    assert parsed("--run-dir", whole, "--resume", "--log-steps", "9").log_steps == 9
    assert parsed("--data-dir", digits).log_steps is None
    with pytest.raises(DMRError, match="log_steps must be at least 1, not 0"):
        parsed("--data-dir", digits, "--log-steps", "0")
    with pytest.raises(DMRError, match="leave out --log-steps"):
        parsed("--data-dir", digits, "--log-steps", "9", "--estimate")


def test_two_contexts_have_the_means_of_all_images(recipe, digits, tmp_path):
    folder = str(tmp_path / "run")
    fit(replace(recipe, steps=4), RunOptions(data_dir=digits, run_dir=folder, log_steps=4, cpus=2))
    (row,) = steps_of(folder)
    (epoch,) = runlog.epochs(os.path.join(folder, "log.jsonl"))
    assert row["images"] == epoch.images == 256
    assert (row["train_loss"], row["train_error"]) == (epoch.train_loss, epoch.train_error)


def test_what_lies_behind_a_checkpoint_is_forgotten(tmp_path):
    """Also where the training goes back by itself."""
    log = str(tmp_path / "log.jsonl")
    means = {"images": 1, "train_loss": 1.0, "train_error": 1.0}
    for epoch in (1, 2):
        for step in (5, 10):
            runlog.append(log, "steps", epoch=epoch, step=step, **means)
        runlog.append(log, "epoch", epoch=epoch, test_loss=1.0, test_error=1.0, seconds={}, **means)
    runlog.forget_after(log, 1, 5)
    kept = [(e["event"], e["epoch"], e.get("step")) for e in runlog.read(log)]
    assert kept == [("steps", 1, 5), ("steps", 1, 10), ("epoch", 1, None), ("steps", 2, 5)]
    runlog.forget_after(log, 0)
    assert runlog.read(log) == []


@pytest.mark.parametrize("field", ["epoch", "step", "images", "train_loss", "train_error"])
def test_a_line_without_its_numbers_is_damage(tmp_path, field):
    values = {"epoch": 1, "step": 5, "images": 1, "train_loss": 1.0, "train_error": 1.0}
    values[field] = None
    log = tmp_path / "log.jsonl"
    log.write_text(json.dumps({"event": "steps", "time": "2026-01-01", **values}) + "\n")
    with pytest.raises(DMRError, match="line 1 of .* is damaged"):
        runlog.read(str(log))
