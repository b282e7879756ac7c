"""Defer what MXNet imports or makes but rarely uses, to shorten its import.

While MXNet is being imported

- ``scipy.sparse``, ``scipy.stats``, ``requests`` and ``onnx`` are replaced by stand-ins that import
  the real module on first use;
- scikit-learn is hidden: it is only the base class of a deprecated one (``mx.model.FeedForward``);
- ``distutils``, which Python 3.12 removed and which setuptools replaces slowly, is replaced by
  ``packaging``: MXNet only compares the version of NumPy.

After :func:`postpone_operators`, the Python functions of MXNet's operators are stand-ins too: two
thirds of the time of MXNet's import go into compiling some 2,500 functions, of which a program
calls a few dozen. Programs do this; a library does not, because ``help`` and editors would not know
the parameters and the text of a function before its first call.

Afterwards these packages can be imported as usual. Another thread that imports scikit-learn or
``distutils`` at the same time does not find them.
"""

import contextlib
import importlib
import importlib.util
import sys
from types import FunctionType, ModuleType

_RARELY_USED = ("scipy.sparse", "scipy.stats", "requests", "onnx")


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
    from packaging.version import Version

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


def postpone_operators():
    """Let MXNet, if it is not imported yet, make each operator's function at its first call."""
    waiting = any(isinstance(finder, _PostponeOperators) for finder in sys.meta_path)
    if "mxnet" not in sys.modules and not waiting:
        sys.meta_path.insert(0, _PostponeOperators())


class _PostponeOperators:
    """A finder that changes ``mxnet.base`` when it is imported, and nothing else."""

    def find_spec(self, name, path, target=None):
        if name != "mxnet.base":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        execute = spec.loader.exec_module

        def execute_and_change(module):
            execute(module)
            for one in ("_init_op_module", "_init_np_op_module"):
                setattr(module, one, _with_stand_ins(getattr(module, one)))

        spec.loader.exec_module = execute_and_change
        return spec


def _with_stand_ins(make_all):
    """Return MXNet's function that makes a module's functions, now making stand-ins."""

    def make_stand_ins(*names, make_op_func=None, **others):
        if make_op_func is None:
            *names, make_op_func = names
        make_all(*names, make_op_func=_stand_in_maker(make_op_func), **others)

    return make_stand_ins


def _stand_in_maker(make):
    def make_stand_in(handle, name, function_name):
        # With the globals of the function to come, whose code it gets.
        function = FunctionType(_become_and_call.__code__, make.__globals__, function_name)

        def become():
            real = make(handle, name, function_name)
            # _become is removed last: until then, other threads may still need it.
            for part in ("__defaults__", "__code__", "__doc__", "__kwdefaults__"):
                setattr(function, part, getattr(real, part))
            return function

        function.__kwdefaults__ = {"_become": become}
        function.__qualname__ = function_name
        function.__doc__ = ""  # MXNet changes some texts
        return function

    return make_stand_in


def _become_and_call(*arguments, _become, **keywords):
    return _become()(*arguments, **keywords)
