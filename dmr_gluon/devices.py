"""Turn ``--gpus 0-7`` into MXNet contexts, and check that a recipe can run on them."""

import os
import re
import sys

from .errors import DMRError
from .paper.recipes import KVSTORES
from .runtime import installed_wheels, mx
from .system.cuda import (
    CUDA,
    FUSION,
    NEWEST,
    OLDEST,
    dotted,
    driver,
    have_tf32,
    newest_cuda,
    parse_gpus,
)


def make_devices(gpus=None, cpus=1):
    """Return the contexts to train on.

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
        return [mx.cpu(i) for i in range(cpus)]
    if cpus != 1:
        raise DMRError("give --gpus or --cpus, not both")
    wanted = parse_gpus(gpus)
    warn_of_unfit_gpus(wanted)
    count = mx.context.num_gpus() if mx.runtime.Features().is_enabled("CUDA") else 0
    if max(wanted) >= count:
        raise DMRError(
            f"--gpus {gpus} asks for GPU {max(wanted)}, but there "
            f"{f'are only {count}' if count else 'is none'} ({_why_no_more(count)})"
        )
    return [mx.gpu(i) for i in wanted]


def _why_no_more(count):
    """Return why MXNet finds only this many GPUs, and what to do."""
    if "mxnet-cu112" not in installed_wheels():
        return "the installed MXNet is for CPUs only; GPUs need mxnet-cu112"
    supported = newest_cuda()
    if not count and supported and supported < CUDA:
        return (
            f"the driver supports CUDA up to {dotted(supported)}, mxnet-cu112 needs "
            f"{dotted(CUDA)}: install a driver of version 450.80 or later"
        )
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return (
            f"MXNet finds {count} with CUDA_VISIBLE_DEVICES={visible}, and counts them from 0: "
            f"unset it, or choose among them"
        )
    return f"MXNet finds {count}; see nvidia-smi"


def warn_of_unfit_gpus(numbers):
    """Warn of GPUs that MXNet 1.9.1 cannot use, before CUDA fails on them.

    Parameters
    ----------
    numbers : list of int
        Numbers of the GPUs to train on.
    """
    found = driver()
    if found and found.cuda and found.cuda < FUSION:
        _warn_of_fusion(found.cuda)
    for gpu in found.gpus if found else ():
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


def _warn_of_fusion(supported):
    """Warn that the driver is too old for the kernels of MXNet's pointwise fusion."""
    needs = f"the driver supports CUDA up to {dotted(supported)}, pointwise fusion needs "
    if os.environ.get("MXNET_USE_FUSION") == "0":
        text = f"note: {needs}{dotted(FUSION)} and is off (MXNET_USE_FUSION=0)"
    else:
        text = (
            f"warning: {needs}{dotted(FUSION)} and will fail in the first step: unset "
            f"MXNET_USE_FUSION, or install a newer driver"
        )
    print(text, file=sys.stderr, flush=True)


def check_kvstore(name, devices):
    """Check that a kvstore works with these devices.

    Parameters
    ----------
    name : str
        Value of ``--kv-store``.
    devices : list of Context

    Raises
    ------
    DMRError
        If the kvstore is unknown or does not fit the devices.
    """
    if name not in KVSTORES:
        raise DMRError(f"--kv-store {name} does not exist; use {', '.join(KVSTORES)}")
    if name == "nccl" and devices[0].device_type != "gpu":
        raise DMRError("--kv-store nccl sums over GPUs; on CPUs use device or local")


def check_devices(recipe, devices):
    """Check that a recipe can run on these devices.

    Parameters
    ----------
    recipe : Recipe
    devices : list of Context

    Raises
    ------
    DMRError
        If the devices lack what the recipe needs.
    """
    on_cpu = devices[0].device_type == "cpu"
    if recipe.dtype == "float16" and on_cpu:
        raise DMRError("--dtype float16 needs GPUs: MXNet has no float16 convolutions for CPUs")
    if recipe.sync_bn and len(devices) == 1:
        raise DMRError("--sync-bn is for several devices; leave it out, or choose more with --gpus")
    if recipe.sync_bn and on_cpu:
        raise DMRError(
            "--sync-bn needs GPUs: on several CPU contexts MXNet's SyncBatchNorm deadlocks now "
            "and then"
        )
    if recipe.sync_bn and recipe.dtype == "float16":
        raise DMRError(
            "--sync-bn and --dtype float16 exclude each other, because MXNet's SyncBatchNorm "
            "supports float32 only; leave out one"
        )
