"""Several devices and workers, beside one device that computes their parts in turn.

Part by part, one device with ``accumulate`` computes just what so many devices do, without any
kvstore; what differs is then the kvstore's.
"""

import glob
import os
import subprocess
import sys
from dataclasses import replace

import numpy as np

from ..errors import DMRError, last_line
from ..models.layers import BatchNorm
from ..models.names import get_spec
from ..models.network import Network
from ..models.serialization import prepare_to_run
from ..paper.recipes import CIFAR
from ..runtime import mx
from ..system import program as child
from ..training.distributed import ALONE, join
from ..training.optimizer import NAG2016
from ..training.step import LossScale, TrainingStep
from .checks import FAILED, SKIPPED, Check, bounded, judged, relative_difference

STEPS, IMAGES = 4, 8  # of a part
_LR = 0.05
#: Of losses and of what the weights have moved by. Between CPU contexts they are 0 to 1e-6; GPUs
#: do not add in the same order twice.
_LOSSES, _MOVES = 1e-3, 2e-2

_KVSTORE = (
    "--kv-store {0} loses or changes gradients: train with another one; for nccl see "
    "NCCL_DEBUG=INFO and NCCL_P2P_DISABLE=1; with device, MXNET_ENABLE_GPU_P2P=0"
)
_WORKERS = (
    "dist_sync loses or changes gradients, or its processes do not reach each other: see "
    "docs/machines.md, and PS_VERBOSE=1"
)
_SCALE = "float16 does not train here: use float32, or see docs/gpus.md"
_SYNC = "train without --sync-bn; if it hung, MXNET_GPU_WORKER_NTHREADS was too small"


def check_kvstores(devices):
    """The same steps through every kvstore within a process.

    Parameters
    ----------
    devices : list of Context

    Yields
    ------
    Check
    """
    if len(devices) == 1:
        yield Check("kvstores", "a single device has no use for one", SKIPPED)
        return
    expected = steps_of(make_step(devices[:1], accumulate=len(devices)))
    names = ("device", "local", *(["nccl"] if devices[0].device_type == "gpu" else []))
    for name in names:
        what = f"kvstore {name}, {STEPS} steps on {len(devices)} devices"
        try:
            found = steps_of(make_step(devices, kv_store=name))
        except (DMRError, mx.base.MXNetError) as error:
            yield Check(what, last_line(error), FAILED, _KVSTORE.format(name))
            continue
        yield _alike(what, found, expected, _KVSTORE.format(name))


def _alike(what, found, expected, advice):
    (losses, moves), (other_losses, other_moves) = found, expected
    off = float(np.max(np.abs(np.divide(losses, other_losses) - 1)))
    values = {
        "losses": (off, _LOSSES),
        "weights": (relative_difference(moves, other_moves), _MOVES),
    }
    text = "losses " + " ".join(f"{loss:.3f}" for loss in losses) + ", replicas equal"
    return bounded(what, values, advice, text)


def make_step(devices, kv_store="device", group=ALONE, **changes):
    """A training step of a small network, with the same weights each time."""
    mx.random.seed(0)
    net = Network(get_spec("cifar_dmrnet8"))
    net.initialize(ctx=devices)
    prepare_to_run(net, devices)
    recipe = replace(CIFAR, **changes)
    half = recipe.dtype == "float16"
    optimizer = NAG2016(learning_rate=_LR, momentum=0.9, wd=1e-4, multi_precision=half)
    return TrainingStep(net, optimizer, devices, kv_store, recipe, group)


def steps_of(step, count=STEPS, group=ALONE, same=False, share=None):
    """Make some steps.

    Parameters
    ----------
    step : TrainingStep
    count : int
    group : WorkerGroup
        Every worker takes its share of each batch.
    same : bool
        All with the same batch.
    share : int, optional
        Images of this worker's. Default: ``IMAGES`` for each part.

    Returns
    -------
    list of float, numpy.ndarray
        The mean loss of each step over this worker's images, and what the weights moved by.

    Raises
    ------
    DMRError
        Where the devices then have different weights.
    """
    before = _weights(step)
    share = share or IMAGES * len(step.devices) * step.accumulate
    losses = []
    for number in range(count):
        random = np.random.RandomState(0 if same else number)
        shape = (share * group.count, 3, 32, 32)
        images, labels = random.standard_normal(shape), random.randint(0, 10, shape[0])
        mine = slice(share * group.rank, share * (group.rank + 1))
        results = step(images[mine], labels[mine], _LR, total=shape[0])
        losses.append(sum(float(loss.asscalar()) for loss, _ in results) / share)
    mx.nd.waitall()
    step.check_replicas()
    return losses, _weights(step) - before


def _weights(step):
    arrays = [bucket.list_data()[0].asnumpy().astype(np.float64) for bucket in step.flat.arrays]
    return np.concatenate(arrays)


# Workers


def check_workers(devices, folder):
    """The same steps by two workers, with a server between them.

    Parameters
    ----------
    devices : list of Context
    folder : str
        For what the workers find.

    Yields
    ------
    Check
    """
    each = max(1, len(devices) // 2)
    groups = [devices[:each], devices[each : 2 * each] or devices[:each]]
    what = f"kvstore dist_sync, {STEPS} steps by 2 workers of {each} device{'s' * (each > 1)}"
    names = [",".join(str(device.device_id) for device in group) for group in groups]
    module = child.command(
        "dmr_gluon.device_checks.worker", devices[0].device_type, ";".join(names), folder
    )
    launch = child.command("dmr_gluon.cli.main", "launch", "-n", "2", "-s", "1", "--", *module)
    threads = os.environ.get("OMP_NUM_THREADS", "2")
    done = subprocess.run(
        launch,
        stdout=sys.stderr,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": str(max(1, int(threads) // 2))},
    )
    found = [np.load(path) for path in sorted(glob.glob(os.path.join(folder, "worker*.npz")))]
    if done.returncode or len(found) != 2:
        said = (done.stderr.strip().splitlines() or ["nothing"])[-1]
        yield Check(what, f"status {done.returncode}: {said}", FAILED, _WORKERS)
        return
    # The reference has to have both workers' parts, in their order.
    expected = steps_of(make_step(devices[:1], accumulate=2 * each))
    losses = np.mean([one["losses"] for one in found], axis=0)
    moves = [one["moves"] for one in found]
    if not np.array_equal(*moves):
        yield Check(what, "the workers have different weights", FAILED, _WORKERS)
        return
    yield _alike(what, (losses, moves[0]), expected, _WORKERS)


def work(devices, folder):
    """What each of the two workers does."""
    group = join("dist_sync", devices)
    losses, moves = steps_of(make_step(devices, group=group), group=group)
    np.savez(os.path.join(folder, f"worker{group.rank}.npz"), losses=losses, moves=moves)


# float16 and synchronised BN


def check_float16(devices, count=40):
    """The loss of one batch falls, at a loss scale that makes sense.

    On CPUs, which have no convolutions in float16, the scaling alone is checked, in float32.

    Yields
    ------
    Check
    """
    on_gpus = devices[0].device_type == "gpu"
    step = make_step(devices, dtype="float16" if on_gpus else "float32")
    if not on_gpus:
        step.loss_scale = LossScale()
    what = "float16" if on_gpus else "loss scale (in float32: CPUs have no float16 convolutions)"
    losses, _ = steps_of(step, count, same=True)
    scale = step.loss_scale.scale
    skipped = step.loss_scale.skipped
    fine = losses[-1] < 0.7 * losses[0] and scale >= 1 and skipped <= count // 2
    yield judged(
        f"{what}, {count} steps with one batch",
        fine,
        f"loss {losses[0]:.3f} to {losses[-1]:.3f}, scale {scale:g}, {skipped} steps skipped",
        _SCALE,
    )


def check_sync_bn(devices):
    """With --sync-bn several devices have the running statistics that one with all images has.

    Yields
    ------
    Check
    """
    if len(devices) == 1:
        yield Check("sync-bn", "needs several devices", SKIPPED)
        return
    together = make_step(devices, sync_bn=True)
    found = steps_of(together, count=2)
    alone = make_step(devices[:1])
    expected = steps_of(alone, count=2, share=IMAGES * len(devices))
    statistics = [_statistics(step) for step in (together, alone)]
    off = float(np.max(np.abs(np.divide(found[0], expected[0]) - 1)))
    values = {
        "losses": (off, _LOSSES),
        "weights": (relative_difference(found[1], expected[1]), 5 * _MOVES),
        "running statistics": (relative_difference(*statistics), 1e-2),
    }
    yield bounded(f"sync-bn, 2 steps on {len(devices)} devices, beside one", values, _SYNC)


def _statistics(step):
    found = []
    step.net.apply(lambda block: found.append(block) if isinstance(block, BatchNorm) else None)
    return np.concatenate(
        [
            parameter.list_data()[0].asnumpy().astype(np.float64)
            for block in found
            for parameter in (block.running_mean, block.running_var)
        ]
    )
