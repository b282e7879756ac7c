"""The training loop: one for all data sets, networks and devices."""

import json
import math
import os
import platform
import sys
import time
from collections import deque
from dataclasses import asdict, dataclass
from typing import Optional

import numpy as np

from .. import __version__
from ..data.check import check_quickly
from ..data.datasets import open_prepared
from ..data.iterators import check_image_size, training_batches
from ..deploy.export import prepare_to_run, save_model
from ..errors import DMRError
from ..model import Network
from ..networks import network
from ..recipes import Recipe
from ..report import plots, runlog
from ..runs import RunDirectory, claim_run_directory
from ..runtime import installed_wheels, mx, on_a_passing_thread
from ..spec import NetworkSpec
from . import checkpoint
from .devices import check_kvstore, make_devices
from .evaluate import evaluate, split_over
from .log import Progress, duration, epoch_line
from .optimizer import learning_rate, make_optimizer


@dataclass(frozen=True)
class RunOptions:
    """Where and how a recipe is run; nothing here changes what is learned but the seed."""

    data_dir: str
    run_dir: Optional[str] = None
    resume: bool = False
    seed: int = 1
    gpus: Optional[str] = None
    cpus: int = 1
    kv_store: str = "device"


class _LossAndErrors(mx.gluon.HybridBlock):
    """Softmax cross-entropy for each image, their sum, and the number of wrong answers."""

    def hybrid_forward(self, F, logits, label):
        loss = -F.pick(F.log_softmax(logits), label)
        wrong = F.argmax(logits, axis=1) != label
        return loss, loss.sum(), wrong.sum()


def trained_parameters(net):
    """Those with a gradient: not BN's running statistics."""
    return [p for p in net.collect_params().values() if p.grad_req != "null"]


class TrainingStep:
    """One update, data-parallel over devices.

    Every device computes on its part of the batch; the gradients are summed through the
    kvstore, and every device makes the same update. Gradients are averaged over the whole
    batch, BN's statistics over the part of each device, as in the paper's MXNet.

    Parameters
    ----------
    net : HybridBlock
        Gives logits; initialised on ``devices``.
    optimizer : Optimizer
    devices : list of Context
    kv_store : str
        How gradients are summed; not used for one device.
    """

    def __init__(self, net, optimizer, devices, kv_store="device"):
        self.net, self.devices, self.kv_store = net, devices, kv_store
        # Without BN's running statistics: at its first step the Trainer copies all that it is
        # given from the first device to the others, over what the first batch has just made.
        self.trainer = mx.gluon.Trainer(
            trained_parameters(net),
            optimizer,
            kvstore=kv_store if len(devices) > 1 else None,
            update_on_kvstore=False,
        )
        self._losses = _LossAndErrors()
        self._losses.hybridize(static_alloc=True, static_shape=True)

    def __call__(self, data, label, lr):
        """Make one update.

        Parameters
        ----------
        data : NDArray or array
            (n, 3, height, width).
        label : array
            (n,).
        lr : float

        Returns
        -------
        list of (NDArray, NDArray)
            For each device the sum of the losses and the number of wrong answers.
        """
        parts = zip(split_over(self.devices, data), split_over(self.devices, label))
        with mx.autograd.record():
            results = [self._losses(self.net(x), y) for x, y in parts]
        mx.autograd.backward([loss for loss, _, _ in results])
        self.trainer.set_learning_rate(lr)
        self.trainer.step(len(label))
        return [(total, wrong) for _, total, wrong in results]


def fit(recipe: Recipe, options: RunOptions):
    """Train a network and leave a run directory behind.

    Parameters
    ----------
    recipe : Recipe
    options : RunOptions

    Returns
    -------
    str
        The run's folder.

    Raises
    ------
    DMRError
        For anything the user can mend: no data, no such GPUs, a folder that holds another
        run, a loss that is not finite, a disk that is full.
    """
    devices = make_devices(options.gpus, options.cpus)
    check_kvstore(options.kv_store, devices)
    prepared = open_prepared(options.data_dir)
    check_quickly(prepared)
    spec = network(recipe.model, classes=len(prepared.classes))
    check_image_size(prepared, recipe)
    if recipe.batch_size < len(devices):
        raise DMRError(
            f"batch_size {recipe.batch_size} is too small for {len(devices)} devices; "
            f"give each at least one image"
        )
    count = prepared.split("train").count
    # A rest that is smaller than the number of devices is left out of its epoch.
    steps = count // recipe.batch_size + (count % recipe.batch_size >= len(devices))
    if not steps:
        raise DMRError(f"{prepared.directory} has {count} training images, too few for one step")
    config = _configuration(recipe, options, spec, prepared, devices)
    stem = f"{prepared.name}-{recipe.model}"
    try:
        run = RunDirectory(options.run_dir or claim_run_directory("runs", stem))
        return _train(recipe, options, spec, prepared, devices, steps, run, config)
    except OSError as error:
        name = f" ({error.filename})" if error.filename else ""
        raise DMRError(
            f"{error.strerror or error}{name}; what was saved before is kept: mend this and go "
            f"on with --resume and the same --run-dir"
        ) from error
    except mx.base.MXNetError as error:
        reason = str(error).strip().splitlines()[-1]
        raise DMRError(
            f"MXNet stopped: {reason}; what was saved before is kept: go on with --resume and "
            f"the same --run-dir, with a smaller --batch-size in a new run if memory was short"
        ) from error


def _configuration(recipe, options, spec, prepared, devices):
    return {
        "recipe": asdict(recipe),
        "network": asdict(spec),
        "dataset": {
            "name": prepared.name,
            "directory": os.path.abspath(prepared.directory),
            "classes": list(prepared.classes),
            "mean": list(prepared.mean),
            "std": list(prepared.std),
            "train_images": prepared.split("train").count,
            "test_images": prepared.split("test").count,
            "sha256": {name: split.sha256 for name, split in prepared.splits.items()},
        },
        "seed": options.seed,
        "command": " ".join(sys.argv),
        "devices": [str(device) for device in devices],
        "kv_store": options.kv_store if len(devices) > 1 else None,
        "threads": os.environ.get("OMP_NUM_THREADS"),
        "versions": {
            "dmr_gluon": __version__,
            "python": platform.python_version(),
            "numpy": np.__version__,
            **installed_wheels(),
        },
    }


def _train(recipe, options, spec, prepared, devices, steps, run, config):
    net = Network(spec)
    mx.random.seed(options.seed)
    net.initialize(ctx=devices)
    prepare_to_run(net, devices)
    step = TrainingStep(net, make_optimizer(recipe), devices, options.kv_store)
    done = _start_or_resume(run, options, config, net, step.trainer)
    _announce(recipe, spec, prepared, devices, net, run)
    spent = 0.0
    for epoch in range(done + 1, recipe.epochs + 1):
        values = {"epoch": epoch, "step": epoch * steps}
        started = time.monotonic()
        values.update(_train_epoch(step, recipe, prepared, options.seed, epoch, steps))
        trained = time.monotonic()
        _average_running_statistics(net)
        evaluation = evaluate(net, prepared, recipe, devices)
        evaluated = time.monotonic()
        values.update(
            test_loss=evaluation.loss,
            test_error=evaluation.error,
            test_top5_error=evaluation.top5_error,
        )
        values.update(
            seconds={
                "train": round(trained - started, 3),
                "evaluate": round(evaluated - trained, 3),
            },
            images_per_second=round(values["images"] / (trained - started), 1),
            images_per_second_overall=round(values["images"] / (evaluated - started), 1),
        )
        on_a_passing_thread(_save, run, net, step.trainer, values)
        ended = time.monotonic()
        values["seconds"]["save"] = round(ended - evaluated, 3)
        values["images_per_second_overall"] = round(values["images"] / (ended - started), 1)
        runlog.append(run.log, "epoch", **values)
        spent += ended - started
        left = spent / (epoch - done) * (recipe.epochs - epoch)
        print(epoch_line(values, recipe.epochs, left), flush=True)
    if runlog.read(run.log)[-1]["event"] == "end":
        print(f"{run.path} has all its {recipe.epochs} epochs already; nothing to do")
    else:
        _finish(run)
    return run.path


def _save(run, net, trainer, values):
    """Model and checkpoint of an epoch; the checkpoint knows the epoch's line of the log."""
    save_model(net, run.model_prefix, values["epoch"])
    run.keep_only_model(values["epoch"])
    state = {"epoch": values["epoch"], "lr": values["lr"], "values": values}
    checkpoint.save(run.checkpoints, values["epoch"], net, trainer, state)


def _start_or_resume(run, options, config, net, trainer):
    """Begin a run, or load its last checkpoint; returns the epochs that are done."""
    if not options.resume:
        if run.exists():
            raise DMRError(
                f"{run.path} holds a run already; continue it with --resume, or choose another "
                f"--run-dir"
            )
        run.create(config)
        runlog.append(run.log, "start", **config)
        return 0
    begun = run.config()
    # Fields that networks have got since then, with the values that they had without them.
    begun["network"] = asdict(NetworkSpec.from_json(begun["network"]))
    begun = _plain(begun)
    same = {key: config[key] for key in ("recipe", "network", "dataset", "seed")}
    for key, old, new in _differences(begun, _plain(same)):
        raise DMRError(
            f"{run.path} was started with {key} {old}, not {new}; resume it with the same, or "
            f"start another --run-dir"
        )
    state = checkpoint.restore(run.checkpoints, net, trainer)
    done = state["epoch"] if state else 0
    finished = runlog.forget_after(run.log, done, keep_end=done == config["recipe"]["epochs"])
    if state:
        # What a sudden stop between two of these may have left undone.
        save_model(net, run.model_prefix, done)
        run.keep_only_model(done)
        if done not in [epoch["epoch"] for epoch in runlog.epochs(run.log)]:
            runlog.append(run.log, "epoch", **state["values"])
    if not finished:
        runlog.append(run.log, "resume", epoch=done)
        print(f"continuing {run.path} after epoch {done}")
    return done


def _differences(begun, config):
    """(name, old value, new value) of what decides the result and is not the same."""
    for key, new in config.items():
        old = begun.get(key)
        if isinstance(new, dict) and isinstance(old, dict):
            yield from _differences(old, new)
        elif old != new and key != "directory":
            yield key, old, new


def _plain(value):
    """A value as it comes back from JSON."""
    return json.loads(json.dumps(value))


def _announce(recipe, spec, prepared, devices, net, run):
    parameters = sum(int(np.prod(p.shape)) for p in trained_parameters(net))
    print(
        f"{recipe.model}: depth {spec.depth}, {parameters / 1e6:.3f} M parameters; "
        f"{prepared.name}: {prepared.split('train').count} training and "
        f"{prepared.split('test').count} test images, {len(prepared.classes)} classes\n"
        f"recipe {recipe.name}: {recipe.epochs} epochs of batches of {recipe.batch_size} on "
        f"{', '.join(map(str, devices))}; run directory {run.path}",
        flush=True,
    )
    idle = mx.context.num_gpus() if mx.runtime.Features().is_enabled("CUDA") else 0
    if idle and devices[0].device_type == "cpu":
        print(f"note: {idle} GPUs are not used; --gpus 0-{idle - 1} uses them", flush=True)


def _train_epoch(step, recipe, prepared, seed, epoch, steps):
    """One pass over the training images; returns the epoch's figures."""
    images, loss, wrong, lr = 0, 0.0, 0, None
    waiting = deque()

    def collect():
        nonlocal loss, wrong
        results, size = waiting.popleft()
        batch_loss = sum(float(total.asscalar()) for total, _ in results)
        if not math.isfinite(batch_loss):
            raise DMRError(
                f"the loss is {batch_loss} in epoch {epoch} with learning rate {lr:g}; the last "
                f"checkpoint is kept: try a lower --lr in another --run-dir"
            )
        loss += batch_loss
        wrong += sum(int(count.asscalar()) for _, count in results)
        progress.update(size, loss=f"{batch_loss / size:.3f}")

    total = min(prepared.split("train").count, steps * recipe.batch_size)
    with Progress(f"epoch {epoch}/{recipe.epochs}", total) as progress:
        for i, (data, label) in enumerate(training_batches(prepared, recipe, seed, epoch)):
            if i == steps:
                break
            lr = learning_rate(recipe, (epoch - 1) * steps + i, recipe.epochs * steps)
            waiting.append((step(data, label, lr), len(label)))
            images += len(label)
            # The loss is looked at two steps late: MXNet computes while we prepare the next
            # batches, and never runs further ahead than this.
            if len(waiting) > 2:
                collect()
        while waiting:
            collect()
    # On CPUs BN updates its running statistics in the backward pass, and MXNet does not know
    # that whoever reads them has to wait for it.
    mx.nd.waitall()
    return {
        "lr": lr,
        "images": images,
        "train_loss": loss / images,
        "train_error": 100 * wrong / images,
    }


def _average_running_statistics(net):
    """Give every device the mean of all devices' BN running statistics.

    They are what evaluation, checkpoint and export then agree on. Training does not depend
    on them, and as they are linear in the batches, averaging now or later is the same.
    """
    for parameter in net.collect_params().values():
        if parameter.grad_req == "null" and len(parameter.list_ctx()) > 1:
            arrays = [array.as_in_context(mx.cpu()) for array in parameter.list_data()]
            parameter.set_data(sum(arrays[1:], arrays[0]) / len(arrays))


def _finish(run):
    done = runlog.epochs(run.log)
    seconds = sum(sum(epoch["seconds"].values()) for epoch in done)
    images = sum(epoch["images"] for epoch in done)
    runlog.append(
        run.log,
        "end",
        epochs=len(done),
        seconds=round(seconds, 1),
        images_per_second_overall=round(images / seconds, 1),
        test_error=done[-1]["test_error"],
    )
    picture = run.file("curve.png")
    plots.learning_curve([run.log], picture)
    print(
        f"done: test error {done[-1]['test_error']:.2f}% after {len(done)} epochs, "
        f"{images / seconds:.0f} training images per second with evaluation and saving included, "
        f"{duration(seconds)} in all\n"
        f"learning curve: {picture}",
        flush=True,
    )
