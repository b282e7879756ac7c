"""Deep merge-and-run networks (Zhao et al., arXiv 1611.07718) in MXNet/Gluon.

Importing this package is light: MXNet is loaded when something that needs it is
first used.
"""

import importlib

__version__ = "0.1.0"

#: Public names and the modules that hold them.
_PUBLIC = {
    "DMRError": ".errors",
    "NetworkSpec": ".spec",
    "network": ".networks",
    "Recipe": ".recipes",
    "RunOptions": ".training.loop",
    "Network": ".model",
    "get_model": ".model_zoo",
    "Backbone": ".backbone",
    "publish": ".deploy.store",
    "Plain": ".blocks",
    "Residual": ".blocks",
    "InceptionLike": ".blocks",
    "MergeAndRun": ".blocks",
    "fit": ".training.loop",
    "evaluate": ".training.evaluate",
    "export": ".deploy.export",
    "load_bundle": ".deploy.load",
}

#: Public modules, loaded as lightly.
_MODULES = ("model_zoo",)

__all__ = ["__version__", *_PUBLIC, *_MODULES]


def __getattr__(name):
    if name in _MODULES:
        return importlib.import_module("." + name, __name__)
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_PUBLIC[name], __name__), name)


def __dir__():
    return sorted(set(globals()) | set(__all__))
