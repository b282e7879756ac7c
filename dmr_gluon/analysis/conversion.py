"""Continue training in another form of the network; see :mod:`dmr_gluon.models.equivalence`."""

import os
import shutil
from dataclasses import asdict

from ..errors import DMRError
from ..models.equivalence import convert, convert_arrays
from ..models.serialization import digest_of, save_model
from ..runs import log as runlog
from ..runs.directory import RunDirectory
from ..runs.trained_network import load_run
from ..training import checkpoint
from ..training.identity import identity, only_of
from ..training.step import TrainingStep


def convert_training(step, optimizer, form):
    """Convert a network in the middle of training.

    Parameters
    ----------
    step : TrainingStep
        The training so far.
    optimizer : Optimizer
        A new one of the same kind; it takes over the momenta and the learning rate.
    form : str
        ``branches`` or ``grouped``.

    Returns
    -------
    TrainingStep
        Its next steps have the same losses as those of ``step``.

    Raises
    ------
    DMRError
        For an unknown form, or a network without parallel branches.
    """
    net = convert(step.net, form)
    other = TrainingStep(net, optimizer, step.devices, step.kv_store)
    arrays = _convert_checkpoint(checkpoint.arrays_of(step), step.net.spec, form)
    checkpoint.fill(arrays, other, step.trainer.learning_rate)
    return other


def convert_run(run, form, out):
    """Convert a run's model, log and checkpoint, so that it can be evaluated and resumed.

    Parameters
    ----------
    run : str
        A run's folder.
    form : str
        ``branches`` or ``grouped``.
    out : str
        The new run's folder.

    Returns
    -------
    NetworkSpec
        The network of the new run.

    Raises
    ------
    DMRError
        For a run without a completed epoch or with a damaged log, a network without parallel
        branches, or an ``out`` that contains files or cannot be written.
    """
    run, out = RunDirectory(run), RunDirectory(os.path.normpath(out))
    config, epoch = run.config(), run.model_epoch()
    net = load_run(run, epoch=epoch)
    if net.spec.form == form:
        raise DMRError(f"{run.path} has the form {form} already")
    out.require_empty()
    converted = convert(net, form)
    spec, sha256 = converted.spec, digest_of(converted)
    config.update(network=asdict(spec), converted_from=run.path)
    config["recipe"]["model"] = spec.name
    events = runlog.read(run.log)
    for event in events:
        _replace_hash(event, epoch, sha256)
        if event["event"] == "start":
            event.update({n: config[n] for n in ("network", "recipe", "converted_from")})
    found = _checkpoint_of(run)
    # Under another name until it is complete: an incomplete run could be resumed.
    part = RunDirectory(out.path + ".part")
    try:
        shutil.rmtree(part.path, ignore_errors=True)
        part.create(config)
        runlog.write(part.log, events)
        if found:
            _, arrays, state = found
            _replace_hash(state.get("values") or {}, epoch, sha256)
            arrays = _convert_checkpoint(arrays, net.spec, form)
            state = {**state, "config": identity(config)}
            checkpoint.write(part.checkpoints, state["epoch"], arrays, state)
        save_model(converted, part.model_prefix, epoch)
        os.replace(part.path, out.path)
    except OSError as error:
        shutil.rmtree(part.path, ignore_errors=True)
        raise DMRError(f"cannot write to {out.path}: {error.strerror or error}") from error
    return spec


def _checkpoint_of(run):
    """Return the newest checkpoint of an epoch's end; without one, say so and return None."""
    try:
        accept = only_of(run.config())
        found = checkpoint.read_newest(run.checkpoints, ends_only=True, accept=accept)
    except DMRError:  # each damaged checkpoint has been reported
        found = None
    if found is None:
        print(
            f"note: {run.path} has no usable checkpoint of an epoch's end: the converted run can "
            f"be evaluated and exported, but not resumed",
            flush=True,
        )
    return found


def _replace_hash(values, epoch, sha256):
    """Replace the hash of the parameters in an epoch's values; only the last one's is known."""
    if values.pop("parameters_sha256", None) and values["epoch"] == epoch:
        values["parameters_sha256"] = sha256


def _convert_checkpoint(arrays, spec, form):
    """Convert every kind of array in a checkpoint of an epoch's end.

    There all devices have the same running statistics, so each device's own are left out.
    """
    converted = {}
    for kind, found in checkpoint.by_kind(arrays).items():
        for name, array in convert_arrays(found, spec, form).items():
            converted[f"{kind}/{name}"] = array
    return converted
