"""Continue training in another form of the network; see :mod:`dmr_gluon.models.equivalence`."""

from ..models.equivalence import convert, convert_arrays
from ..training import checkpoint
from ..training.step import TrainingStep


def convert_training(step, optimizer, form):
    """Convert a network in the middle of training.

    Parameters
    ----------
    step : TrainingStep
        The training so far.
    optimizer : Optimizer
        A new one of the same kind; it takes over the momenta and the learning rate.
    form : str
        ``branches`` or ``grouped``.

    Returns
    -------
    TrainingStep
        Its next steps have the same losses as those of ``step``.

    Raises
    ------
    DMRError
        For an unknown form, or a network without parallel branches.
    """
    net, arrays = convert(step.net, form), {}
    for kind, found in checkpoint.by_kind(checkpoint.arrays_of(step)).items():
        for name, array in convert_arrays(found, step.net.spec, form).items():
            arrays[f"{kind}/{name}"] = array
    other = TrainingStep(net, optimizer, step.devices, step.kv_store)
    checkpoint.fill(arrays, other, step.trainer.learning_rate)
    return other
