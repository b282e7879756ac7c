"""The benchmarks' own side in small, so that they do not rot."""

import json
import os

import pytest

from dmr_gluon.data.datasets import open_prepared

PROGRAM = "benchmarks/data_reading.py"


@pytest.mark.slow
def test_data_reading_measures_our_reader(command, digits, tmp_path):
    out = tmp_path / "found.json"
    done = command(
        *(PROGRAM, "--small", digits, "--readers", "ours"),
        *("--rounds", 1, "--seconds", 0.01, "--json", out),
    )
    assert done.returncode == 0, done.stderr
    assert "| digits |" in done.stdout and "No photographs were read" in done.stdout
    (found,) = json.loads(out.read_text())["sets"]
    (rate,) = found["rates"]["ours"]
    assert rate > 0
    split = open_prepared(digits).split("train")
    assert found["images"] >= 50_000 and found["images"] % split.count == 0
    assert found["bytes_per_image"] == os.path.getsize(split.records) / split.count


@pytest.mark.parametrize(
    "arguments, reason",
    [
        (["--rounds", 0], "must be above 0"),
        (["--small", "nowhere"], "no prepared data set: nowhere"),
        (["--peer-python", "/nowhere/python"], "/nowhere/python cannot be started"),
    ],
)
def test_data_reading_refuses_in_one_line(command, arguments, reason):
    done = command(PROGRAM, *arguments)
    assert done.returncode == 2 and not done.stdout
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
    assert reason in done.stderr
