"""What MXNet imports beside itself and seldom or never uses, so that it is there sooner.

A good part of the time of ``import mxnet`` goes into other packages. While it is imported

- SciPy's statistics, ``requests`` and ``onnx`` are stood in for by modules that import the real
  one when something of it is first asked for;
- scikit-learn is hidden: it serves as the base class of one that MXNet has deprecated
  (``mx.model.FeedForward``);
- ``distutils``, which Python 3.12 removed and of which setuptools has a slow one, is stood in for
  by ``packaging``: MXNet only compares NumPy's version;
- no garbage is collected: there is hardly any, and every search goes through all that was made.

Whoever else wants one of these packages gets it afterwards, whole; another thread that begins to
import scikit-learn or ``distutils`` meanwhile does not find them.
"""

import contextlib
import gc
import importlib
import importlib.util
import sys
from types import ModuleType

from packaging.version import Version

_SELDOM_USED = ("scipy.stats", "requests", "onnx")


class _Later(ModuleType):
    """Stands in for a module of its name, and imports it to answer for it."""

    def __getattr__(self, name):
        # Also while MXNet is being imported, when another thread asks.
        _remove(self.__name__, self)
        return getattr(importlib.import_module(self.__name__), name)


def _remove(name, stand_in):
    if sys.modules.get(name) is stand_in:
        sys.modules.pop(name, None)


def _stand_ins():
    # What is not installed must fail to be imported, as MXNet expects.
    found = {
        name: _Later(name)
        for name in _SELDOM_USED
        if name not in sys.modules and importlib.util.find_spec(name.split(".")[0]) is not None
    }
    distutils, version = ModuleType("distutils"), ModuleType("distutils.version")
    distutils.version = version
    version.LooseVersion = version.StrictVersion = Version
    return {**found, "sklearn": None, "distutils": distutils, "distutils.version": version}


@contextlib.contextmanager
def only_what_is_needed():
    """Import MXNet within this. What was imported before stays as it is."""
    stand_ins = {name: one for name, one in _stand_ins().items() if name not in sys.modules}
    collecting = gc.isenabled()
    gc.disable()
    sys.modules.update(stand_ins)
    try:
        yield
    finally:
        if collecting:
            gc.enable()
        for name, one in stand_ins.items():
            _remove(name, one)
