"""Deep merge-and-run networks (Zhao et al., arXiv 1611.07718) in MXNet/Gluon.

Importing this package is light: MXNet is loaded when something that needs it is
first used.
"""

import importlib
from typing import TYPE_CHECKING

from .version import __version__ as __version__

#: Modules and the public names that they hold.
_PUBLIC = {
    ".errors": ["DMRError"],
    ".models.spec": ["NetworkSpec"],
    ".models.names": ["get_spec", "network"],  # network is the former name of get_spec
    ".models.network": ["Network"],
    ".models.blocks": ["Plain", "Residual", "InceptionLike", "MergeAndRun"],
    ".models.registry": ["register_block", "register_mapping", "register_network"],
    ".models.backbone": ["Backbone"],
    ".model_zoo": ["get_model", "register_in_gluoncv"],
    ".paper.recipes": ["Recipe"],
    ".training.options": ["RunOptions"],
    ".training.fit": ["fit"],
    ".training.evaluate": ["evaluate"],
    ".data.preprocessing": ["Preparation"],
    ".deploy.export": ["export"],
    ".deploy.load": ["load_bundle"],
    ".deploy.store": ["publish"],
}
_MODULE_OF = {name: module for module, names in _PUBLIC.items() for name in names}

#: Public modules, loaded as lightly.
_MODULES = {
    "data": ".data",
    "model_zoo": ".model_zoo",
    "recipes": ".paper.recipes",
    "symbols": ".symbols",
}

__all__ = ["__version__", *_MODULE_OF, *_MODULES]


if TYPE_CHECKING:  # mypy and editors are to notice a name that is not there
    from . import data as data
    from . import model_zoo as model_zoo
    from . import symbols as symbols
    from .data.preprocessing import Preparation as Preparation
    from .deploy.export import export as export
    from .deploy.load import load_bundle as load_bundle
    from .deploy.store import publish as publish
    from .errors import DMRError as DMRError
    from .model_zoo import get_model as get_model
    from .model_zoo import register_in_gluoncv as register_in_gluoncv
    from .models.backbone import Backbone as Backbone
    from .models.blocks import InceptionLike as InceptionLike
    from .models.blocks import MergeAndRun as MergeAndRun
    from .models.blocks import Plain as Plain
    from .models.blocks import Residual as Residual
    from .models.names import get_spec as get_spec
    from .models.names import network as network
    from .models.network import Network as Network
    from .models.registry import register_block as register_block
    from .models.registry import register_mapping as register_mapping
    from .models.registry import register_network as register_network
    from .models.spec import NetworkSpec as NetworkSpec
    from .paper import recipes as recipes
    from .paper.recipes import Recipe as Recipe
    from .training.evaluate import evaluate as evaluate
    from .training.fit import fit as fit
    from .training.options import RunOptions as RunOptions

else:

    def __getattr__(name):
        if name in _MODULES:
            return importlib.import_module(_MODULES[name], __name__)
        if name not in _MODULE_OF:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(importlib.import_module(_MODULE_OF[name], __name__), name)


def __dir__():
    return sorted(set(globals()) | set(__all__))
