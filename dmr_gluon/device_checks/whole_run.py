"""Whole runs: stopped and resumed, exported, and how fast they are."""

import os
import resource
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
from .checks import MEASURED, Check, bounded, judged, relative_difference

_CLASSES = 4
#: Of losses and weights of a resumed run on GPUs, should the bits not be the same; and of losses on
#: another number of devices, whose shares of a batch have other statistics.
_RESUMED, _MOVED = 1e-1, 5e-1

_RESUME = (
    "a run that is stopped here does not go on as it was: before you rely on it, compare with "
    "MXNET_ENFORCE_DETERMINISM=1 and MXNET_CUDNN_AUTOTUNE_DEFAULT=0, and report it"
)
_EXPORT = (
    "what is exported from this device computes something else there: use the device's own CPU"
)


def prepare(folder, train, test, size, jpeg=False):
    """A made-up set: a pattern for each class, with noise.

    Parameters
    ----------
    folder : str
    train, test : int
        Images.
    size : (int, int)
        Height and width.
    jpeg : bool
        As photographs are stored; all of a class are the same one then.

    Returns
    -------
    str
        The folder.
    """
    random = np.random.RandomState(0)
    patterns = [
        cv2.resize(random.uniform(0, 255, (5, 7, 3)), size[::-1], interpolation=cv2.INTER_CUBIC)
        for _ in range(_CLASSES)
    ]

    def draw(number):
        noise = np.random.RandomState(number).normal(0, 40, (*size, 3))
        return np.clip(patterns[number % _CLASSES] + noise, 0, 255).astype(np.uint8)

    files = [cv2.imencode(".jpg", draw(number))[1].tobytes() for number in range(_CLASSES)]

    def source(number):
        read = (lambda: files[number % _CLASSES]) if jpeg else (lambda: draw(number))
        return Source(str(number), number % _CLASSES, read)

    splits = {
        "train": [source(number) for number in range(train)],
        "test": [source(train + number) for number in range(test)],
    }
    classes = [f"class{number}" for number in range(_CLASSES)]
    write_set("made-up", "1", lambda: (classes, splits, {}), folder, Encoding(), False)
    return folder


def _options(devices, folder, name):
    kind = devices[0].device_type
    numbers = ",".join(str(device.device_id) for device in devices)
    on = {"gpus": numbers} if kind == "gpu" else {"cpus": len(devices)}
    return RunOptions(
        data_dir=os.path.join(folder, "data"), run_dir=os.path.join(folder, name), **on
    )


def check_run(devices, folder):
    """Stop and resume on the same devices and on one; export and predict.

    Parameters
    ----------
    devices : list of Context
    folder : str
        Empty.

    Yields
    ------
    Check
    """
    on_gpus = devices[0].device_type == "gpu"
    prepare(os.path.join(folder, "data"), 192, 32, (32, 32))
    recipe = replace(
        CIFAR,
        model="cifar_dmrnet8",
        epochs=3,
        batch_size=8 * len(devices),
        lr=0.02,
    )
    # Without trials, whose choice may differ between two runs.
    os.environ.setdefault("MXNET_CUDNN_AUTOTUNE_DEFAULT", "0")
    whole = _options(devices, folder, "whole")
    fit(recipe, whole)
    same = replace(whole, run_dir=os.path.join(folder, "same"))
    one = _options(devices[:1], folder, "one")
    _stop_after_first_epoch(recipe, same)
    shutil.copytree(same.run_dir, one.run_dir)
    for options, what in ((same, "the same devices"), (one, "one device")):
        if options is one and len(devices) == 1:
            continue
        fit(recipe, replace(options, resume=True))
        yield _resumed(whole.run_dir, options.run_dir, f"stopped, resumed on {what}", on_gpus)
    yield from _check_export(whole, devices[0])


def _stop_after_first_epoch(recipe, options):
    """As Ctrl-C or a scheduler stops a run, wherever in the second epoch it then is."""

    def watch():
        log = RunDirectory(options.run_dir).log
        while not (os.path.exists(log) and runlog.epochs(log)):
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()
    try:
        fit(recipe, options)
    except Stopped:
        return
    raise RuntimeError("the run did not stop when it was told to")


def _resumed(whole, resumed, what, on_gpus):
    (first, other) = (runlog.epochs(RunDirectory(path).log)[-1] for path in (whole, resumed))
    losses = {
        name: abs(getattr(other, name) / getattr(first, name) - 1)
        for name in ("train_loss", "test_loss")
    }
    hashes = [line.parameters_sha256 for line in (first, other)]
    text = f"train loss {first.train_loss:.4f} and {other.train_loss:.4f}"
    if what.endswith("same devices"):
        if hashes[0] == hashes[1]:
            return Check(what, f"the same bits; {text}", "ok")
        if not on_gpus:
            return judged(what, False, f"other bits; {text}", _RESUME)
        weights = [_weights(path) for path in (whole, resumed)]
        values = {name.replace("_", " "): (value, _RESUMED) for name, value in losses.items()}
        values["weights"] = (relative_difference(*weights), _RESUMED)
        return bounded(what, values, _RESUME, f"other bits; {text}")
    return bounded(what, {"train loss": (losses["train_loss"], _MOVED)}, _RESUME, text)


def _weights(path):
    parameters = load_run(path).collect_params().values()
    return np.concatenate([p.data().asnumpy().ravel() for p in parameters])


def _check_export(whole, device):
    bundle = os.path.join(os.path.dirname(whole.run_dir), "bundle")
    export(whole.run_dir, bundle, data_dir=whole.data_dir)
    images = np.random.RandomState(0).standard_normal((16, 3, 32, 32))
    expected = load_bundle(bundle, device=mx.cpu()).logits(images)
    found = load_bundle(bundle, device=device).logits(images)
    net = load_run(whole.run_dir, [device])
    direct = net(mx.nd.array(images, ctx=device)).asnumpy()
    values = {
        "bundle": (relative_difference(found, expected), 1e-3),
        "run": (relative_difference(direct, expected), 1e-3),
    }
    yield bounded(f"export, predicted on {device}, beside the CPU", values, _EXPORT)


def check_speed(devices, folder):
    """Images a second with one device and with all, reading photographs' sizes on GPUs.

    Parameters
    ----------
    devices : list of Context
    folder : str
        Empty.

    Yields
    ------
    Check
    """
    on_gpus = devices[0].device_type == "gpu"
    if on_gpus:
        recipe = replace(IMAGENET, model="dmrnet29", epochs=2)
        share, steps, size = 32, 20, (375, 500)
    else:
        recipe = replace(CIFAR, model="cifar_dmrnet14", epochs=2)
        share, steps, size = 32, 6, (32, 32)
    alone = None
    for group in [devices[:1], devices] if len(devices) > 1 else [devices]:
        place = os.path.join(folder, str(len(group)))
        images = share * len(group)
        prepare(os.path.join(place, "data"), images * steps, 32, size, jpeg=on_gpus)
        fit(replace(recipe, batch_size=images), _options(group, place, "run"))
        line = runlog.epochs(os.path.join(place, "run", "log.jsonl"))[-1]
        seconds, rate = line.seconds, line.images_per_second
        waited = seconds.get("data", 0) / (seconds.get("data", 0) + seconds["train"])
        text = (
            f"{rate:,.0f} images/s ({recipe.model}, {share} on each of {len(group)}), "
            f"{100 * waited:.0f}% of it waiting for data, {_memory(group)}"
        )
        advice = ""
        if waited > 0.1:
            advice = "reading is what bounds it: more cores, or smaller stored images"
        if alone:
            text += f"; {rate / alone:.2f} times one device"
            if on_gpus and rate < 0.6 * alone * len(group):
                advice = advice or "sums over devices bound it: compare --kv-store nccl"
        alone = alone or rate
        yield Check(
            f"training on {len(group)} device{'s' * (len(group) > 1)}", text, MEASURED, advice
        )


def _memory(devices):
    if devices[0].device_type == "cpu":
        used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
        return f"{used / 2**30:.1f} GiB of memory"
    pairs = [mx.context.gpu_memory_info(device.device_id) for device in devices]
    used, total = max((total - free, total) for free, total in pairs)
    return f"{used / 2**30:.1f} of {total / 2**30:.1f} GiB of GPU memory"
