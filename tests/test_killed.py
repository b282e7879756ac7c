"""A preparation that is killed, at any moment, and started again."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import REPOSITORY

from dmr_gluon.data.datasets import open_prepared, read_manifest
from dmr_gluon.errors import DMRError


def prepare(out):
    return subprocess.Popen(
        [sys.executable, "-m", "dmr_gluon.cli", "prepare", "digits", "--out", str(out)],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def hashes(out):
    return {name: split.sha256 for name, split in open_prepared(out).splits.items()}


def whole_or_nothing(out):
    """A set that is taken for one is one; what is half written is never taken for whole."""
    try:
        return hashes(out)
    except DMRError:
        return None


@pytest.mark.parametrize("times", [2, pytest.param(20, marks=pytest.mark.slow)])
def test_killed_and_started_again_it_ends_with_the_same_set(digits, tmp_path, times):
    random = np.random.RandomState(times)
    expected = hashes(digits)
    out = tmp_path / "out"
    started = time.monotonic()
    assert prepare(tmp_path / "once").wait(120) == 0
    whole = time.monotonic() - started
    killed = 0
    for _ in range(times):
        process = prepare(out)
        # Most of the time goes into starting: the later part is where files are written.
        time.sleep(whole * random.uniform(0.5, 1.0))
        process.send_signal(signal.SIGKILL)
        killed += process.wait(120) == -signal.SIGKILL
        assert whole_or_nothing(out) in (None, expected)
    assert prepare(out).wait(120) == 0
    assert hashes(out) == expected == hashes(tmp_path / "once")
    assert read_manifest(out)["splits"] == read_manifest(digits)["splits"]
    assert not list(Path(out).glob("*.part"))
    assert killed
