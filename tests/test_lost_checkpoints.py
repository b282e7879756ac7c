"""A run whose checkpoints are gone or of no use: nothing that it still has is touched."""

import json
import os
import shutil
import signal
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import test_experiments
from test_experiments import run_of, train

from dmr_gluon.cli import sweep as series
from dmr_gluon.errors import DMRError, Stopped
from dmr_gluon.paper.recipes import OF_DATASET
from dmr_gluon.runs import log as runlog
from dmr_gluon.training.fit import fit
from dmr_gluon.training.options import RunOptions
from dmr_gluon.training.step import TrainingStep


def gone(folder):
    for path in folder.iterdir():
        path.unlink()


def folder_gone(folder):
    shutil.rmtree(folder)


def link_to_nothing(folder):
    shutil.rmtree(folder)
    folder.symlink_to("not-mounted")


def only_parts(folder):
    for path in folder.iterdir():
        path.rename(f"{path}.part")


def renamed(folder):
    for path in folder.iterdir():
        path.rename(path.with_name(f"old-{path.name}"))


def damaged(folder):
    for path in folder.iterdir():
        path.write_bytes(path.read_bytes()[:-1000])


def of_another_seed(folder):
    for path in folder.iterdir():
        with np.load(path) as archive:
            arrays = {name: archive[name] for name in archive.files}
        state = json.loads(arrays.pop("state").tobytes())
        state["config"]["seed"] += 1
        state = np.frombuffer(json.dumps(state).encode(), np.uint8)
        np.savez(path, state=state, **arrays)


def unreadable(folder):
    for path in folder.iterdir():
        path.unlink()
        path.mkdir()  # also for root, who may read every file


def all_but_the_first(folder):
    first, *others = sorted(folder.iterdir())
    for path in others:
        path.unlink()


#: A way, and words of its refusal.
WAYS = {
    gone: "there is none",
    folder_gone: "there is none",
    link_to_nothing: "there is none",
    only_parts: "there is none",
    renamed: "there is none",
    damaged: "is damaged",
    of_another_seed: "is of another training, with seed 2, not 1",
    unreadable: "Is a directory",
    all_but_the_first: "the newest that is whole is of epoch 0",
}
ways = pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)


class Run:
    """A run that can be made again, and what of it must stay."""

    def __init__(self, out, data_root):
        self.out, self.data_root = str(out), data_root
        self.path = run_of(out, 1)
        self.checkpoints = Path(self.path, "checkpoints")

    def copy(self, out):
        other = Run(out, self.data_root)
        shutil.copytree(self.path, other.path)
        return other

    def kept(self):
        """Content of log, configuration and models."""
        names = sorted(n for n in os.listdir(self.path) if n.endswith(("json", "jsonl", "params")))
        assert any(name.endswith(".params") for name in names)
        return {name: Path(self.path, name).read_bytes() for name in names}

    def train(self):
        """``dmr train``, in this process; returns its exit status."""
        return train(self.out, self.data_root, "--epochs", str(EPOCHS), "--batch-size", str(BATCH))

    def resume(self, **options):
        fit(RECIPE, RunOptions(f"{self.data_root}/cifar10", self.path, **options))


tiny_cifar10 = test_experiments.data  # the fixture
#: Three steps of 8, 8 and 4 images are an epoch.
EPOCHS, BATCH, STEPS = 3, 8, 3
DIST = ("--kv-store", "dist_sync")
RECIPE = replace(OF_DATASET["cifar10"], model="cifar_dmrnet14", epochs=EPOCHS, batch_size=BATCH)


@pytest.fixture(scope="module")
def stopped(tiny_cifar10, tmp_path_factory):
    """A run that was stopped within its third and last epoch."""
    run = Run(tmp_path_factory.mktemp("stopped"), tiny_cifar10)
    with pytest.MonkeyPatch.context() as patch:
        step, done = TrainingStep.update, []

        def call(self, *arguments):
            done.append(step(self, *arguments))
            if len(done) == (EPOCHS - 1) * STEPS + 1:
                signal.raise_signal(signal.SIGTERM)
            return done[-1]

        patch.setattr(TrainingStep, "update", call)
        with pytest.raises(Stopped):
            run.resume(keep=9)
    assert [event.epoch for event in runlog.epochs(f"{run.path}/log.jsonl")] == [1, 2]
    return run


@pytest.fixture(scope="module")
def finished(stopped, tmp_path_factory):
    run = stopped.copy(tmp_path_factory.mktemp("finished"))
    run.resume(resume=True, keep=9)
    return run


@ways
@pytest.mark.parametrize("state", ["stopped", "finished"])
def test_resume_refuses(way, state, request, tmp_path):
    run = request.getfixturevalue(state).copy(tmp_path)
    way(run.checkpoints)
    before = run.kept()
    with pytest.raises(DMRError) as refusal:
        run.resume(resume=True)
    text = str(refusal.value)
    assert refusal.value.status == 2 and "\n" not in text
    assert WAYS[way] in text and "'dmr eval' and 'dmr export' can use its models" in text
    assert run.kept() == before


@ways
def test_dmr_train_leaves_the_run_as_it_is(way, stopped, finished, tmp_path, monkeypatch, capsys):
    def here(self, job, resume):
        monkeypatch.setattr("sys.argv", command(job, [*resume, *self.flags])[2:])
        try:
            series.main()
        except DMRError as error:
            return error.status
        return 0

    command = series.command
    monkeypatch.setattr(series.Series, "_wait", here)
    for run, status in ((stopped, 1), (finished, 0)):
        run = run.copy(tmp_path / run.out.strip("/"))
        way(run.checkpoints)
        before = run.kept()
        assert run.train() == status
        assert run.kept() == before
    assert "exit status 2" in capsys.readouterr().err


@pytest.mark.parametrize(
    "way",
    [gone, *(pytest.param(w, marks=pytest.mark.slow) for w in WAYS if w is not gone)],
    ids=lambda way: way.__name__,
)
def test_dmr_launch_does_not_start_again(way, stopped, tmp_path, command):
    run = stopped.copy(tmp_path)
    way(run.checkpoints)
    before = run.kept()
    done = command(
        *("-m", "dmr_gluon.cli.main", "launch", "-n", "1", "--max-restarts", "3", "--"),
        *(sys.executable, "train_cifar.py", "--run-dir", run.path, "--resume", *DIST),
    )
    assert done.returncode == 2 and WAYS[way] in done.stderr, done.stderr
    assert "starting again" not in done.stdout + done.stderr
    assert run.kept() == before


def test_a_run_without_an_epoch_begins_again(stopped, tmp_path):
    """Nothing is lost by it."""
    run = stopped.copy(tmp_path)
    folder_gone(run.checkpoints)
    for path in Path(run.path).glob("model-*.params"):
        path.unlink()
    runlog.forget_after(f"{run.path}/log.jsonl", 0)
    run.resume(resume=True)
    assert len(runlog.epochs(f"{run.path}/log.jsonl")) == EPOCHS
