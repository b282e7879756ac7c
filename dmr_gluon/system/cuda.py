"""Inspect NVIDIA's driver and load the CUDA libraries of mxnet-cu112, without importing MXNet."""

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

#: Libraries that mxnet-cu112 links to, in load order, and the PyPI package of each.
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
#: The lowest and the highest compute capability that mxnet-cu112 supports. Code for 8.0 runs on
#: all of 8.x; the wheel has no PTX that a driver could compile for newer GPUs.
OLDEST, NEWEST = (5, 0), (8, 9)
#: The CUDA version that the driver must support (minor version compatibility).
CUDA = (11, 0)
#: The CUDA version that the driver must support for MXNet's pointwise fusion, which compiles
#: kernels at run time with the NVRTC that setup.py pins. Older drivers reject its PTX.
FUSION = (11, 8)


@dataclass(frozen=True)
class GPU:
    """A GPU as the driver describes it.

    Parameters
    ----------
    number : int
        Its number in ``--gpus``.
    name : str
    capability : (int, int)
        Compute capability; (0, 0) if unknown.
    memory : int, optional
        In bytes.
    """

    number: int
    name: str
    capability: Tuple[int, int]
    memory: Optional[int] = None

    @property
    def runs(self):
        """Whether mxnet-cu112 supports this GPU."""
        return OLDEST <= self.capability <= NEWEST


@dataclass(frozen=True)
class Driver:
    """NVIDIA's driver.

    Parameters
    ----------
    cuda : (int, int), optional
        The newest CUDA version that it supports.
    gpus : tuple of GPU
    error : str, optional
        Why the driver reports no GPUs.
    """

    cuda: Optional[Tuple[int, int]] = None
    gpus: Tuple[GPU, ...] = ()
    error: Optional[str] = None


def dotted(version):
    """Format a version: ``8.9`` for (8, 9)."""
    return ".".join(map(str, version))


def driver(library="libcuda.so.1"):
    """Query NVIDIA's driver for its version and GPUs.

    Parameters
    ----------
    library : str
        The library of the driver; no CUDA toolkit is needed.

    Returns
    -------
    Driver or None
        None without a driver.
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
    """Return whether any of the given GPUs supports TF32 (compute capability 8.0 or above)."""
    found_driver = driver()
    gpus = found_driver.gpus if found_driver else ()
    return any(gpu.capability >= (8, 0) for gpu in gpus if gpu.number in numbers)


def newest_cuda(library="libcuda.so.1"):
    """Return the newest CUDA version that the driver supports, without initialising a GPU.

    Returns
    -------
    (int, int) or None
        None without a driver, or if the driver does not say.
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
    """Parse a list of GPUs such as ``0-7`` or ``0,2,4-6``.

    Parameters
    ----------
    text : str
        The value of ``--gpus``.

    Returns
    -------
    list of int

    Raises
    ------
    DMRError
        If the text is not a list of GPUs or names a GPU twice.
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
    """Return the folders of PyPI's CUDA libraries, to import MXNet without dmr_gluon."""
    return sorted({os.path.dirname(path) for name, _ in LIBRARIES for path in found(name)})


def found(soname):
    """Return the paths of a library in PyPI's packages."""
    return [
        path
        for entry in sys.path
        for path in glob.glob(os.path.join(entry or ".", "nvidia", "*", "lib", soname))
    ]


def from_the_system(soname):
    """Return ``the system's`` if the loader finds a library by itself, else None."""
    try:
        ctypes.CDLL(soname)
    except OSError:
        return None
    return "the system's"


def preload_libraries():
    """Load the libraries of mxnet-cu112 from PyPI's packages, or else from the system.

    Returns
    -------
    list of str
        PyPI packages of the libraries that were not found.
    """
    missing = []
    for soname, package in LIBRARIES:
        paths = found(soname)
        try:
            ctypes.CDLL(paths[0] if paths else soname, mode=ctypes.RTLD_GLOBAL)
        except OSError:
            missing.append(package)
    # NVRTC loads its built-in functions by a name that the loader does not search PyPI's folders
    # for, and cuDNN loads NVRTC by a name that no file there has.
    with contextlib.suppress(OSError):
        for path in found("libnvrtc-builtins.so.*"):
            ctypes.CDLL(path, mode=ctypes.RTLD_GLOBAL)
        if from_the_system("libnvrtc.so") is None:
            name_library("libnvrtc.so", "libnvrtc.so.11.2")
    return sorted(set(missing))


def name_library(name, loaded):
    """Make a loaded library available under a second name in this process.

    Builds an ELF library of a few hundred bytes in memory and loads it. It has the second name
    and depends on the loaded library, so its symbols are found there.

    Parameters
    ----------
    name : str
        The second name.
    loaded : str
        SONAME of the loaded library.

    Raises
    ------
    OSError
        If the library cannot be created or loaded.
    """
    strings = b"\0".join([b"", name.encode(), loaded.encode(), b""])
    dynamic = 64 + 2 * 56  # after the ELF header and two program headers
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
