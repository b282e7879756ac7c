"""Run a module of this package in a separate process.

    python .../dmr_gluon/system/program.py dmr_gluon.cli.sweep cifar10 ...

This works like ``python -m``, except that modules in the working folder, such as a user's
``random.py``, do not shadow the standard library. (``-P`` needs Python 3.11, and ``-I`` also
ignores PYTHONPATH.) The package need not be installed.
"""

import os
import sys

_FILE = os.path.abspath(__file__)


def command(module, *arguments):
    """Return the command line (list of str) that runs a module, such as ``dmr_gluon.cli.sweep``."""
    return [sys.executable, _FILE, module, *arguments]


def import_file(path, name):
    """Import a module, or a package by its ``__init__.py``, whatever ``sys.path`` holds."""
    import importlib.util

    spec = importlib.util.spec_from_file_location(name, path)
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


if __name__ == "__main__":
    if sys.path and sys.path[0] == os.path.dirname(os.path.realpath(_FILE)):
        del sys.path[0]  # the modules beside this file are not top-level modules
    import runpy

    package = os.path.dirname(os.path.dirname(_FILE))
    import_file(os.path.join(package, "__init__.py"), "dmr_gluon")
    del sys.argv[0]  # run_module replaces the module's name with its file
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
