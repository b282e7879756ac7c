"""Checkpoints: everything that the next step depends on, in one file.

A checkpoint is a NumPy archive (``.npz``) with arrays ``parameter/NAME`` and ``velocity/NAME``, if
applicable ``master/NAME`` (float32 copies of float16 weights), ``average/NAME`` (running averages
of the weights) and ``statistics`` (BN's running statistics per device and worker), and a ``state``
in JSON with the SHA-256 of the arrays. It is written atomically and read without unpickling.

``epoch-0003.npz`` is the end of epoch 3, ``epoch-0003-step-000120.npz`` 120 steps later.
"""

import glob
import io
import json
import os
import re
from collections import defaultdict

import numpy as np

from ..data.loader import WHOLE
from ..errors import DMRError
from ..models.network import misfit
from ..runtime import mx
from ..system.files import digest, write_atomically

_NAME = re.compile(r"epoch-(\d+)(?:-step-(\d+))?\.npz$")


def arrays_of(step, group=None):
    """Return everything that a step changes, as NumPy arrays.

    Parameters
    ----------
    step : TrainingStep
        Its optimiser keeps at most one array per bucket, and a master copy.
    group : WorkerGroup, optional
        Given if running statistics differ between devices and workers; all workers then call this
        together.

    Returns
    -------
    dict of str to numpy.ndarray
    """
    states = step.trainer._updaters[0].states
    states = [states.get(index) for index in range(len(step.flat.arrays))]
    velocities, masters = zip(*(s if isinstance(s, tuple) else (s, None) for s in states))
    kinds = {"velocity": velocities, "master": masters}
    if step.average:
        kinds["average"] = step.average.averages
    arrays = {
        f"parameter/{name}": parameter.list_data()[0].asnumpy()
        for name, parameter in step.net.collect_params().items()
    }
    for kind, long in kinds.items():
        pieces = step.flat.pieces([None if array is None else array.asnumpy() for array in long])
        arrays.update((f"{kind}/{name}", piece) for name, piece in pieces.items())
    if group is not None and running_statistics(step.net) and len(step.devices) * group.count > 1:
        mine = read_statistics(step.net)
        rows = group.gather_later("statistics", mx.nd.array(mine.ravel())).asnumpy()
        arrays["statistics"] = rows.reshape(group.count, *mine.shape)
    return arrays


def running_statistics(net):
    """Return BN's running means and variances, except those that are frozen."""
    frozen = getattr(net, "frozen", ())
    parameters = net.collect_params().values()
    return [p for p in parameters if p.grad_req == "null" and p.name not in frozen]


def read_statistics(net):
    """Return all running statistics in one array with a row for each device."""
    rows = zip(*(parameter.list_data() for parameter in running_statistics(net)))
    return np.stack([np.concatenate([one.asnumpy().ravel() for one in row]) for row in rows])


def set_statistics(net, rows):
    """Set all running statistics from an array with a row for each device."""
    start = 0
    for parameter in running_statistics(net):
        stop = start + int(np.prod(parameter.shape))
        for array, row in zip(parameter.list_data(), rows):
            array[:] = _nd(row[start:stop].reshape(parameter.shape), array.context)
        start = stop


def write(directory, epoch, arrays, state, step=0):
    """Write one checkpoint atomically.

    Parameters
    ----------
    directory : str
    epoch, step : int
        Completed epochs, and steps of the next one.
    arrays : dict of str to numpy.ndarray
    state : dict
        Serialisable as JSON.

    Returns
    -------
    str
        The path.
    """
    name = f"epoch-{epoch:04d}" + (f"-step-{step:06d}" if step else "")
    path = os.path.join(directory, name + ".npz")
    state = json.dumps({**state, "sha256": digest(arrays)})
    # In memory first: on a full disk NumPy's archive would complain again when it is deleted.
    archive = io.BytesIO()
    np.savez(archive, state=np.frombuffer(state.encode(), np.uint8), **arrays)
    write_atomically(path, archive.getbuffer())
    return path


def keep_only(newest, last, best=None):
    """Remove all checkpoints but the latest ones and that of the best epoch.

    Partly written files are removed too.

    Parameters
    ----------
    newest : str
        The one just written. Later ones are damaged, or they would have been resumed.
    last : int
        The number to keep, including this one.
    best : int, optional
    """
    directory, newest = os.path.split(newest)
    names = [os.path.basename(path) for path in _all(directory)]
    first = names.index(newest)
    kept = {*names[first : first + last], f"epoch-{best:04d}.npz" if best else None}
    for name in os.listdir(directory):
        if re.match(r"epoch-.*\.npz(\.part)?$", name) and name not in kept:
            os.remove(os.path.join(directory, name))


def newest(directory):
    """Return the path of the newest checkpoint, intact or not, or None."""
    return next(iter(_all(directory)), None)


def read_newest(directory, accept=None):
    """Read the newest intact checkpoint.

    Parameters
    ----------
    directory : str
    accept : callable, optional
        Called with path and state of an intact one; raises DMRError to skip it.

    Returns
    -------
    (str, dict of str to numpy.ndarray, dict) or None
        Path, arrays and state; None if there is no checkpoint.

    Raises
    ------
    DMRError
        If there are checkpoints but none is usable.
    """
    damage = None
    for path in _all(directory):
        try:
            arrays, state = read(path)
            if accept:
                accept(path, state)
        except DMRError as error:
            damage = str(error)
            print(f"warning: {damage}; trying the one before", flush=True)
            continue
        return path, arrays, state
    if damage:
        raise DMRError(f"{damage}, and there is no other")
    return None


def read(path):
    """Read the arrays and the state of one checkpoint.

    Raises
    ------
    DMRError
        If it is damaged.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        state = json.loads(arrays.pop("state").tobytes())
        # Checkpoints of earlier versions have no hash.
        if state.get("sha256") not in (None, digest(arrays)):
            raise ValueError("its SHA-256 does not match")
        return arrays, state
    except Exception as error:  # damaged archives raise a dozen kinds
        raise DMRError(f"{path} is damaged ({error})") from error


def _all(directory):
    """Return the paths of all checkpoints, newest first."""
    paths = glob.glob(os.path.join(glob.escape(directory), "epoch-*.npz"))
    found = ((_NAME.search(path), path) for path in paths)
    dated = [((int(m.group(1)), int(m.group(2) or 0)), path) for m, path in found if m]
    return [path for _, path in sorted(dated, reverse=True)]


def by_kind(arrays):
    """Sort the arrays of a checkpoint that belong to parameters: by kind, then by name."""
    kinds = defaultdict(dict)
    for path, array in arrays.items():
        kind, slash, name = path.partition("/")
        if slash:  # not the devices' running statistics
            kinds[kind][name] = array
    return kinds


def fill(arrays, step, lr, shard=WHOLE):
    """Fill a network and its trainer with the result of :func:`arrays_of`.

    Parameters
    ----------
    arrays : dict of str to numpy.ndarray
    step : TrainingStep
    lr : float
        The learning rate of the velocities.
    shard : Shard
        The worker whose running statistics to take. If the devices or workers are other ones,
        all get the mean.

    Raises
    ------
    DMRError
        If a user's network is not the one of the checkpoint.
    """
    kinds = by_kind(arrays)
    shapes = {name: one.shape for name, one in step.net.collect_params().items()}
    fault = misfit(shapes, {name: one.shape for name, one in kinds["parameter"].items()})
    if fault:
        raise DMRError(
            f"the network has other parameters than the checkpoint: {fault}; resume with the same "
            f"network, built by a function"
        )
    for name, parameter in step.net.collect_params().items():
        parameter.set_data(_nd(kinds["parameter"][name]))
    rows, devices = arrays.get("statistics"), len(step.devices)
    if rows is not None:
        same = rows.shape[:2] == (shard.count, devices)
        mean = rows.mean(axis=(0, 1))
        set_statistics(step.net, rows[shard.index] if same else [mean] * devices)
    velocities, masters = step.flat.join(kinds["velocity"]), step.flat.join(kinds["master"])
    for index, (bucket, *state) in enumerate(zip(step.flat.arrays, velocities, masters)):
        for updater, device in zip(step.trainer._updaters, bucket.list_ctx()):
            velocity, master = (None if one is None else _nd(one, device) for one in state)
            # Before the first step there is no state, and the first one creates it.
            updater.states.pop(index, None)
            if velocity is not None or master is not None:
                updater.states[index] = velocity if master is None else (velocity, master)
                updater.states_synced[index] = True
            if hasattr(updater.optimizer, "velocity_lr"):
                updater.optimizer.velocity_lr[index, device] = lr * bucket.lr_mult
    if step.average:
        averages = zip(step.flat.join(kinds["average"]), step.flat.arrays)
        step.average.averages = [_nd(array, bucket.list_ctx()[0]) for array, bucket in averages]


def _nd(array, device=None):
    return mx.nd.array(array, ctx=device, dtype=array.dtype)
