"""Files in the working folder do not shadow modules of the standard library."""

import os
import subprocess
import sys

import pytest

from dmr_gluon.cli import sweep as series
from dmr_gluon.launch.supervisor import SERVE
from dmr_gluon.paper.experiments import Cell

REPOSITORY = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


@pytest.fixture
def run(tmp_path):
    """Run a program in such a folder."""
    folder = tmp_path / "work"
    folder.mkdir()
    for name in ("json", "logging", "random", "runpy", "signal", "types"):
        (folder / f"{name}.py").write_text("raise RuntimeError('the one of the user')")

    def run(*command):
        return subprocess.run(
            command,
            cwd=folder,
            env={**os.environ, "PYTHONPATH": REPOSITORY},
            capture_output=True,
            text=True,
            timeout=100,
        )

    return run


def test_a_command_takes_no_module_from_there(run, tmp_path):
    script = tmp_path / "dmr.py"
    script.write_text("from dmr_gluon.cli.main import main\nmain()\n")
    done = run(sys.executable, script, "launch", "-n", "1", "-s", "1", "--", "echo", "the worker")
    assert "the worker" in done.stdout, done


@pytest.mark.parametrize("what", ["training", "server"])
def test_a_process_of_its_own_takes_no_module_from_there(run, what):
    cell = Cell("table 2", "L=8", "dmrnet", "cifar10", "cifar_dmrnet8")
    job = series.Job(cell, 1, "runs", "data")
    # Without DMLC_ROLE what a server runs is an import of MXNet that returns.
    done = run(*(series.command(job, ["--help"]) if what == "training" else SERVE))
    assert done.returncode == 0, done


def test_another_package_called_symbols_is_not_taken_for_ours(command, tmp_path):
    (tmp_path / "symbols").mkdir()
    (tmp_path / "symbols" / "__init__.py").write_text("")
    code = (
        "from dmr_gluon.analysis import symbol_parity; "
        "print(symbol_parity.same_names('cifar_dmrnet14'))"
    )
    done = command("-c", code, cwd=tmp_path)
    assert done.stdout == "True\n", done
