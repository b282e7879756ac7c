"""The training loop, for all data sets, networks, devices and workers."""

import contextlib
import math
import os
import time
from collections import deque
from typing import Any, Deque, List, Tuple

from ..errors import DMRError, Failed, Stopped, flag_of
from ..runs import learning_curve as plots
from ..runs import log as runlog
from ..runs.directory import place_of
from ..runs.log import EpochRecord
from ..runs.status import mean_seconds
from ..runs.tensorboard import TensorBoard
from ..runtime import mx
from ..system.signals import say
from .checkpointer import Checkpointer
from .epoch import StepsOfEpoch
from .evaluate import Interrupted, evaluate
from .identity import changes_at_resume
from .progress import SPENT, Heartbeat, Watch, duration, epoch_line, speed
from .state import NotFinite, TrainingState
from .step import WeightAverage

#: Rollbacks after which a run gives up.
_MOST_ROLLBACKS = 3


class Training(StepsOfEpoch):
    """Train one run from its start, or from its latest checkpoint, to its end."""

    def __init__(self, recipe, options, prepared, plan, step, run, stop, clock, config):
        self.recipe, self.options, self.prepared, self.plan = recipe, options, prepared, plan
        self.step, self.run, self.stop, self.clock, self.config = step, run, stop, clock, config
        self.net, self.devices, self.group = step.net, step.devices, step.group
        self.average = WeightAverage(step.flat, recipe.ema_decay) if recipe.ema_decay else None
        self.checkpointer = Checkpointer(run, step, self.average, options.keep, config)
        self.at = TrainingState()
        self.recent: Deque[Tuple[int, Any]] = deque(maxlen=5)  # (step, loss) of the last steps
        self.rollbacks = 0
        self.looked_at = 0  # steps of this process
        self.replicas_checked = False
        self.watch = Watch(run.path)
        self.board = None
        self.epochs: List[EpochRecord] = []  # the first worker's, as they are logged
        self.unlogged = None  # an epoch that was missing in the log
        self.heart = Heartbeat(run.file("progress.json"), plan.epochs)

    def go(self):
        """Train to the end."""
        self._begin()
        self.saved = time.monotonic()
        with self.watch:
            while self.at.epoch < self.plan.epochs:
                try:
                    self.train_epoch()
                    self._end_epoch()
                except NotFinite as trouble:
                    self._go_back(str(trouble))
                except DMRError as trouble:
                    raise Failed(str(trouble)) from trouble
        self._finish()

    # Start

    def _begin(self):
        with self.group.agreeing():
            if self.options.resume:
                self._resume(self.config)
            elif self.group.first:
                self.run.require_empty()
                self.run.create(self.config)
                runlog.append(self.run.log, "start", **self.config)
        self.checkpointer.check_equal()
        self.clock.lap("start")
        if not self.options.resume:
            self.save()
        if self.options.tensorboard and self.group.first:
            done = self.at.epoch * self.plan.per_epoch
            self.board = TensorBoard(self.run.file("tensorboard"), purge_step=done + 1)
            if self.unlogged:
                self.board.epoch(self.unlogged)

    def _resume(self, config):
        """Restore the newest checkpoint, and complete what a sudden stop left undone."""
        begun = self.run.config()
        changes, moved = changes_at_resume(self.run, begun, config)
        self.at = self.checkpointer.resume()
        at, log = self.at, self.run.log
        ended = at.epoch == self.plan.epochs
        if changes and ended:
            raise DMRError(
                f"{self.run.path} has all its epochs already, and {flag_of(min(changes))} would "
                f"change nothing; leave it out"
            )
        if not self.group.first:
            return
        finished = runlog.forget_after(log, at.epoch, at.steps, keep_end=ended)
        if at.epoch and not at.steps:  # within an epoch the weights are no epoch's
            with self.average or contextlib.nullcontext():
                self.checkpointer.save_model(at)
        self.epochs = runlog.epochs(log)
        if at.epoch and at.epoch not in [record.epoch for record in self.epochs]:
            assert at.values is not None  # after an epoch
            self._log_epoch(at.values)
            self.unlogged = at.values
        if finished:
            return
        done = self.plan.done(at)
        more = {name: config[name] for name in ("processor", "threads")}
        more.update((k, v) for k, v in (("changes", changes), ("moved", moved)) if v)
        runlog.append(log, "resume", epoch=at.epoch, step=done, **more)
        here = place_of(config)
        if changes or here != place_of(begun) or config["log_steps"] != begun.get("log_steps"):
            # Only now, so that every change has its line in the log.
            changed = {n: config[n] for n in ("recipe", "unlike_the_paper", "log_steps")}
            self.run.create({**begun, **changed, "resumed_on": here})
        told = "".join(f"; {n} {old} -> {new}" for n, (old, new) in {**changes, **moved}.items())
        say(f"continuing {self.run.path} after {at}{told}")

    # End of an epoch

    def _end_epoch(self):
        at, epoch, trouble = self.at, self.at.epoch + 1, None
        if not at.averaged:
            self.checkpointer.average_running_statistics()
            at.averaged = True
        with self.average or contextlib.nullcontext(), self.step.flat.apart():
            try:
                evaluation = evaluate(
                    self.net,
                    self.prepared,
                    self.recipe,
                    self.devices,
                    group=self.group,
                    threads=self.options.reading_threads,
                    interrupted=lambda: self.stop.received,
                )
            except (Interrupted, DMRError) as error:
                trouble = error
        self.clock.lap("evaluate")
        if trouble:
            if self.group.kv is None:  # workers only save together
                self.save()
            if isinstance(trouble, Interrupted):
                self.leave(self.stop.received)
            raise trouble
        if not math.isfinite(evaluation.loss):
            raise NotFinite(f"the test loss is {evaluation.loss} after epoch {epoch}")
        parameters = self.checkpointer.digest()
        self.clock.lap("save")
        seconds = self._take_seconds()
        values = {
            "epoch": epoch,
            "step": self.plan.done(at),
            "lr": at.lr,
            "images": at.images,
            "train_loss": at.loss / at.images,
            "train_error": 100 * at.wrong / at.images,
            "test_loss": evaluation.loss,
            "test_error": evaluation.error,
            "test_top5_error": evaluation.top5_error,
            "parameters_sha256": parameters,
            "seconds": seconds,
            "images_per_second": round(at.images / max(1e-3, seconds["train"]), 1),
            "images_per_second_overall": round(at.images / max(1e-3, sum(seconds.values())), 1),
        }
        if self.step.loss_scale:
            values.update(self.step.loss_scale.take())
        self.at = at = at.next_epoch()
        at.values = values
        if at.best is None or values["test_error"] < at.best["test_error"]:
            at.best = {"epoch": epoch, "test_error": values["test_error"]}
        self.save()
        if self.group.first:
            with self.average or contextlib.nullcontext():
                self.checkpointer.save_model(at)
            self._log_epoch(values)
            if self.board:
                self.board.epoch(values)
            left = mean_seconds(self.epochs) * (self.plan.epochs - epoch)
            many = len(self.prepared.classes) > 10  # with fewer it says little
            say(epoch_line(values, self.plan.epochs, left, top5=many))
        self.clock.lap("log")
        signal = int(self.group.gather("signal", [self.stop.received]).max())
        if signal and at.epoch < self.plan.epochs:
            self.leave(signal)

    def _log_epoch(self, values):
        runlog.append(self.run.log, "epoch", **values)
        self.epochs.append(EpochRecord.of(values))

    def _take_seconds(self):
        """Return the seconds of this epoch by activity, including earlier processes."""
        seconds = self.clock.take()
        names = [*self.at.seconds, *(name for name in seconds if name not in self.at.seconds)]
        both = ((name, self.at.seconds.get(name, 0.0) + seconds.get(name, 0.0)) for name in names)
        return {name: round(value, 3) for name, value in both}

    # Saving, stopping, rolling back

    def save(self):
        self.clock.lap("train")
        self.at.seconds = self._take_seconds()
        self.checkpointer.save(self.at)
        self.saved = time.monotonic()
        self.clock.lap("save")

    def leave(self, signal):
        """Log the stop and end; everything is saved."""
        at = self.at
        if self.group.first:
            done = self.plan.done(at)
            runlog.append(self.run.log, "stop", signal=signal, epoch=at.epoch, step=done)
            self.beat(None, now=True)
        raise Stopped(
            signal, f"stopped after {at}, and saved; go on with --run-dir {self.run.path} --resume"
        )

    def _go_back(self, trouble):
        """Roll back to the last checkpoint and continue with another shuffle, or give up."""
        mx.nd.waitall()
        self.group.wait()
        last, position = self.checkpointer.restore() or ("none", self.at)
        if last == "none" or self.options.on_nan != "rollback" or self.rollbacks == _MOST_ROLLBACKS:
            tried = f", after {self.rollbacks} rollbacks" if self.rollbacks else ""
            more = "" if self.options.on_nan == "rollback" else ", or --resume --on-nan rollback"
            raise DMRError(
                f"{trouble}{tried}; the last good checkpoint is {last}: try a lower --lr in "
                f"another --run-dir, a lower --lr with --resume{more}"
            )
        self.rollbacks += 1
        done = self.plan.done(self.at)
        self.at = position
        self.at.fresh = [*self.at.fresh, self.at.steps]
        self.recent.clear()
        # Save the new shuffle: a resumed run would otherwise repeat this one.
        self.save()
        if self.group.first:
            back = self.plan.done(self.at)
            runlog.forget_after(self.run.log, self.at.epoch, self.at.steps)
            self.epochs = [record for record in self.epochs if record.epoch <= self.at.epoch]
            runlog.append(self.run.log, "rollback", reason=trouble, at=done, step=back)
            say(f"{trouble}; rolling back to {last}, and continuing with another shuffle")

    def _finish(self):
        if not self.group.first:
            return
        log = self.run.log
        if runlog.read(log)[-1]["event"] == "end":
            say(f"{self.run.path} has all its {self.plan.epochs} epochs already; nothing to do")
            return
        done = self.epochs
        self.clock.lap("log")
        seconds = self.clock.take()
        for record in done:
            for name, value in record.seconds.items():
                seconds[name] = round(seconds.get(name, 0.0) + value, 3)
        whole, images = sum(seconds.values()), sum(record.images for record in done)
        runlog.append(
            log,
            "end",
            epochs=len(done),
            seconds=round(whole, 1),
            seconds_by={name: round(value, 1) for name, value in seconds.items()},
            images_per_second_overall=round(images / whole, 1),
            test_error=done[-1].test_error,
            best=self.at.best,
        )
        picture = plots.draw_curve_of(self.run)
        with contextlib.suppress(FileNotFoundError):
            os.remove(self.heart.path)
        if self.board:
            self.board.close()
        parts = [(text, seconds.get(name, 0.0)) for name, text in SPENT.items()]
        say(
            f"done: test error {done[-1].test_error:.2f}% after {len(done)} epochs, "
            f"{speed(images / whole)} training images per second with evaluation and saving "
            f"included, {duration(whole)} in all\n"
            f"time: {', '.join(f'{100 * value / whole:.1f}% {text}' for text, value in parts)}\n"
            f"{picture}"
        )
