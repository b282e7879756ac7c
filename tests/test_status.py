"""dmr status: how runs stand, from folders as trainings leave them."""

import errno
import fcntl
import json
import os
from dataclasses import asdict

import pytest

from dmr_gluon.cli import main as cli
from dmr_gluon.errors import DMRError
from dmr_gluon.models.names import get_spec
from dmr_gluon.paper.recipes import CIFAR
from dmr_gluon.runs import log as runlog
from dmr_gluon.runs.directory import find_runs
from dmr_gluon.runs.status import read_status

PROGRESS = {
    "epoch": 3, "epochs": 4, "step": 391, "steps": 782, "images_per_second": 512.3,
    "train_loss": 0.4321, "seconds_left": 86123, "time": "2099-01-02T03:04:05+00:00", "pid": 123,
    "host": "here",
}  # fmt: skip


def fake_run(
    path, errors=(), epochs=4, end=False, dataset="cifar10", images=50_000, seed=1, **recipe
):
    """A run as a training leaves it, with these test errors after its epochs."""
    os.makedirs(path)
    config = {
        "format": 1,
        "recipe": {**asdict(CIFAR), "model": "cifar_dmrnet14", "epochs": epochs, **recipe},
        "network": asdict(get_spec("cifar_dmrnet14")),
        "dataset": {
            "name": dataset, "directory": dataset, "train_images": images, "test_images": 10_000,
        },
        "seed": seed,
    }  # fmt: skip
    with open(os.path.join(path, "config.json"), "w") as file:
        json.dump(config, file)
    log = os.path.join(path, "log.jsonl")
    runlog.append(log, "start", **config)
    for epoch, error in enumerate(errors, start=1):
        runlog.append(
            log, "epoch", epoch=epoch, step=epoch * 782, lr=0.1, images=50_000,
            train_loss=1.0, train_error=50.0, test_loss=1.0, test_error=error,
            test_top5_error=error / 5, images_per_second=400.0 + epoch,
            images_per_second_overall=380.0, seconds={"train": 80, "evaluate": 15, "save": 5},
        )  # fmt: skip
    if end:
        runlog.append(log, "end", epochs=epochs, seconds=1.0, test_error=errors[-1])
    return str(path)


@pytest.fixture
def locked():
    """Hold a run's lock, as the process that trains it does."""
    files = []

    def lock(path):
        file = open(os.path.join(path, "lock"), "w")  # noqa: SIM115
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        files.append(file)
        return file

    yield lock
    for file in files:
        file.close()


class TestStates:
    def test_a_run_that_is_finished(self, tmp_path):
        status = read_status(fake_run(tmp_path / "run", [30.0, 9.0, 8.0, 8.5], end=True))
        assert (status.state, status.epoch, status.epochs) == ("finished", 4, 4)
        assert (status.test_error, status.best_error, status.seconds_left) == (8.5, 8.0, 0)
        assert status.images_per_second == 404.0

    def test_a_run_that_was_stopped_says_what_it_would_still_take(self, tmp_path):
        status = read_status(fake_run(tmp_path / "run", [30.0, 9.0], epochs=12))
        assert (status.state, status.epoch, status.seconds_left) == ("stopped", 2, 1000)
        assert status.idle_seconds() < 100

    def test_a_run_that_is_trained_is_told_by_its_lock_alone(self, tmp_path, locked):
        path = fake_run(tmp_path / "run", [30.0, 9.0], epochs=12)
        (tmp_path / "run" / "progress.json").write_text(json.dumps(PROGRESS))
        stopped = read_status(path)
        assert (stopped.state, stopped.epoch, stopped.seconds_left) == ("stopped", 2, 1000)
        file = locked(path)
        running = read_status(path)
        assert (running.state, running.epoch, running.seconds_left) == ("running", 3, 86123)
        assert running.images_per_second == 512.3 and running.test_error == 9.0
        assert running.last_activity == "2099-01-02T03:04:05+00:00"
        file.close()
        assert read_status(path).state == "stopped"

    def test_a_first_epoch_has_a_share_and_a_loss_before_it_has_an_error(self, tmp_path, locked):
        path = fake_run(tmp_path / "run")
        assert (read_status(path).train_loss, read_status(path).epoch_share) == (None, None)
        (tmp_path / "run" / "progress.json").write_text(json.dumps({**PROGRESS, "epoch": 1}))
        locked(path)
        running = read_status(path)
        assert (running.epoch, running.epoch_share, running.train_loss) == (1, 0.5, 0.4321)
        assert (running.seconds_left, running.images_per_second) == (86123, 512.3)

    def test_looking_never_takes_a_lock_that_stays_or_makes_a_file(self, tmp_path, locked):
        path = fake_run(tmp_path / "run", [30.0])
        read_status(path)
        assert sorted(os.listdir(path)) == ["config.json", "log.jsonl"]
        (tmp_path / "run" / "lock").touch()
        assert read_status(path).state == "stopped"
        locked(path)  # would raise if it were still held

    def test_without_a_lock_to_ask_the_log_alone_decides(self, tmp_path, monkeypatch):
        """On a file system without locks."""

        def refuse(*_):
            raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

        stopped = fake_run(tmp_path / "stopped", [30.0])
        open(os.path.join(stopped, "lock"), "w").close()
        monkeypatch.setattr(fcntl, "flock", refuse)
        assert read_status(stopped).state == "stopped"

    def test_without_a_heartbeat_the_log_is_used(self, tmp_path, locked):
        path = fake_run(tmp_path / "run", [30.0, 9.0], epochs=12)
        locked(path)
        status = read_status(path)
        assert (status.state, status.epoch, status.seconds_left) == ("running", 2, 1000)

    def test_an_end_without_an_epoch_is_none(self, tmp_path):
        path = fake_run(tmp_path / "run")
        runlog.append(os.path.join(path, "log.jsonl"), "end", epochs=4)
        assert read_status(path).state == "stopped"

    def test_a_run_that_has_just_begun(self, tmp_path):
        status = read_status(fake_run(tmp_path / "run"))
        assert (status.state, status.epoch, status.test_error) == ("stopped", 0, None)

    def test_a_failure_is_told_until_the_run_goes_on(self, tmp_path):
        path = fake_run(tmp_path / "run", [30.0])
        runlog.append(os.path.join(path, "log.jsonl"), "failed", reason="exit status 2")
        assert read_status(path).state == "failed"
        assert read_status(path).reason == "exit status 2"
        runlog.append(os.path.join(path, "log.jsonl"), "resume", epoch=1)
        assert read_status(path).state == "stopped"


@pytest.mark.parametrize(
    "name, content, words",
    [
        ("log.jsonl", "nonsense\n{}\n", "line 1 of"),
        ("log.jsonl", "3\n", "line 1 of"),
        ("log.jsonl", '{"event": "epoch", "time": "now"}\n', "line 1 of"),
        ("progress.json", '{"epoch": ', "progress.json cannot be read"),
        ("progress.json", '{"epoch": 3}', "progress.json cannot be read"),
        ("progress.json", "[3]", "progress.json cannot be read"),
    ],
)
def test_a_damaged_run_is_listed_with_the_reason(capsys, tmp_path, locked, name, content, words):
    path = fake_run(tmp_path / "bad", [30.0])
    fake_run(tmp_path / "good", [30.0])
    locked(path)
    (tmp_path / "bad" / name).write_text(content)
    cli._main(["status", str(tmp_path)])
    bad, good = capsys.readouterr().out.splitlines()[2:]
    assert " unreadable " in bad and words in bad, bad
    assert " stopped " in good


def test_a_line_of_the_log_that_is_being_written_is_no_damage(tmp_path):
    path = fake_run(tmp_path / "run", [30.0])
    with open(os.path.join(path, "log.jsonl"), "a") as file:
        file.write('{"event": "epo')
    assert read_status(path).epoch == 1


class TestFinding:
    def test_runs_at_any_depth_in_the_order_of_their_numbers(self, tmp_path):
        for name in ("b/c/seed10", "b/c/seed2", "a"):
            fake_run(tmp_path / name)
        (tmp_path / "b" / "c" / "seed2" / "checkpoints").mkdir()
        (tmp_path / "b" / "c" / "seed2" / "checkpoints" / "config.json").touch()
        (tmp_path / "empty").mkdir()
        found = [os.path.relpath(path, tmp_path) for path in find_runs([tmp_path])]
        assert found == ["a", "b/c/seed2", "b/c/seed10"]
        assert len(find_runs([tmp_path / "a", tmp_path])) == 3

    def test_a_folder_without_runs_is_refused(self, tmp_path):
        with pytest.raises(DMRError, match="no run in"):
            find_runs([tmp_path])
        with pytest.raises(DMRError, match="no run in"):
            find_runs([tmp_path / "none"])


def test_the_table_and_json(capsys, tmp_path, locked):
    fake_run(tmp_path / "done", [9.0, 8.0, 7.0, 7.5], end=True)
    locked(fake_run(tmp_path / "now", [30.0]))
    (tmp_path / "now" / "progress.json").write_text(json.dumps(PROGRESS))
    cli._main(["status", str(tmp_path)])
    header, _, done, now = capsys.readouterr().out.splitlines()
    assert header.split()[:7] == ["run", "state", "epoch", "loss", "error", "best", "images/s"]
    assert done.split()[1:8] == ["finished", "4/4", "1.000", "7.50", "7.00", "404", "-"]
    assert now.split()[1:8] == ["running", "3/4", "(50%)", "0.432", "30.00", "30.00", "512"]
    assert now.split()[8] == "23:55:23"
    cli._main(["status", "--json", str(tmp_path)])
    done, now = json.loads(capsys.readouterr().out)
    assert done["test_error"] == 7.5 and now["seconds_left"] == 86123


def test_a_name_that_is_not_utf8_is_shown_all_the_same(tmp_path, command):
    fake_run(os.path.join(str(tmp_path), "caf\udce9"), [9.0], end=True)
    for arguments in (("status", tmp_path), ("compare", tmp_path)):
        done = command("-m", "dmr_gluon.cli.main", *arguments, PYTHONIOENCODING="utf-8:strict")
        assert done.returncode == 0 and "caf\\udce9" in done.stdout, done.stderr


def test_runs_behind_links_are_found_and_a_circle_ends(tmp_path):
    fake_run(tmp_path / "disk" / "a", [9.0], end=True)
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "linked").symlink_to(tmp_path / "disk")
    (tmp_path / "runs" / "circle").symlink_to(tmp_path / "runs")
    assert find_runs([tmp_path / "runs"]) == [str(tmp_path / "runs" / "linked" / "a")]


def test_it_needs_no_mxnet(command, tmp_path):
    fake_run(tmp_path / "run", [30.0])
    done = command(
        "-c",
        "import sys; from dmr_gluon.cli import main as cli; cli._main(['status', sys.argv[1]]); "
        "print({'mxnet', 'numpy'} & set(sys.modules))",
        tmp_path,
    )
    assert done.stdout.endswith("set()\n"), done
