"""Train one epoch."""

import contextlib
import json
import math
import time
from collections import deque
from datetime import datetime, timezone

import numpy as np

from ..data.loader import training_batches
from ..runs import log as runlog
from ..runtime import mx
from ..system.files import write_atomically
from .callbacks import STOPPED_BY_CALLBACK, StepState, wants_stop
from .progress import progress_bar
from .small_sets import mixup_share
from .state import NotFinite

#: Seconds between two updates of ``progress.json``.
_BEAT = 5


class StepsOfEpoch:
    """Run one epoch: steps, metrics, periodic checkpoints.

    :class:`dmr_gluon.training.trainer.Training` has the attributes, and ``save()`` and
    ``leave(signal)``.
    """

    def train_epoch(self):
        """Train an epoch, or the rest of one."""
        at, plan, epoch = self.at, self.plan, self.at.epoch + 1
        first, steps, every = at.steps, plan.steps_in(epoch), self.options.checkpoint_steps
        batches = training_batches(
            self.prepared,
            self.recipe,
            self.options.seed,
            epoch,
            start=first,
            shard=self.group.shard,
            reshuffled_at=at.reshuffled_at,
            reading=self.options.reading(self.recipe),
        )
        began, before = time.monotonic(), at.images
        title, total = f"epoch {epoch}/{plan.epochs}", min(plan.count, steps * plan.batch)
        bar = progress_bar(title, total, at.images, shown=self.group.first)
        waiting, ahead = deque(), []

        def fetch():
            """Read the next batch and start copying it to the devices."""
            ahead.append(self.step.place(*next(batches)))

        with contextlib.closing(batches), bar:
            while at.steps < steps:
                self.clock.lap("train")
                if not ahead:
                    fetch()
                self.clock.lap("data")
                at.averaged = False
                at.lr = plan.lr(self.recipe, epoch, at.steps)
                images = plan.images_in(at.steps)
                more = at.steps + 1 < steps
                self._seed_random_layers(epoch)
                place = epoch, at.steps, len(at.reshuffled_at)
                share = mixup_share(self.recipe.mixup, self.options.seed, *place)
                after = fetch if more else None
                results = self.step.update(ahead.pop(), at.lr, images, after, share)
                if at.steps == first:
                    self.step.check_replicas()
                at.steps += 1
                if self.step.average:
                    self.step.average.update(plan.done(at))
                waiting.append((at.steps, images, at.lr, self._later(results)))
                # Read the loss two steps late: MXNet computes while the next batches are
                # prepared, and never runs further ahead.
                signal = 0
                save = every is not None and at.steps % every == 0 and more
                if len(waiting) > 2 or save:
                    signal, due = self._collect(*waiting.popleft(), bar)
                    save = save or due
                    if self.group.first:
                        self.beat((at.images - before) / (time.monotonic() - began))
                if signal or save:
                    signal = self._collect_all(waiting, bar) or signal
                    self.save()
                if signal:
                    self.leave(signal)
            self._collect_all(waiting, bar)
        # On CPUs BN updates its running statistics in the backward pass, which MXNet does not
        # declare as a dependency of reading them.
        mx.nd.waitall()
        self.clock.lap("train")

    def _seed_random_layers(self, epoch):
        """Seed MXNet's generator, so that dropout in a user's network is the same after a resume.

        The paper's networks draw nothing.
        """
        if getattr(self.step.net.spec, "papers", False):
            return
        where = [self.options.seed, epoch, self.at.steps, self.group.shard.index]
        (seed,) = np.random.SeedSequence([*where, *self.at.reshuffled_at]).generate_state(1)
        mx.random.seed(int(seed) // 2)

    def _later(self, results):
        """Gather loss, errors, signal and save request of all workers, asynchronously."""
        due = time.monotonic() - self.saved > 60 * self.options.checkpoint_minutes
        requests = [self.stop.received, float(due)]
        if self.group.kv is None:
            return results, requests
        columns = [sum(part.as_in_context(mx.cpu()) for part in parts) for parts in zip(*results)]
        row = mx.nd.concat(*(c.reshape(1) for c in columns), mx.nd.array(requests), dim=0)
        return self.group.gather_later("step", row)

    def _collect(self, step, images, lr, later, bar):
        """Count a step's results; return any worker's signal, and whether to save."""
        if self.group.kv is None:
            results, (signal, save) = later
            loss, wrong = (sum(float(part.asscalar()) for part in parts) for parts in zip(*results))
        else:
            rows = later.asnumpy().astype(np.float64)
            loss, wrong = rows[:, :2].sum(axis=0)
            signal, save = rows[:, 2].max(), rows[0, 3]
        at, every = self.at, self.options.log_steps
        if not math.isfinite(loss):
            raise NotFinite(
                f"the loss is {loss} in step {step} of epoch {at.epoch + 1} with learning rate "
                f"{lr:g}"
            )
        at.images, at.loss, at.wrong = at.images + images, at.loss + loss, at.wrong + int(wrong)
        bar.set_postfix_str(f"loss {loss / images:.3f}", refresh=False)
        bar.update(images)
        if self.group.first and every and step % every == 0:
            place = {"epoch": at.epoch + 1, "step": step, "images": at.images}
            runlog.append(self.run.log, "steps", **place, **at.means())
        if self.on_step:
            mean, error = loss / images, 100 * int(wrong) / images
            if self.ask(self.on_step, StepState(at.epoch + 1, step, lr, images, mean, error)):
                # Several workers stop at one step: the others are told with a later step's loss.
                signal = self.stop.received if self.group.kv is None else signal
        return int(signal), bool(save)

    def ask(self, functions, state):
        """Call the user's functions; note if one stops the run, and return whether one did."""
        stop = wants_stop(functions, state)
        if stop:
            self.stop.received = self.stop.received or STOPPED_BY_CALLBACK
        return stop

    def _collect_all(self, waiting, bar):
        signals = [self._collect(*each, bar)[0] for each in waiting]
        waiting.clear()
        return max(signals, default=0)

    def beat(self, rate=0.0, now=False):
        """Tell ``dmr status`` how far the run is: every few seconds, or ``now``."""
        if not now and time.monotonic() - self.beaten < _BEAT:
            return
        self.beaten = time.monotonic()
        at, plan = self.at, self.plan
        images_left = (plan.total - plan.done(at)) * plan.batch
        values = {
            "epochs": plan.epochs,
            "epoch": at.epoch + 1,
            "step": at.steps,
            "steps": plan.steps_in(at.epoch + 1),
            "train_loss": at.loss / at.images if at.images else None,
            "images_per_second": round(rate, 1),
            "seconds_left": round(images_left / rate) if rate else None,
            "time": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        }
        with contextlib.suppress(OSError):  # a training does not end because of it
            write_atomically(self.run.file("progress.json"), json.dumps(values))
