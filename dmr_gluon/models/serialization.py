"""Save networks as MXNet's own files."""

import os

import numpy as np

from ..runtime import mx
from ..system.files import digest, write_atomically


def save_model(net, prefix, epoch):
    """Write ``PREFIX-symbol.json`` and ``PREFIX-NNNN.params``.

    The symbol maps ``data`` to logits. ``mx.model.load_checkpoint``, ``mx.mod.Module.load`` and
    ``SymbolBlock.imports`` read the files.

    Parameters
    ----------
    net : Network
        With the same parameters and running statistics on every device.
    prefix : str
    epoch : int
        Part of the file's name.

    Raises
    ------
    OSError
        If the files could not be written completely.
    """
    save_symbol(net.portable_symbol(), _portable_arrays(net), prefix, epoch)


def save_symbol(symbol, arrays, prefix, epoch=0):
    """Save a symbol with its parameters and running statistics, NDArrays by name, likewise."""
    auxiliary = set(symbol.list_auxiliary_states())
    arrays = {
        ("aux:" if name in auxiliary else "arg:") + name: array for name, array in arrays.items()
    }
    write_atomically(f"{prefix}-symbol.json", symbol.tojson())
    # Via memory: MXNet refuses paths that are not UTF-8, and does not notice a full disk.
    with open(os.memfd_create("params"), "rb") as file:
        mx.nd.save(f"/proc/self/fd/{file.fileno()}", arrays)
        write_atomically(f"{prefix}-{epoch:04d}.params", file.read())


def _portable_arrays(net):
    """Return all arrays by name on the CPU; float16 becomes float32, which every device has."""
    arrays = {name: one.list_data()[0] for name, one in net.collect_params().items()}
    arrays = {name: array.copyto(mx.cpu()) for name, array in arrays.items()}
    return {n: a.astype(np.float32) if a.dtype == np.float16 else a for n, a in arrays.items()}


def digest_of(net):
    """Return the SHA-256 of a network's parameters and running statistics, as saved.

    Parameters
    ----------
    net : Network
        Without a prefix.
    """
    return digest({name: array.asnumpy() for name, array in _portable_arrays(net).items()})


def prepare_to_run(net, devices):
    """Put a network into its fastest form for these devices, and hybridize it."""
    if all(device.device_type == "cpu" for device in devices):
        net.fuse_for_cpu()
    net.hybridize(static_alloc=True, static_shape=True)
