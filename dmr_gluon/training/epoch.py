"""Train one epoch."""

import contextlib
import math
import time
from collections import deque

import numpy as np

from ..data.loader import training_batches
from ..errors import DMRError
from ..runs import log as runlog
from ..runtime import mx
from ..system.signals import say
from .progress import Progress, duration, speed
from .state import NotFinite

#: Steps of a process after which it says how long the run will take. The first few are slow.
_FORETOLD_AFTER = 20


class StepsOfEpoch:
    """Run one epoch: steps, metrics, periodic checkpoints.

    :class:`dmr_gluon.training.trainer.Training` has the attributes, and ``save()`` and
    ``leave(signal)``.
    """

    def train_epoch(self):
        """Train an epoch, or the rest of one."""
        at, plan, epoch = self.at, self.plan, self.at.epoch + 1
        steps, every = plan.steps_in(epoch), self.options.checkpoint_steps
        batches = training_batches(
            self.prepared,
            self.recipe,
            self.options.seed,
            epoch,
            start=at.steps,
            part=self.group.part,
            fresh=at.fresh,
            threads=self.options.reading_threads,
        )
        total = min(plan.count, steps * plan.batch)
        title = f"epoch {epoch}/{plan.epochs}"
        waiting, ahead = deque(), []

        def fetch():
            """Fetch the next batch and start copying it; keep the error if there is none."""
            try:
                ahead.append(self.step.place(*next(batches)))
            except DMRError as error:
                ahead.append(error)

        with contextlib.closing(batches), Progress(
            title, total, at.images, shown=self.group.first
        ) as progress:
            self.watch.step()
            while at.steps < steps:
                self.clock.lap("train")
                if not ahead:
                    fetch()
                batch = ahead.pop()
                if isinstance(batch, DMRError):
                    if self.group.kv is None:  # workers only save together
                        self._collect_all(waiting, progress)
                        self.save()
                    raise batch
                self.clock.lap("data")
                at.averaged = False
                at.lr = plan.lr(self.recipe, epoch, at.steps)
                images = plan.images_in(at.steps)
                more = at.steps + 1 < steps
                results = self.step.update(batch, at.lr, images, fetch if more else None)
                if not self.replicas_checked:
                    self.step.check_replicas()
                    self.replicas_checked = True
                at.steps += 1
                if self.average:
                    self.average.update(plan.done(at))
                waiting.append((at.steps, images, at.lr, self._later(results)))
                # Read the loss two steps late: MXNet computes while the next batches are
                # prepared, and never runs further ahead.
                signal = 0
                save = every is not None and at.steps % every == 0 and at.steps < steps
                if len(waiting) > 2 or save:
                    signal, due = self._collect(*waiting.popleft(), progress)
                    save = save or due
                if signal or save:
                    signal = self._collect_all(waiting, progress) or signal
                    self.save()
                if signal:
                    self.leave(signal)
            self._collect_all(waiting, progress)
        # On CPUs BN updates its running statistics in the backward pass, which MXNet does not
        # declare as a dependency of reading them.
        mx.nd.waitall()
        self.watch.pause()
        self.clock.lap("train")

    def _later(self, results):
        """Gather loss, errors, signal and save request of all workers, asynchronously."""
        due = time.monotonic() - self.saved > 60 * self.options.checkpoint_minutes
        wishes = [self.stop.received, float(due)]
        if self.group.kv is None:
            return results, wishes
        columns = [sum(part.as_in_context(mx.cpu()) for part in parts) for parts in zip(*results)]
        row = mx.nd.concat(*(c.reshape(1) for c in columns), mx.nd.array(wishes), dim=0)
        return self.group.gather_later("step", row)

    def _collect(self, step, images, lr, later, progress):
        """Count a step's results; return any worker's signal, and whether to save."""
        if self.group.kv is None:
            results, (signal, save) = later
            loss, wrong = (sum(float(part.asscalar()) for part in parts) for parts in zip(*results))
        else:
            rows = later.asnumpy().astype(np.float64)
            loss, wrong = rows[:, :2].sum(axis=0)
            signal, save = rows[:, 2].max(), rows[0, 3]
        self.watch.step()
        at = self.at
        if not math.isfinite(loss):
            before = ", ".join(f"{value:.4g}" for _, value in self.recent) or "none"
            raise NotFinite(
                f"the loss is {loss} in step {step} of epoch {at.epoch + 1} with learning rate "
                f"{lr:g} (losses of the steps before: {before})"
            )
        self.recent.append((step, loss / images))
        at.images, at.loss, at.wrong = at.images + images, at.loss + loss, at.wrong + int(wrong)
        every = self.options.log_steps
        if every and step % every == 0 and self.group.first:
            means = {"train_loss": at.loss / at.images, "train_error": 100 * at.wrong / at.images}
            runlog.append(
                self.run.log, "steps", epoch=at.epoch + 1, step=step, images=at.images, **means
            )
        progress.update(images, loss=f"{loss / images:.3f}")
        if self.group.first:
            self.beat(progress)
            self._foretell(progress)
        return int(signal), bool(save)

    def _collect_all(self, waiting, progress):
        signals = [self._collect(*each, progress)[0] for each in waiting]
        waiting.clear()
        return max(signals, default=0)

    def _foretell(self, progress):
        """Predict the duration of the whole run, once, after some steps."""
        self.looked_at += 1
        if self.looked_at == _FORETOLD_AFTER:
            steps = self.plan.total - self.plan.done(self.at)
            left = duration(steps * self.plan.images_per_step / progress.rate)
            say(
                f"{speed(progress.rate)} images per second in the first {self.looked_at} steps: "
                f"{steps:,} more take {left}, and evaluations beside"
            )

    def beat(self, progress, now=False):
        at, plan = self.at, self.plan
        left = plan.total - plan.done(at)
        rate = progress.rate if progress else 0.0
        self.heart.beat(
            now,
            epoch=at.epoch + 1,
            step=at.steps,
            steps=plan.steps_in(at.epoch + 1) if at.epoch < plan.epochs else 0,
            train_loss=at.loss / at.images if at.images else None,
            images_per_second=round(rate, 1),
            seconds_left=round(left * plan.batch / rate) if rate else None,
        )
