"""What is settled before a run's first step: its plan, its configuration, what is said of it."""

import contextlib
import math
import os
import platform
import shlex
import sys
from dataclasses import asdict, dataclass
from typing import Optional

import numpy as np

from ..devices import uses_tf32
from ..errors import DMRError
from ..paper.recipes import DIGITS, differences
from ..runtime import installed_wheels, mx
from ..system.machine import processor
from ..system.signals import say
from ..version import __version__
from .flat_parameters import trained_parameters
from .optimizer import learning_rate


@dataclass(frozen=True)
class RunOptions:
    """Where and how a recipe is run.

    The seed changes what is learned; so does the number of devices, each of which has BN
    statistics of its own; and ``on_nan``, where it goes back. Nothing else does.

    Parameters
    ----------
    data_dir : str
    run_dir : str, optional
        Default: the next free ``runs/SET-MODEL-001``.
    resume : bool
    seed : int
    gpus : str, optional
        Such as ``0-7``; None: CPUs.
    cpus : int
    kv_store : str
    log_steps : int, optional
        Training loss and error since the epoch's beginning are logged after every so many steps.
    checkpoint_steps : int, optional
    checkpoint_minutes : float
        A checkpoint within an epoch after so many steps, or so much time.
    reading_threads : int, optional
        That read and augment. Default: one for each core.
    cudnn_autotune : int, optional
        0, 1 or 2; see docs/performance.md. For GPUs.
    keep : int
        How many of the last checkpoints are kept.
    on_nan : str
        ``stop`` or ``rollback``.
    tensorboard : bool
    estimate : bool
        Only say how long the run would take.
    began : float, optional
        ``time.monotonic()`` of the program's start, for the account of the time.
    """

    data_dir: str
    run_dir: Optional[str] = None
    resume: bool = False
    seed: int = 1
    gpus: Optional[str] = None
    cpus: int = 1
    kv_store: str = "device"
    log_steps: Optional[int] = None
    checkpoint_steps: Optional[int] = None
    checkpoint_minutes: float = 10.0
    reading_threads: Optional[int] = None
    cudnn_autotune: Optional[int] = None
    keep: int = 2
    on_nan: str = "stop"
    tensorboard: bool = False
    estimate: bool = False
    began: Optional[float] = None


@dataclass(frozen=True)
class Plan:
    """How a run's images are divided into steps.

    Attributes
    ----------
    count : int
        Training images.
    batch : int
        Images of a step on all devices and workers.
    per_epoch, total : int
        Steps.
    epochs : int
    """

    count: int
    batch: int
    per_epoch: int
    total: int
    epochs: int

    @classmethod
    def of(cls, recipe, prepared, parts):
        """The plan for a batch that is cut into so many parts (devices, workers, portions).

        Raises
        ------
        DMRError
            Where a part would be left without images.
        """
        count, batch = prepared.split("train").count, recipe.batch_size
        if batch < parts:
            raise DMRError(
                f"batch_size {batch} is too small for {parts} parts (devices times workers times "
                f"accumulate); give each at least one image"
            )
        # A rest that is smaller than the number of parts is left out of its epoch.
        per_epoch = count // batch + (count % batch >= parts)
        if not per_epoch:
            raise DMRError(
                f"{prepared.directory} has {count} training images, too few for one step"
            )
        epochs, total = recipe.epochs, per_epoch * recipe.epochs
        if recipe.steps is not None:
            per_epoch, total = min(per_epoch, recipe.steps), recipe.steps
            epochs = math.ceil(total / per_epoch)
        if round(recipe.warmup_epochs * per_epoch) >= total:
            raise DMRError(f"warmup_epochs {recipe.warmup_epochs:g} leaves none of {total} steps")
        return cls(count, batch, per_epoch, total, epochs)

    def done(self, at):
        """Steps that have been made at a :class:`~.position.Position`."""
        return at.epoch * self.per_epoch + at.steps

    def steps_in(self, epoch):
        """Of an epoch, counted from 1."""
        return min(self.per_epoch, self.total - (epoch - 1) * self.per_epoch)

    def images_in(self, step):
        """Of a step of an epoch, counted from 0."""
        return min(self.batch, self.count - step * self.batch)

    @property
    def images_per_step(self):
        """Mean over an epoch."""
        return min(self.batch * self.per_epoch, self.count) / self.per_epoch

    def lr(self, recipe, epoch, step):
        """The learning rate of a step, counted from 0, of an epoch, counted from 1."""
        return learning_rate(
            recipe, (epoch - 1) * self.per_epoch + step, self.total, self.per_epoch
        )


def configuration(recipe, options, spec, prepared, devices, group, plan):
    """What ``config.json`` says of a run.

    Parameters
    ----------
    recipe : Recipe
    options : RunOptions
    spec : NetworkSpec
    prepared : RecordDataset
    devices : list of Context
    group : Group
    plan : Plan

    Returns
    -------
    dict
        For JSON.
    """
    several = len(devices) > 1 or group.count > 1
    return {
        "recipe": asdict(recipe),
        "unlike_the_paper": {name: list(pair) for name, pair in differences(recipe).items()},
        "network": asdict(spec),
        "dataset": {
            "name": prepared.name,
            "directory": os.path.abspath(prepared.directory),
            "classes": list(prepared.classes),
            "words": list(prepared.words) if prepared.words else None,
            "mean": list(prepared.mean),
            "std": list(prepared.std),
            "train_images": prepared.split("train").count,
            "test_images": prepared.split("test").count,
            "sha256": {name: split.sha256 for name, split in prepared.splits.items()},
            "official": prepared.official,
        },
        "seed": options.seed,
        "epochs": plan.epochs,
        "log_steps": options.log_steps,
        "command": shlex.join(sys.argv),
        "devices": [str(device) for device in devices],
        "workers": group.count,
        "kv_store": options.kv_store if several else None,
        "threads": os.environ.get("OMP_NUM_THREADS"),
        "tf32": uses_tf32(recipe, devices),
        "processor": processor(),
        "versions": {
            "dmr_gluon": __version__,
            "python": platform.python_version(),
            "numpy": np.__version__,
            **installed_wheels(),
        },
    }


def announce(recipe, spec, prepared, devices, net, run, plan, options, group):
    """Say what is going to be trained, on what, and how large its files will be.

    Parameters
    ----------
    net : Network
        Initialised.
    run : RunDirectory or None
        None for an estimate.
    recipe, spec, prepared, devices, plan, options, group
        As in :func:`configuration`.
    """
    parameters = sum(int(np.prod(p.shape)) for p in trained_parameters(net))
    on = ", ".join(map(str, devices))
    workers = f" of each of {group.count} workers" if group.count > 1 else ""
    length = f"{plan.epochs} epochs" if recipe.steps is None else f"{plan.total} steps"
    print(
        f"{recipe.model}: depth {spec.depth}, {parameters / 1e6:.3f} M parameters; "
        f"{prepared.name}: {prepared.split('train').count} training and "
        f"{prepared.split('test').count} test images, {len(prepared.classes)} classes\n"
        f"recipe {recipe.name}: {length} of batches of {recipe.batch_size} on {on}{workers}; "
        f"{_unlike_the_paper(recipe)}",
        flush=True,
    )
    wanted = recipe.train_images
    if wanted and wanted != plan.count:
        print(
            f"note: this recipe was published with {wanted:,} training images, here are "
            f"{plan.count:,}",
            flush=True,
        )
    if recipe.batch_size > plan.count:
        print(
            f"note: a batch of {recipe.batch_size} is larger than the set, so an epoch is one step "
            f"of {plan.count} images; a smaller --batch-size makes more",
            flush=True,
        )
    size, copies = parameters * 4 / 1e6, 2 + bool(recipe.ema_decay)
    say(
        f"run directory {run.path if run else '(none)'}: models of {size:.1f} MB (last and best), "
        f"checkpoints of {size * copies:.1f} MB (last {options.keep} and best)"
    )
    several = len(devices) > 1 and devices[0].device_type == "cpu"
    if several and "MXNET_CPU_TEMP_COPY" not in os.environ:  # too late: MXNet has read it
        print(
            f"note: {len(devices)} CPU contexts will wait for each other; before MXNet is "
            f"imported, call dmr_gluon.system.machine.share_cores({len(devices)})",
            flush=True,
        )
    if uses_tf32(recipe, devices):
        print(
            "note: these GPUs compute float32 convolutions as TF32, with ten bits of precision; "
            "NVIDIA_TF32_OVERRIDE=0 in the environment gives the paper's arithmetic, more slowly",
            flush=True,
        )
    idle = 0
    with contextlib.suppress(mx.base.MXNetError):  # CPUs need no driver that works
        if devices[0].device_type == "cpu" and mx.runtime.Features().is_enabled("CUDA"):
            idle = mx.context.num_gpus()
    if idle:
        print(f"note: {idle} GPUs are not used; --gpus 0-{idle - 1} uses them", flush=True)


def _unlike_the_paper(recipe):
    unlike, own = differences(recipe), recipe.name == DIGITS.name
    if not unlike:
        return "made for the digits, which the paper does not have" if own else "as in the paper"

    def shown(value):
        if value is None:
            return "none"
        return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)

    usual = "the digits' own" if own else "the paper's"
    return f"unlike {usual}: " + ", ".join(
        f"{name} {shown(new)} ({shown(old)})" for name, (new, old) in unlike.items()
    )
