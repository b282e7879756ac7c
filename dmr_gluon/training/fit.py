"""Train a network: everything from a recipe to a finished run."""

import contextlib
from dataclasses import replace
from typing import Any, Callable, Optional, Sequence, Union

from ..data.check import check_quickly
from ..data.datasets import open_prepared
from ..data.loader import check_image_size
from ..devices import training_devices
from ..errors import DMRError, Failed, Stopped, last_line
from ..models.custom_spec import file_name
from ..paper.recipes import Recipe
from ..runs.directory import RunDirectory, claim_run_directory
from ..runs.reader import Run, read_run
from ..runs.tensorboard import require_tensorboard
from ..runs.weights import find_weights
from ..runtime import mx
from ..system.signals import say
from .callbacks import STOPPED_BY_CALLBACK, functions_of
from .distributed import join
from .estimate import estimate
from .network import make_network, normalised_as
from .optimizer import make_optimizer
from .options import RunOptions
from .plan import Plan
from .progress import Clock
from .setup import announce, configuration
from .small_sets import balanced
from .step import TrainingStep
from .stopping import stop_signals
from .trainer import Training


def fit(
    recipe: Recipe,
    options: RunOptions,
    network: Union[mx.gluon.HybridBlock, Callable[..., Any], None] = None,
    callbacks: Sequence[Any] = (),
) -> Optional[Run]:
    """Train a network, and leave a run directory behind.

    Parameters
    ----------
    recipe : Recipe
    options : RunOptions
    network : HybridBlock or callable, optional
        The network, or a function that builds it, given ``classes``. It maps normalised images
        (batch, 3, height, width) to logits (batch, classes). What is initialised is trained from
        its values. To resume such a run, give the same network again, preferably as a function:
        then its parameters have the same names in every process. Default: ``recipe.model``.
    callbacks : list
        Objects with the methods ``on_step(state)``, ``on_epoch(state)`` or both, and functions,
        which are called as ``on_epoch``. They get a :class:`~.callbacks.StepState` or
        :class:`~.callbacks.EpochState`. If one returns True, the run is saved and stopped, and
        can be resumed. In a job of several workers, only the first one's callbacks are called.

    Returns
    -------
    Run or None
        The run with its epochs, which is also accepted as the path of its folder. None after an
        estimate, and on all workers but the first.

    Raises
    ------
    DMRError
        For anything that the user can fix: missing data or GPUs, a folder with another run, a loss
        that is not finite.
    Failed
        For other failures in the middle of a run: a full disk, a damaged record, an MXNet error,
        an exception in a callback.
    Stopped
        After SIGTERM, SIGHUP or Ctrl-C, once everything is saved.
    """
    clock, functions = Clock(), functions_of(callbacks)
    if options.tensorboard:
        require_tensorboard()
    run = RunDirectory(options.run_dir) if options.run_dir and not options.estimate else None
    try:
        devices = training_devices(recipe, options)
        prepared = open_prepared(options.data_dir)
        check_quickly(prepared)
        check_image_size(prepared, recipe)
        begun = run.config() if options.resume and run else {}
        weights = find_weights(options.init_from) if options.init_from else None
        prepared = normalised_as(prepared, weights, begun)
        if recipe.patience and not prepared.count("test"):
            raise DMRError(f"--patience needs test images, and {prepared.directory} has none")
        group = join(options.kv_store, devices)
        if group.count > 1 and not (options.run_dir or options.estimate):
            raise DMRError("several workers need one run directory for all: name it --run-dir")
        plan = Plan.of(recipe, prepared, len(devices) * recipe.accumulate * group.count)
        net, origin = make_network(
            recipe, options, network, weights, begun, prepared.classes, devices
        )
        if network is not None:
            recipe = replace(recipe, model=net.spec.name)
        with stop_signals() as stop, contextlib.ExitStack() as held:
            if not options.estimate:
                run = run or RunDirectory(
                    claim_run_directory("runs", f"{prepared.name}-{file_name(net.spec.name)}")
                )
                if group.first and not held.enter_context(run.lock()):
                    say(f"note: {run.path} cannot be locked: let no other process train it")
            optimizer = make_optimizer(recipe)
            step = TrainingStep(
                net, optimizer, devices, options.kv_store, recipe, group, balanced(prepared)
            )
            config = configuration(
                recipe, options, net.spec, prepared, devices, group, plan, origin
            )
            if group.first:
                announce(recipe, net, run, plan, options, config)
            if run is None:
                return estimate(step, recipe, prepared, plan, options)
            training = Training(
                recipe, options, prepared, plan, step, run, stop, clock, config, functions
            )
            try:
                training.go()
            except Stopped as stopped:
                if stopped.signal != STOPPED_BY_CALLBACK:
                    raise
                say(stopped)
        return read_run(run.path) if group.first else None
    except BrokenPipeError:
        raise  # the reader of the output has gone
    except OSError as error:
        name = f" ({error.filename})" if error.filename else ""
        raise Failed(f"{error.strerror or error}{name}; {_kept(run)}") from error
    except mx.base.MXNetError as error:
        raise Failed(
            f"MXNet stopped: {last_line(error)}; {_kept(run)}; if memory was short, with a "
            f"smaller --batch-size in a new run"
        ) from error


def _kept(run):
    """Return advice for after a failure."""
    if run is None or not run.exists():
        return "nothing was started: fix this and start again"
    return "the last checkpoint is kept: fix this and continue with --resume and the same --run-dir"
