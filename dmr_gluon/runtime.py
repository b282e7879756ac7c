"""Import MXNet, after what must happen before ``import mxnet``.

Every module of this project gets MXNet with ``from dmr_gluon.runtime import mx``
(``tests/test_structure.py`` checks this), so the following always happens first:

1. **Threads.** MXNet 1.9.1 uses half of the processors unless OMP_NUM_THREADS is set. It is set
   to the number of cores that this process may use. MXNet aborts on a value that it cannot
   parse, so such a value is refused.
2. **NumPy's aliases.** MXNet uses ``numpy.bool`` and similar names, which NumPy 1.24 removed. They
   are restored (Python 3.12 has no older NumPy).
3. **CUDA libraries.** With the mxnet-cu112 wheel, PyPI's CUDA 11 libraries are loaded by path,
   so only the driver has to be installed.
4. **Fusion.** The messages of MXNet's graph fusion are silenced. On CPUs, fusion stays on: oneDNN's
   fusion of a convolution with a following addition is wrong only for ``skip + branch``, and our
   sums read ``branch + skip``. On GPUs, pointwise fusion is turned off if the driver is older than
   the compiler that it uses (:data:`dmr_gluon.system.cuda.FUSION`), because the first step
   would fail.
5. **Other packages.** Packages that MXNet rarely uses are deferred: see
   :mod:`dmr_gluon.system.lazy_imports`.

Variables that the user has set are kept.
"""

import importlib
import importlib.util
import os
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor

from .errors import DMRError
from .system.cuda import FUSION, newest_cuda, preload_libraries
from .system.lazy_imports import deferred_imports
from .system.machine import check_threads, installed_wheels, usable_cores

#: Types whose aliases in NumPy MXNet 1.9.1 uses; NumPy 1.24 removed them.
_NUMPY_ALIASES = (bool, int, float, complex, object, str)


def on_a_passing_thread(function, *arguments, **keywords):
    """Call a function on a thread that ends with the call.

    Use this for code that opens an OpenMP region outside MXNet's engine, such as copying weights
    out of oneDNN's own layout. OpenMP keeps a team of threads for every living thread that ever
    did so. Once the teams have more threads than there are cores, barriers of the network's
    operators sleep instead of spinning, which costs about a tenth of the speed on two cores. A
    team ends with its thread.
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
            f"NumPy {numpy.__version__} is installed, but MXNet 1.9.1 needs NumPy 1; "
            f"install an older version: pip install 'numpy<2'"
        )
    for kind in _NUMPY_ALIASES:
        if kind.__name__ not in vars(numpy):
            setattr(numpy, kind.__name__, kind)


def _import_mxnet():
    if "mxnet" in sys.modules:
        if "OMP_NUM_THREADS" not in os.environ:
            warnings.warn(
                "mxnet was imported before dmr_gluon, so it uses half of the cores; "
                "import dmr_gluon.runtime first, or set OMP_NUM_THREADS",
                stacklevel=3,
            )
        return sys.modules["mxnet"]
    wheels = installed_wheels()
    if len(wheels) > 1:
        raise DMRError(
            "both mxnet and mxnet-cu112 are installed, and they overwrite each other's files; "
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
        with deferred_imports():
            return importlib.import_module("mxnet")
    except OSError as error:
        reason = str(error).splitlines()[0]
        if missing:
            advice = "pip install 'dmr-gluon[cu112]' (in a clone: '.[cu112]')"
        elif "libcuda.so" in reason:
            advice = "install NVIDIA's driver, or replace mxnet-cu112 with the mxnet wheel for CPUs"
        else:
            advice = (
                "install the system package that provides it "
                "(Debian and Ubuntu: apt-get install libgomp1 libquadmath0)"
            )
        raise DMRError(f"MXNet cannot be loaded ({reason}); {advice}") from error


mx = _import_mxnet()
