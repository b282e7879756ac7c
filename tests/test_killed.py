"""A preparation that is killed, at any moment, and started again."""

import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from conftest import REPOSITORY

from dmr_gluon.data.datasets import open_prepared, read_manifest
from dmr_gluon.errors import DMRError

CODE = "import sys; from dmr_gluon.cli import main as cli; sys.argv[0] = 'dmr'; cli.main()"


def prepare(out):
    return subprocess.Popen(
        [sys.executable, "-c", CODE, "prepare", "digits", "--out", str(out)],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )


def finish(out):
    """Let a preparation end by itself; what it printed."""
    process = prepare(out)
    printed, _ = process.communicate(timeout=120)
    assert process.returncode == 0, printed
    return printed


def hashes(out):
    return {name: split.sha256 for name, split in open_prepared(out).splits.items()}


def whole_or_nothing(out):
    """A set that is taken for one is one; what is half written is never taken for whole."""
    try:
        return hashes(out)
    except DMRError:
        return None


def same(out, digits):
    found, expected = read_manifest(out), read_manifest(digits)
    assert hashes(out) == hashes(digits)
    assert all(found[key] == expected[key] for key in expected if key != "command")
    assert sorted(os.listdir(out)) == sorted(os.listdir(digits))


@pytest.mark.parametrize("times", [2, pytest.param(20, marks=pytest.mark.slow)])
def test_killed_and_started_again_it_ends_with_the_same_set(digits, tmp_path, times):
    random = np.random.RandomState(times)
    expected = hashes(digits)
    out = tmp_path / "out"
    started = time.monotonic()
    finish(tmp_path / "once")
    whole = time.monotonic() - started
    killed = 0
    for _ in range(times):
        if whole_or_nothing(out):
            shutil.rmtree(out)
        process = prepare(out)
        # Most of the time goes into starting: the later part is where files are written.
        time.sleep(whole * random.uniform(0.5, 1.0))
        process.send_signal(signal.SIGKILL)
        killed += process.wait(120) == -signal.SIGKILL
        process.stdout.close()
        assert whole_or_nothing(out) in (None, expected)
    finish(out)
    assert "nothing to do" in finish(out)
    same(out, digits)
    same(tmp_path / "once", digits)
    assert killed
