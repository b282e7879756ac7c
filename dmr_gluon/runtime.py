"""What must happen before ``import mxnet``, and the import itself.

Every module of this project gets MXNet with ``from dmr_gluon.runtime import mx``
(``tests/test_structure.py`` holds them to it), so that the following always
happens first:

1. **Threads.** MXNet 1.9.1 takes half of the processors unless OMP_NUM_THREADS
   says otherwise; it is set to the number of cores that this process may use. It aborts
   on a number that it cannot read, which is refused before.
2. **NumPy's names.** MXNet uses ``numpy.bool`` and its like, which NumPy 1.24
   removed; they are put back (needed on Python 3.12, which has no older NumPy).
3. **CUDA libraries.** With the mxnet-cu112 wheel, PyPI's CUDA 11 libraries are
   loaded by path, so that nothing but the driver has to be installed.
4. **Fusion.** The messages of MXNet's graph fusion are silenced. On CPUs nothing is
   switched off: oneDNN's fusion of a convolution with the addition after it is
   wrong only for ``skip + branch``, and our sums read ``branch + skip``. On GPUs the
   fusion of pointwise operators is, where the driver is older than the compiler that
   it uses (:data:`dmr_gluon.system.cuda.FUSION`): the first step would fail.
5. **Other packages.** What MXNet imports and seldom uses waits: see :mod:`.imports`.

A variable that the user has set is never changed, but for a list of threads (``4,2``), of
which MXNet reads no more than the first number.
"""

import importlib
import importlib.util
import os
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor

from .errors import DMRError
from .system.cuda import FUSION, newest_cuda, preload_libraries
from .system.lazy_imports import only_what_is_needed
from .system.machine import check_threads, installed_wheels, usable_cores

#: NumPy's aliases of Python's types that MXNet 1.9.1 uses and NumPy 1.24 removed.
_NUMPY_ALIASES = {
    "bool": bool,
    "int": int,
    "float": float,
    "complex": complex,
    "object": object,
    "str": str,
}


def on_a_passing_thread(function, *arguments, **keywords):
    """Call a function on a thread that ends with the call.

    For what opens an OpenMP region outside MXNet's engine: copying out weights that oneDNN
    has put into a layout of its own. OpenMP keeps a team of
    threads for every living thread that ever did so. Once the teams have more threads than
    there are cores, every barrier of the network's own operators sleeps instead of
    spinning, which costs about a tenth of the speed on two cores. A team ends with its
    thread.
    """
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(function, *arguments, **keywords).result()


def _set_environment():
    check_threads()
    os.environ.setdefault("OMP_NUM_THREADS", str(usable_cores()))
    os.environ.setdefault("MXNET_SUBGRAPH_VERBOSE", "0")


def _restore_numpy_names():
    import numpy

    if int(numpy.__version__.split(".")[0]) >= 2:
        raise DMRError(
            f"NumPy {numpy.__version__} is installed, and MXNet 1.9.1 cannot work with NumPy 2; "
            f"install an older one: pip install 'numpy<2'"
        )
    for name, value in _NUMPY_ALIASES.items():
        if name not in vars(numpy):
            setattr(numpy, name, value)


def _import_mxnet():
    if "mxnet" in sys.modules:
        if "OMP_NUM_THREADS" not in os.environ:
            warnings.warn(
                "mxnet was imported before dmr_gluon, so it runs on half of the cores; "
                "import dmr_gluon.runtime first, or set OMP_NUM_THREADS",
                stacklevel=3,
            )
        return sys.modules["mxnet"]
    wheels = installed_wheels()
    if len(wheels) > 1:
        raise DMRError(
            "both mxnet and mxnet-cu112 are installed, and each overwrites the other's files; "
            "remove both and install one: pip uninstall -y mxnet mxnet-cu112"
        )
    if importlib.util.find_spec("mxnet") is None:
        raise DMRError(
            "MXNet is not installed; pip install 'mxnet==1.9.1' for CPUs, or "
            "'mxnet-cu112==1.9.1' for GPUs (the extras [cpu] and [cu112] of dmr-gluon)"
        )
    _restore_numpy_names()
    _set_environment()
    missing = []
    if "mxnet-cu112" in wheels:
        missing = preload_libraries()
        if (newest_cuda() or FUSION) < FUSION:
            os.environ.setdefault("MXNET_USE_FUSION", "0")
    try:
        with only_what_is_needed():
            return importlib.import_module("mxnet")
    except OSError as error:
        reason = str(error).splitlines()[0]
        if missing:
            advice = "pip install " + " ".join(missing)
        elif "libcuda.so" in reason:
            advice = "install NVIDIA's driver, or the mxnet wheel for CPUs in place of mxnet-cu112"
        else:
            advice = (
                "install the system's package with that library "
                "(Debian and Ubuntu: apt-get install libgomp1 libquadmath0)"
            )
        raise DMRError(f"MXNet cannot be loaded ({reason}); {advice}") from error


mx = _import_mxnet()
