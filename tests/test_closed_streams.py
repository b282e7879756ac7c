"""Programs that were started without stdin, stdout or stderr: silent, with the work's status."""

import os
import subprocess
import sys

import pytest
from conftest import REPOSITORY

from dmr_gluon.runs import log as runlog
from dmr_gluon.runs.directory import RunDirectory

CLOSED = ("2>&-", ">&-", "<&- >&- 2>&-")

#: Writes a file while a child process and this one say something, by all ways there are.
PROGRAM = """
import os, subprocess, sys, threading, warnings
from dmr_gluon.cli.program import run
def main():
    with open(sys.argv[1], "w") as file:
        assert file.fileno() > 2
        subprocess.run(["sh", "-c", "cat; echo out; echo err >&2"], check=True)
        threading.Thread(target=print, args=("a thread, in any letters: ±",)).start()
        warnings.warn("a warning")
        os.write(2, b"as MXNet does")
        file.write("data")
    sys.stdin.read()
run(main)
"""


@pytest.fixture
def closed(tmp_path):
    """Run a program of the repository with some of its streams closed."""

    def run(how, *arguments):
        return subprocess.run(
            ["sh", "-c", f'"$@" {how}', "sh", sys.executable, *map(str, arguments)],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
        )

    return run


@pytest.mark.parametrize("how", CLOSED)
def test_output_never_ends_up_in_a_file(closed, tmp_path, how):
    done = closed(how, "-c", PROGRAM, "data")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "data").read_text() == "data"


@pytest.mark.parametrize(
    "how, arguments, status",
    [
        *((how, ["paths", "--plot", "paths.png"], 0) for how in CLOSED),
        *((how, ["eval", "nowhere"], 2) for how in CLOSED),
        (CLOSED[-1], ["launch", "-n", "1", "--", "sh", "-c", "echo said; exit 3"], 3),
    ],
)
def test_commands(closed, how, arguments, status):
    done = closed(how, "-m", "dmr_gluon.cli.main", *arguments)
    assert done.returncode == status, done.stderr
    assert "Traceback" not in done.stderr
    assert not (done.stderr if "2>&-" in how else done.stdout)


@pytest.mark.parametrize("how", ["2>&-", ">&- 2>&-"])
def test_a_training(closed, digits, tmp_path, how):
    flags = ["--data-dir", digits, "--model", "cifar_dmrnet8", "--epochs", 1, "--steps", 2]
    done = closed(how, REPOSITORY / "train_cifar.py", *flags, "--run-dir", "run")
    assert done.returncode == 0, done.stderr
    run = RunDirectory(str(tmp_path / "run"))
    assert [event["event"] for event in runlog.read(run.log)] == ["start", "epoch", "end"]
    assert run.config()["epochs"] == 1 and os.path.exists(run.file("curve.png"))
