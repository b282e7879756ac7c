"""Several workers through MXNet's parameter server: as one, ending together, killed."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import REPOSITORY

from dmr_gluon.errors import DMRError
from dmr_gluon.runs import log as runlog
from dmr_gluon.runs.directory import RunDirectory
from dmr_gluon.runs.reader import read_run
from dmr_gluon.training import checkpoint, distributed
from dmr_gluon.training.distributed import ALONE, WorkerGroup, join

ENVIRONMENT = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
TRAIN = [sys.executable, "train_cifar.py", "--model", "cifar_dmrnet8"]

#: Makes three updates of a network without BN and prints its weights.
WITHOUT_BN = """
import json, sys
import numpy as np
from dmr_gluon.data.loader import share_of
from dmr_gluon.paper.recipes import CIFAR
from dmr_gluon.runtime import mx
from dmr_gluon.training.distributed import join
from dmr_gluon.training.optimizer import make_optimizer
from dmr_gluon.training.step import TrainingStep

group = join(sys.argv[1])
mx.random.seed(1)
net = mx.gluon.nn.HybridSequential(prefix="n_")
with net.name_scope():
    net.add(mx.gluon.nn.Conv2D(8, 3, in_channels=3, activation="relu"),
            mx.gluon.nn.GlobalAvgPool2D(), mx.gluon.nn.Dense(10, in_units=8))
net.initialize(mx.init.Xavier())
step = TrainingStep(net, make_optimizer(CIFAR), [mx.cpu()], group=group)
random = np.random.RandomState(0)
losses = []
for _ in range(4):
    data = random.standard_normal((10, 3, 16, 16)).astype(np.float32)
    label = random.randint(0, 10, 10)
    mine = share_of(10, group.shard)
    results = step(data[mine], label[mine], 0.1, total=10)
    losses.append(float(group.sum("loss", [sum(float(l.asscalar()) for l, _ in results)])[0]))
group.check_equal("end", [p.data().asnumpy() for p in net.collect_params().values()], "weights")
if group.first:
    weights = {k: p.data().asnumpy().tolist() for k, p in net.collect_params().items()}
    print(json.dumps([weights, losses]))
"""


def launched(*arguments, workers=2, more=()):
    command = [sys.executable, "-m", "dmr_gluon.cli.main", "launch", "-n", str(workers), "-s", "1"]
    return [*command, *more, "--", *arguments]


def run(arguments):
    return subprocess.run(
        arguments, cwd=REPOSITORY, env=ENVIRONMENT, capture_output=True, text=True, timeout=240
    )


@pytest.mark.slow
@pytest.mark.parametrize("workers", [2, 3])
def test_workers_with_parts_of_the_batch_equal_one_with_all_of_it(workers):
    program = [sys.executable, "-c", WITHOUT_BN]
    found = []
    for arguments in (
        [*program, "device"],
        launched(*program, "dist_sync", workers=workers),
    ):
        done = run(arguments)
        assert done.returncode == 0, done.stderr
        found.append(json.loads(done.stdout.splitlines()[-1]))
    (expected, losses), (weights, losses_of_workers) = found
    for name, array in expected.items():
        np.testing.assert_allclose(weights[name], array, rtol=1e-5, atol=1e-6, err_msg=name)
    np.testing.assert_allclose(losses_of_workers, losses, rtol=1e-5)


def arrays_of(run_dir):
    return checkpoint.read_newest(RunDirectory(run_dir).checkpoints)[1]


def test_two_workers_train_as_two_devices_of_one_process(digits, tmp_path):
    """To the bit: a sum of two does not depend on who comes first."""
    flags = ["--data-dir", digits, "--steps", "30", "--log-steps", "10"]
    apart, together = str(tmp_path / "apart"), str(tmp_path / "together")
    done = run(launched(*TRAIN, *flags, "--kv-store", "dist_sync", "--run-dir", apart))
    assert done.returncode == 0, done.stderr
    assert "of each of 2 workers" in done.stdout
    assert run([*TRAIN, *flags, "--cpus", "2", "--run-dir", together]).returncode == 0
    found, expected = arrays_of(apart), arrays_of(together)
    assert set(found) == set(expected)
    for name, array in expected.items():
        if "running" in name:  # a mean of four numbers, taken in another order
            np.testing.assert_allclose(found[name], array, rtol=1e-5, atol=1e-7)
        else:
            assert (found[name] == array).all(), name
    logs = [runlog.epochs(RunDirectory(path).log) for path in (apart, together)]
    for one, other in zip(*logs):
        assert one.test_error == other.test_error and one.images in (1437, 448)
        np.testing.assert_allclose(one.train_loss, other.train_loss, rtol=1e-6)
    points = [read_run(path).points for path in (apart, together)]
    assert sorted(points[0]) == sorted(points[1]) == [(1, 10), (1, 20)]
    for place, row in points[0].items():
        assert row["train_error"] == points[1][place]["train_error"]
        np.testing.assert_allclose(row["train_loss"], points[1][place]["train_loss"], rtol=1e-6)


@pytest.mark.slow
def test_three_workers_on_a_set_that_does_not_divide_by_three_end_together(digits, tmp_path):
    # 1,437 images in batches of 50: the last has 37, which is 12, 12 and 13.
    path = str(tmp_path / "run")
    flags = ["--data-dir", digits, "--epochs", "2", "--batch-size", "50", "--run-dir", path]
    done = run(launched(*TRAIN, *flags, "--kv-store", "dist_sync", workers=3))
    assert done.returncode == 0, done.stderr
    epochs = runlog.epochs(RunDirectory(path).log)
    assert [(line.step, line.images) for line in epochs] == [(29, 1437), (58, 1437)]


def processes(role):
    """PIDs of the processes of a job started here with a role, such as ``worker 1``."""
    name, _, number = role.partition(" ")
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/environ", "rb") as file:
                variables = file.read().split(b"\0")
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                line = file.read().replace(b"\0", b" ").decode()
        except OSError:
            continue
        mine = f"PYTEST_CURRENT_TEST={os.environ['PYTEST_CURRENT_TEST']}".encode() in variables
        right = f"DMLC_ROLE={name}".encode() in variables
        if number:
            right = right and f"DMR_WORKER={number}".encode() in variables
        if mine and right and re.search(r"train_cifar|import dmr_gluon\.runtime", line):
            found.append(int(pid))
    return found


@pytest.mark.slow
@pytest.mark.parametrize("role", ["worker 0", "worker 1", "server", "scheduler"])
@pytest.mark.parametrize("restarts", [0, 1])
def test_a_process_that_is_killed_ends_the_job_or_starts_it_again(digits, tmp_path, role, restarts):
    path = str(tmp_path / "run")
    flags = ["--data-dir", digits, "--epochs", "4", "--checkpoint-steps", "5", "--run-dir", path]
    command = launched(
        *TRAIN, *flags, "--kv-store", "dist_sync", more=["--max-restarts", str(restarts)]
    )
    job = subprocess.Popen(
        command,
        cwd=REPOSITORY,
        env={**ENVIRONMENT, "PYTEST_CURRENT_TEST": os.environ["PYTEST_CURRENT_TEST"]},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    lines = []
    for line in job.stdout:
        lines.append(line)
        if line.startswith("epoch 1/4") and not any("restart" in said for said in lines):
            time.sleep(0.2)
            (pid,) = processes(role)[:1]
            os.kill(pid, signal.SIGKILL)
            killed = time.monotonic()
    text, status = "".join(lines), job.wait(60)
    took = time.monotonic() - killed
    named = role if " " in role else rf"{role}( 0)?"
    assert re.search(rf"dmr launch: {named} .*SIGKILL", text), text
    events = runlog.read(RunDirectory(path).log)
    if restarts:
        assert status == 0 and "restart 1 of 1" in text, text
        assert events[-1]["event"] == "end" and "resume" in [e["event"] for e in events]
        assert [line.epoch for line in runlog.epochs(RunDirectory(path).log)] == [1, 2, 3, 4]
    else:
        assert status != 0 and took < 15, (status, took)
        assert checkpoint.read_newest(RunDirectory(path).checkpoints) is not None
    assert not any(processes(name) for name in ("worker", "server", "scheduler"))


class TestJoining:
    def test_outside_a_job(self, monkeypatch):
        for name in ("DMLC_ROLE", "DMLC_PS_ROOT_URI"):
            monkeypatch.delenv(name, raising=False)
        with pytest.raises(DMRError, match="dmr launch"):
            join("dist_sync")
        assert join("device") is ALONE

    @pytest.mark.parametrize(
        "devices, kind",
        [
            (["gpu", "gpu"], "dist_device_sync"),
            (["gpu"], "dist_sync"),
            (["cpu", "cpu"], "dist_sync"),
        ],
    )
    def test_several_gpus_are_summed_on_gpus(self, monkeypatch, devices, kind):
        for name in ("ROLE", "PS_ROOT_URI", "PS_ROOT_PORT", "NUM_WORKER", "NUM_SERVER"):
            monkeypatch.setenv("DMLC_" + name, "1")
        made = []
        store = SimpleNamespace(num_workers=1, rank=0)
        monkeypatch.setattr(distributed.mx.kv, "create", lambda name: made.append(name) or store)
        join("dist_sync", [SimpleNamespace(device_type=device) for device in devices])
        assert made == [kind]

    def test_a_worker_must_not_train_by_itself(self, monkeypatch):
        monkeypatch.setenv("DMLC_ROLE", "worker")
        with pytest.raises(DMRError, match="--kv-store dist_sync"):
            join("device")

    def test_without_the_number_of_servers(self, monkeypatch):
        for name in ("ROLE", "PS_ROOT_URI", "PS_ROOT_PORT", "NUM_WORKER"):
            monkeypatch.setenv("DMLC_" + name, "1")
        monkeypatch.delenv("DMLC_NUM_SERVER", raising=False)
        with pytest.raises(DMRError, match="DMLC_NUM_SERVER is not set"):
            join("dist_sync")

    @pytest.mark.parametrize("number", ["x", "2", "3", "-1", "²"])
    def test_a_number_that_no_worker_has(self, monkeypatch, number):
        monkeypatch.setenv("DMR_WORKER", number)
        with pytest.raises(DMRError, match="DMR_WORKER .* must be a number below 2"):
            WorkerGroup(SimpleNamespace(num_workers=2, rank=0))

    def test_a_worker_that_is_alone(self):
        assert ALONE.first and ALONE.shard == (0, 1)
        assert (ALONE.sum("x", [[1, 2], [3, 4]]) == [[1, 2], [3, 4]]).all()
        assert (ALONE.gather("x", [5.0]) == [[5.0]]).all()
        ALONE.check_equal("x", [np.zeros(3)], "weights")


class Two(WorkerGroup):
    """Worker 0 of two; ``other`` says what worker 1 gives in place of what this one does."""

    def __init__(self, other=lambda values: values):
        super().__init__(SimpleNamespace(num_workers=2, rank=0))
        self.other, self.gathered = other, []

    def gather(self, name, values):
        self.gathered.append(name)
        return np.array([np.ravel(values), self.other(np.ravel(values))])


def test_one_bit_that_differs_between_workers_is_refused():
    arrays = [np.ones(3, np.float32), np.zeros((2, 2), np.float32)]
    Two().check_equal("weights", arrays, "weights")
    ALONE.check_equal("weights", arrays, "weights")
    seen = []
    Two(lambda values: seen.append(values[0]) or values).check_equal("w", arrays, "weights")
    changed = [arrays[0], arrays[1].copy()]
    changed[1][1, 1] = -0.0
    with pytest.raises(DMRError, match="worker 1 has another weights than worker 0"):
        Two(lambda values: np.array(seen)).check_equal("w", changed, "weights")


UNEQUAL = """
import time
import numpy as np
from dmr_gluon.cli.program import run
from dmr_gluon.runtime import mx
from dmr_gluon.training.distributed import join

def main():
    group = join("dist_sync")
    assert group.sum("a", [2**40 + 1, 0.1])[0] == 2 * (2**40 + 1)
    assert (group.gather("b", [group.rank, 1 / 3])[:, 0] == [0, 1]).all()
    # Many under way at once, and one worker much faster than the other.
    later = []
    for i in range(200):
        later.append(group.gather_later("c", mx.nd.array([i, -i])))
        if group.rank and i % 20 == 0:
            mx.nd.waitall()
            time.sleep(0.02)
    for i, rows in enumerate(later):
        assert (rows.asnumpy() == [[i, -i], [i, -i]]).all(), (i, rows)
    group.check_equal("same", [np.arange(3)], "weights")
    group.check_equal("other", [np.arange(3) + 1e-9 * group.rank], "weights")

run(main)
"""


@pytest.mark.slow
def test_workers_with_other_weights_are_found_out():
    done = run(launched(sys.executable, "-c", UNEQUAL))
    assert done.returncode == 2
    assert "worker 1 has another weights than worker 0" in done.stderr + done.stdout


def test_what_one_worker_refuses_ends_the_job_with_its_line(digits, tmp_path):
    path = tmp_path / "run"
    path.mkdir()
    (path / "config.json").write_text("{}")
    flags = ["--data-dir", digits, "--epochs", "1", "--run-dir", str(path)]
    done = run(launched(*TRAIN, *flags, "--kv-store", "dist_sync"))
    assert done.returncode == 2, done.stderr
    assert "is not empty" in done.stderr and "terminate called" not in done.stderr
    assert "worker" in done.stderr and "Traceback" not in done.stderr


#: train_cifar.py with something that goes wrong on one worker alone.
ONE_SIDED = """
import dataclasses, os, sys
from dmr_gluon.cli.program import run
from dmr_gluon.cli.training_flags import parse_training_flags
from dmr_gluon.paper.recipes import DIGITS

def main():
    recipe, options = parse_training_flags("", DIGITS, dataset="digits", arguments=sys.argv[2:])
    import dmr_gluon.training.epoch as epoch
    from dmr_gluon.errors import DMRError
    from dmr_gluon.training import checkpoint
    from dmr_gluon.training.fit import fit
    from dmr_gluon.training.step import TrainingStep

    what, mine = sys.argv[1], os.environ["DMR_WORKER"]
    if what == "data" and mine == "1":
        batches = epoch.training_batches
        def failing(*arguments, **keywords):
            for i, batch in enumerate(batches(*arguments, **keywords)):
                if i == 9:
                    raise DMRError("train.rec is damaged: record 7 cannot be read")
                yield batch
        epoch.training_batches = failing
    if what == "disk" and mine == "0":
        write = checkpoint.write
        def full(directory, number, *others):
            if number:
                raise OSError(28, "No space left on device", "x.npz")
            return write(directory, number, *others)
        checkpoint.write = full
    if what == "weights" and mine == "1":
        call, count = TrainingStep.update, [0]
        def other(self, *arguments):
            count[0] += 1
            if count[0] == 5:
                bias = self.net.output.bias
                bias.set_data(bias.data() + 1e-6)
            return call(self, *arguments)
        TrainingStep.update = other
    if what == "seed":
        options = dataclasses.replace(options, seed=1 + int(mine))
    if what == "bug" and mine == "1":
        epoch.training_batches = None
    fit(recipe, options)

run(main)
"""


@pytest.mark.parametrize(
    "what, words, status",
    [
        pytest.param("data", "record 7 cannot be read", 1, marks=pytest.mark.slow),
        pytest.param("disk", "No space left on device", 1, marks=pytest.mark.slow),
        pytest.param("weights", "has another weights", 1, marks=pytest.mark.slow),
        pytest.param("seed", "another recipe, seed or data set", 2, marks=pytest.mark.slow),
        pytest.param("bug", "NoneType", 1, marks=pytest.mark.slow),
    ],
)
def test_what_goes_wrong_on_one_worker_ends_the_job(digits, tmp_path, what, words, status):
    flags = ["--data-dir", digits, "--run-dir", str(tmp_path / "run"), "--model", "cifar_dmrnet8"]
    program = [sys.executable, "-c", ONE_SIDED, what, *flags, "--steps", "30"]
    done = run(launched(*program, "--kv-store", "dist_sync"))
    assert done.returncode == status, done.stderr
    assert words in done.stderr and "stopping the others" in done.stderr, done.stderr
