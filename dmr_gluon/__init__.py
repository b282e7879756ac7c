"""Deep merge-and-run networks (Zhao et al., arXiv 1611.07718) in MXNet/Gluon.

Importing this package is light: MXNet is loaded when something that needs it is
first used.
"""

import importlib
from typing import TYPE_CHECKING

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


if TYPE_CHECKING:  # mypy and editors are to notice a name that is not there
    from . import model_zoo as model_zoo
    from .backbone import Backbone as Backbone
    from .blocks import InceptionLike as InceptionLike
    from .blocks import MergeAndRun as MergeAndRun
    from .blocks import Plain as Plain
    from .blocks import Residual as Residual
    from .deploy.export import export as export
    from .deploy.load import load_bundle as load_bundle
    from .deploy.store import publish as publish
    from .errors import DMRError as DMRError
    from .model import Network as Network
    from .model_zoo import get_model as get_model
    from .networks import network as network
    from .recipes import Recipe as Recipe
    from .spec import NetworkSpec as NetworkSpec
    from .training.evaluate import evaluate as evaluate
    from .training.loop import RunOptions as RunOptions
    from .training.loop import fit as fit

else:

    def __getattr__(name):
        if name in _MODULES:
            return importlib.import_module("." + name, __name__)
        if name not in _PUBLIC:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(importlib.import_module(_PUBLIC[name], __name__), name)


def __dir__():
    return sorted(set(globals()) | set(__all__))
