"""Processes that read: the same bits as threads, and nothing left behind."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
from conftest import REPOSITORY

from dmr_gluon.data import reading_processes
from dmr_gluon.data.datasets import open_prepared
from dmr_gluon.data.loader import evaluation_batches, training_batches
from dmr_gluon.data.reader import Reading
from dmr_gluon.errors import DMRError, Failed
from dmr_gluon.paper.recipes import IMAGENET, RECIPES
from dmr_gluon.runs import log as runlog
from dmr_gluon.training.options import RunOptions

TWO = Reading(processes=2)


def ours():
    """Return the ids of this process's readers: servers, and what they have forked."""
    return [child for server in children(os.getpid()) for child in [server, *children(server)]]


def children(process):
    done = subprocess.run(["ps", "-o", "pid=", "--ppid", str(process)], stdout=subprocess.PIPE)
    return [int(word) for word in done.stdout.split() if alive(int(word))]


def alive(process):
    try:
        with open(f"/proc/{process}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.fixture(autouse=True)
def nothing_left():
    yield
    while reading_processes._idle:
        reading_processes._idle.pop().kill()


@pytest.fixture(params=["pad and crop", "scale and crop"])
def recipe(request, short_recipe):
    if request.param == "pad and crop":
        return replace(short_recipe, batch_size=50)
    return replace(
        IMAGENET, batch_size=50, image_size=24, train_short_side=(28, 40), eval_short_side=28
    )


class TestBits:
    @pytest.mark.parametrize("processes", [1, 3])
    def test_an_epoch_is_that_of_threads(self, digits, recipe, processes):
        prepared, reading = open_prepared(digits), Reading(processes=processes)
        for epoch, start in ((1, 0), (2, 25)):  # the second by the same processes
            expected = training_batches(prepared, recipe, 3, epoch, start)
            found = training_batches(prepared, recipe, 3, epoch, start, reading=reading)
            count = 0
            for ours_, theirs in zip(found, expected):
                np.testing.assert_array_equal(ours_.data, theirs.data)
                np.testing.assert_array_equal(ours_.label, theirs.label)
                count += len(theirs.label)
            assert next(found, None) is None and next(expected, None) is None
            assert count == prepared.split("train").count - 50 * start
        assert len(reading_processes._idle) == 1

    def test_an_evaluation_too(self, digits, recipe):
        prepared = open_prepared(digits)
        found = [b.data.copy() for b in evaluation_batches(prepared, recipe, reading=TWO)]
        expected = [b.data for b in evaluation_batches(prepared, recipe)]
        np.testing.assert_array_equal(np.concatenate(found), np.concatenate(expected))

    def test_two_readers_at_the_same_time(self, digits, recipe):
        prepared = open_prepared(digits)
        one, other = (training_batches(prepared, recipe, s, 1, reading=TWO) for s in (1, 2))
        first, second = (next(training_batches(prepared, recipe, s, 1)) for s in (1, 2))
        for found, expected in ((one, first), (other, second)):
            np.testing.assert_array_equal(next(found).data, expected.data)
        one.close(), other.close()

    def test_tasks_fit_into_a_pipe(self, digits, recipe):
        """A batch of more images than a pipe holds tasks."""
        prepared, recipe = open_prepared(digits), replace(recipe, batch_size=1437)
        (found,) = (b.data.copy() for b in training_batches(prepared, recipe, 1, 1, reading=TWO))
        (expected,) = training_batches(prepared, recipe, 1, 1)
        np.testing.assert_array_equal(found, expected.data)


class TestTrouble:
    def test_a_damaged_record_is_named(self, digits, recipe, tmp_path):
        prepared = open_prepared(digits)
        split = prepared.split("train")
        damaged = tmp_path / "train.rec"
        with open(split.records, "rb") as file:
            content = bytearray(file.read())
        content[len(content) // 2 : len(content) // 2 + 4000] = bytes(4000)
        damaged.write_bytes(content)
        split = replace(split, records=str(damaged))
        prepared = replace(prepared, splits={**prepared.splits, "train": split})
        said = []
        for reading in (Reading(), TWO):
            with pytest.raises(DMRError, match="is damaged: record [0-9]+ cannot be") as caught:
                for _ in training_batches(
                    prepared, replace(recipe, batch_size=1437), 1, 1, reading=reading
                ):
                    pass
            said.append(str(caught.value).split(": record")[0])
        assert said[0] == said[1] and ours() == []

    def test_a_missing_file_is_said(self, digits, recipe, tmp_path):
        prepared = open_prepared(digits)
        split = replace(prepared.split("train"), records=str(tmp_path / "gone.rec"))
        prepared = replace(prepared, splits={**prepared.splits, "train": split})
        with pytest.raises(DMRError, match="gone.rec"):
            next(training_batches(prepared, recipe, 1, 1, reading=TWO))

    @pytest.mark.parametrize("which", ["server", "reader"])
    def test_one_that_is_killed_ends_the_epoch(self, digits, recipe, which):
        prepared = open_prepared(digits)
        batches = training_batches(prepared, replace(recipe, batch_size=10), 1, 1, reading=TWO)
        next(batches)
        (server,) = children(os.getpid())
        os.kill(server if which == "server" else children(server)[0], signal.SIGKILL)
        with pytest.raises(Failed, match="ended by SIGKILL|was ended; continue with --resume"):
            for _ in batches:
                time.sleep(0.01)
        time.sleep(0.2)
        assert ours() == []

    def test_an_epoch_that_is_left_early_ends_its_processes(self, digits, recipe):
        batches = training_batches(open_prepared(digits), recipe, 1, 1, reading=TWO)
        next(batches)
        assert len(ours()) == 3
        batches.close()
        assert ours() == []

    def test_after_its_last_batch_an_epoch_leaves_its_server(self, digits, recipe):
        """As training leaves it: it takes as many batches as there are."""
        prepared = open_prepared(digits)
        batches = training_batches(prepared, recipe, 1, 1, reading=TWO)
        for _ in range(-(-prepared.split("train").count // recipe.batch_size)):
            last = next(batches)
        expected = last.data.copy()
        batches.close()
        (server,) = ours()
        (idle,) = reading_processes._idle
        assert idle._process.pid == server and (last.data == expected).all()
        for found, again in zip(
            training_batches(prepared, recipe, 1, 2, reading=TWO),
            training_batches(prepared, recipe, 1, 2),
        ):
            np.testing.assert_array_equal(found.data, again.data)

    def test_flags_exclude_each_other(self):
        with pytest.raises(DMRError, match="--reading-threads and --reading-processes exclude"):
            RunOptions("data", reading_threads=2, reading_processes=2)


class TestRule:
    @pytest.mark.parametrize(
        "cores, gpus, photographs, expected",
        [(2, "0", True, 0), (8, "0", True, 8), (8, "0", False, 0), (8, None, True, 0)],
    )
    def test_processes_read_photographs_for_gpus(
        self, monkeypatch, cores, gpus, photographs, expected, short_recipe
    ):
        from dmr_gluon.training import options

        monkeypatch.setattr(options, "usable_cores", lambda: cores)
        recipe = IMAGENET if photographs else short_recipe
        assert RunOptions("data", gpus=gpus).reading(recipe).processes == expected
        if photographs:  # random resized crops too
            crops = RECIPES["finetune"]["imagenet"]
            assert RunOptions("data", gpus=gpus).reading(crops).processes == expected
        assert RunOptions("data", gpus=gpus, reading_threads=3).reading(recipe) == (3, 0)
        assert RunOptions("data", gpus=gpus, reading_processes=0).reading(recipe).processes == 0


@pytest.mark.slow
@pytest.mark.parametrize("times", [20])
def test_killed_at_random_nothing_is_left_and_the_bits_are_the_same(digits, tmp_path, times):
    """SIGKILL of the run or of one of its readers."""
    random = np.random.RandomState(times)
    flags = ["--data-dir", digits, "--model", "cifar_dmrnet8", "--batch-size", "64"]
    flags += ["--steps", "40", "--checkpoint-steps", "5"]

    def start(run, *more):
        return subprocess.Popen(
            [sys.executable, str(REPOSITORY / "train_cifar.py"), *more, "--run-dir", str(run)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    whole = start(tmp_path / "whole", *flags)
    assert whole.wait(300) == 0, whole.stderr.read()
    run, readers = tmp_path / "run", "--reading-processes=2"
    before = set(os.listdir("/dev/shm"))
    first = start(run, *flags, readers)
    kills, process = 0, first
    while kills < times:
        while not any(run.glob("checkpoints/*.npz")) and process.poll() is None:
            time.sleep(0.02)
        time.sleep(random.uniform(0, 3))
        servers = children(process.pid)
        group = [process.pid, *servers, *(pid for one in servers for pid in children(one))]
        victim = group[random.randint(len(group))] if kills % 2 else process.pid
        if process.poll() is None:
            os.kill(victim, signal.SIGKILL)
            kills += 1
            if victim == process.pid:
                process.wait(60)
            deadline = time.monotonic() + 30
            while any(map(alive, group[1:])) and time.monotonic() < deadline:
                if victim != process.pid and process.poll() is None:
                    time.sleep(0.05)  # it reports the reader's end by itself
                    continue
                time.sleep(0.05)
            _, said = process.communicate(timeout=120)
            assert not any(map(alive, group)), group
            if victim != process.pid and process.returncode not in (0, None):
                lines = [line for line in said.splitlines() if line.startswith("error: ")]
                assert process.returncode == 1 and len(lines) == 1, said
        else:
            process.communicate()
        if (run / "config.json").exists():
            process = start(run, "--resume", readers)
        else:
            process = start(run, *flags, readers)
    _, said = process.communicate(timeout=300)
    assert process.returncode == 0, said
    assert set(os.listdir("/dev/shm")) <= before

    def hashes(path):
        events = runlog.read(path / "log.jsonl")
        return [one["parameters_sha256"] for one in events if one["event"] == "epoch"]

    assert hashes(run) == hashes(tmp_path / "whole") != []
