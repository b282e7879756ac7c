"""Query NVIDIA's driver and load the CUDA libraries of mxnet-cu112, without importing MXNet."""

import contextlib
import ctypes
import glob
import os
import re
import sys
from dataclasses import dataclass
from typing import Tuple

from ..errors import DMRError

#: Libraries that mxnet-cu112 links to, in load order. They are in the wheels that the extra
#: ``cu112`` of setup.py installs.
LIBRARIES = (
    "libcudart.so.11.0", "libnvrtc.so.11.2", "libnvToolsExt.so.1", "libcublasLt.so.11",
    "libcublas.so.11", "libcufft.so.10", "libcurand.so.10", "libcusolver.so.11", "libnccl.so.2",
    "libcudnn.so.8",
)  # fmt: skip
#: The lowest and the highest compute capability that mxnet-cu112 supports. Code for 8.0 runs on
#: all of 8.x; the wheel has no PTX that a driver could compile for newer GPUs.
OLDEST, NEWEST = (5, 0), (8, 9)
#: The CUDA version that the driver must support (minor version compatibility).
CUDA = (11, 0)
#: The CUDA version that the driver must support for MXNet's pointwise fusion, which compiles
#: kernels at run time with the NVRTC that setup.py pins. Older drivers reject its PTX.
FUSION = (11, 8)
_DRIVER = "libcuda.so.1"


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
    """

    number: int
    name: str
    capability: Tuple[int, int]

    @property
    def runs(self):
        """Whether mxnet-cu112 supports this GPU."""
        return OLDEST <= self.capability <= NEWEST


def dotted(version):
    """Format a version: ``8.9`` for (8, 9)."""
    return ".".join(map(str, version))


def find_gpus():
    """Query NVIDIA's driver for its GPUs.

    Returns
    -------
    list of GPU
        Empty without a driver.
    """
    count = ctypes.c_int()
    with contextlib.suppress(OSError):
        cuda = ctypes.CDLL(_DRIVER)
        if not (cuda.cuInit(0) or cuda.cuDeviceGetCount(ctypes.byref(count))):
            return [_gpu(cuda, number) for number in range(count.value)]
    return []


def newest_cuda():
    """Return the newest CUDA version that the driver supports, without initialising a GPU.

    Returns
    -------
    (int, int) or None
        None without a driver.
    """
    version = ctypes.c_int()
    with contextlib.suppress(OSError):
        ctypes.CDLL(_DRIVER).cuDriverGetVersion(ctypes.byref(version))
    return divmod(version.value // 10, 100) if version.value else None


def have_tf32(numbers):
    """Return whether any of the given GPUs supports TF32 (compute capability 8.0 or above)."""
    return any(gpu.capability >= (8, 0) for gpu in find_gpus() if gpu.number in numbers)


def _gpu(cuda, number):
    name, capability = ctypes.create_string_buffer(b"unknown", 128), []
    cuda.cuDeviceGetName(name, len(name), number)
    for attribute in (75, 76):  # COMPUTE_CAPABILITY_MAJOR, _MINOR
        value = ctypes.c_int()  # stays 0 if the query fails
        cuda.cuDeviceGetAttribute(ctypes.byref(value), attribute, number)
        capability.append(value.value)
    return GPU(number, name.value.decode(errors="replace"), tuple(capability))


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
        ends = re.fullmatch(r"(\d{1,4})(?:-(\d{1,4}))?", part.strip())
        found = range(int(ends[1]), int(ends[2] or ends[1]) + 1) if ends else ()
        if not found:
            raise DMRError(f"--gpus {text}: not a list of GPUs; write 0, 0-7 or 0,2,4-6")
        numbers += found
    if len(set(numbers)) != len(numbers):
        raise DMRError(f"--gpus {text}: names a GPU twice")
    return numbers


def library_folders():
    """Return the folders of PyPI's CUDA libraries, to import MXNet without dmr_gluon."""
    return sorted({os.path.dirname(path) for name in LIBRARIES for path in _in_packages(name)})


def _in_packages(soname):
    """Return the paths of a library in PyPI's packages."""
    patterns = [os.path.join(entry or ".", "nvidia", "*", "lib", soname) for entry in sys.path]
    return [path for pattern in patterns for path in glob.glob(pattern)]


def load_library(soname):
    """Load a library from PyPI's packages, or else from the system; return None if that fails."""
    path = [*_in_packages(soname), soname][0]
    with contextlib.suppress(OSError):
        return ctypes.CDLL(path, mode=ctypes.RTLD_GLOBAL)
    return None


def preload_libraries():
    """Load the libraries of mxnet-cu112.

    Returns
    -------
    list of str
        The libraries that were not found.
    """
    loaded = {soname: load_library(soname) for soname in LIBRARIES}
    # NVRTC loads its built-in functions by a name that the loader does not search PyPI's folders
    # for, and cuDNN loads NVRTC by a name that no file there has.
    for path in _in_packages("libnvrtc-builtins.so.*"):
        load_library(os.path.basename(path))
    nvrtc = loaded["libnvrtc.so.11.2"]
    if nvrtc is not None and load_library("libnvrtc.so") is None:
        rename_library(nvrtc, "libnvrtc.so")
    return [soname for soname, library in loaded.items() if library is None]


def rename_library(library, name):
    """Let this process find a loaded library under a second name.

    The loader compares a name with that in its link map and with the SONAME; this replaces the
    former, which is the path.

    Parameters
    ----------
    library : ctypes.CDLL
    name : str
    """
    libc = ctypes.CDLL(None)
    libc.strdup.restype = ctypes.c_void_p
    link_map = ctypes.cast(library._handle, ctypes.POINTER(ctypes.c_void_p))
    link_map[1] = libc.strdup(name.encode())  # l_name, see <link.h>
