"""The training loop, for all data sets, networks, devices and workers."""

import contextlib
import math
import os
import time
from collections import Counter
from typing import List

from ..errors import DMRError, Failed, Stopped, flag_of
from ..runs import learning_curve as plots
from ..runs import log as runlog
from ..runs.directory import last_devices
from ..runs.log import EpochRecord
from ..runs.plugins import keep_copy
from ..runs.status import mean_seconds
from ..runs.tensorboard import TensorBoard
from ..runtime import mx
from ..system.signals import say
from .callbacks import STOPPED_BY_CALLBACK, EpochState
from .checkpointer import Checkpointer
from .epoch import StepsOfEpoch
from .evaluate import evaluate
from .identity import changes_at_resume
from .progress import duration, epoch_line, last_error, speed
from .state import NotFinite, TrainingState

#: Share of the time spent waiting for data from which a run says what would help.
_WAITING = 0.2
#: Seconds of waiting below which it says nothing.
_LONG = 60
#: Rollbacks after which a run gives up.
_MOST_ROLLBACKS = 3


class Training(StepsOfEpoch):
    """Train one run from its start, or from its latest checkpoint, to its end."""

    def __init__(
        self, recipe, options, prepared, plan, step, run, stop, clock, config, callbacks=([], [])
    ):
        self.recipe, self.options, self.prepared, self.plan = recipe, options, prepared, plan
        self.step, self.run, self.stop, self.clock, self.config = step, run, stop, clock, config
        self.group = step.group
        self.checkpointer = Checkpointer(run, step, options.keep, config)
        self.at = TrainingState()
        self.saved = self.beaten = time.monotonic()
        self.rollbacks = 0
        self.board = None
        self.epochs: List[EpochRecord] = []  # the first worker's, as they are logged
        self.on_step, self.on_epoch = callbacks if self.group.first else ([], [])

    def go(self):
        """Train to the end."""
        if self.options.resume:
            self._resume()
        elif self.group.first:
            self.run.require_empty()
            self.run.create(self.config)
            runlog.append(self.run.log, "start", **self.config)
        if self.group.first:
            keep_copy(self.run, self.config["plugin"])
        self.checkpointer.check_equal()
        self.clock.lap("start")
        if not (self.at.epoch or self.at.steps):
            self.save()
        while not self.ended():
            try:
                self.train_epoch()
                self._end_epoch()
            except NotFinite as trouble:
                self._go_back(str(trouble))
            except DMRError as trouble:
                raise Failed(str(trouble)) from trouble
        if self.group.first:
            self._finish()

    def ended(self):
        """Return whether all epochs are completed, or the last ones brought no lower test error."""
        at, patience = self.at, self.recipe.patience
        stale = at.epoch - at.best["epoch"] if at.best else 0
        return at.epoch == self.plan.epochs or bool(patience and stale >= patience)

    def _resume(self):
        """Restore the newest checkpoint, and complete what a sudden stop left undone."""
        run, config, begun = self.run, self.config, self.run.config()
        changes, moved = changes_at_resume(run, begun, config)
        self.at = at = self.checkpointer.resume()
        self.clock.seconds.update(at.seconds)
        ended = self.ended()
        if changes and ended:
            raise DMRError(
                f"{run.path} has ended already, and {flag_of(min(changes))} would "
                f"change nothing; leave it out"
            )
        if not self.group.first:
            return
        finished = runlog.forget_after(run.log, at.epoch, at.steps, keep_end=ended)
        if at.epoch and not at.steps:  # within an epoch the weights are no epoch's
            self.checkpointer.save_model(at)
        self.epochs = runlog.epochs(run.log)
        if at.values and at.epoch not in [record.epoch for record in self.epochs]:
            self._log_epoch(at.values)
        if finished:
            return
        done, here = self.plan.done(at), {name: config[name] for name in ("processor", "threads")}
        here.update((k, v) for k, v in (("changes", changes), ("moved", moved)) if v)
        runlog.append(run.log, "resume", epoch=at.epoch, step=done, **here)
        # Only now, so that every change has its line in the log.
        changed = {name: config[name] for name in ("recipe", "unlike_the_paper", "log_steps")}
        run.create({**begun, **changed, "resumed_on": last_devices(config)})
        told = "".join(f"; {n} {old} -> {new}" for n, (old, new) in {**changes, **moved}.items())
        say(f"continuing {run.path} after {at}{told}")

    def _end_epoch(self):
        """Evaluate, save and log."""
        at, epoch, step = self.at, self.at.epoch + 1, self.step
        if not at.averaged:
            self.checkpointer.average_running_statistics()
            at.averaged = True
        tested = self._test(epoch) if self.prepared.count("test") else {}
        parameters = self.checkpointer.digest()
        self.clock.lap("save")
        seconds = self.clock.rounded()
        self.clock.seconds.clear()
        values = {
            "epoch": epoch,
            "step": self.plan.done(at),
            "lr": at.lr,
            "images": at.images,
            **at.means(),
            **tested,
            "parameters_sha256": parameters,
            "seconds": seconds,
            "images_per_second": round(at.images / max(1e-3, seconds["train"]), 1),
            "images_per_second_overall": round(at.images / max(1e-3, sum(seconds.values())), 1),
        }
        if step.loss_scale:
            values.update(loss_scale=step.loss_scale.scale, skipped_steps=step.loss_scale.skipped)
            step.loss_scale.skipped = 0
        self.at = at = at.next_epoch()
        at.values = values
        error = values.get("test_error")  # without test images, the last epoch counts as the best
        if at.best is None or error is None or error < at.best["test_error"]:
            at.best = {"epoch": epoch, "test_error": error}
        self.save()
        if self.group.first:
            self.checkpointer.save_model(at)
            self._log_epoch(values)
            left = mean_seconds(self.epochs) * (self.plan.epochs - epoch)
            many = len(self.prepared.classes) > 10  # with fewer it says little
            say(epoch_line(values, self.plan.epochs, left, top5=many))
        self.clock.lap("log")
        if self.on_epoch:
            with step.averaged(), step.flat.apart():
                self.ask(self.on_epoch, EpochState(self.epochs[-1], step.net, self.run.path))
            self.clock.lap("callbacks")
        signal = int(self.group.gather("signal", [self.stop.received]).max())
        if signal and not self.ended():
            self.leave(signal)

    def _test(self, epoch):
        """Evaluate on the test images; return the results for the line of the epoch."""
        step, reading = self.step, self.options.reading(self.recipe)
        with step.averaged(), step.flat.apart():
            evaluation = evaluate(
                step.net, self.prepared, self.recipe, step.devices, "test", self.group, reading
            )
        self.clock.lap("evaluate")
        if not math.isfinite(evaluation.loss):
            raise NotFinite(f"the test loss is {evaluation.loss} after epoch {epoch}")
        return {
            "test_loss": evaluation.loss,
            "test_error": evaluation.error,
            "test_top5_error": evaluation.top5_error,
        }

    def _log_epoch(self, values):
        runlog.append(self.run.log, "epoch", **values)
        self.epochs.append(EpochRecord.of(values))
        if self.options.tensorboard:
            folder = self.run.file("tensorboard")
            self.board = self.board or TensorBoard(folder, purge_step=values["step"])
            self.board.epoch(values)

    def save(self):
        """Write a checkpoint of the current state."""
        self.clock.lap("train")
        self.at.seconds = self.clock.rounded()
        self.checkpointer.save(self.at)
        self.saved = time.monotonic()
        self.clock.lap("save")

    def leave(self, signal):
        """Log the stop and end; everything is saved."""
        at, cause, by = self.at, {"signal": signal}, ""
        if signal == STOPPED_BY_CALLBACK:
            cause, by = {"by": "callback"}, " by a callback"
        if self.group.first:
            runlog.append(self.run.log, "stop", **cause, epoch=at.epoch, step=self.plan.done(at))
            self.beat(now=True)
        raise Stopped(
            signal,
            f"stopped{by} after {at}, and saved; go on with --run-dir {self.run.path} --resume",
        )

    def _go_back(self, trouble):
        """Roll back to the last checkpoint and continue with another shuffle, or give up."""
        mx.nd.waitall()
        done = self.plan.done(self.at)
        path, self.at = self.checkpointer.restore() or (None, self.at)
        if path is None:
            raise DMRError(f"{trouble}; there is no checkpoint in {self.run.checkpoints} any more")
        if self.options.on_nan != "rollback" or self.rollbacks == _MOST_ROLLBACKS:
            tried = f", after {self.rollbacks} rollbacks" if self.rollbacks else ""
            raise DMRError(
                f"{trouble}{tried}; the last good checkpoint is {path}: try a lower --lr in "
                f"another --run-dir, a lower --lr with --resume, or --resume --on-nan rollback"
            )
        self.rollbacks += 1
        self.at.reshuffled_at = [*self.at.reshuffled_at, self.at.steps]
        # Save the new shuffle: a resumed run would otherwise repeat this one.
        self.save()
        if self.group.first:
            back = self.plan.done(self.at)
            runlog.forget_after(self.run.log, self.at.epoch, self.at.steps)
            self.epochs = [record for record in self.epochs if record.epoch <= self.at.epoch]
            runlog.append(self.run.log, "rollback", reason=trouble, at=done, step=back)
            say(f"{trouble}; rolling back to {path}, and continuing with another shuffle")

    def _finish(self):
        """Log and print the result."""
        early = self.at.epoch < self.plan.epochs
        if runlog.read(self.run.log)[-1]["event"] == "end":
            say(f"{self.run.path} has ended already, after epoch {self.at.epoch}; nothing to do")
            return
        self.clock.lap("log")
        seconds = Counter(self.clock.seconds)
        for record in self.epochs:
            seconds.update(record.seconds)
        whole, images = sum(seconds.values()), sum(record.images for record in self.epochs)
        last = self.epochs[-1]
        runlog.append(
            self.run.log,
            "end",
            epochs=len(self.epochs),
            seconds=round(whole, 1),
            seconds_by={name: round(value, 1) for name, value in seconds.items()},
            images_per_second_overall=round(images / whole, 1),
            test_error=last.test_error,
            best=self.at.best,
            **({"stopped_early": True} if early else {}),
        )
        picture = plots.draw_curve_of(self.run)
        with contextlib.suppress(FileNotFoundError):
            os.remove(self.run.file("progress.json"))
        shares = ", ".join(f"{name} {value / whole:.1%}" for name, value in seconds.most_common())
        if early:
            say(
                f"stopped early: no lower test error than that of epoch {self.at.best['epoch']} "
                f"({self.at.best['test_error']:.2f}%) for {self.recipe.patience} epochs; that "
                f"model is kept too. The test set has chosen the end, so its error is optimistic"
            )
        say(
            f"done: {last_error(last)} after {len(self.epochs)} epochs, "
            f"{speed(images / whole)} training images per second with evaluation and saving "
            f"included, {duration(whole)} in all\n"
            f"time: {shares}\n"
            f"{picture}"
        )
        if seconds["data"] > max(_LONG, _WAITING * whole):
            say(
                "note: the devices waited for images; more cores, --reading-processes, or images "
                "prepared smaller make reading faster (docs/performance.md, Reading data)"
            )
