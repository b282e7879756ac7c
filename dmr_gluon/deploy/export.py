"""Trained networks as files that plain MXNet loads: a symbol and its parameters."""

import contextlib
import json
import os
import warnings
from dataclasses import asdict

import numpy as np

from .. import __version__
from ..errors import DMRError
from ..model import Network
from ..runs import RunDirectory, write_atomically
from ..runtime import installed_wheels, mx
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
    symbol = net.portable_symbol()
    auxiliary = set(symbol.list_auxiliary_states())
    arrays = {
        ("aux:" if name in auxiliary else "arg:") + name: _portable(parameter.list_data()[0])
        for name, parameter in net.collect_params().items()
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
    try:
        arrays = {name.split(":", 1)[1]: array for name, array in mx.nd.load(path).items()}
    except (mx.base.MXNetError, IndexError, AttributeError) as error:
        raise DMRError(
            f"{path} is damaged; --run-dir {run.path} --resume writes it anew from the checkpoint"
        ) from error
    devices = devices or [mx.cpu()]
    net = Network(spec)
    net.initialize(ctx=devices)
    for name, parameter in net.collect_params().items():
        if name not in arrays or arrays[name].shape != parameter.shape:
            raise DMRError(f"{path} does not fit the run's network: {name} is missing or differs")
        parameter.set_data(arrays[name])
    prepare_to_run(net, devices)
    return net


def prepare_to_run(net, devices):
    """Choose the fastest form of a network for the devices that it will run on."""
    if all(device.device_type == "cpu" for device in devices):
        net.fuse_for_cpu()
    net.hybridize(static_alloc=True, static_shape=True)


def export(run, out, epoch=None):
    """Write a run's trained network for use without this package.

    ``out`` gets ``model-symbol.json``, ``model-0000.params`` and ``bundle.json``, which
    says what the input is and what the outputs mean. What was written is loaded again by
    MXNet and must give the same logits.

    Parameters
    ----------
    run : str
        A run's folder.
    out : str
        A folder; made if need be.
    epoch : int, optional
        As for :func:`load_run`.

    Returns
    -------
    dict
        What ``bundle.json`` says.

    Raises
    ------
    DMRError
        For a run without a trained epoch, or an ``out`` that cannot be written.
    """
    run = RunDirectory(run)
    config = run.config()
    net = load_run(run, epoch=epoch)
    dataset, recipe = config["dataset"], config["recipe"]
    return write_bundle(
        net,
        out,
        network=net.spec,
        epochs=run.model_epoch(epoch),
        classes=dataset["classes"],
        image_size=recipe["image_size"],
        short_side=recipe["eval_short_side"],
        mean=dataset["mean"],
        std=dataset["std"],
    )


def write_bundle(
    net, out, network, epochs, classes, image_size, mean, std, short_side=None, **others
):
    """Write ``model-symbol.json``, ``model-0000.params`` and ``bundle.json``, and check them.

    Parameters
    ----------
    net : Network
    out : str
        A folder; made if need be.
    network : NetworkSpec
    epochs : int
        How long it was trained.
    classes : list of str
    image_size : int
        Height and width of the input.
    mean, std : sequence of float or None
        R, G, B in 0-255; None where it is not known what the network was trained on.
    short_side : int or None
        What larger images are resized to before the centre is cut out.
    **others
        More for ``bundle.json``.

    Returns
    -------
    dict
        What ``bundle.json`` says.

    Raises
    ------
    DMRError
        For an ``out`` that cannot be written, or files that give other outputs than ``net``.
    """
    bundle = {
        "network": asdict(network),
        "epochs": epochs,
        "classes": classes,
        "input": {
            "name": "data",
            "layout": "NCHW",
            "channels": "RGB",
            "dtype": "float32",
            "shape": [3, image_size, image_size],
            "short_side": short_side,
            "mean": mean and list(mean),
            "std": std and list(std),
            "formula": "(pixel from 0 to 255 - mean) / std",
        },
        "output": "logits, one per class; softmax gives probabilities",
        "versions": {"dmr_gluon": __version__, **installed_wheels()},
        **others,
    }
    if RunDirectory(out).exists():
        raise DMRError(f"{out} is a run, whose files would be overwritten; choose another --out")
    prefix = os.path.join(out, "model")
    try:
        os.makedirs(out, exist_ok=True)
        save_model(net, prefix, 0)
        write_atomically(os.path.join(out, "bundle.json"), json.dumps(bundle, indent=1))
    except OSError as error:
        raise DMRError(f"cannot write to {out}: {error.strerror or error}") from error
    _check(net, prefix, bundle["input"]["shape"])
    return bundle


def _check(net, prefix, shape):
    """The files, loaded by plain MXNet, give the network's logits."""
    data = mx.nd.array(np.random.RandomState(0).standard_normal((2, *shape)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that the input's type is not in the file
        loaded = mx.gluon.SymbolBlock.imports(
            f"{prefix}-symbol.json", ["data"], f"{prefix}-0000.params"
        )
    expected, found = net(data).asnumpy(), loaded(data).asnumpy()
    scale = max(1.0, float(np.abs(expected).max()))
    if not np.allclose(found, expected, rtol=0, atol=1e-5 * scale):
        raise DMRError(
            f"{prefix}-*: what was written gives other outputs than the run's network "
            f"(difference {np.abs(found - expected).max():g}); please report this"
        )
