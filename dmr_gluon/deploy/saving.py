"""Networks as MXNet's own files, and back."""

import contextlib
import os

import numpy as np

from ..model import Network, read_parameters
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
    arrays = {name: _portable(one.list_data()[0]) for name, one in net.collect_params().items()}
    save_symbol(net.portable_symbol(), arrays, prefix, epoch)


def save_symbol(symbol, arrays, prefix, epoch=0):
    """The same for a symbol and its parameters and running statistics, NDArrays by name."""
    auxiliary = set(symbol.list_auxiliary_states())
    arrays = {
        ("aux:" if name in auxiliary else "arg:") + name: array for name, array in arrays.items()
    }
    write_atomically(f"{prefix}-symbol.json", symbol.tojson())
    path = f"{prefix}-{epoch:04d}.params"
    try:
        mx.nd.save(path + ".part", arrays)
        # MXNet does not say when the last bytes could not be written: the disk may be full.
        whole = set(mx.nd.load(path + ".part")) == set(arrays)
    except mx.base.MXNetError:
        whole = False
    if not whole:
        with contextlib.suppress(OSError):
            os.remove(path + ".part")
        raise OSError(f"{path} did not reach the disk whole")
    os.replace(path + ".part", path)


def _portable(array):
    """On the CPU; float16 as float32, which every device can compute in."""
    array = array.copyto(mx.cpu())
    return array.astype(np.float32) if array.dtype == np.float16 else array


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
        Where there is no run, no epoch has ended, or a file is damaged.
    """
    run = run if isinstance(run, RunDirectory) else RunDirectory(run)
    spec = NetworkSpec.from_json(run.config()["network"])
    path = f"{run.model_prefix}-{run.model_epoch(epoch):04d}.params"
    devices = devices or [mx.cpu()]
    net = Network(spec)
    net.initialize(ctx=devices)
    read_parameters(net, path, f"--run-dir {run.path} --resume writes it anew from the checkpoint")
    prepare_to_run(net, devices)
    return net


def prepare_to_run(net, devices):
    """Choose the fastest form of a network for the devices that it will run on."""
    if all(device.device_type == "cpu" for device in devices):
        net.fuse_for_cpu()
    net.hybridize(static_alloc=True, static_shape=True)
