"""How a run's images are divided into steps."""

import math
from dataclasses import dataclass

from ..errors import DMRError
from .optimizer import learning_rate


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
        """Plan a run whose batches are cut into so many parts (devices, workers, accumulation).

        Raises
        ------
        DMRError
            If a part would get no images.
        """
        count, batch = prepared.split("train").count, recipe.batch_size
        if min(batch, count) < parts:
            raise DMRError(
                f"a step of {min(batch, count)} images is too small for {parts} parts (devices "
                f"times workers times accumulate); give each at least one image"
            )
        # A remainder with fewer images than parts is dropped.
        per_epoch = count // batch + (count % batch >= parts)
        epochs, total = recipe.epochs, per_epoch * recipe.epochs
        if recipe.steps is not None:
            per_epoch, total = min(per_epoch, recipe.steps), recipe.steps
            epochs = math.ceil(total / per_epoch)
        if round(recipe.warmup_epochs * per_epoch) >= total:
            raise DMRError(f"warmup_epochs {recipe.warmup_epochs:g} leaves none of {total} steps")
        return cls(count, batch, per_epoch, total, epochs)

    def done(self, at):
        """Return the number of steps made at a :class:`~.state.TrainingState`."""
        return at.epoch * self.per_epoch + at.steps

    def steps_in(self, epoch):
        """Return the number of steps in an epoch, counted from 1."""
        return min(self.per_epoch, self.total - (epoch - 1) * self.per_epoch)

    def images_in(self, step):
        """Return the number of images in a step of an epoch, counted from 0."""
        return min(self.batch, self.count - step * self.batch)

    def lr(self, recipe, epoch, step):
        """Return the learning rate of a step (from 0) of an epoch (from 1)."""
        return learning_rate(
            recipe, (epoch - 1) * self.per_epoch + step, self.total, self.per_epoch
        )
