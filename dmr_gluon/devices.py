"""Turn ``--gpus 0-7`` into MXNet contexts, and check that a training can run on them."""

import os
import re
import sys

from .errors import DMRError
from .runtime import mx
from .system.cuda import NEWEST, OLDEST, dotted, find_gpus, have_tf32, parse_gpus
from .system.machine import warn_of_shared_cores


def make_devices(gpus=None, cpus=1):
    """Return the contexts to compute on.

    Parameters
    ----------
    gpus : str, optional
        Such as ``0-7``. Default: use the CPU.
    cpus : int
        Number of CPU contexts. One context uses all cores; more imitate several GPUs on a machine
        without GPUs.

    Returns
    -------
    list of Context

    Raises
    ------
    DMRError
        If a GPU does not exist, or the arguments do not fit.
    """
    if gpus is None:
        if cpus < 1:
            raise DMRError(f"--cpus must be at least 1, not {cpus}")
        warn_of_shared_cores(cpus)
        return [mx.cpu(i) for i in range(cpus)]
    if cpus != 1:
        raise DMRError("give --gpus or --cpus, not both")
    wanted = parse_gpus(gpus)
    warn_of_unfit_gpus(wanted)
    count = mx.context.num_gpus() if mx.runtime.Features().is_enabled("CUDA") else 0
    if max(wanted) >= count:
        raise DMRError(
            f"--gpus {gpus} asks for GPU {max(wanted)}, but MXNet finds {count or 'none'} (counted "
            f"from 0); dmr doctor reports the reason"
        )
    return [mx.gpu(i) for i in wanted]


def warn_of_unfit_gpus(numbers):
    """Warn of GPUs that MXNet 1.9.1 cannot use, before CUDA fails on them.

    Parameters
    ----------
    numbers : list of int
        Numbers of the GPUs to train on.
    """
    for gpu in find_gpus():
        known = gpu.capability != (0, 0)
        if gpu.number in numbers and known and not gpu.runs:
            print(
                f"warning: GPU {gpu.number} has compute capability {dotted(gpu.capability)}; "
                f"mxnet-cu112 supports {dotted(OLDEST)} to {dotted(NEWEST)} and will fail on it: "
                f"use another GPU (--gpus), or the CPU",
                file=sys.stderr,
                flush=True,
            )


def uses_tf32(recipe, devices):
    """Return whether convolutions and matrix products of a float32 recipe run in TF32.

    cuBLAS and cuDNN then round float32 inputs to ten bits of mantissa. They do so on GPUs of
    compute capability 8.0 and above, unless ``NVIDIA_TF32_OVERRIDE=0`` is set.

    Parameters
    ----------
    recipe : Recipe
    devices : list of Context or str

    Returns
    -------
    bool
    """
    if recipe.dtype != "float32" or os.environ.get("NVIDIA_TF32_OVERRIDE") == "0":
        return False
    gpus = re.findall(r"gpu\((\d+)\)", " ".join(map(str, devices)))
    return have_tf32(list(map(int, gpus)))


def training_devices(recipe, options):
    """Return the contexts to train on.

    Parameters
    ----------
    recipe : Recipe
    options : RunOptions

    Returns
    -------
    list of Context

    Raises
    ------
    DMRError
        If the devices do not exist, or lack what the recipe or the options need.
    """
    devices = make_devices(options.gpus, options.contexts(recipe))
    if devices[0].device_type == "cpu":
        needs_gpus = {
            # MXNet has no float16 convolutions for CPUs, and its SyncBatchNorm deadlocks now and
            # then on several CPU contexts.
            "--dtype float16": recipe.dtype == "float16",
            "--sync-bn": recipe.sync_bn,
            "--kv-store nccl": options.kv_store == "nccl",
        }
        for flag, given in needs_gpus.items():
            if given:
                raise DMRError(f"{flag} is for GPUs; leave it out, or choose GPUs with --gpus")
    if recipe.sync_bn and len(devices) == 1:
        raise DMRError("--sync-bn is for several devices; leave it out, or choose more with --gpus")
    if recipe.sync_bn and recipe.dtype == "float16":
        raise DMRError(
            "--sync-bn and --dtype float16 exclude each other, because MXNet's SyncBatchNorm "
            "supports float32 only; leave out one"
        )
    return devices
