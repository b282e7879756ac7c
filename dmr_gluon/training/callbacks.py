"""Call the user's functions during a training."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Callable, List, Sequence, Tuple

import numpy as np

from ..errors import DMRError, Failed
from ..runs.log import EpochRecord

if TYPE_CHECKING:
    from ..models.network import Network

#: Takes the place of a signal's number if a callback stops the run.
STOPPED_BY_CALLBACK = 255


@dataclass(frozen=True)
class StepState:
    """One step, for ``on_step``.

    Attributes
    ----------
    epoch, step : int
        Counted from 1; the step within the epoch.
    lr : float
    images : int
        Images of the step over all devices and workers.
    loss : float
        Mean loss over these images.
    error : float
        Percentage of them that was misclassified.
    """

    epoch: int
    step: int
    lr: float
    images: int
    loss: float
    error: float


@dataclass(frozen=True)
class EpochState:
    """One epoch after its evaluation, for ``on_epoch``.

    Attributes
    ----------
    record : EpochRecord
        Losses, errors, learning rate and times.
    net : Network
        Predicts as in the evaluation, with the averaged weights if the recipe has an
        ``ema_decay``. For reading only: on CPUs its parameters are copies.
    run : str
        The run's folder.
    """

    record: EpochRecord
    net: "Network"
    run: str


def functions_of(callbacks: Sequence[Any]) -> Tuple[List[Callable], List[Callable]]:
    """Return the functions to call after every step, and those to call after every epoch.

    Parameters
    ----------
    callbacks : list
        Objects with ``on_step``, ``on_epoch`` or both; plain functions are called after epochs.

    Raises
    ------
    DMRError
        For anything else.
    """
    if not isinstance(callbacks, (list, tuple)):
        raise DMRError(f"callbacks must be a list, not {callbacks!r}")
    on_step, on_epoch = [], []
    for callback in callbacks:
        step, epoch = (getattr(callback, name, None) for name in ("on_step", "on_epoch"))
        if not (step or epoch):
            epoch = callback
        if isinstance(callback, type) or not all(callable(one) for one in (step, epoch) if one):
            raise DMRError(
                f"callbacks: {callback!r} is neither a function nor an object with a method "
                f"on_step or on_epoch"
            )
        on_step += [step] if step else []
        on_epoch += [epoch] if epoch else []
    return on_step, on_epoch


def wants_stop(functions, state) -> bool:
    """Call all functions with a state; return whether one of them returned True.

    Raises
    ------
    Failed
        If one of them raises an exception.
    """
    stop = False
    for function in functions:
        try:
            answer = function(state)
        except Exception as error:
            name = getattr(function, "__qualname__", type(function).__name__)
            raise Failed(
                f"the callback {name} raised {type(error).__name__}: {error}; the last checkpoint "
                f"is kept: continue with --resume and the same --run-dir"
            ) from error
        stop = stop or (isinstance(answer, (bool, np.bool_)) and bool(answer))
    return stop
