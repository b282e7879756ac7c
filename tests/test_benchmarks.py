"""The benchmarks' own side in small, so that they do not rot."""

import importlib
import json
import os
import subprocess
import sys

import pytest
from conftest import REPOSITORY

from dmr_gluon.data.datasets import open_prepared
from dmr_gluon.errors import DMRError

PROGRAM, COMPARE = "benchmarks/data_reading.py", "benchmarks/compare.py"


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


@pytest.mark.parametrize(
    "program, arguments, reason",
    [
        ("deployment.py", ["nowhere"], "nowhere"),
        ("deployment.py", [], "name a bundle"),
        ("deployment.py", ["x", "--rounds", 0], "--rounds must be above 0"),
        ("cpu_forms.py", ["--rounds", 0], "must be above 0"),
        ("cpu_contexts.py", ["--rounds", 0], "must be above 0"),
        ("cpu_contexts.py", ["--forms", "2x1"], "2x1 is no form"),
        ("finetuning.py", ["x", "y"], "no prepared data set: x has no manifest"),
        ("data_reading.py", ["--json", "nowhere/x.json"], "nowhere/x.json cannot be written"),
        ("scaling.py", ["--json", "nowhere/x.json"], "nowhere/x.json cannot be written"),
    ],
)
def test_other_benchmarks_refuse_in_one_line(command, program, arguments, reason):
    done = command(f"benchmarks/{program}", *arguments)
    assert done.returncode == 2, done.stderr
    assert done.stderr.splitlines()[-1].startswith("error: ") and reason in done.stderr
    assert "Traceback" not in done.stderr


@pytest.fixture
def benchmark(monkeypatch):
    """A module of benchmarks/, by name."""
    monkeypatch.syspath_prepend(str(REPOSITORY / "benchmarks"))
    return importlib.import_module


@pytest.fixture(scope="session")
def peer_python():
    """An interpreter that has PyTorch."""
    made = REPOSITORY / ".venv-bench" / "bin" / "python"
    for python in (os.environ.get("DMR_PEER_PYTHON"), str(made), sys.executable):
        if python and os.path.exists(python):
            done = subprocess.run(
                [python, "-c", "import torch"],
                env={**os.environ, "PYTHONPATH": ""},
                capture_output=True,
            )
            if not done.returncode:
                return python
    pytest.skip("no interpreter has PyTorch; name one in DMR_PEER_PYTHON, or make bench")


@pytest.mark.parametrize(
    "arguments, reason",
    [
        (["--rounds", "0"], "must be above 0"),
        (["--batch", "0"], "--batch must be at least 1"),
        (["--networks", "cifar_dmrnet15"], "cifar_dmrnet15"),
        (["--peer-python", "/nowhere/python"], "/nowhere/python cannot be started"),
        (["--json", "/nowhere/found.json"], "/nowhere/found.json cannot be written"),
    ],
)
def test_the_comparison_refuses_in_one_line(benchmark, arguments, reason):
    with pytest.raises(DMRError) as refusal:
        benchmark("compare").main(arguments)
    assert reason in str(refusal.value) and "\n" not in str(refusal.value)


def test_an_interpreter_without_pytorch_is_told_what_to_do(command, tmp_path):
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho 'ModuleNotFoundError: no torch' >&2; exit 1\n")
    python.chmod(0o755)
    done = command(COMPARE, "--peer-python", python)
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert "no torch" in done.stderr and "make bench" in done.stderr


@pytest.mark.parametrize(
    "ours, theirs",
    [
        ("stem_conv_weight", "stem.conv.weight"),
        ("stem_bn_gamma", "stem.bn.weight"),
        ("stage2_block1_branch1_conv1_weight", "stage2_block1.branch1.conv1.weight"),
        ("stage2_block13_branch2_bn3_beta", "stage2_block13.branch2.bn3.bias"),
        ("stage4_block1_proj2_bn_running_mean", "stage4_block1.proj2.bn.running_mean"),
        ("head_fc_bias", "head.fc.bias"),
    ],
)
def test_parameters_find_their_place_in_a_twin(benchmark, ours, theirs):
    assert benchmark("answering").twin_name(ours) == theirs


@pytest.mark.parametrize("name", ["cifar_dmrnet14", "cifar_dilnet14", "resnet50"])
def test_no_two_parameters_have_the_same_place(benchmark, name):
    from dmr_gluon import get_model

    twin_name = benchmark("answering").twin_name
    names = list(get_model(name).collect_params())
    places = [twin_name(one) for one in names]
    assert len(set(places)) == len(names)


def made_up(groups, **contestants):
    """A part of a comparison; contestants as (side, dtype, runtime)."""
    keys = ("side", "dtype", "runtime")
    entries = {
        name: {**dict(zip(keys, one)), "seconds_to_first": 1.5, "peak_bytes": 2**30}
        for name, one in contestants.items()
    }
    groups = [{name: {"8": turns} for name, turns in group.items()} for group in groups]
    return {"batches": [8], "contestants": entries, "failed": {}, "groups": groups, "agreement": []}


@pytest.fixture
def part():
    """Ours in two groups: twice as slow in the second, which was a busy moment."""
    return made_up(
        [
            {"ours": [1, 2, 4], "quick": [2, 3, 2], "slow": [9, 9, 9]},
            {"ours": [2, 4, 4], "half": [1, 2, 2]},
        ],
        ours=("ours", "float32", "mxnet"),
        quick=("pytorch", "float32", "pytorch"),
        slow=("pytorch", "float32", "pytorch"),
        half=("pytorch", "bfloat16", "pytorch"),
    )


@pytest.fixture
def found(part):
    part["agreement"] = [
        {"who": "quick", "what": "losses of 8", "dtype": "float32", "difference": 2e-7},
        {"who": "slow", "what": "losses of 8", "dtype": "float32", "difference": 3e-6},
    ]
    part["failed"] = {"compiled": "no compiler | none"}
    versions = {"dmr_gluon": "0", "MXNet": "1.9.1"}
    machine = {"processor": "p", "cores": 2, "threads": 2, "load": 0.1, "versions": versions}
    work = {"training": 5e6, "inference": 2e6}
    return {
        "machine": machine,
        "peer": {"PyTorch": "2"},
        "peak": {"multiply_adds": 1e9, "by": "products"},
        "rounds": 3,
        "seconds": 1,
        "networks": [{"network": "tiny", "multiply_adds": work, "training": part}],
        "beginnings": {"import torch": 1.25},
    }


def test_ratios_are_taken_round_by_round(benchmark, part):
    part = benchmark("comparison_report").Part(part)
    # 2/1, 3/2, 2/4; the ratio of the medians would be 1.
    assert part.ratio("ours", "quick", 8) == 1.5
    assert part.ratio("ours", "half", 8) == 0.5


def test_contestants_that_never_met_are_compared_by_their_medians(benchmark, part):
    part = benchmark("comparison_report").Part(part)
    assert part.ratio("quick", "half", 8) == part.rate("quick", 8) / part.rate("half", 8) == 1


def test_the_basis_is_the_fastest_of_its_precision(benchmark, part):
    part = benchmark("comparison_report").Part(part)
    assert part.best(8, "pytorch", "float32") == "quick"
    lines = {what: (ours, other, ratio) for _, what, ours, other, ratio in part.headlines()}
    assert lines["float32, by PyTorch's best float32"] == ("ours", "quick", 1.5)
    assert "float32, by ONNX Runtime" not in lines


def test_the_opponent_is_the_one_that_is_hardest_to_beat(benchmark):
    """And not the one that was measured while everything was quick."""
    groups = [
        {"ours": [1, 1, 1], "in a quick hour": [2, 2, 2]},
        {"ours": [4, 4, 4], "in a slow hour": [3, 3, 3]},
    ]
    pytorch = ("pytorch", "float32", "pytorch")
    kinds = {"in a quick hour": pytorch, "in a slow hour": pytorch}
    part = made_up(groups, ours=("ours", "float32", "mxnet"), **kinds)
    part = benchmark("comparison_report").Part(part)
    assert part.best(8, "pytorch") == "in a quick hour"
    (line, *_) = part.headlines()
    assert line[2:] == ("ours", "in a slow hour", 0.75)


def test_the_report_says_what_was_found(benchmark, found):
    text = benchmark("comparison_report").markdown(found)
    assert (
        "| tiny | training | 8 | float32, by PyTorch's best float32 | ours | quick | 1.50 |" in text
    )
    # 8 images in 2 seconds, 5 million multiply-adds each, of a thousand million.
    assert "| quick | 4.0 | 1.50 | 2% |" in text
    assert "| tiny | training | float32 | 2 | 3.0e-06 | losses of 8 | slow |" in text
    assert "no compiler \\| none" in text
    assert "| tiny | 8 | half | 1.5 |  | 1,024 |" in text
    assert "| import torch | 1.25 |" in text


@pytest.mark.parametrize(
    "dtype, difference, refused",
    [
        ("float64", 1e-10, False),
        ("float64", 1e-8, True),
        ("float32", 1e-3, True),
        ("float32", float("inf"), True),
        ("bfloat16", 0.01, False),
        ("bfloat16", 0.2, True),
        ("int8", 0.2, False),
    ],
)
def test_what_computes_something_else_is_not_timed(benchmark, dtype, difference, refused):
    agreement = benchmark("agreement")
    one = agreement.Agreement("somebody", "logits of 8", dtype, difference)
    if not refused:
        assert one.require() is one
        return
    with pytest.raises(agreement.Disagreement, match="somebody does not compute"):
        one.require()


def test_what_is_no_number_differs_from_everything(benchmark):
    difference = benchmark("agreement").difference
    assert difference([1.0, 2.0], [1.0, float("nan")]) == float("inf")
    assert difference([1.0, 2.0], [1.0]) == float("inf")
    assert difference([1.0, -4.0], [1.5, -4.0]) == 0.125


class Standing:
    """A process that is none: it takes memory, and a second for each image."""

    pid = os.getpid()

    def __init__(self, name, living, breaks=False):
        self.name, self.living, self.breaks = name, living, breaks

    def wait(self):
        if self.breaks:
            raise DMRError("it breaks")
        self.living.append(self.name)
        return {"ready": True, "seconds_to_first": 1.0}

    def seconds(self, batch, seconds):
        return [float(batch)]

    def close(self):
        if not self.breaks:
            self.living.remove(self.name)


@pytest.fixture
def contest(benchmark, monkeypatch):
    """take_turns on a machine of 5 units of memory, with contestants of 1 unit."""
    turns, contestants = benchmark("taking_turns"), benchmark("contestants")
    living = []
    monkeypatch.setattr(turns, "available_bytes", lambda: 5 - len(living))
    monkeypatch.setattr(turns, "peak_bytes", lambda pid: 1)

    def take(names, check=lambda contestant, process: None, breaks=()):
        def one(name):
            side = "ours" if name == "ours" else "pytorch"
            return contestants.Contestant(
                name, side, "float32", lambda: Standing(name, living, name in breaks)
            )

        found = turns.take_turns([one(name) for name in names], [2], check, 2, 0.1)
        return [list(group) for group in found["groups"]], found

    take.living = living
    return take


def test_ours_takes_part_in_every_group(contest):
    groups, found = contest(["ours", "a", "b", "c"])
    assert groups == [["ours", "a", "b"], ["ours", "c"]]
    assert found["groups"][1]["c"] == {"2": [2.0, 2.0]}
    assert not contest.living


def test_a_contestant_that_cannot_run_loses_nothing(contest):
    groups, found = contest(["ours", "a", "b", "c"], breaks=("a",))
    assert groups == [["ours", "b", "c"]]
    assert found["failed"] == {"a": "it breaks"}


def test_one_that_disagrees_ends_it_all(contest, benchmark):
    disagreement = benchmark("agreement").Disagreement

    def check(contestant, process):
        if contestant.name == "b":
            raise disagreement("b does not compute")

    with pytest.raises(disagreement):
        contest(["ours", "a", "b"], check)
    assert not contest.living


@pytest.mark.slow
@pytest.mark.parametrize("name", ["cifar_dmrnet14", "cifar_dilnet14", "cifar_resnet26", "dmrnet29"])
def test_the_twins_compute_what_our_networks_compute(benchmark, peer_python, tmp_path, name):
    import numpy as np

    from dmr_gluon.analysis.symbol_parity import randomise
    from dmr_gluon.models.equivalence import arrays_of
    from dmr_gluon.models.names import get_spec
    from dmr_gluon.models.network import Network

    agreement, contestants = benchmark("agreement"), benchmark("contestants")
    case = contestants.Case(name, str(tmp_path / "weights.npz"), str(tmp_path), peer_python)
    np.savez(case.weights, **arrays_of(randomise(Network(get_spec(name)))))
    checks = agreement.Checks(case, "train", [2])
    assert [one.what for one in checks.found] == ["logits", "losses", "gradients"]
    assert max(one.difference for one in checks.found) < 1e-9
    one = contestants.training(case, 2)[2]
    process = one.start()
    process.wait()
    checks(one, process)
    process.close()
    assert checks.found[-1].what == "losses of 2" and checks.found[-1].difference < 1e-4


@pytest.mark.slow
def test_networks_without_a_twin_are_refused_in_one_line(command, peer_python):
    arguments = ("--networks", "cifar_plain26", "--peer-python", peer_python)
    done = command(COMPARE, *arguments, "--only", "memory", "--forms", "eager")
    assert done.returncode == 2 and "has no twin in PyTorch" in done.stderr.splitlines()[-1]


@pytest.mark.slow
def test_the_comparison_measures_everybody(command, peer_python, tmp_path):
    done = command(
        *(COMPARE, "--networks", "cifar_dmrnet8", "--peer-python", peer_python, "--batch", 4),
        *("--forms", "eager", "--rounds", 2, "--seconds", 0.01, "--out-dir", tmp_path),
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == (tmp_path / "comparison.md").read_text()
    found = json.loads((tmp_path / "comparison.json").read_text())
    (one,) = found["networks"]
    for part in ("training", "inference"):
        assert not one[part]["failed"]
        sides = {entry["side"] for entry in one[part]["contestants"].values()}
        assert sides >= {"ours", "authors", "pytorch"}
        for group in one[part]["groups"]:
            assert all(len(turns) == 2 for by_size in group.values() for turns in by_size.values())
    assert "| cifar_dmrnet8 | training | 4 | float32, by PyTorch's best float32 |" in done.stdout
