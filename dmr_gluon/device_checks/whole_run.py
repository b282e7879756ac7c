"""Check whole runs: stopped and resumed, exported, and their speed.

The checks write to the working folder.
"""

import os
import shutil
import signal
import threading
import time
from dataclasses import replace

import cv2
import numpy as np

from ..datasets.encoder import Encoding, Source
from ..datasets.writer import write_set
from ..deploy.export import export
from ..deploy.load import load_bundle
from ..errors import Stopped
from ..paper.recipes import CIFAR, IMAGENET
from ..runs import log as runlog
from ..runs.directory import RunDirectory
from ..runs.trained_network import load_run
from ..runtime import mx
from ..training.fit import fit
from ..training.options import RunOptions
from .checks import FAILED, MEASURED, PASSED, Check, bounded, relative_difference

_CLASSES, _PICTURES = "abcd", 64
#: Bounds on loss and weights of a run resumed on the same GPUs, if not bit-identical, and on one
#: device, where BN takes its statistics over other parts of a batch.
_SAME_GPUS, _ONE_DEVICE = (1e-1, 1e-1), (5e-1, None)


def prepare(out, images, size):
    """Prepare a synthetic set of JPEGs: smooth noise and grain, each used repeatedly.

    Parameters
    ----------
    out : str
    images : int
        Number of training images.
    size : (int, int)
        Height and width.
    """
    random = np.random.RandomState(0)
    files = []
    for _ in range(_PICTURES):
        smooth = random.uniform(0, 255, (5, 7, 3))
        smooth = cv2.resize(smooth, size[::-1], interpolation=cv2.INTER_CUBIC)
        grain = random.normal(0, 40, smooth.shape)
        files.append(cv2.imencode(".jpg", smooth + grain)[1].tobytes())
    splits = {
        split: [
            Source(str(n), n % len(_CLASSES), lambda n=n: files[n % _PICTURES])
            for n in range(count)
        ]
        for split, count in (("train", images), ("test", 32))
    }
    write_set("synthetic", "1", lambda: (list(_CLASSES), splits, {}), out, Encoding(), False)


def _train(recipe, devices, run, data="data", **more):
    if devices[0].device_type == "gpu":
        more["gpus"] = ",".join(str(device.device_id) for device in devices)
    return fit(recipe, RunOptions(data, run, cpus=1 if "gpus" in more else len(devices), **more))


def check_run(devices):
    """Check a run that is stopped and resumed on the same devices and on one, and its export."""
    prepare("data", 192, (32, 32))
    size = 8 * len(devices)
    recipe = replace(CIFAR, model="cifar_dmrnet8", epochs=3, batch_size=size, lr=0.02)
    _train(recipe, devices, "whole")
    threading.Thread(target=_stop_after_an_epoch, args=("same",), daemon=True).start()
    try:
        _train(recipe, devices, "same")
        raise RuntimeError("the run did not stop at SIGTERM")
    except Stopped:
        shutil.copytree("same", "one")
    _train(recipe, devices, "same", resume=True)
    bounds = _SAME_GPUS if devices[0].device_type == "gpu" else None
    yield check_resumed("stopped, resumed on the same devices", "whole", "same", bounds)
    if len(devices) > 1:
        _train(recipe, devices[:1], "one", resume=True)
        yield check_resumed("stopped, resumed on one device", "whole", "one", _ONE_DEVICE)
    yield check_export("whole", devices[0])


def _stop_after_an_epoch(run):
    """Send this process SIGTERM, as a scheduler does."""
    log = RunDirectory(run).log
    while not (os.path.exists(log) and runlog.epochs(log)):
        time.sleep(0.01)
    os.kill(os.getpid(), signal.SIGTERM)


def check_resumed(what, whole, resumed, bounds):
    """Compare a resumed run with one that was not stopped.

    Parameters
    ----------
    what : str
    whole, resumed : str
        Run directories.
    bounds : (float, float or None), optional
        On the loss and the weights. Default: the weights must be bit-identical.

    Returns
    -------
    Check
    """
    first, other = (runlog.epochs(RunDirectory(run).log)[-1] for run in (whole, resumed))
    text = f"train loss {first.train_loss:.4f} and {other.train_loss:.4f}"
    if first.parameters_sha256 == other.parameters_sha256:
        return Check(what, f"bit-identical; {text}", PASSED)
    if bounds is None:
        return Check(what, f"not bit-identical; {text}", FAILED)
    weights = relative_difference(_weights(resumed), _weights(whole))
    loss = relative_difference(other.train_loss, first.train_loss)
    return bounded(what, {"loss": (loss, bounds[0]), "weights": (weights, bounds[1])}, text)


def _weights(run):
    parameters = load_run(run).collect_params().values()
    return np.concatenate([p.data().asnumpy().ravel() for p in parameters])


def check_export(run, device):
    """Return a check of a run's logits on a device, from its bundle and directly."""
    export(run, "bundle")
    images = np.random.RandomState(0).standard_normal((16, 3, 32, 32))
    expected = load_bundle("bundle", device=mx.cpu()).logits(images)
    bundle = load_bundle("bundle", device=device).logits(images)
    direct = load_run(run, [device])(mx.nd.array(images, ctx=device)).asnumpy()
    found = {"bundle": bundle, "run": direct}
    values = {name: (relative_difference(one, expected), 1e-3) for name, one in found.items()}
    return bounded(f"export, predicted on {device}, against the CPU", values)


def check_speed(devices):
    """Measure images per second on one device and on all; on GPUs with ImageNet's sizes."""
    on_gpus = devices[0].device_type == "gpu"
    if on_gpus:
        recipe, steps, size = replace(IMAGENET, model="dmrnet29", epochs=2), 20, (375, 500)
    else:
        recipe, steps, size = replace(CIFAR, model="cifar_dmrnet14", epochs=2), 6, (32, 32)
    share, alone = 32, None
    for count in sorted({1, len(devices)}):
        data, run, batch = f"data{count}", f"run{count}", share * count
        prepare(data, steps * batch, size)
        found = _train(replace(recipe, batch_size=batch), devices[:count], run, data)
        last = found.epochs[found.last]
        rate, waited = last.images_per_second, last.seconds.get("data", 0)
        waited /= waited + last.seconds["train"]
        text = f"{rate:,.0f} images/s ({recipe.model}, {share} on each of {count}), "
        text += f"{100 * waited:.0f}% of the time waiting for data"
        if on_gpus:
            memory = [mx.context.gpu_memory_info(device.device_id) for device in devices[:count]]
            used, total = max((total - free, total) for free, total in memory)
            text += f", {used / 2**30:.1f} of {total / 2**30:.1f} GiB of GPU memory"
        if alone:
            text += f"; {rate / alone:.2f} times one device"
        advice = ""
        if waited > 0.1:
            advice = "reading is the bottleneck: use more cores, or store smaller images"
        elif on_gpus and alone and rate < 0.6 * alone * count:
            advice = "sums over devices are the bottleneck: compare --kv-store nccl"
        alone = alone or rate
        yield Check(f"training on {count} device{'s' * (count > 1)}", text, MEASURED, advice)
