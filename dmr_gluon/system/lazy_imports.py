"""Defer packages that MXNet imports but rarely uses, to shorten its import.

While MXNet is being imported

- ``scipy.stats``, ``requests`` and ``onnx`` are replaced by stand-ins that import the real module
  on first use;
- scikit-learn is hidden: it is only the base class of a deprecated one (``mx.model.FeedForward``);
- ``distutils``, which Python 3.12 removed and which setuptools replaces slowly, is replaced by
  ``packaging``: MXNet only compares the version of NumPy.

Afterwards these packages can be imported as usual. Another thread that imports scikit-learn or
``distutils`` at the same time does not find them.
"""

import contextlib
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


@contextlib.contextmanager
def deferred_imports():
    """Defer rarely used packages within this context. Modules that are loaded already stay."""
    distutils, version = ModuleType("distutils"), ModuleType("distutils.version")
    distutils.version = version
    version.LooseVersion = version.StrictVersion = Version
    stand_ins = {"sklearn": None, "distutils": distutils, "distutils.version": version}
    for name in _RARELY_USED:
        # MXNet expects the import of a package that is not installed to fail.
        if name not in sys.modules and importlib.util.find_spec(name.split(".")[0]):
            stand_ins[name] = _Deferred(name)
    stand_ins = {name: one for name, one in stand_ins.items() if name not in sys.modules}
    sys.modules.update(stand_ins)
    try:
        yield
    finally:
        for name, one in stand_ins.items():
            _remove(name, one)
