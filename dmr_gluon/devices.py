"""From ``--gpus 0-7`` to MXNet contexts."""

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
    """The contexts to train on.

    Parameters
    ----------
    gpus : str, optional
        Such as ``0-7``; without it, CPUs are used.
    cpus : int
        Number of CPU contexts. One uses all cores already; two or more are for trying on
        a machine without GPUs what several GPUs do.

    Raises
    ------
    DMRError
        For GPUs that are not there.
    """
    if gpus is None:
        if cpus < 1:
            raise DMRError(f"--cpus must be at least 1, not {cpus}")
        return [mx.cpu(i) for i in range(cpus)]
    if cpus != 1:
        raise DMRError("give --gpus or --cpus, not both")
    wanted = parse_gpus(gpus)
    warn_of_unfit_gpus(wanted)
    there = mx.context.num_gpus() if mx.runtime.Features().is_enabled("CUDA") else 0
    if max(wanted) >= there:
        raise DMRError(
            f"--gpus {gpus} asks for GPU {max(wanted)}, but there "
            f"{'are only ' + str(there) if there else 'is none'} ({_why_no_more(there)})"
        )
    return [mx.gpu(i) for i in wanted]


def _why_no_more(there):
    """Why MXNet finds just so many GPUs, and what helps."""
    if "mxnet-cu112" not in installed_wheels():
        return "the MXNet that is installed is for CPUs only; GPUs need mxnet-cu112"
    supported = newest_cuda()
    if not there and supported and supported < CUDA:
        return (
            f"the driver supports CUDA up to {dotted(supported)}, mxnet-cu112 needs "
            f"{dotted(CUDA)}: install a driver of version 450.80 or later"
        )
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return (
            f"MXNet finds {there} with CUDA_VISIBLE_DEVICES={visible}, and counts those from 0: "
            f"unset it, or choose among them"
        )
    return f"MXNet finds {there}; see nvidia-smi"


def warn_of_unfit_gpus(numbers):
    """Say which of some GPUs MXNet 1.9.1 cannot run on, before CUDA's own error does."""
    there = driver()
    if there and there.cuda and there.cuda < FUSION:
        _say_of_fusion(there.cuda)
    for gpu in there.gpus if there else ():
        known = gpu.capability != (0, 0)
        if gpu.number in numbers and known and not gpu.runs:
            print(
                f"warning: GPU {gpu.number} has compute capability {dotted(gpu.capability)}; "
                f"mxnet-cu112 has code for {dotted(OLDEST)} up to {dotted(NEWEST)} and will fail "
                f"on it: use another GPU (--gpus), or the CPU",
                file=sys.stderr,
                flush=True,
            )


def uses_tf32(recipe, devices):
    """Whether a recipe's convolutions and matrix products round float32 inputs to ten bits.

    cuBLAS and cuDNN do so on GPUs of compute capability 8 and above, unless the environment has
    ``NVIDIA_TF32_OVERRIDE=0``.
    """
    if recipe.dtype != "float32" or os.environ.get("NVIDIA_TF32_OVERRIDE") == "0":
        return False
    gpus = re.findall(r"gpu\((\d+)\)", " ".join(map(str, devices)))
    return have_tf32(list(map(int, gpus)))


def _say_of_fusion(supported):
    """The driver is too old for what MXNet's pointwise fusion compiles."""
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
    """Refuse a kvstore that cannot work with these devices."""
    if name not in KVSTORES:
        raise DMRError(f"--kv-store {name}: there are {', '.join(KVSTORES)}")
    if name == "nccl" and devices[0].device_type != "gpu":
        raise DMRError("--kv-store nccl sums over GPUs; on CPUs use device or local")


def choose_algorithms(autotune, devices):
    """Say how cuDNN's algorithms are to be chosen, before there is any operator.

    Parameters
    ----------
    autotune : int or None
        0, 1 or 2 as in MXNET_CUDNN_AUTOTUNE_DEFAULT, for which MXNet's operators ask when they
        are made. None leaves that as it is.
    devices : list of Context

    Raises
    ------
    DMRError
    """
    if autotune is None:
        return
    if autotune not in (0, 1, 2):
        raise DMRError(f"--cudnn-autotune must be 0, 1 or 2, not {autotune}")
    if devices[0].device_type == "cpu":
        raise DMRError("--cudnn-autotune is for GPUs; leave it out, or name some with --gpus")
    os.environ["MXNET_CUDNN_AUTOTUNE_DEFAULT"] = str(autotune)


def check_devices(recipe, devices):
    """Refuse a recipe that these devices cannot compute.

    Parameters
    ----------
    recipe : Recipe
    devices : list of Context

    Raises
    ------
    DMRError
    """
    on_cpu = devices[0].device_type == "cpu"
    if recipe.dtype == "float16" and on_cpu:
        raise DMRError("--dtype float16 needs GPUs: MXNet has no float16 convolutions for CPUs")
    if recipe.sync_bn and len(devices) == 1:
        raise DMRError("--sync-bn is for several devices; leave it out, or name more with --gpus")
    if recipe.sync_bn and on_cpu:
        raise DMRError(
            "--sync-bn needs GPUs: on several CPU contexts MXNet's SyncBatchNorm now and then "
            "waits for ever"
        )
    if recipe.sync_bn and recipe.dtype == "float16":
        raise DMRError(
            "--sync-bn and --dtype float16 do not go together: MXNet's SyncBatchNorm computes in "
            "float32 only; leave out one"
        )
