"""Load the trained network of a run."""

from ..errors import DMRError
from ..models.network import Network, read_parameters
from ..models.serialization import digest_of, prepare_to_run
from ..models.spec import NetworkSpec
from ..runtime import mx
from . import log as runlog
from .directory import RunDirectory


def load_run(run, devices=None, epoch=None):
    """Load the trained network of a run.

    Parameters
    ----------
    run : str or RunDirectory
    devices : list of Context, optional
        Default: one CPU context.
    epoch : int, optional
        Epoch of the parameters: the last completed one (default) and the best one are kept.

    Returns
    -------
    Network
        Hybridized.

    Raises
    ------
    DMRError
        If there is no run, no completed epoch, or a file is damaged or belongs to another run.
    """
    run = run if isinstance(run, RunDirectory) else RunDirectory(run)
    spec = NetworkSpec.from_json(run.config()["network"])
    epoch = run.model_epoch(epoch)
    path = f"{run.model_prefix}-{epoch:04d}.params"
    otherwise = f"--run-dir {run.path} --resume writes it anew from the checkpoint"
    devices = devices or [mx.cpu()]
    net = Network(spec)
    net.initialize(ctx=devices)
    read_parameters(net, path, otherwise)
    logged = logged_epoch(run.log, epoch) or {}
    # Earlier versions did not log the hash.
    if logged.get("parameters_sha256") not in (None, digest_of(net)):
        raise DMRError(
            f"{path} does not hold the parameters that this run had after epoch {epoch}, as "
            f"{run.log} identifies them: it is another run's, or was changed; {otherwise}"
        )
    prepare_to_run(net, devices)
    return net


def logged_epoch(log, epoch):
    """Return an epoch's event (dict), or None if the log lacks it or cannot be read."""
    try:
        events = runlog.read(log)
    except DMRError:
        return None
    found = [event for event in events if event["event"] == "epoch" and event["epoch"] == epoch]
    return found[-1] if found else None
