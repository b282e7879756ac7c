"""Compare several devices or workers with one device that computes all parts in turn.

With ``accumulate``, one device computes exactly what as many devices do, but without a kvstore, so
any difference is the kvstore's.

As a program, this module is one of the two workers of :func:`check_workers`:
``python -m dmr_gluon.device_checks.data_parallel gpu 0,1``.
"""

import os
import subprocess
import sys
from dataclasses import replace

import numpy as np

from ..errors import DMRError, last_line
from ..models.names import get_spec
from ..models.network import Network
from ..models.serialization import prepare_to_run
from ..paper.recipes import CIFAR
from ..runtime import mx
from ..system.program import command
from ..training.checkpoint import read_statistics
from ..training.distributed import ALONE, join
from ..training.optimizer import NAG2016
from ..training.step import LossScale, TrainingStep
from .checks import FAILED, PASSED, Check, bounded, relative_difference

#: Steps, and images in each part of a batch.
STEPS, IMAGES = 4, 8
_LR = 0.05
#: Bounds on losses and on the change of the weights. CPU contexts differ by up to 1e-6; GPUs do not
#: add in the same order twice.
_BOUNDS = {"losses": 1e-3, "weights": 2e-2}
_BOUNDS_OF_WORKERS = {**_BOUNDS, "second worker": 0}
_BOUNDS_OF_SYNC_BN = {"losses": 1e-3, "weights": 1e-1, "running statistics": 1e-2}


def _compared(what, found, expected, bounds=_BOUNDS):
    """Return a check of what :func:`train` returns."""
    values = {
        name: (relative_difference(found[name], expected[name]), bound)
        for name, bound in bounds.items()
    }
    losses = " ".join(f"{loss:.3f}" for loss in found["losses"])
    return bounded(what, values, f"losses {losses}, replicas equal")


def make_step(devices, kv_store="device", group=ALONE, **changes):
    """Return a training step of a small network, always with the same weights."""
    mx.random.seed(0)
    net = Network(get_spec("cifar_dmrnet8"))
    net.initialize(ctx=devices)
    prepare_to_run(net, devices)
    recipe = replace(CIFAR, **changes)
    half = recipe.dtype == "float16"
    optimizer = NAG2016(learning_rate=_LR, momentum=0.9, wd=1e-4, multi_precision=half)
    return TrainingStep(net, optimizer, devices, kv_store, recipe, group)


def train(step, count=STEPS, same=False, images=None):
    """Make some steps.

    Parameters
    ----------
    step : TrainingStep
    count : int
    same : bool
        Use the same batch in every step.
    images : int, optional
        Images of this worker in each batch. Default: ``IMAGES`` in each part.

    Returns
    -------
    dict of str to numpy.ndarray
        ``losses``, the mean of each step over this worker's images, and ``weights``, their change.

    Raises
    ------
    DMRError
        If the devices end with different weights.
    """
    before, losses, group = _weights(step), [], step.group
    images = images or IMAGES * len(step.devices) * step.accumulate
    own, total = slice(images * group.rank, images * (group.rank + 1)), images * group.count
    for number in range(count):
        random = np.random.RandomState(0 if same else number)
        data, label = random.standard_normal((total, 3, 32, 32)), random.randint(0, 10, total)
        results = step(data[own], label[own], _LR, total=total)
        losses.append(sum(float(loss.asscalar()) for loss, _ in results) / images)
    mx.nd.waitall()
    step.check_replicas()
    return {"losses": np.array(losses), "weights": _weights(step) - before}


def _weights(step):
    arrays = [array.list_data()[0].asnumpy().astype(np.float64) for array in step.flat.arrays]
    return np.concatenate(arrays)


def check_kvstores(devices):
    """Check steps through every kvstore that sums within a process."""
    expected = train(make_step(devices[:1], accumulate=len(devices)))
    for name in ("device", "local", "nccl")[: 3 if devices[0].device_type == "gpu" else 2]:
        what = f"kvstore {name}, {STEPS} steps on {len(devices)} devices"
        try:
            yield _compared(what, train(make_step(devices, kv_store=name)), expected)
        except (DMRError, mx.base.MXNetError) as error:
            yield Check(what, last_line(error), FAILED)


def check_workers(devices):
    """Check steps by two workers and a server. The workers write to the working folder."""
    share = len(_share(devices, 0))
    what = f"kvstore dist_sync, {STEPS} steps by 2 workers of {share} device{'s' * (share > 1)}"
    numbers = ",".join(str(device.device_id) for device in devices)
    worker = command(__name__, devices[0].device_type, numbers)
    status = subprocess.call(
        command("dmr_gluon.cli.main", "launch", "-n", "2", "-s", "1", "--", *worker),
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    if status:
        sys.exit(status)  # the launcher has said why
    first, second = np.load("worker0.npz"), np.load("worker1.npz")
    losses, weights = (first["losses"] + second["losses"]) / 2, first["weights"]
    found = {"losses": losses, "weights": weights, "second worker": second["weights"]}
    expected = train(make_step(devices[:1], accumulate=2 * share))
    expected["second worker"] = weights
    yield _compared(what, found, expected, _BOUNDS_OF_WORKERS)


def _share(devices, number):
    """Return the devices of one of two workers, which may have to share one."""
    half = max(1, len(devices) // 2)
    return devices[number * half : (number + 1) * half] or devices[:1]


def work(kind, numbers):
    """Train as one of the two workers."""
    devices = [mx.Context(kind, int(number)) for number in numbers.split(",")]
    devices = _share(devices, int(os.environ["DMR_WORKER"]))
    group = join("dist_sync", devices)
    np.savez(f"worker{group.rank}.npz", **train(make_step(devices, group=group)))


def check_float16(devices, count=40):
    """Check that the loss of one batch falls, and that the loss scale stays sane.

    CPUs have no convolutions in float16; there, only the scaling is checked, in float32.
    """
    on_gpus = devices[0].device_type == "gpu"
    step = make_step(devices, dtype="float16" if on_gpus else "float32")
    step.loss_scale = step.loss_scale or LossScale()
    what = "float16" if on_gpus else "loss scale (in float32: CPUs have no float16 convolutions)"
    first, *_, last = train(step, count, same=True)["losses"]
    scale, skipped = step.loss_scale.scale, step.loss_scale.skipped
    passed = last < 0.7 * first and scale >= 1 and skipped <= count // 2
    figures = f"loss {first:.3f} to {last:.3f}, scale {scale:g}, {skipped} steps skipped"
    yield Check(f"{what}, {count} steps with one batch", figures, PASSED if passed else FAILED)


def check_sync_bn(devices):
    """Check that ``--sync-bn`` gives the running statistics of the whole batch on one device."""
    together, alone = make_step(devices, sync_bn=True), make_step(devices[:1])
    found = train(together, count=2)
    expected = train(alone, count=2, images=IMAGES * len(devices))
    for step, result in ((together, found), (alone, expected)):
        result["running statistics"] = read_statistics(step.net)[0]
    what = f"sync-bn, 2 steps on {len(devices)} devices, against one"
    yield _compared(what, found, expected, _BOUNDS_OF_SYNC_BN)


if __name__ == "__main__":
    work(*sys.argv[1:])
