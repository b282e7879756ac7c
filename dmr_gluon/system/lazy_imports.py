"""Defer packages that MXNet imports but rarely uses, to shorten its import.

While MXNet is being imported

- ``scipy.stats``, ``requests`` and ``onnx`` are replaced by stand-ins that import the real module
  on first use;
- scikit-learn is hidden: it is only the base class of a deprecated one (``mx.model.FeedForward``);
- ``distutils``, which Python 3.12 removed and which setuptools replaces slowly, is replaced by
  ``packaging``: MXNet only compares the version of NumPy;
- garbage collection is off: there is next to no garbage, and every collection visits all modules.

Afterwards these packages can be imported as usual. Another thread that imports scikit-learn or
``distutils`` at the same time does not find them.
"""

import contextlib
import gc
import importlib
import importlib.util
import sys
from types import ModuleType

from packaging.version import Version

_RARELY_USED = ("scipy.stats", "requests", "onnx")


class _Deferred(ModuleType):
    """A stand-in that imports the real module when an attribute is needed."""

    def __getattr__(self, name):
        _remove(self.__name__, self)
        return getattr(importlib.import_module(self.__name__), name)


def _remove(name, stand_in):
    if sys.modules.get(name) is stand_in:
        sys.modules.pop(name, None)


def _stand_ins():
    # A package that is not installed must fail to import, as MXNet expects.
    deferred = {
        name: _Deferred(name)
        for name in _RARELY_USED
        if name not in sys.modules and importlib.util.find_spec(name.split(".")[0]) is not None
    }
    distutils, version = ModuleType("distutils"), ModuleType("distutils.version")
    distutils.version = version
    version.LooseVersion = version.StrictVersion = Version
    return {**deferred, "sklearn": None, "distutils": distutils, "distutils.version": version}


@contextlib.contextmanager
def deferred_imports():
    """Defer rarely used packages within this context. Modules that are loaded already stay."""
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
