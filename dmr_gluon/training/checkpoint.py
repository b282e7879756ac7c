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
import tokenize
import zipfile
import zlib

import numpy as np

from ..data.loader import WHOLE
from ..errors import DMRError
from ..models.network import misfit
from ..runtime import mx
from ..system.files import digest, write_atomically
from .flat_parameters import trained_parameters

#: What reading a damaged archive may raise.
_DAMAGE = (
    OSError,
    ValueError,
    KeyError,
    EOFError,
    RuntimeError,
    NotImplementedError,
    TypeError,
    AttributeError,
    MemoryError,
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
)

_NAME = re.compile(r"epoch-(\d+)(?:-step-(\d+))?\.npz$")


def arrays_of(step, average=None, group=None):
    """Return everything that a step changes, as NumPy arrays.

    Parameters
    ----------
    step : TrainingStep
        Its optimiser keeps at most one array per bucket, and a master copy.
    average : WeightAverage, optional
    group : WorkerGroup, optional
        Given if running statistics differ between devices and workers; all workers then call this
        together.

    Returns
    -------
    dict of str to numpy.ndarray
    """
    net, buckets, arrays = step.net, step.flat, {}
    for name, parameter in net.collect_params().items():
        arrays[f"parameter/{name}"] = parameter.list_data()[0].asnumpy()

    def add(kind, long):
        pieces = buckets.pieces([None if array is None else array.asnumpy() for array in long])
        arrays.update((f"{kind}/{name}", piece) for name, piece in pieces.items())

    states = step.trainer._updaters[0].states
    pairs = [_pair(states.get(index)) for index in range(len(buckets.arrays))]
    for kind, long in zip(("velocity", "master"), zip(*pairs)):
        add(kind, long)
    if average is not None:
        add("average", average.averages)
    statistics = running_statistics(net)
    devices = len(statistics[0].list_ctx()) if statistics else 1
    if group is not None and statistics and devices * group.count > 1:
        mine = [p.list_data()[i].asnumpy().ravel() for i in range(devices) for p in statistics]
        rows = group.gather_later("statistics", mx.nd.array(np.concatenate(mine))).asnumpy()
        arrays["statistics"] = rows.reshape(group.count, devices, -1)
    return arrays


def running_statistics(net):
    """Return BN's running means and variances, the parameters without gradients."""
    return [p for p in net.collect_params().values() if p.grad_req == "null"]


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
    place = names.index(newest)
    kept = names[place : place + last]
    if best is not None:
        kept.append(f"epoch-{best:04d}.npz")
    halves = glob.glob(os.path.join(glob.escape(directory), "epoch-*.npz.part"))
    for path in [*(os.path.join(directory, name) for name in names if name not in kept), *halves]:
        os.remove(path)


def newest(directory):
    """Return the path of the newest checkpoint, intact or not, or None."""
    return next(iter(_all(directory)), None)


def read_newest(directory, ends_only=False, accept=None):
    """Read the newest intact checkpoint.

    Parameters
    ----------
    directory : str
    ends_only : bool
        Consider only ends of epochs.
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
        if ends_only and _NAME.search(path).group(2):
            continue
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
        whole = state.get("sha256") in (None, digest(arrays))
    except _DAMAGE as error:
        raise DMRError(f"{path} is damaged ({error})") from error
    if not whole:
        raise DMRError(f"{path} is damaged (its SHA-256 does not match)")
    named = tuple(int(number or 0) for number in _NAME.search(path).groups())
    told = state.get("epoch", named[0]), state.get("steps", named[1])
    if told != named:
        raise DMRError(f"{path} was renamed: it holds epoch {told[0]} and {told[1]} steps")
    return arrays, state


def _all(directory):
    """Return the paths of all checkpoints, newest first."""
    paths = glob.glob(os.path.join(glob.escape(directory), "epoch-*.npz"))
    found = ((_NAME.search(path), path) for path in paths)
    dated = [((int(m.group(1)), int(m.group(2) or 0)), path) for m, path in found if m]
    return [path for _, path in sorted(dated, reverse=True)]


def fill(path, arrays, step, lr, average=None, part=None):
    """Fill a network and its trainer with the result of :func:`arrays_of`.

    Parameters
    ----------
    path : str
        The arrays' origin, for a refusal.
    arrays : dict of str to numpy.ndarray
    step : TrainingStep
    lr : float
        The learning rate of the velocities.
    average : WeightAverage, optional
    part : Part, optional
        The shard whose running statistics to take.

    Raises
    ------
    DMRError
        If the arrays belong to another network.
    """
    require_fit(path, arrays, step.net, average is not None)
    kinds = {}
    for name, array in arrays.items():
        kind, _, name = name.partition("/")
        kinds.setdefault(kind, {})[name] = array
    for name, parameter in step.net.collect_params().items():
        parameter.set_data(_nd(kinds["parameter"][name]))
    _fill_statistics(step.net, arrays.get("statistics"), part or WHOLE)
    velocity, master = (step.flat.join(kinds.get(kind, {})) for kind in ("velocity", "master"))
    trainer = step.trainer
    for index, bucket in enumerate(step.flat.arrays):
        for updater, device in zip(trainer._updaters, bucket.list_ctx()):
            if velocity[index] is None and master[index] is None:
                # A checkpoint from before the first step has none; nor may this trainer.
                updater.states.pop(index, None)
                continue
            state = None if velocity[index] is None else _nd(velocity[index], device)
            updater.states[index] = (
                state if master[index] is None else (state, _nd(master[index], device))
            )
            updater.states_synced[index] = True
            if hasattr(trainer.optimizer, "velocity_lr"):
                trainer.optimizer.velocity_lr[index, device] = lr
    if average:
        found = step.flat.join(kinds["average"])
        average.averages = [
            _nd(array, bucket.list_ctx()[0]) for array, bucket in zip(found, step.flat.arrays)
        ]


def require_fit(path, arrays, net, averaged=False):
    """Refuse a checkpoint of any other network.

    Parameters
    ----------
    path : str
        The arrays' origin, for a refusal.
    arrays : dict of str to numpy.ndarray
    net : Network
    averaged : bool
        Whether running averages of the weights are required.

    Raises
    ------
    DMRError
        Names an array that is surplus, missing or of another shape.
    """
    shapes = {name: one.shape for name, one in net.collect_params().items()}
    trained = {one.name for one in trained_parameters(net)}
    types = {name: getattr(arrays.get(f"parameter/{name}"), "dtype", None) for name in trained}
    half = {name for name, dtype in types.items() if dtype == np.float16}
    expected = {f"parameter/{name}": shape for name, shape in shapes.items()}
    # There is neither velocity nor master copy before the first step.
    found = {name.partition("/")[0] for name in arrays} | ({"average"} if averaged else set())
    for kind, names in (("velocity", trained), ("master", half), ("average", trained)):
        if kind in found:
            expected.update((f"{kind}/{name}", shapes[name]) for name in names)
    if "statistics" in arrays:
        size = sum(int(np.prod(one.shape)) for one in running_statistics(net))
        expected["statistics"] = (*arrays["statistics"].shape[:2], size)
    fault = misfit(expected, {name: array.shape for name, array in arrays.items()})
    if fault:
        raise DMRError(
            f"{path} is of another network: {fault}; put this run's own checkpoint in its place, "
            f"or start anew in another --run-dir"
        )


def _pair(state):
    """Return velocity and master weight of an optimiser's state; either may be None."""
    return state if isinstance(state, tuple) else (state, None)


def _fill_statistics(net, rows, part):
    """Restore each device's running statistics, or the mean of all if the devices differ."""
    statistics = running_statistics(net)
    if rows is None or not statistics:
        return
    devices = len(statistics[0].list_ctx())
    same = rows.shape[:2] == (part.count, devices)
    mine = rows[part.index] if same else np.repeat(rows.mean(axis=(0, 1))[None], devices, axis=0)
    start = 0
    for parameter in statistics:
        stop = start + int(np.prod(parameter.shape))
        for array, row in zip(parameter.list_data(), mine):
            array[:] = _nd(row[start:stop].reshape(parameter.shape), array.context)
        start = stop


def _nd(array, device=None):
    return mx.nd.array(array, ctx=device, dtype=array.dtype)
