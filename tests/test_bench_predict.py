"""dmr bench --predict and --profile: the model's properties, the log, what is refused."""

import importlib.util
import json
import os
import stat
from dataclasses import replace

import pytest
from conftest import REPOSITORY

from dmr_gluon.bench.predict import (
    Gradients,
    Hardware,
    exposed_seconds,
    gradients_of,
    machine_shares,
    predict,
    server_shares,
)
from dmr_gluon.bench.profile import AROUND, BETWEEN, combine, parse_log, shares_of_peak
from dmr_gluon.bench.profile_worker import operators_of
from dmr_gluon.errors import DMRError

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
    from dmr_gluon.models.complexity import measure
    from dmr_gluon.models.names import network
    from dmr_gluon.models.network import Network

    counted = measure(Network(network("cifar_dmrnet8")).portable_symbol(), (3, 32, 32))
    # Each begins at a multiple of 64 values.
    padding = gradients.bytes / 4 - counted.parameters
    assert 0 <= padding < 64 * len(Network(network("cifar_dmrnet8")).collect_params().keys())
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


PREDICT = ("-m", "dmr_gluon.cli.main", "bench", "cifar_dmrnet8", "--predict")
ONE = ("--images-per-second", 500, "--batch-per-device", 64)
MANY = (*ONE, "--machines", "1,2,4", "--device-bandwidth", 10, "--network-bandwidth", 25)


def test_the_command_prints_a_prediction_that_says_so(command, tmp_path):
    out, picture = tmp_path / "found.json", tmp_path / "found.png"
    done = command(*PREDICT, *MANY, "--json", out, "--picture", picture)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("cifar_dmrnet8, predicted, not measured")
    found = json.loads(out.read_text())
    assert found["predicted"] is True and picture.stat().st_size > 1000
    assert [step["devices"] for step in found["steps"]] == [1, 2, 4]
    assert found["steps"][0]["efficiency"] == 1 > found["steps"][1]["efficiency"]
    assert found["hardware"]["network_bandwidth"] == pytest.approx(25e9 / 8)
    assert found["hardware"]["read_per_second"] is None


def test_the_speed_can_come_from_what_was_measured(command, tmp_path):
    measured = tmp_path / "measured.json"
    speed = {"network": "cifar_dmrnet8", "work": "training", "form": "live", "batch": 64}
    measured.write_text(json.dumps({"speeds": [{**speed, "images_per_second": 640.0}]}))
    out = tmp_path / "found.json"
    done = command(*PREDICT, "--measured", measured, "--json", out)
    assert done.returncode == 0, done.stderr
    assert json.loads(out.read_text())["steps"][0]["seconds"] == pytest.approx(0.1)
    done = command(*PREDICT[:3], "cifar_dmrnet14", "--predict", "--measured", measured)
    assert done.returncode == 2 and "has no training speed of cifar_dmrnet14" in done.stderr


@pytest.mark.parametrize(
    "arguments, reason",
    [
        ([], "--predict needs --images-per-second"),
        ([*ONE, "--machines", "2", "--device-bandwidth", 1], "--predict needs --network-bandwidth"),
        ([*ONE, "--machines", "1,x"], "--machines 1,x: write numbers"),
        ([*ONE, "--network-bandwidth", 25], "--network-bandwidth does nothing for one machine"),
        ([*ONE, "--overlap", 0], "--overlap does nothing for one device"),
        ([*ONE, "--cores", 4], "give both --read-per-core and --cores"),
        ([*MANY, "--overlap", 2], "--overlap is a share"),
        ([*MANY, "--key-microseconds", -1], "--key-microseconds must be at least 0"),
        ([*MANY, "--servers", 0], "--servers must be above 0"),
        ([*ONE, "--batch", 2], "--batch does nothing with --predict"),
        ([*ONE, "--profile"], "not both"),
        ([*ONE, "--infer"], "--infer does nothing without --profile"),
        ([*ONE, "--rounds", 0], "--rounds does nothing with --predict"),
        ([*ONE[2:], "--images-per-second", "inf"], "must be above 0, not inf"),
    ],
)
def test_flags_that_do_not_fit_are_refused_in_one_line(monkeypatch, arguments, reason):
    from dmr_gluon.cli import main as cli

    with pytest.raises(DMRError) as refusal:
        cli._main([*PREDICT[2:], *map(str, arguments)])
    assert reason in str(refusal.value) and "\n" not in str(refusal.value)


def test_flags_of_a_prediction_need_one(command):
    done = command("-m", "dmr_gluon.cli.main", "bench", "--devices", 2)
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert "--devices does nothing without --predict" in done.stderr


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
    from dmr_gluon.bench.floor import Peak

    peak = Peak(forward.multiply_adds / 2e-3 * 4, "")
    assert shares_of_peak((forward,), peak) == [pytest.approx(0.25)]


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


def scaling():
    """benchmarks/scaling.py as a module."""
    spec = importlib.util.spec_from_file_location("scaling", REPOSITORY / SCALING)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_fit_finds_the_constants_that_times_were_made_with():
    module = scaling()
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
    out, picture, temporary = (tmp_path / name for name in ("found.json", "found.svg", "temporary"))
    temporary.mkdir()
    done = command(
        *("-m", "dmr_gluon.cli.main", "bench", "cifar_dmrnet8", "--profile", "--batch", 4, *more),
        *("--rounds", 2, "--json", out, "--picture", picture),
        OMP_NUM_THREADS="1",
        TMPDIR=str(temporary),
    )
    assert done.returncode == 0, done.stderr
    assert not list(temporary.iterdir())
    # MXNet's profiler removes the file that it is given.
    assert stat.S_ISCHR(os.stat(os.devnull).st_mode)
    found = json.loads(out.read_text())
    parts = found["parts"]
    assert sum(parts.values()) == pytest.approx(found["step"])
    # A first convolution, and two in each of three blocks' two branches, and projections.
    counts = {}
    for one in found["convolutions"]:
        counts[one["what"]] = counts.get(one["what"], 0) + one["count"]
    forward, inputs, weights = (
        counts.get(f"convolution, {what}", 0)
        for what in ("forward", "gradient of inputs", "gradient of weights")
    )
    from dmr_gluon.bench.predict import gradients_of

    wanted = sum(count > 0 for count in gradients_of("cifar_dmrnet8").multiply_adds) - 1
    assert forward == wanted
    assert (inputs, weights) == ((0, 0) if more else (wanted - 1, wanted))
    assert ("optimiser" in parts) == (not more) and "other operators" not in parts
    assert picture.stat().st_size > 1000
