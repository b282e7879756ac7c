"""How far a training is: what a checkpoint's state holds."""

from dataclasses import dataclass, field
from typing import Dict, List, Optional


class NotFinite(Exception):
    """A loss or a weight is infinite or not a number; the text says which."""


@dataclass
class TrainingState:
    """Epochs and steps that are done, and what has been summed up since the last epoch's end.

    Attributes
    ----------
    epoch : int
        Epochs that have ended.
    steps, images, loss, wrong : int, int, float, int
        Of the next epoch so far: steps, images, the sum of their losses, wrong answers.
    lr : float
        Of the last step.
    averaged : bool
        BN's running statistics are the mean of all devices'.
    fresh : list of int
        Steps of this epoch after which its rest was drawn anew.
    seconds : dict of float
        Of this epoch so far, by what they went into, in processes that were stopped.
    best : dict, optional
        ``epoch`` and ``test_error`` of the best epoch.
    values : dict, optional
        The last epoch's line of the log.
    """

    epoch: int = 0
    steps: int = 0
    images: int = 0
    loss: float = 0.0
    wrong: int = 0
    lr: float = 0.0
    averaged: bool = False
    fresh: List[int] = field(default_factory=list)
    seconds: Dict[str, float] = field(default_factory=dict)
    best: Optional[dict] = None
    values: Optional[dict] = None

    def next_epoch(self):
        """The position after the epoch's end."""
        return TrainingState(epoch=self.epoch + 1, lr=self.lr, best=self.best, averaged=True)

    def __str__(self):
        return f"epoch {self.epoch}" + (f" and {self.steps} steps" if self.steps else "")
