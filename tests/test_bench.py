"""dmr bench: what it refuses, what it makes of times, and that it runs."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from dmr_gluon.bench.conditions import describe
from dmr_gluon.bench.floor import Peak, training_multiply_adds
from dmr_gluon.bench.growth import Curve, Point, draw_growth, exponent, growth_table
from dmr_gluon.bench.speeds import BenchOptions, Measured
from dmr_gluon.bench.tables import draw_speeds, speed_table, step_table
from dmr_gluon.cli.main import _main
from dmr_gluon.errors import DMRError
from dmr_gluon.models.complexity import measure
from dmr_gluon.models.names import network
from dmr_gluon.models.network import Network
from dmr_gluon.runs.learning_curve import write_picture

DMR = ("-m", "dmr_gluon.cli.main", "bench")
SHORT = ("--rounds", 1, "--seconds", 0.05, "--batch", 8)

SPEEDS = [
    Measured("cifar_dmrnet14", "training", "live", 64, 500.0, 0.4, [0.128]),
    Measured("cifar_dmrnet14", "inference", "live", 1, 800.0, 0.1, [0.00125]),
    Measured("cifar_dmrnet14", "inference", "live", 64, 3000.0, 0.5, [0.021]),
    Measured("cifar_dmrnet14", "inference", "int8", 64, 9000.0, None, [0.007]),
    Measured("dmrnet44", "training", "live", 16, 8.0, 0.6, [2.0]),
]


def curves():
    points = [
        Point("cifar_dmrnet14", batch, batch, 0.002 * batch, 3_000_000 * batch)
        for batch in (8, 16, 64)
    ]
    squares = [Point(f"cifar_dmrnet14_w{w}", 64, w, 0.1 * w**2, 10**8 * w) for w in (1, 2, 4)]
    return [Curve("batch", points), Curve("width", squares)]


@pytest.mark.parametrize(
    "arguments, reason",
    [
        ("nonsense", "unknown model 'nonsense'"),
        ("cifar_dmrnet8 cifar_dmrnet9", "depth 9 does not fit"),
        ("--batch 0", "--batch must be at least 1, not 0"),
        ("--rounds 0", "--rounds must be at least 1, not 0"),
        ("--seconds 0", "--seconds must be above 0, not 0"),
        ("--seconds nan", "--seconds must be above 0, not nan"),
        ("--only speed", "invalid choice: 'speed'"),
        ("--gpus 31", "--gpus 31 asks for GPU 31, but there"),
        ("--gpus 0,1", "measures one GPU; name one"),
        ("--json nowhere/found.json", "nowhere/found.json cannot be written"),
        ("--json .", ". cannot be written"),
        ("--picture nowhere/bars.png", "nowhere/bars.png cannot be written"),
        ("--picture bars.txt", "ends in .png, .svg or .pdf"),
        ("--only start --picture bars.png", "--picture draws speeds"),
        ("--growth cifar_dmrnet8", "leave out NETWORK"),
        ("--growth --only memory", "leave out --only"),
        ("--growth --gpus 0", "leave out --gpus"),
        ("--growth --batch 7", "--batch of at least 8, not 7"),
    ],
)
def test_what_does_not_fit_is_refused_before_measuring(arguments, reason, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(subprocess, "Popen", None)  # nothing may be started
    with pytest.raises(DMRError) as refused:
        _main(["bench", *arguments.split()])
    assert reason in str(refused.value) and "\n" not in str(refused.value)
    assert not os.listdir(tmp_path)


def test_large_images_come_in_smaller_batches():
    small, large = network("cifar_dmrnet14"), network("dmrnet44")
    assert [BenchOptions().batch_for(spec) for spec in (small, large)] == [64, 16]
    assert [BenchOptions(batch=3).batch_for(spec) for spec in (small, large)] == [3, 3]


def test_load_before_is_said():
    machine = {"processor": "P", "cores": 4, "threads": 4, "load": 2.0, "versions": {"X": "1"}}
    assert describe(machine) == ["4 cores (P), 4 threads, load 2.0 before", "X 1"]
    (_, _, note) = describe({**machine, "load": 2.1})
    assert note.startswith("note: something else is running (load 2.1 on 4 cores)")


def test_a_training_step_has_three_times_the_multiply_adds_but_for_the_images_gradient():
    complexity = measure(Network(network("cifar_resnet8")).portable_symbol(), (3, 32, 32))
    # The stem, then a block of two convolutions and in stages 2 and 3 a projection; the FC.
    stem = 32 * 32 * 16 * 3 * 9
    stages = [2 * 32 * 32 * 16 * 16 * 9]
    for side, channels in ((16, 32), (8, 64)):
        both = channels // 2 * channels * 9 + channels * channels * 9
        stages.append(side * side * (both + channels // 2 * channels))
    forward = stem + sum(stages) + 64 * 10
    assert complexity.multiply_adds == forward
    assert training_multiply_adds(complexity) == 3 * forward - stem


def test_the_share_of_the_peak_is_the_time_at_the_peak_by_the_time_taken():
    peak = Peak(100e9, "a product")
    assert peak.share(200e6, 250) == pytest.approx((200e6 / 100e9) / (1 / 250))


def test_exponents_are_those_of_powers():
    sizes = [8, 14, 26, 98]
    assert exponent(sizes, [3 * size**1.7 for size in sizes]) == pytest.approx(1.7)
    assert exponent(sizes, [5.0] * 4) == pytest.approx(0)
    # Least squares by hand: log2 of (1, 2, 4) against log2 of (1, 4, 4).
    assert exponent([1, 2, 4], [1, 4, 4]) == pytest.approx(1)
    batch, width = curves()
    assert batch.exponents == pytest.approx((1, 1))
    assert width.exponents == pytest.approx((2, 1))
    assert batch.describe()["exponents"] == pytest.approx({"seconds": 1, "bytes": 1})


def test_growth_as_a_table_and_a_picture(tmp_path):
    lines = growth_table(curves()).splitlines()
    assert lines[4].split() == ["batch", "64", "cifar_dmrnet14", "64", "128.0", "192"]
    assert lines[-1].split() == ["width", "exponent", "2.00", "1.00"]
    out = tmp_path / "growth.svg"
    write_picture(lambda: draw_growth(curves()), str(out))
    assert out.stat().st_size > 5000


def test_speeds_as_a_table_and_a_picture(tmp_path):
    lines = speed_table(SPEEDS).splitlines()
    assert lines[2].split() == ["cifar_dmrnet14", "training", "live", "64", "500", "40%"]
    assert lines[5].split() == ["cifar_dmrnet14", "inference", "int8", "64", "9,000"]
    out = tmp_path / "speeds.png"
    # Of one network there is no inference: its places stay empty.
    write_picture(lambda: draw_speeds(SPEEDS), str(out))
    assert out.stat().st_size > 5000


def test_start_and_memory_as_a_table():
    step = {"network": "cifar_dmrnet14", "batch": 64, "seconds_to_first": [1.2, 9.0, 1.4]}
    memory = {"peak_bytes": 433e6, "start_bytes": 214e6}
    assert step_table([step]).splitlines()[-1].split() == ["cifar_dmrnet14", "64", "1.40"]
    lines = step_table([{**step, **memory}]).splitlines()
    assert lines[-1].split() == ["cifar_dmrnet14", "64", "1.40", "433", "214"]
    assert "first" not in step_table([{"network": "a", "batch": 1, **memory}])


@pytest.mark.slow
def test_one_network_is_measured(command, tmp_path):
    found, bars = tmp_path / "found.json", tmp_path / "bars.png"
    done = command(*DMR, "cifar_dmrnet8", *SHORT, "--json", found, "--picture", bars)
    assert done.returncode == 0, done.stderr
    assert bars.stat().st_size > 5000
    found = json.loads(found.read_text())
    by = {(one["work"], one["form"], one["batch"]): one for one in found["speeds"]}
    wanted = {("inference", form, n) for form in ("live", "plain", "fused", "int8") for n in (1, 8)}
    assert wanted | {("training", "live", 8)} <= set(by)
    for (_, form, batch), one in by.items():
        assert one["images_per_second"] == pytest.approx(batch / one["seconds"][0])
        assert (one["share"] is None) if form == "int8" else one["share"] > 0
    (step,) = found["steps"]
    assert len(step["seconds_to_first"]) == 3 and min(step["seconds_to_first"]) > 0.1
    assert step["peak_bytes"] > step["start_bytes"] > 50e6
    assert 0 < found["start"]["import dmr_gluon"] < found["start"]["dmr --help"]
    assert "cifar_dmrnet8  training" in done.stdout and "billion multiply-adds" in done.stdout


@pytest.mark.slow
def test_growth_is_measured(command, tmp_path):
    found = tmp_path / "found.json"
    done = command(*DMR, "--growth", *SHORT, "--json", found)
    assert done.returncode == 0, done.stderr
    by = {curve["against"]: curve for curve in json.loads(found.read_text())["curves"]}
    assert list(by) == ["depth", "width", "batch", "branches"]
    for against in ("depth", "batch"):
        sizes = [point["size"] for point in by[against]["points"]]
        assert sizes[-1] >= 8 * sizes[0]
    # Times depend on what else runs; memory does not.
    assert by["batch"]["exponents"]["bytes"] == pytest.approx(1, abs=0.15)
    assert by["depth"]["exponents"]["bytes"] == pytest.approx(1, abs=0.15)


@pytest.mark.slow
def test_ctrl_c_ends_it_in_one_line(tmp_path):
    arguments = [sys.executable, *DMR, "cifar_dmrnet8", "--only", "training", "--seconds", "60"]
    environment = {**os.environ, "PYTHONPATH": os.getcwd(), "TMPDIR": str(tmp_path)}
    process = subprocess.Popen(
        arguments, env=environment, text=True, start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    while "peak" not in process.stdout.readline():
        assert process.poll() is None
    time.sleep(3)
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130 and errors.startswith("stopped") and errors.count("\n") == 1
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)
