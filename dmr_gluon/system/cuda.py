"""NVIDIA's driver and libraries, as mxnet-cu112 needs them, without importing MXNet."""

import contextlib
import ctypes
import glob
import os
import re
import struct
import sys
from dataclasses import dataclass
from typing import Optional, Tuple

from ..errors import DMRError

#: Libraries that mxnet-cu112 needs, each before those that need it, with the PyPI package that
#: holds it.
LIBRARIES = (
    ("libcudart.so.11.0", "nvidia-cuda-runtime-cu11"),
    ("libnvrtc.so.11.2", "nvidia-cuda-nvrtc-cu11"),
    ("libnvToolsExt.so.1", "nvidia-nvtx-cu11"),
    ("libcublasLt.so.11", "nvidia-cublas-cu11"),
    ("libcublas.so.11", "nvidia-cublas-cu11"),
    ("libcufft.so.10", "nvidia-cufft-cu11"),
    ("libcurand.so.10", "nvidia-curand-cu11"),
    ("libcusolver.so.11", "nvidia-cusolver-cu11"),
    ("libnccl.so.2", "nvidia-nccl-cu11"),
    ("libcudnn.so.8", "nvidia-cudnn-cu11"),
)
#: The lowest and the highest compute capability that mxnet-cu112 has code for, or can run that
#: of: within a major version older code runs, and it has none that newer drivers could compile
#: anew.
OLDEST, NEWEST = (5, 0), (8, 9)
#: The CUDA version that a driver has to support; within a major version older drivers do.
CUDA = (11, 0)
#: The CUDA version that a driver has to support for MXNet's pointwise fusion. It compiles its
#: kernels as the network runs, with the NVRTC that setup.py pins, whose PTX older drivers refuse.
FUSION = (11, 8)


@dataclass(frozen=True)
class GPU:
    """What the driver says of one.

    Parameters
    ----------
    number : int
        As in ``--gpus``.
    name : str
    capability : (int, int)
        Compute capability; (0, 0) where the driver does not say.
    memory : int, optional
        Bytes.
    """

    number: int
    name: str
    capability: Tuple[int, int]
    memory: Optional[int] = None

    @property
    def runs(self):
        """Whether mxnet-cu112 has code for it."""
        return OLDEST <= self.capability <= NEWEST


@dataclass(frozen=True)
class Driver:
    """NVIDIA's driver.

    Parameters
    ----------
    cuda : (int, int), optional
        The newest CUDA that it supports.
    gpus : tuple of GPU
    error : str, optional
        Why it has none.
    """

    cuda: Optional[Tuple[int, int]] = None
    gpus: Tuple[GPU, ...] = ()
    error: Optional[str] = None


def dotted(version):
    """``8.9``."""
    return ".".join(map(str, version))


def driver(library="libcuda.so.1"):
    """Ask NVIDIA's driver what there is.

    Parameters
    ----------
    library : str
        Of the driver, which needs no CUDA beside it.

    Returns
    -------
    Driver or None
        None where there is no driver.
    """
    try:
        cuda = ctypes.CDLL(library)
    except OSError:
        return None
    value, version = ctypes.c_int(), _version(cuda)
    failed = cuda.cuInit(0) or cuda.cuDeviceGetCount(ctypes.byref(value))
    if failed:
        return Driver(version, error=f"CUDA error {failed}")
    return Driver(version, tuple(_gpu(cuda, number) for number in range(value.value)))


def have_tf32(numbers):
    """Whether one of some GPUs is of compute capability 8 or above, and so may use TF32."""
    there = driver()
    gpus = there.gpus if there else ()
    return any(gpu.capability >= (8, 0) for gpu in gpus if gpu.number in numbers)


def newest_cuda(library="libcuda.so.1"):
    """The newest CUDA that the driver supports, asked without initialising a GPU.

    Returns
    -------
    (int, int) or None
        None where there is no driver, or it does not say.
    """
    try:
        return _version(ctypes.CDLL(library))
    except OSError:
        return None


def _version(cuda):
    value = ctypes.c_int()
    failed = cuda.cuDriverGetVersion(ctypes.byref(value))
    return None if failed else divmod(value.value // 10, 100)


def _gpu(cuda, number):
    value, name, memory = ctypes.c_int(), ctypes.create_string_buffer(128), ctypes.c_size_t()
    capability = []
    for attribute in (75, 76):  # COMPUTE_CAPABILITY_MAJOR, _MINOR
        failed = cuda.cuDeviceGetAttribute(ctypes.byref(value), attribute, number)
        capability.append(0 if failed else value.value)
    if cuda.cuDeviceGetName(name, len(name), number):
        name.value = b"unknown"
    failed = cuda.cuDeviceTotalMem_v2(ctypes.byref(memory), number)
    text = name.value.decode(errors="replace")
    return GPU(number, text, tuple(capability), None if failed else memory.value)


def parse_gpus(text):
    """``0-7`` or ``0,2,4-6`` as a list of numbers.

    Parameters
    ----------
    text : str
        Of ``--gpus``.

    Returns
    -------
    list of int

    Raises
    ------
    DMRError
    """
    numbers = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d{1,4})(?:\s*-\s*(\d{1,4}))?\s*", part)
        first, last = (int(n) if n else None for n in match.groups()) if match else (None, None)
        if first is None or (last is not None and last < first):
            raise DMRError(f"--gpus {text}: not a list of GPUs; write 0, 0-7 or 0,2,4-6")
        numbers += range(first, (first if last is None else last) + 1)
    if len(set(numbers)) != len(numbers):
        raise DMRError(f"--gpus {text}: names a GPU twice")
    return numbers


def library_folders():
    """Where PyPI's CUDA libraries are: what a process without dmr_gluon needs to import MXNet."""
    return sorted({os.path.dirname(path) for name, _ in LIBRARIES for path in found(name)})


def found(soname):
    """Paths of a library in PyPI's packages."""
    return [
        path
        for entry in sys.path
        for path in glob.glob(os.path.join(entry or ".", "nvidia", "*", "lib", soname))
    ]


def from_the_system(soname):
    """``the system's`` where the loader finds a library by itself, else None."""
    try:
        ctypes.CDLL(soname)
    except OSError:
        return None
    return "the system's"


def preload_libraries():
    """Load what mxnet-cu112 needs: PyPI's libraries, or else the system's.

    Returns
    -------
    list of str
        The packages of those that are nowhere.
    """
    missing = []
    for soname, package in LIBRARIES:
        paths = found(soname)
        try:
            ctypes.CDLL(paths[0] if paths else soname, mode=ctypes.RTLD_GLOBAL)
        except OSError:
            missing.append(package)
    # NVRTC asks for its built-in functions, and cuDNN for NVRTC, by names that nothing in PyPI's
    # folders has, or that the loader does not look for there.
    with contextlib.suppress(OSError):
        for path in found("libnvrtc-builtins.so.*"):
            ctypes.CDLL(path, mode=ctypes.RTLD_GLOBAL)
        if from_the_system("libnvrtc.so") is None:
            name_library("libnvrtc.so", "libnvrtc.so.11.2")
    return sorted(set(missing))


def name_library(name, loaded):
    """Let a library that is loaded be found under another name too, in this process.

    A library of a few hundred bytes is made in memory and loaded, which has the other name and
    needs the one that is there. What is looked up in it is found in that.

    Parameters
    ----------
    name, loaded : str

    Raises
    ------
    OSError
    """
    strings = b"\0".join([b"", name.encode(), loaded.encode(), b""])
    dynamic = 64 + 2 * 56  # behind the ELF header and two program headers
    symbols = dynamic + 7 * 16
    text = symbols + 24
    size = text + len(strings)
    needed, soname, strtab, symtab, strsz, syment = 1, 14, 5, 6, 10, 11
    entries = [
        *((soname, 1), (needed, 2 + len(name)), (strtab, text), (symtab, symbols)),
        *((strsz, len(strings)), (syment, 24), (0, 0)),
    ]
    identity = b"\x7fELF\2\1\1".ljust(16, b"\0")  # 64 bits, little-endian
    shared, x86_64, load, dynamic_segment, read_write = 3, 62, 1, 2, 6
    content = b"".join(
        [
            struct.pack(
                "<16sHHIQQQIHHHHHH", identity, shared, x86_64, 1, 0, 64, 0, 0, 64, 56, 2, 0, 0, 0
            ),
            struct.pack("<IIQQQQQQ", load, read_write, 0, 0, 0, size, size, 4096),
            struct.pack("<IIQQQQQQ", dynamic_segment, read_write, *[dynamic] * 3, *[7 * 16] * 2, 8),
            *(struct.pack("<qQ", *entry) for entry in entries),
            bytes(24),
            strings,
        ]
    )
    handle = os.memfd_create(name)
    try:
        os.write(handle, content)
        ctypes.CDLL(f"/proc/self/fd/{handle}", mode=ctypes.RTLD_GLOBAL)
    finally:
        os.close(handle)
