"""benchmarks/: the predicted steps, the profile of a step, the conditions of a measurement."""

import importlib
import json
import os
import re
import stat
import sys
from dataclasses import replace

import pytest
from conftest import REPOSITORY

sys.path.insert(0, str(REPOSITORY / "benchmarks"))

from conditions import Peak, describe, training_multiply_adds  # noqa: E402
from predict import (  # noqa: E402
    Gradients,
    Hardware,
    exposed_seconds,
    gradients_of,
    machine_shares,
    predict,
    server_shares,
)
from profile_step import (  # noqa: E402
    AROUND,
    BETWEEN,
    combine,
    operators_of,
    parse_log,
)

from dmr_gluon.errors import DMRError  # noqa: E402
from dmr_gluon.models.complexity import measure  # noqa: E402
from dmr_gluon.models.names import get_spec  # noqa: E402
from dmr_gluon.models.network import Network  # noqa: E402

#: A million values in four arrays, each layer with as much to compute.
EVEN = Gradients("even", (250_000,) * 4, (10,) * 4)
#: 100 ms for a device's step; nothing is hidden, so that each term can be seen.
PLAIN = Hardware(images_per_second=320, batch=32, overlap=0.0)
GIGABIT = 1e9 / 8
SCALING = "benchmarks/scaling.py"


def test_one_device_only_computes():
    step = predict(EVEN, replace(PLAIN, device_bandwidth=1.0, network_bandwidth=1.0))
    assert step.seconds == step.compute == pytest.approx(0.1)
    assert step.efficiency == 1 and step.bound == "compute"
    assert step.images_per_second == pytest.approx(320)


def test_sums_within_a_machine_go_there_and_back():
    # 4 MB, of which each of 4 devices sends and takes three quarters, twice, at 1 GB/s.
    step = predict(EVEN, replace(PLAIN, devices=4, device_bandwidth=1e9))
    assert step.within == pytest.approx(2 * 0.75 * 4e6 / 1e9)
    assert step.seconds == pytest.approx(0.1 + step.within)
    assert step.images == 128 and step.devices == 4


def test_gradients_go_over_the_network_in_gigabits():
    # Two machines, two servers: each sends half of 4 MB to the other's server, whose machine
    # takes in as much for its own, and gives it back.
    step = predict(EVEN, replace(PLAIN, network_bandwidth=GIGABIT), machines=2)
    assert step.network == pytest.approx(4e6 * 8 / 1e9)
    assert step.bound == "network"
    # One server for all: its machine sends and takes what three others have.
    alone = replace(PLAIN, network_bandwidth=GIGABIT, servers=1)
    assert predict(EVEN, alone, machines=4).network == pytest.approx(3 * 4e6 * 8 / 1e9)


def test_a_server_handles_its_share_of_every_workers_gradients():
    hardware = replace(PLAIN, server_bandwidth=1e9, servers=4)
    assert predict(EVEN, hardware, machines=8).server == pytest.approx(8 * 4e6 / 4 / 1e9)
    assert predict(EVEN, replace(hardware, servers=1), machines=8).bound == "server"
    handled = replace(PLAIN, key_seconds=1e-3)
    assert predict(EVEN, handled, machines=8).keys == pytest.approx(4e-3)
    assert predict(EVEN, replace(handled, servers=2), machines=8).keys == pytest.approx(16e-3)


@pytest.mark.parametrize(
    "name", ["device_bandwidth", "network_bandwidth", "server_bandwidth", "images_per_second"]
)
@pytest.mark.parametrize("overlap", [0.0, 0.5, 1.0])
def test_more_is_never_slower(name, overlap):
    hardware = Hardware(320, 32, 4, 1e9, 1e9, 1e9, 1e-5, overlap=overlap)
    for machines in (1, 2, 5):
        seconds = [
            predict(EVEN, replace(hardware, **{name: getattr(hardware, name) * factor}), machines)
            for factor in (0.1, 0.5, 1, 3, 100)
        ]
        seconds = [step.seconds for step in seconds]
        assert seconds == sorted(seconds, reverse=True) and seconds[-1] > 0


def test_reading_bounds_a_step_that_waits_for_images():
    step = predict(EVEN, replace(PLAIN, devices=4, read_per_second=500))
    assert step.seconds == pytest.approx(128 / 500)
    assert step.bound == "reading" and step.images_per_second == pytest.approx(500)
    assert predict(EVEN, replace(PLAIN, devices=4, read_per_second=1e6)).bound == "compute"


def test_only_what_is_ready_early_is_hidden():
    # The last to be ready cannot be hidden, the others are sent meanwhile.
    assert exposed_seconds([1.0, 2.0, 3.0], [0.5, 0.5, 0.5]) == pytest.approx(0.5)
    # A channel that is busier than the backward pass lags behind from its first array on.
    assert exposed_seconds([1.0, 2.0, 3.0], [4.0, 4.0, 4.0]) == pytest.approx(10.0)
    hardware = replace(PLAIN, network_bandwidth=GIGABIT)
    apart, hidden = (predict(EVEN, replace(hardware, overlap=o), 2) for o in (0.0, 1.0))
    assert apart.hidden == 0 and 0 < hidden.hidden < hidden.network
    assert hidden.seconds == pytest.approx(apart.seconds - hidden.hidden)


def test_gradients_are_ready_from_the_last_layer_to_the_first():
    # The last layer is a tenth of the 66.7 ms that the backward pass takes.
    uneven = Gradients("uneven", (100_000, 900_000), (90, 10))
    hardware = replace(PLAIN, network_bandwidth=GIGABIT, overlap=1.0)
    # Its 28.8 ms are hidden, the first layer's 3.2 ms are not.
    assert predict(uneven, hardware, 2).hidden == pytest.approx(0.0288)
    slow = replace(hardware, network_bandwidth=GIGABIT / 10)
    assert predict(uneven, slow, 2).hidden == pytest.approx(0.9 * 2 / 3 * 0.1)


def test_arrays_are_dealt_out_as_mxnet_does_it():
    assert server_shares([10] * 4, 2) == [0.5, 0.5]
    # Weights, gamma and beta in turn: of three servers one gets all weights.
    assert server_shares([98, 1, 1] * 5, 3) == pytest.approx([0.98, 0.01, 0.01])
    # From a million values on, each server gets a part.
    assert server_shares([3_000_000, 1, 1], 3)[2] == pytest.approx(1 / 3, abs=1e-6)
    assert machine_shares([0.1, 0.2, 0.3, 0.4], 3) == pytest.approx([0.5, 0.2, 0.3])


def test_a_networks_gradients_are_its_parameters_in_buckets():
    assert len(gradients_of("cifar_dmrnet32_w4").sizes) > 1
    gradients = gradients_of("cifar_dmrnet8")
    counted = measure(Network(get_spec("cifar_dmrnet8")).portable_symbol(), (3, 32, 32))
    # Each begins at a multiple of 64 values.
    padding = gradients.bytes / 4 - counted.parameters
    assert 0 <= padding < 64 * len(Network(get_spec("cifar_dmrnet8")).collect_params().keys())
    assert sum(gradients.multiply_adds) == counted.multiply_adds


@pytest.mark.parametrize(
    "changes, machines, reason",
    [
        ({"network_bandwidth": 0.0}, 2, "network_bandwidth must be above 0"),
        ({"network_bandwidth": float("nan")}, 2, "network_bandwidth must be above 0"),
        ({"overlap": 1.5}, 1, "overlap must be from 0 to 1"),
        ({"servers": 0}, 2, "servers must be at least 1"),
        ({}, 0, "at least 1 machine"),
    ],
)
def test_what_cannot_be_is_refused(changes, machines, reason):
    with pytest.raises(DMRError, match=reason):
        predict(EVEN, replace(PLAIN, **changes), machines)


PREDICT = ("benchmarks/predict.py", "cifar_dmrnet8")
ONE = ("--images-per-second", 500, "--batch-per-device", 64)
MANY = (*ONE, "--machines", "1,2,4", "--device-bandwidth", 10, "--network-bandwidth", 25)


def test_the_program_prints_a_prediction_that_says_so(command):
    done = command(*PREDICT, *MANY)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("cifar_dmrnet8, predicted, not measured")
    rows = [line.split() for line in done.stdout.splitlines()[4:7]]
    assert [row[1] for row in rows] == ["1", "2", "4"]
    assert [row[4] for row in rows][0] == "128.0" and rows[0][-3] == "100%"


@pytest.mark.parametrize(
    "arguments, reason",
    [
        ([], "give --images-per-second too"),
        ([*ONE, "--machines", "2", "--device-bandwidth", 1], "give --network-bandwidth too"),
        ([*ONE, "--machines", "1,x"], "--machines 1,x: write numbers"),
        ([*ONE, "--cores", 4], "give both --read-per-core and --cores"),
        ([*MANY, "--overlap", 2], "overlap must be from 0 to 1"),
        ([*MANY, "--key-microseconds", -1], "key_seconds must be at least 0"),
    ],
)
def test_a_prediction_is_refused_in_one_line(monkeypatch, arguments, reason):
    monkeypatch.setattr(sys, "argv", [*PREDICT, *map(str, arguments)])
    with pytest.raises(DMRError) as refusal:
        importlib.import_module("predict").main()
    assert reason in str(refusal.value) and "\n" not in str(refusal.value)


def test_load_before_is_said():
    machine = {"processor": "P", "cores": 4, "threads": 4, "load": 2.0, "versions": {"X": "1"}}
    assert describe(machine) == ["4 cores (P), 4 threads, load 2.0 before", "X 1"]
    (_, _, note) = describe({**machine, "load": 2.1})
    assert note.startswith("note: something else is running")


def test_a_training_step_has_three_times_the_multiply_adds_but_for_the_images_gradient():
    complexity = measure(Network(get_spec("cifar_resnet8")).portable_symbol(), (3, 32, 32))
    stem = 32 * 32 * 16 * 3 * 9
    assert training_multiply_adds(complexity) == 3 * complexity.multiply_adds - stem


def test_the_share_of_the_peak_is_the_time_at_the_peak_by_the_time_taken():
    peak = Peak(100e9, "a product")
    assert peak.share(200e6, 250) == pytest.approx((200e6 / 100e9) / (1 / 250))


@pytest.mark.slow
def test_a_network_is_timed(command, tmp_path):
    out = tmp_path / "found.json"
    short = ("--rounds", 1, "--seconds", 0.05, "--batch", 8)
    done = command("benchmarks/speed.py", "cifar_dmrnet8", *short, "--json", out)
    assert done.returncode == 0, done.stderr
    assert "cifar_dmrnet8  training" in done.stdout and "billion multiply-adds" in done.stdout
    found = json.loads(out.read_text())["speeds"]
    by = {(one["work"], one["batch"]): one for one in found}
    assert set(by) == {("training", 8), ("inference", 1), ("inference", 8)}
    assert all(one["share"] > 0 and one["first"] > 0.1 for one in found)
    assert all(one["bytes"] > 50e6 for one in found)


#: As oneDNN 2.4 writes it, two images at a time.
LOG = """dnnl_verbose,info,cpu,runtime:OpenMP
dnnl_verbose,exec,cpu,reorder,jit:uni,undef,src_f32::blocked:abcd:f0 dst_f32::blocked:ABcd16b16a:f0,,,32x16x3x3,0.5
dnnl_verbose,exec,cpu,convolution,jit:avx512_common,forward_training,src_f32::blocked:aBcd16b:f0,,alg:convolution_direct,mb2_ic16oc32_ih8oh4kh3sh2dh0ph1_iw8ow4kw3sw2dw0pw1,1.0
dnnl_verbose,exec,cpu,convolution,jit:avx512_common,forward_training,src_f32::blocked:aBcd16b:f0,,alg:convolution_direct,mb2_ic16oc32_ih8oh4kh3sh2dh0ph1_iw8ow4kw3sw2dw0pw1,1.0
dnnl_verbose,exec,cpu,convolution,jit_dw:avx512_common,forward_training,src_f32::blocked:aBcd16b:f0,,alg:convolution_direct,g32mb2_ic32oc32_ih4oh4kh1sh1dh0ph0_iw4ow4kw1sw1dw0pw0,0.25
dnnl_verbose,exec,cpu,convolution,jit:avx512_common,backward_weights,src_f32::blocked:aBcd16b:f0,,alg:convolution_direct,g2mb2_ic16oc32_ih8oh4kh3sh2dh0ph1_iw8ow4kw3sw2dw0pw1,4.0
dnnl_verbose,exec,cpu,batch_normalization,bnorm_jit:avx512_common,backward,data_f32::blocked:aBcd16b:f0 diff_f32::blocked:aBcd16b:f0,,flags:SR,mb2ic32ih4iw4,0.125
dnnl_verbose,exec,cpu,sum,simple:any,undef,src_f32::blocked:aBcd16b:f0,,,2x32x4x4,0.125
something else that a library prints
"""  # noqa: E501
#: Two steps' operators; those that oneDNN computes took 8 ms, 1 ms more than its primitives.
OPERATORS = {"Convolution": 3.0, "_backward_Convolution": 4.5, "_backward_BatchNorm": 0.5}
OPERATORS.update({"nag_mom_update": 0.5, "pick": 0.25, "_backward_mul_scalar": 0.125})
OPERATORS.update({"WaitForVar": 9.0, "unheard_of": 0.125})


def test_a_log_becomes_shares_of_a_step():
    profile = combine([0.010], [parse_log(LOG)], [OPERATORS])
    assert profile.step == pytest.approx(10)
    assert profile.parts == pytest.approx(
        {
            "convolution, gradient of weights": 4.0,
            "convolution, forward": 2.0,
            "layout reorders": 0.5,
            "merge's division and factors": 0.375,
            "BN, backward": 0.125,
            "additions": 0.125,
            "optimiser": 0.5,
            "loss": 0.25,
            "other operators": 0.125,
            AROUND: 1.0,
            BETWEEN: 1.0,
        }
    )
    assert list(profile.parts)[:2] == ["convolution, gradient of weights", "convolution, forward"]
    assert sum(profile.share(kind) for kind in profile.parts) == pytest.approx(1)


def test_a_convolutions_arithmetic():
    weights, forward = combine([0.010], [parse_log(LOG)], [OPERATORS]).convolutions
    assert forward.shape == "16 to 32, 3x3/2, 8x8" and forward.count == 2
    # Images, outputs, inputs, kernel; two of them in 2 ms; two operations each.
    assert forward.multiply_adds == 2 * (2 * 32 * 4 * 4 * 16 * 9)
    assert forward.gigaflops == pytest.approx(2 * forward.multiply_adds / 2e-3 / 1e9)
    assert weights.shape == "16 to 32, 3x3/2 in 2 groups, 8x8"
    assert weights.multiply_adds == forward.multiply_adds / 2 / 2


def test_medians_pass_over_an_outlier():
    slow = [replace(one, milliseconds=50.0) for one in parse_log(LOG)]
    logs = [parse_log(LOG), slow, parse_log(LOG)]
    profile = combine([0.010, 0.9, 0.010], logs, [OPERATORS] * 3)
    assert profile.step == pytest.approx(10)
    assert profile.parts["convolution, forward"] == pytest.approx(2)


def test_operators_come_from_mxnets_profiler():
    text = {
        "operator": {"mean": {"Count": 1, "Total": 0.5}},
        "MXNET_C_API": {
            "MXNDArraySyncCopyFromCPU": {"Count": 2, "Total": 0.25},
            "MXNDArrayWaitAll": {"Count": 1, "Total": 99.0},
        },
    }
    found = operators_of(json.dumps({"Time": text}))
    assert found == {"mean": 0.5, "MXNDArraySyncCopyFromCPU": 0.25}


def test_the_fit_finds_the_constants_that_times_were_made_with():
    module = importlib.import_module("scaling")
    constants = {"device_bandwidth": 2e8, "server_bandwidth": 5e8, "key_seconds": 2e-5}
    points = [
        {"network": name, "what": what, "count": count, "batch": 16, "alone": alone, "seconds": 1}
        for name, alone in (("cifar_dmrnet8", 0.02), ("cifar_dmrnet8_w4", 0.2))
        for what in ("devices", "workers")
        for count in (1, 2, 4)
    ]
    points = [{**point, "seconds": module.model(point, constants)} for point in points]
    assert module.fitted(points) == pytest.approx(constants)
    # Times that are shorter than computing alone do not make a constant negative.
    fast = [{**point, "seconds": 0.9 * point["alone"]} for point in points]
    assert module.fitted(fast)["key_seconds"] == 0
    assert module.fitted(fast)["server_bandwidth"] == float("inf")


@pytest.mark.slow
def test_scaling_measures_and_fits(command, tmp_path):
    out = tmp_path / "found.json"
    small = ("--networks", "cifar_dmrnet8", "--batch", 2, "--steps", 2, "--rounds", 1)
    done = command(SCALING, *small, "--json", out)
    assert done.returncode == 0, done.stderr
    assert "largest error" in done.stdout
    found = json.loads(out.read_text())
    assert [(p["what"], p["count"]) for p in found["points"]] == [
        *(("devices", count) for count in (1, 2, 4)),
        *(("workers", count) for count in (1, 2, 4)),
    ]
    assert all(point["seconds"] > 0 for point in found["points"])
    assert len(found["modelled"]) == 6 and found["constants"]["server_bandwidth"] > 0


@pytest.mark.slow
@pytest.mark.parametrize("more", [(), ("--infer",)])
def test_a_real_profile(command, tmp_path, more):
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    done = command(
        *("benchmarks/profile_step.py", "cifar_dmrnet8", "--batch", 4, "--rounds", 2, *more),
        OMP_NUM_THREADS="1",
        TMPDIR=str(temporary),
    )
    assert done.returncode == 0, done.stderr
    assert not list(temporary.iterdir())
    # MXNet's profiler removes the file that it is given.
    assert stat.S_ISCHR(os.stat(os.devnull).st_mode)
    rows = re.findall(r"^(forward|gradient of \w+) .*?x\d+ +(\d+) +[\d.]+ ", done.stdout, re.M)
    counts = {what: sum(int(n) for w, n in rows if w == what) for what, _ in rows}
    wanted = sum(count > 0 for count in gradients_of("cifar_dmrnet8").multiply_adds) - 1
    assert counts["forward"] >= wanted
    assert ("gradient of inputs" in counts) == ("optimiser" in done.stdout) == (not more)
    assert "other operators" not in done.stdout
