"""dmr train: the trainings behind the paper's tables, and a series of them."""

import errno
import fcntl
import json
import os
import pty
import signal
import subprocess
import sys
import time

import pytest
from call_official import call_official
from conftest import REPOSITORY
from test_official import cifar, tar_of
from test_status import fake_run

from dmr_gluon.cli import main as cli
from dmr_gluon.cli import sweep as series
from dmr_gluon.errors import DMRError
from dmr_gluon.models.names import get_spec
from dmr_gluon.paper import numbers as paper
from dmr_gluon.paper.experiments import folder_of, select
from dmr_gluon.runs import directory as runs
from dmr_gluon.runs import log as runlog
from dmr_gluon.runs.directory import RunDirectory
from dmr_gluon.runs.status import read_status
from dmr_gluon.system.signals import ending


def names(*arguments, **filters):
    return [cell.network for cell in select(*arguments, **filters)]


class TestCells:
    def test_table_2_is_whole(self):
        found = {}
        for cell in select("table 2"):
            family = get_spec(cell.network).family
            found.setdefault((cell.dataset, family), []).append((cell.error, cell.deviation))
            layers = int(cell.row[2:])
            depth = 2 * layers + 2 if family == "resnet" else layers + 2
            assert (cell.network, cell.column) == (f"cifar_{family}{depth}", family)
        assert {key: tuple(cells) for key, cells in found.items()} == paper.TABLE2_ERRORS

    def test_table_3_has_our_rows(self):
        found = {(c.row, c.network, c.dataset): c.error for c in select("table 3")}
        assert len(found) == 9
        assert found["depth=56", "cifar_dmrnet56", "svhn"] == "1.68"
        assert found["depth=32", "cifar_dmrnet32_w4", "cifar100"] == "19.25"
        assert found["depth=50", "cifar_dmrnet50_w4", "cifar10"] == "3.57"

    def test_table_4_has_the_authors_own_trainings(self):
        assert [(c.network, c.published, c.recipe.epochs) for c in select("table 4")] == [
            ("resnet101", "26.41 (top-5 8.50)", 100),
            ("dmrnet44", "23.66 (top-5 6.81)", 100),
        ]

    def test_table_5(self):
        found = {(c.row, c.network, c.dataset): c.error for c in select("table 5")}
        assert len(found) == 16
        assert found["L=48 shared", "cifar_dmrnet50", "cifar100"] == "24.73"
        assert found["L=96 unshared", "cifar_dmrnet98_identity_unshared", "cifar100"] == "22.23"
        assert found["L=96 unshared", "cifar_dmrnet98_unshared", "cifar10"] == "4.37"

    def test_figure_6_has_its_networks_and_any_length_that_fits(self):
        known = [item.name for item in paper.NETWORKS if "Figure 6" in item.source]
        assert names("figure 6") == known
        assert names("figure 6", rows=["L=6"]) == [
            "cifar_plain14", "cifar_resnet14_blocks3", "cifar_resnet14",
        ]  # fmt: skip
        with pytest.raises(DMRError, match="depth 22 is not 6n"):
            select("figure 6", rows=["L=10"])

    def test_the_recipe_is_that_of_the_data_set(self):
        epochs = {cell.dataset: cell.recipe.epochs for cell in select()}
        assert epochs == {"cifar10": 400, "cifar100": 400, "svhn": 40, "imagenet": 100}

    def test_a_network_that_stands_twice_is_trained_once(self):
        (cell,) = select("table 5", ["48 shared"], ["cifar10"], ["cifar_dmrnet50"])
        assert folder_of(cell) == "table2"
        assert {folder_of(c) for c in select("table 3", ["50"])} == {"table3"}
        assert {folder_of(c) for c in select("figure 6", ["L=30"])} == {"figure6"}


class TestSelection:
    @pytest.mark.parametrize("row", ["L=54", "l=54", "54", "L = 54", "L54"])
    def test_a_row_as_people_type_it(self, row):
        filters = {"datasets": ["cifar10"], "networks": ["DMRNet"]}
        assert names("table 2", [row], **filters) == ["cifar_dmrnet56"]

    def test_networks_by_column_and_by_name(self):
        cifar10 = {"rows": ["48"], "datasets": ["cifar10"]}
        assert names("table 2", networks=["cifar_dilnet50", "resnet"], **cifar10) == [
            "cifar_resnet98", "cifar_dilnet50",
        ]  # fmt: skip
        identity = names("table 5", networks=["identity"], **cifar10)
        assert identity == ["cifar_dmrnet50_identity", "cifar_dmrnet50_identity_unshared"]
        assert names("table 3", rows=["50"], networks=["wide"]) == ["cifar_dmrnet50_w4"] * 3

    @pytest.mark.parametrize(
        "place, filters, words",
        [
            ("table 7", {}, "there are table 2, table 3"),
            ("table 2", {"rows": ["L=55"]}, "there are L=12, L=18"),
            ("table 2", {"rows": [""]}, "there are L=12, L=18"),
            ("table 5", {"datasets": ["svhn"]}, "there are cifar10, cifar100"),
            ("table 2", {"networks": ["plain"]}, "there are resnet, dilnet, dmrnet"),
            # A network's name is no row and no data set.
            ("table 2", {"rows": ["cifar_dmrnet56"]}, "no row 'cifar_dmrnet56'"),
            ("table 2", {"datasets": ["cifar_dmrnet56"]}, "no data set 'cifar_dmrnet56'"),
            # What is part of another's name is not that network.
            ("table 3", {"networks": ["cifar_dmrnet50"]}, "there are dmrnet, dmrnet-wide"),
        ],
    )
    def test_what_is_not_there(self, place, filters, words):
        with pytest.raises(DMRError, match=words):
            select(place, **filters)

    def test_listing(self, capsys):
        cli._main(["train", "--table", "2", "--row", "L=54", "--dataset", "cifar10", "--list"])
        rows = [line.split() for line in capsys.readouterr().out.splitlines()[2:]]
        assert [row[5:] for row in rows] == [
            ["cifar_resnet110", "400", "5.24", "±", "0.23"],
            ["cifar_dilnet56", "400", "5.02", "±", "0.17"],
            ["cifar_dmrnet56", "400", "4.96", "±", "0.06"],
        ]
        cli._main(["train", "--list"])
        assert capsys.readouterr().out.count("\n") == 2 + 72 + 9 + 2 + 16 + 6


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A root with a tiny CIFAR-10, prepared from an archive of the official format."""
    root = tmp_path_factory.mktemp("data")
    tar_of(root / "cifar-10-python.tar.gz", cifar(10)[0])
    cli._main(
        ["prepare", "cifar10", "--source", str(root), "--out", str(root / "cifar10"), "--partial"]
    )
    call_official(root / "cifar10", "cifar10")
    return str(root)


TINY = ("--table", "2", "--row", "L=12", "--dataset", "cifar10", "--network", "dmrnet")


def train(out, data, *flags):
    """Run dmr train in this process; return its exit status."""
    try:
        cli._main(["train", *TINY, "--out", str(out), "--data-root", data, *flags])
    except SystemExit as end:
        return end.code
    return 0


def run_of(out, seed):
    return os.path.join(out, "table2", f"cifar10-cifar_dmrnet14-seed{seed}")


def read(*path):
    with open(os.path.join(*path)) as file:
        return file.read()


class TestRefusals:
    """Refusals come before anything is trained."""

    @pytest.mark.parametrize(
        "flags, words",
        [
            (["--epoch", "3"], "unrecognized arguments: --epoch 3"),
            (["3"], "unrecognized arguments: 3"),
            (["--epochs", "0"], "epochs must be at least 1"),
            (["--", "--lr", "x"], "invalid float value"),
            (["--", "--lr", "1e20"], "lr must be below 1e.15, not 1e.20"),
            (["--", "--gpus", ""], "--gpus is empty"),
            (["--out", ""], "--out is empty"),
            (["--run-dir", "x"], "use --out"),
            (["--seed=3"], "use --seeds and --first-seed"),
            (["--resume"], "runs that were begun are continued"),
            (["--seeds", "0"], "--seeds: must be at least 1"),
            (["--data-root", "/nonexistent"], "make it with 'dmr prepare cifar10 --out"),
        ],
    )
    def test_flags_that_do_not_fit(self, tmp_path, data, flags, words):
        with pytest.raises(DMRError, match=words):
            train(tmp_path, data, *flags)
        assert os.listdir(tmp_path) == []

    def test_a_list_takes_no_flags_of_trainings(self):
        with pytest.raises(DMRError, match="--tabel would do nothing"):
            cli._main(["train", "--tabel", "2", "--list"])

    def test_a_place_must_be_named(self):
        with pytest.raises(DMRError, match="say what to train"):
            cli._main(["train"])

    @pytest.mark.parametrize("end", [False, True])
    def test_runs_with_other_settings_are_not_mixed(self, tmp_path, data, end):
        fake_run(run_of(tmp_path, 2), [5.0], epochs=1, end=end)
        with pytest.raises(DMRError, match="seed2 was begun with epochs 1, not 3"):
            train(tmp_path, data, "--seeds", "2", "--epochs", "3")


@pytest.fixture
def stand_in(monkeypatch):
    """Replace the training by Python code that writes to the run's folder."""

    def use(text):
        head = (
            "import os, sys, time, signal\n"
            "flags = sys.argv[1:]\n"
            "path = flags[flags.index('--run-dir') + 1]\n"
            "seed = int(flags[flags.index('--seed') + 1])\n"
        )
        monkeypatch.setenv("PYTHONPATH", f"{REPOSITORY}{os.pathsep}{REPOSITORY / 'tests'}")
        monkeypatch.setattr(
            series,
            "command",
            lambda job, flags: [sys.executable, "-c", head + text, *job.flags(), *flags],
        )

    return use


class TestSeries:
    def test_one_that_fails_does_not_end_the_others(self, tmp_path, data, stand_in, capfd):
        stand_in(
            "if seed == 2: os.kill(os.getpid(), signal.SIGKILL)\n"
            "if seed == 4: sys.exit('error: no reason')\n"
            "from test_status import fake_run\n"
            "errors = [4.9 + seed / 10] * (400 if seed != 5 else 2)\n"
            "fake_run(path, errors, 400, end=seed != 5, seed=seed)\n"
        )
        # What seed 2 had written before it failed.
        fake_run(run_of(tmp_path, 2), [30.0], epochs=400)
        with open(os.path.join(run_of(tmp_path, 2), "log.jsonl"), "a") as file:
            file.write('{"event": "epo')
        assert train(tmp_path, data, "--seeds", "5") == 1
        printed, errors = capfd.readouterr()
        assert "run 5 of 5: table 2, L=12, dmrnet, cifar10, seed 5" in printed
        assert "seed2: the process was ended by SIGKILL" in errors
        assert "seed4: exit status 1" in errors and "seed5: it ended before" in errors
        (row,) = [line for line in printed.splitlines() if "5.10 ± 0.14" in line]
        assert "Table 2, L=12     2  5.10 ± 0.14" in row and "6.48 ± 0.04" in row
        failed = [line for line in printed.splitlines() if line.startswith("failed: ")]
        assert len(failed) == 3 and "seed2: the process was ended by SIGKILL" in failed[0]
        assert "not comparable" not in printed
        last = runlog.read(os.path.join(run_of(tmp_path, 2), "log.jsonl"))[-1]
        assert (last["event"], last["reason"]) == ("failed", "the process was ended by SIGKILL")

    def test_one_that_diverges_has_failed_though_it_exits_like_a_refusal(
        self, tmp_path, data, stand_in
    ):
        stand_in(
            "from test_status import fake_run\n"
            "fake_run(path, [30.0], 400, seed=seed)\n"
            "sys.exit(2)\n"
        )
        assert train(tmp_path, data) == 1
        assert read_status(run_of(tmp_path, 1)).state == "failed"

    def test_a_refusal_leaves_the_log_alone(self, tmp_path, data, stand_in):
        stand_in("sys.exit(2)")
        fake_run(run_of(tmp_path, 1), [30.0], epochs=400)
        assert train(tmp_path, data) == 1
        assert read_status(run_of(tmp_path, 1)).state != "failed"

    def test_flags_are_passed_on_and_begun_runs_continued(self, tmp_path, data, stand_in, capfd):
        stand_in("print(*flags[10:])")
        fake_run(run_of(tmp_path, 1), [30.0], epochs=3)
        assert train(tmp_path, data, "--gpus", "0,1", "--seeds", "2", "--", "--epochs", "3") == 1
        lines = capfd.readouterr().out.splitlines()
        assert "--resume --gpus 0,1 --epochs 3" in lines and "--gpus 0,1 --epochs 3" in lines

    def test_what_makes_a_result_incomparable_is_said(self, tmp_path, data, capfd):
        fake_run(run_of(tmp_path, 1), [9.0], epochs=1, end=True, images=20, lr=0.2)
        assert train(tmp_path, data) == 0
        printed = capfd.readouterr().out
        assert "seed 1: finished already" in printed
        assert (
            "not comparable: 1 epoch instead of 400; "
            "20 train images instead of 50,000; lr 0.2 instead of 0.1"
        ) in printed

    def test_what_was_changed_while_it_ran_is_said_too(self, tmp_path, data, capfd):
        path = fake_run(run_of(tmp_path, 1), [9.0] * 400, epochs=400, end=True)
        log = os.path.join(path, "log.jsonl")
        runlog.append(log, "resume", epoch=7, step=9, changes={"lr": [0.1, 0.2]})
        assert train(tmp_path, data) == 0
        printed = capfd.readouterr().out
        assert "lr changed from 0.1 to 0.2 after epoch 7" in printed

    def test_a_run_that_another_process_trains_is_left_to_it(self, tmp_path, data, stand_in, capfd):
        stand_in("sys.exit(3)")
        path = fake_run(run_of(tmp_path, 1), [30.0], epochs=400)
        before = read(path, "log.jsonl")
        with open(os.path.join(path, "lock"), "w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            assert train(tmp_path, data) == 0
        assert "skipped, as another process is training it" in capfd.readouterr().out
        assert read(path, "log.jsonl") == before

    def test_without_locks_a_finished_run_stays_finished(
        self, tmp_path, data, stand_in, monkeypatch
    ):
        def refuse(*_):
            raise OSError(errno.ENOLCK, "No locks available")

        stand_in("sys.exit(3)")
        path = fake_run(run_of(tmp_path, 1), [9.0] * 400, epochs=400, end=True)
        before = read(path, "log.jsonl")
        open(os.path.join(path, "lock"), "w").close()
        monkeypatch.setattr(fcntl, "flock", refuse)
        assert train(tmp_path, data) == 0
        assert read(path, "log.jsonl") == before

    def test_a_failure_is_not_logged_in_a_run_that_ended_or_is_held(self, tmp_path, monkeypatch):
        monkeypatch.setattr(runs, "_PATIENCE", 0)
        ended = fake_run(tmp_path / "ended", [9.0] * 4, epochs=4, end=True)
        held = fake_run(tmp_path / "held", [9.0], epochs=4)
        with open(os.path.join(held, "lock"), "w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            for path in (ended, held):
                before = read(path, "log.jsonl")
                series._log_failure(RunDirectory(path), "exit status 3")
                assert read(path, "log.jsonl") == before
        series._log_failure(RunDirectory(held), "exit status 3")
        assert read_status(held).state == "failed"

    def start(self, tmp_path, data, seconds, **streams):
        """Start a series in its own process, whose trainings need some seconds to save."""
        training = (
            "import os, signal, sys, time\n"
            "def stop(*_):\n"
            "    open('asked', 'w').close()\n"
            f"    time.sleep({seconds})\n"
            "    open('saved', 'w').close()\n"
            "    sys.exit(143)\n"
            "signal.signal(signal.SIGTERM, stop)\n"
            "open('started', 'w').close()\n"
            "time.sleep(60)\n"
        )
        program = (
            "import sys\n"
            "from dmr_gluon.cli import main as cli, program, sweep\n"
            f"sweep.command = lambda job, flags: [sys.executable, '-c', {training!r}]\n"
            "program.run(lambda: cli._main(sys.argv[1:]))\n"
        )
        arguments = [*TINY, "--seeds", "2", "--data-root", data]
        return subprocess.Popen(
            [sys.executable, "-c", program, "train", *arguments],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
            text=True,
            start_new_session=True,
            **streams,
        )

    @pytest.mark.parametrize("number, times", [(signal.SIGINT, 1), (signal.SIGTERM, 2)])
    def test_it_waits_for_the_training_to_save(self, tmp_path, data, number, times):
        """A second signal kills it."""
        streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        process = self.start(tmp_path, data, 60 * (times - 1), **streams)
        for name in ["started", "asked"][:times]:
            wait_for(tmp_path / name)
            os.killpg(process.pid, number)  # as a terminal's Ctrl-C does
        out, err = process.communicate(timeout=60)
        assert process.returncode == 128 + number, err
        assert (tmp_path / "saved").exists() == (times == 1)
        assert "run 1 of 2" in out and "run 2" not in out
        assert "continues from here" in err and "Traceback" not in err

    def test_it_waits_also_when_the_terminal_is_gone(self, tmp_path, data):
        ours, theirs = pty.openpty()
        process = self.start(tmp_path, data, 0.5, stdout=theirs, stderr=theirs)
        os.close(theirs)
        wait_for(tmp_path / "started")
        os.close(ours)
        os.killpg(process.pid, signal.SIGHUP)
        wait_for(tmp_path / "asked")
        os.killpg(process.pid, signal.SIGHUP)  # a shell sends it, and then the kernel
        assert process.wait(60) == 128 + signal.SIGHUP
        assert (tmp_path / "saved").exists()


def wait_for(path):
    for _ in range(600):
        if path.exists():
            return
        time.sleep(0.05)
    raise AssertionError(f"{path} was never there")


@pytest.mark.slow
def test_a_real_series(tmp_path, data, capfd):
    """One epoch on the tiny set: two seeds, then a third; a stopped one is continued."""
    flags = ("--epochs", "1")
    assert train(tmp_path, data, "--seeds", "1", *flags) == 0
    assert "seed 1: " in capfd.readouterr().out
    log = os.path.join(run_of(tmp_path, 1), "log.jsonl")
    config = json.loads(read(run_of(tmp_path, 1), "config.json"))
    assert config["recipe"]["model"] == "cifar_dmrnet14" and config["seed"] == 1
    assert [event["event"] for event in runlog.read(log)] == ["start", "epoch", "end"]
    # As if it had been killed before its last epoch was logged.
    with open(log) as file:
        lines = file.readlines()
    with open(log, "w") as file:
        file.writelines(lines[:-2])
    assert train(tmp_path, data, "--seeds", "2", *flags) == 0
    printed = capfd.readouterr().out
    assert "seed 1: continuing" in printed and "cifar_dmrnet14" in printed
    assert "1 epoch instead of 400; 20 train images instead of 50,000" in printed
    assert train(tmp_path, data, "--seeds", "2", *flags) == 0
    assert capfd.readouterr().out.count("finished already") == 2
    cli._main(["status", str(tmp_path)])
    assert capfd.readouterr().out.count(" finished ") == 2


def test_the_end_of_a_process_is_named():
    found = [ending(-signal.SIGKILL), ending(-signal.SIGRTMIN - 1), ending(3)]
    assert found == ["SIGKILL", "signal 35", "status 3"]
