"""Checkpoints: everything that the next epoch depends on, in one file.

A checkpoint is a NumPy archive (``.npz``) with the arrays ``parameter/NAME`` and
``velocity/NAME`` and a ``state`` in JSON. It is written under another name and then
renamed, so it is there whole or not at all; the archive's own CRCs find later damage. It
is read without unpickling anything.
"""

import glob
import json
import os
import re
import zipfile
import zlib

import numpy as np

from ..errors import DMRError
from ..runtime import mx

#: The last checkpoints that are kept: if one is damaged, there is the one before.
KEPT = 2

#: What reading a damaged archive raises, by the byte that is damaged.
_DAMAGE = (
    OSError,
    ValueError,
    KeyError,
    EOFError,
    RuntimeError,
    zipfile.BadZipFile,
    zlib.error,
)


def save(directory, epoch, net, trainer, state):
    """Write the checkpoint of an epoch and remove those that are too old.

    Parameters
    ----------
    directory : str
    epoch : int
        Epochs that have ended.
    net : HybridBlock
        With the same parameters and running statistics on every device.
    trainer : Trainer
        Whose optimiser keeps one array, or nothing, for each parameter.
    state : dict
        Anything JSON can hold.
    """
    write(directory, epoch, arrays_of(net, trainer), state)
    for old in _all(directory)[KEPT:]:
        os.remove(old)


def arrays_of(net, trainer):
    """Parameters and velocities as NumPy arrays, by ``parameter/NAME`` and ``velocity/NAME``."""
    arrays = {}
    for name, parameter in net.collect_params().items():
        arrays[f"parameter/{name}"] = parameter.list_data()[0].asnumpy()
    for index, velocity in trainer._updaters[0].states.items():
        if velocity is not None:
            arrays[f"velocity/{trainer._params[index].name}"] = velocity.asnumpy()
    return arrays


def write(directory, epoch, arrays, state):
    """Write one checkpoint; it is there whole or not at all."""
    path = os.path.join(directory, f"epoch-{epoch:04d}.npz")
    with open(path + ".part", "wb") as file:
        np.savez(file, state=np.frombuffer(json.dumps(state).encode(), np.uint8), **arrays)
        file.flush()
        os.fsync(file.fileno())
    os.replace(path + ".part", path)


def restore(directory, net, trainer):
    """Load the newest checkpoint that is whole.

    Returns
    -------
    dict or None
        Its state; None where there is no checkpoint.

    Raises
    ------
    DMRError
        Where there are checkpoints but none is whole and of this network.
    """
    found = read_newest(directory)
    if found is None:
        return None
    path, arrays, state = found
    fill(path, arrays, net, trainer, state["lr"])
    return state


def read_newest(directory):
    """The newest checkpoint that is whole.

    Returns
    -------
    (str, dict of str to numpy.ndarray, dict) or None
        Path, arrays and state; None where there is no checkpoint.

    Raises
    ------
    DMRError
        Where there are checkpoints but none is whole.
    """
    damage = None
    for path in _all(directory):
        try:
            with np.load(path, allow_pickle=False) as archive:
                arrays = {name: archive[name] for name in archive.files}
            state = json.loads(arrays.pop("state").tobytes())
        except _DAMAGE as error:
            damage = f"{path} is damaged ({error})"
            print(f"warning: {damage}; trying the one before", flush=True)
            continue
        return path, arrays, state
    if damage:
        raise DMRError(f"{damage}, and there is no other; start again in another --run-dir")
    return None


def _all(directory):
    """Paths of the checkpoints, newest first."""
    paths = glob.glob(os.path.join(glob.escape(directory), "epoch-*.npz"))
    return sorted(
        (path for path in paths if re.search(r"epoch-\d+\.npz$", path)),
        key=lambda path: int(re.search(r"epoch-(\d+)\.npz$", path).group(1)),
        reverse=True,
    )


def fill(path, arrays, net, trainer, lr):
    """Give a network and its trainer what :func:`arrays_of` took from others.

    Parameters
    ----------
    path : str
        Where the arrays are from, for a refusal.
    arrays : dict of str to numpy.ndarray
    net : HybridBlock
    trainer : Trainer
    lr : float
        The learning rate that the velocities were last used with.

    Raises
    ------
    DMRError
        For arrays of another network.
    """
    parameters = net.collect_params()
    found = {name.split("/", 1)[1] for name in arrays if name.startswith("parameter/")}
    if found != set(parameters):
        differing = sorted(found ^ set(parameters))
        raise DMRError(f"{path} is of another network: {differing[0]} is not in both")
    for name, parameter in parameters.items():
        array = arrays[f"parameter/{name}"]
        parameter.set_data(mx.nd.array(array, dtype=array.dtype))
    for index, parameter in enumerate(trainer._params):
        velocity = arrays.get(f"velocity/{parameter.name}")
        for updater, device in zip(trainer._updaters, parameter.list_ctx()):
            if velocity is None:
                continue
            updater.states[index] = mx.nd.array(velocity, ctx=device, dtype=velocity.dtype)
            updater.states_synced[index] = True
            if hasattr(trainer.optimizer, "velocity_lr"):
                trainer.optimizer.velocity_lr[index, device] = lr
