"""Train a network: everything from a recipe to a finished run."""

import contextlib
from typing import Optional

from ..data.check import check_quickly
from ..data.datasets import open_prepared
from ..data.loader import check_image_size
from ..devices import training_devices
from ..errors import DMRError, Failed, last_line
from ..models.names import get_spec
from ..models.network import Network
from ..models.serialization import prepare_to_run
from ..paper.recipes import Recipe
from ..runs.directory import RunDirectory, claim_run_directory
from ..runs.tensorboard import require_tensorboard
from ..runtime import mx
from ..system.signals import say
from .distributed import join
from .estimate import estimate
from .optimizer import make_optimizer
from .options import RunOptions
from .plan import Plan
from .progress import Clock
from .setup import announce, configuration
from .step import TrainingStep
from .stopping import StopSignals
from .trainer import Training


def fit(recipe: Recipe, options: RunOptions) -> Optional[str]:
    """Train a network, and leave a run directory behind.

    Parameters
    ----------
    recipe : Recipe
    options : RunOptions

    Returns
    -------
    str or None
        The run's folder; None after an estimate.

    Raises
    ------
    DMRError
        For anything that the user can fix: missing data or GPUs, a folder with another run, a loss
        that is not finite.
    Failed
        For other failures in the middle of a run: a full disk, a damaged record, an MXNet error.
    Stopped
        After SIGTERM, SIGHUP or Ctrl-C, once everything is saved.
    """
    clock = Clock(options.began)
    if options.tensorboard:
        require_tensorboard()
    run = RunDirectory(options.run_dir) if options.run_dir and not options.estimate else None
    try:
        devices = training_devices(recipe, options)
        prepared = open_prepared(options.data_dir)
        check_quickly(prepared)
        check_image_size(prepared, recipe)
        spec = get_spec(recipe.model, classes=len(prepared.classes))
        group = join(options.kv_store, devices)
        if group.count > 1 and not (options.run_dir or options.estimate):
            raise DMRError("several workers need one run directory for all: name it --run-dir")
        plan = Plan.of(recipe, prepared, len(devices) * recipe.accumulate * group.count)
        with StopSignals() as stop, contextlib.ExitStack() as held:
            if not options.estimate:
                stem = f"{prepared.name}-{recipe.model}"
                with group.agreeing():
                    run = run or RunDirectory(claim_run_directory("runs", stem))
                    if group.first and not held.enter_context(run.lock()):
                        say(f"note: {run.path} cannot be locked: let no other process train it")
            net = Network(spec)
            net.use_bn_momentum(recipe.bn_momentum)
            mx.random.seed(options.seed)
            net.initialize(ctx=devices)
            prepare_to_run(net, devices)
            step = TrainingStep(
                net,
                make_optimizer(recipe),
                devices,
                options.kv_store,
                accumulate=recipe.accumulate,
                smoothing=recipe.label_smoothing,
                sync_bn=recipe.sync_bn,
                float16=recipe.dtype == "float16",
                group=group,
            )
            if group.first:
                announce(recipe, spec, prepared, devices, net, run, plan, options, group)
            if run is None:
                return estimate(step, recipe, prepared, plan, options)
            config = configuration(recipe, options, spec, prepared, devices, group, plan)
            Training(recipe, options, prepared, plan, step, run, stop, clock, config).go()
            return run.path
    except BrokenPipeError:
        raise  # the reader of the output has gone
    except OSError as error:
        name = f" ({error.filename})" if error.filename else ""
        kind = Failed if _begun(run) else DMRError
        raise kind(f"{error.strerror or error}{name}; {_kept(run)}") from error
    except mx.base.MXNetError as error:
        smaller = "--cudnn-autotune 2, or " if options.gpus else ""
        raise Failed(
            f"MXNet stopped: {last_line(error)}; {_kept(run)}; if memory was short, with "
            f"{smaller}a smaller --batch-size in a new run"
        ) from error


def _begun(run):
    return run is not None and run.exists()


def _kept(run):
    """Return advice for after a failure."""
    if not _begun(run):
        return "nothing was started: fix this and start again"
    return "the last checkpoint is kept: fix this and continue with --resume and the same --run-dir"
