"""Run a module of this package in a process of its own.

    python .../dmr_gluon/system/program.py dmr_gluon.cli.sweep cifar10 ...

As ``python -m`` does, but ``-m`` and ``-c`` look in the working folder first, where a user's own
``random.py`` would be taken for the standard library's. (``-P`` needs Python 3.11, and ``-I`` drops
PYTHONPATH too.) The package is this very one, installed or not.
"""

import os
import sys

_FILE = os.path.abspath(__file__)


def command(module, *arguments):
    """The command line, a list of str, that runs a module such as ``dmr_gluon.cli.sweep``."""
    return [sys.executable, _FILE, module, *arguments]


def import_from(folder, name):
    """Import a package by its folder, whatever else has its name on ``sys.path``."""
    import importlib.util

    spec = importlib.util.spec_from_file_location(name, os.path.join(folder, "__init__.py"))
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


if __name__ == "__main__":
    if sys.path and sys.path[0] == os.path.dirname(os.path.realpath(_FILE)):
        del sys.path[0]  # this package's modules are none of the top level's
    import runpy

    import_from(os.path.dirname(os.path.dirname(_FILE)), "dmr_gluon")
    del sys.argv[0]  # run_module puts the module's file in the place of its name
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
