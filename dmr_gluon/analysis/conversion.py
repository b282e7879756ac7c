"""Continue training in another form of the network; see :mod:`dmr_gluon.models.equivalence`."""

import json
import os
import shutil
from dataclasses import asdict

from ..errors import DMRError
from ..models.equivalence import convert, convert_arrays, respecify
from ..models.serialization import digest_of, save_model
from ..runs.directory import RunDirectory
from ..runs.trained_network import load_run
from ..training import checkpoint
from ..training.identity import identity, only_of
from ..training.step import TrainingStep


def convert_training(step, optimizer, form):
    """Convert a network in the middle of its training.

    Parameters
    ----------
    step : TrainingStep
        The training so far.
    optimizer : Optimizer
        A new one of the same kind; it receives the momenta and the learning rate.
    form : str
        ``branches`` or ``grouped``.

    Returns
    -------
    TrainingStep
        The next steps in both forms have equal losses.

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
    """Convert a run with its model, log and checkpoint; it can be evaluated and resumed.

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
        For a run without a trained epoch, a network without parallel branches, or an ``out``
        that is not an empty folder or cannot be written.
    """
    run = RunDirectory(run)
    net, config, epoch = load_run(run), run.config(), run.model_epoch()
    spec = respecify(net.spec, form)
    if net.spec.form == form:
        raise DMRError(f"{run.path} has the form {form} already")
    if os.path.exists(out) and (not os.path.isdir(out) or os.listdir(out)):
        raise DMRError(f"{out} exists and is not an empty folder; choose another")
    found = _checkpoint_of(run, config)
    converted = convert(net, form)
    digests = {epoch: digest_of(converted)}
    config.update(network=asdict(spec), converted_from=run.path)
    config["recipe"]["model"] = spec.name
    # Under another name until it is complete: an incomplete run could be resumed.
    other = RunDirectory(os.path.normpath(out) + ".part")
    try:
        shutil.rmtree(other.path, ignore_errors=True)
        other.create(config)
        if os.path.exists(run.log):
            as_it_is = {"encoding": "utf-8", "errors": "surrogateescape", "newline": ""}
            with open(run.log, **as_it_is) as log, open(other.log, "w", **as_it_is) as copy:
                copy.writelines(_converted_event(line, config, digests) for line in log)
        if found:
            _, arrays, state = found
            arrays = _convert_checkpoint(arrays, net.spec, form)
            state = {**state, "config": identity(config)}
            _identify(state.get("values") or {}, digests)
            checkpoint.write(other.checkpoints, state["epoch"], arrays, state)
        save_model(converted, other.model_prefix, epoch)
        os.replace(other.path, out)
    except OSError as error:
        shutil.rmtree(other.path, ignore_errors=True)
        raise DMRError(f"cannot write to {out}: {error.strerror or error}") from error
    return spec


def _checkpoint_of(run, config):
    """Return the newest checkpoint of an epoch's end; without one, say so and return None."""
    with_less = f"the converted run can be evaluated and exported, but not resumed: {run.path} has"
    try:
        found = checkpoint.read_newest(run.checkpoints, ends_only=True, accept=only_of(config))
    except DMRError as error:
        print(f"note: {with_less} no checkpoint that can be used ({error})", flush=True)
        return None
    if found is None:
        print(f"note: {with_less} no checkpoint of an epoch's end", flush=True)
    return found


def _converted_event(line, config, digests):
    """Convert one line of the log to the new network."""
    try:
        event = json.loads(line)
    except ValueError:
        return line
    kind = event.get("event") if isinstance(event, dict) else None
    if kind == "start":
        event.update({name: config[name] for name in ("network", "recipe", "converted_from")})
    elif kind == "epoch":
        _identify(event, digests)
    else:
        return line
    return json.dumps(event) + "\n"


def _identify(values, digests):
    """Replace the hash of the old parameters by the new ones', where it is known."""
    values.pop("parameters_sha256", None)
    if values.get("epoch") in digests:
        values["parameters_sha256"] = digests[values["epoch"]]


def _convert_checkpoint(arrays, spec, form):
    """Convert every kind of array in a checkpoint."""
    converted = {}
    for kind in sorted({name.split("/", 1)[0] for name in arrays}):
        of_kind = {
            name.split("/", 1)[1]: array
            for name, array in arrays.items()
            if name.startswith(kind + "/")
        }
        for name, array in convert_arrays(of_kind, spec, form).items():
            converted[f"{kind}/{name}"] = array
    return converted
