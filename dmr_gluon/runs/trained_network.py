"""Load the trained network of a run."""

import os

import numpy as np

from ..errors import DMRError
from ..models.custom import build, initialise, is_registered, load_graph
from ..models.network import read_parameters
from ..models.serialization import digest_of, prepare_to_run
from ..models.spec import NetworkSpec
from ..runtime import mx
from . import log as runlog
from .directory import RunDirectory
from .plugins import import_recorded


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
    config = run.config()
    import_recorded(run, config)
    spec, size = NetworkSpec.from_json(config["network"]), config["recipe"]["image_size"]
    epoch = run.model_epoch(epoch)
    path = f"{run.model_prefix}-{epoch:04d}.params"
    otherwise = f"--run-dir {run.path} --resume writes it anew from the checkpoint"
    devices = devices or [mx.cpu()]
    graph = f"{run.model_prefix}-symbol.json"
    # Without the code that built it, the run's own graph is the network.
    known = is_registered(spec)
    net = build(spec) if known else load_graph(spec, graph)
    initialise(net, size, devices)
    read_parameters(net, path, otherwise)
    logged = logged_epoch(run.log, epoch) or {}
    # Earlier versions did not log the hash.
    if logged.get("parameters_sha256") not in (None, digest_of(net)):
        raise DMRError(
            f"{path} does not hold the parameters that this run had after epoch {epoch}, as "
            f"{run.log} identifies them: it is another run's, or was changed; {otherwise}"
        )
    if known and os.path.exists(graph):
        _require_same_graph(net, graph, path, size, devices[:1])
    prepare_to_run(net, devices)
    return net


def _require_same_graph(net, graph, path, size, device):
    """Refuse a network that computes something else than the graph that was trained."""
    with open(graph, encoding="utf-8") as file:
        if net.portable_symbol().tojson().strip() == file.read().strip():
            return
    # Other versions of this package may have written the same function otherwise.
    trained = load_graph(net.spec, graph)
    initialise(trained, size, device)
    read_parameters(trained, path, "train it again")
    image = np.random.RandomState(0).standard_normal((1, 3, size, size))
    own, expected = (one(mx.nd.array(image, *device)).asnumpy() for one in (net, trained))
    if not np.allclose(own, expected, rtol=1e-2, atol=1e-2 * np.abs(expected).max()):
        raise DMRError(
            f"{graph} computes something else than {net.spec.name} as it is built here: its blocks "
            f"were changed in the training's process; register them (dmr_gluon.register_block) "
            f"and train again"
        )


def logged_epoch(log, epoch):
    """Return an epoch's event (dict), or None if the log lacks it or cannot be read."""
    try:
        events = runlog.read(log)
    except DMRError:
        return None
    return {event["epoch"]: event for event in events if event["event"] == "epoch"}.get(epoch)
