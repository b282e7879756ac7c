"""Networks as MXNet's own files, and back."""

import os

import numpy as np

from ..data.checksums import digest
from ..errors import DMRError
from ..model import Network, read_parameters
from ..report import runlog
from ..runs import RunDirectory, write_atomically
from ..runtime import mx
from ..spec import NetworkSpec


def save_model(net, prefix, epoch):
    """Write ``PREFIX-symbol.json`` and ``PREFIX-NNNN.params``.

    The symbol's input is ``data`` and its output the logits. The files are MXNet's own: ``mx.model
    .load_checkpoint``, ``mx.mod.Module.load`` and ``SymbolBlock.imports`` read them.

    Parameters
    ----------
    net : Network
        With the same parameters and running statistics on every device.
    prefix : str
    epoch : int
        Goes into the file's name.

    Raises
    ------
    OSError
        When not everything has reached the disk.
    """
    save_symbol(net.portable_symbol(), _portable_arrays(net), prefix, epoch)


def save_symbol(symbol, arrays, prefix, epoch=0):
    """The same for a symbol and its parameters and running statistics, NDArrays by name."""
    auxiliary = set(symbol.list_auxiliary_states())
    arrays = {
        ("aux:" if name in auxiliary else "arg:") + name: array for name, array in arrays.items()
    }
    write_atomically(f"{prefix}-symbol.json", symbol.tojson())
    # By way of memory: MXNet takes no path that is not UTF-8, and does not notice a full disk.
    with open(os.memfd_create("params"), "rb") as file:
        mx.nd.save(f"/proc/self/fd/{file.fileno()}", arrays)
        write_atomically(f"{prefix}-{epoch:04d}.params", file.read())


def _portable_arrays(net):
    """By name, on the CPU; float16 as float32, which every device can compute in."""
    arrays = {name: one.list_data()[0] for name, one in net.collect_params().items()}
    arrays = {name: array.copyto(mx.cpu()) for name, array in arrays.items()}
    return {n: a.astype(np.float32) if a.dtype == np.float16 else a for n, a in arrays.items()}


def digest_of(net):
    """Hash a network's parameters and running statistics, as :func:`save_model` writes them.

    Parameters
    ----------
    net : Network
        Without a prefix.

    Returns
    -------
    str
        SHA-256.
    """
    return digest({name: array.asnumpy() for name, array in _portable_arrays(net).items()})


def load_run(run, devices=None, epoch=None):
    """The trained network of a run.

    Parameters
    ----------
    run : str or RunDirectory
    devices : list of Context, optional
        Default: one CPU context.
    epoch : int, optional
        After which epoch; the best and the last one are kept. Default: the last one that ended.

    Returns
    -------
    Network
        Hybridized.

    Raises
    ------
    DMRError
        Where there is no run, no epoch has ended, or a file is damaged or another run's.
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
    # Earlier versions did not log it.
    if logged.get("parameters_sha256") not in (None, digest_of(net)):
        raise DMRError(
            f"{path} does not hold the parameters that this run had after epoch {epoch}, as "
            f"{run.log} identifies them: it is another run's, or was changed; {otherwise}"
        )
    prepare_to_run(net, devices)
    return net


def logged_epoch(log, epoch):
    """The training log's last line of an epoch; None where there is none, or no whole log."""
    try:
        lines = [event for event in runlog.epochs(log) if event.get("epoch") == epoch]
    except DMRError:
        return None
    return lines[-1] if lines else None


def prepare_to_run(net, devices):
    """Choose the fastest form of a network for the devices that it will run on."""
    if all(device.device_type == "cpu" for device in devices):
        net.fuse_for_cpu()
    net.hybridize(static_alloc=True, static_shape=True)
