"""Save and restore a training."""

import json
import os
from dataclasses import asdict

import numpy as np

from ..errors import DMRError
from ..models.serialization import digest_of, save_model
from ..runs import log as runlog
from ..runtime import mx, on_a_passing_thread
from . import checkpoint
from .identity import identity, only_of
from .state import NotFinite, TrainingState


class Checkpointer:
    """Write and read the checkpoints and models of one run.

    All workers of a group save and restore together; the first one writes.

    Parameters
    ----------
    run : RunDirectory
    step : TrainingStep
    keep : int
        How many of the last checkpoints stay.
    config : dict
        The run's ``config.json``, whose identity marks its checkpoints.
    """

    def __init__(self, run, step, keep, config):
        self.run, self.step, self.keep, self.config = run, step, keep, config
        self.group, self.net = step.group, step.net

    def restore(self):
        """Restore the newest intact checkpoint.

        Returns
        -------
        (str, TrainingState) or None
            Its path and state; None if there is no checkpoint.

        Raises
        ------
        DMRError
            If it belongs to another training.
        """
        found = checkpoint.read_newest(self.run.checkpoints, accept=only_of(self.config))
        if found is None:
            return None
        path, arrays, state = found
        checkpoint.fill(arrays, self.step, state["lr"], self.group.shard)
        if self.step.loss_scale and state.get("loss_scale"):
            vars(self.step.loss_scale).update(state["loss_scale"])
        return path, TrainingState.of(state)

    def resume(self):
        """Restore the newest intact checkpoint, provided that the run loses nothing by it.

        Returns
        -------
        TrainingState
            The start, if the run has no epoch yet.

        Raises
        ------
        DMRError
            If the log or the models are ahead of every checkpoint. Nothing has been changed then.
        """
        run = self.run
        try:
            path, at = self.restore() or (None, TrainingState())
        except DMRError as error:
            raise DMRError(f"{error}{run.kept()}") from error
        events = runlog.read(run.log) if os.path.exists(run.log) else []
        logged = [event["epoch"] for event in events if event["event"] == "epoch"]
        ended = any(event["event"] == "end" for event in events)
        last = max(logged if path else [*logged, *run.model_epochs()], default=0)
        # Epochs that only a damaged checkpoint had are trained again.
        damaged = path and path != checkpoint.newest(run.checkpoints)
        if at.epoch < last and (ended or not damaged):
            there = f"the newest that is whole is of {at}" if path else "there is none"
            raise DMRError(
                f"{run.path} has {last} epochs, and no checkpoint in {run.checkpoints} goes on "
                f"from there ({there}){run.kept()}"
            )
        os.makedirs(run.checkpoints, exist_ok=True)
        return at

    def save(self, at):
        """Write a checkpoint.

        Parameters
        ----------
        at : TrainingState

        Raises
        ------
        NotFinite
            If an array is not finite: such a checkpoint would be of no use.
        DMRError
            If the workers' weights differ.
        """
        on_a_passing_thread(self._save, at)

    def _save(self, at):
        mx.nd.waitall()
        self.step.check_replicas()
        arrays = checkpoint.arrays_of(self.step, None if at.averaged else self.group)
        for name, array in arrays.items():
            if not np.isfinite(array).all():
                raise NotFinite(f"{name} is not finite after {at}")
        # Running statistics differ between devices.
        own = {f"parameter/{p.name}" for p in checkpoint.running_statistics(self.net)}
        same = (arrays[name] for name in sorted(set(arrays) - own - {"statistics"}))
        self.group.check_equal("checkpoint", same, "weights")
        if self.group.first:
            state = {**asdict(at), "config": identity(self.config)}
            if self.step.loss_scale:
                state["loss_scale"] = vars(self.step.loss_scale)
            path = checkpoint.write(self.run.checkpoints, at.epoch, arrays, state, at.steps)
            checkpoint.keep_only(path, self.keep, (at.best or {}).get("epoch"))

    def check_equal(self):
        """Refuse workers that start with different recipes, seeds or data."""
        what = json.dumps([self.config["recipe"], identity(self.config)], sort_keys=True)
        text = np.frombuffer(what.encode(), np.uint8)
        self.group.check_equal("config", [text], "recipe, seed or data set")

    def save_model(self, at):
        """Write the model of the last epoch; keep that one and the best epoch's."""
        with self.step.averaged():
            on_a_passing_thread(save_model, self.net, self.run.model_prefix, at.epoch)
        self.run.keep_only_models({at.epoch, (at.best or {}).get("epoch")})

    def digest(self):
        """Return the SHA-256 of this epoch's model."""
        with self.step.averaged():
            return on_a_passing_thread(digest_of, self.net)

    def average_running_statistics(self):
        """Set all devices' BN running statistics to their mean over devices and workers.

        Evaluation, checkpoint and export then agree. Training does not depend on them, and they
        are linear in the batches, so averaging at any time gives the same result.
        """
        devices = len(self.step.devices)
        if checkpoint.running_statistics(self.net) and devices * self.group.count > 1:
            mean = mx.nd.array(checkpoint.read_statistics(self.net).mean(axis=0))
            mean = self.group.gather_later("means", mean).asnumpy().mean(axis=0)
            checkpoint.set_statistics(self.net, [mean] * devices)
