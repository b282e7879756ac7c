"""The state of a training between two steps, as checkpoints hold it."""

from dataclasses import dataclass, field, fields
from typing import Dict, List, Optional


class NotFinite(Exception):
    """Raised when a loss or a weight is infinite or NaN; the text names it."""


@dataclass
class TrainingState:
    """Progress of a training, and sums over the current epoch so far.

    Attributes
    ----------
    epoch : int
        Completed epochs.
    steps, images, loss, wrong : int, int, float, int
        Steps and images of the current epoch, the sum of their losses, and how many were
        misclassified.
    lr : float
        Learning rate of the last step.
    averaged : bool
        Whether BN's running statistics have been averaged over all devices.
    reshuffled_at : list of int
        Steps of this epoch after which the rest was reshuffled.
    seconds : dict of float
        Time of this epoch by activity, including earlier processes.
    best : dict, optional
        ``epoch`` and ``test_error`` of the best epoch.
    values : dict, optional
        The log line of the last epoch.
    """

    epoch: int = 0
    steps: int = 0
    images: int = 0
    loss: float = 0.0
    wrong: int = 0
    lr: float = 0.0
    averaged: bool = False
    reshuffled_at: List[int] = field(default_factory=list)
    seconds: Dict[str, float] = field(default_factory=dict)
    best: Optional[dict] = None
    values: Optional[dict] = None

    @classmethod
    def of(cls, saved):
        """Return the state that a checkpoint holds; earlier versions called a field ``fresh``."""
        saved = {"reshuffled_at": saved.get("fresh", []), **saved}
        return cls(**{item.name: saved[item.name] for item in fields(cls) if item.name in saved})

    def means(self):
        """Return the mean loss and the error in percent of the epoch so far."""
        loss, error = self.loss / self.images, 100 * self.wrong / self.images
        return {"train_loss": loss, "train_error": error}

    def next_epoch(self):
        """Return the state at the start of the next epoch."""
        return TrainingState(epoch=self.epoch + 1, lr=self.lr, best=self.best, averaged=True)

    def __str__(self):
        return f"epoch {self.epoch}" + (f" and {self.steps} steps" if self.steps else "")
