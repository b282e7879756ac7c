"""Build networks by name, as with GluonCV's ``model_zoo``.

There is ``get_model(NAME, ...)``, and a constructor for every network of the paper::

    from dmr_gluon import model_zoo

    net = model_zoo.cifar_dmrnet56(classes=100)
    net = model_zoo.get_model("cifar_dmrnet56", pretrained=True, root="store")
"""

import inspect
import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Callable, Dict, List, Optional, Sequence, Union

from .errors import DMRError
from .models.custom import CustomNetwork, build
from .models.names import example_names, read_spec
from .models.network import Network, read_parameters
from .models.norm_layers import replace_norms
from .models.spec import NetworkSpec
from .paper.numbers import NETWORKS
from .runtime import mx


def get_model(
    name: str,
    classes: Optional[int] = None,
    pretrained: Union[bool, str] = False,
    ctx: Union[mx.Context, Sequence[mx.Context], None] = None,
    root: Optional[str] = None,
    norm_layer: Optional[Callable[..., Any]] = None,
    norm_kwargs: Optional[Dict[str, Any]] = None,
    prefix: str = "",
    **overrides: Any,
) -> Network:
    """Build a network by name; the arguments have the same meaning as GluonCV's.

    Parameters
    ----------
    name : str
        Such as ``cifar_dmrnet56`` or ``resnet101``, see :mod:`dmr_gluon.models.names`.
    classes : int, optional
        Number of outputs. Default: the trained network's, or 10 for ``cifar_`` networks and
        1000 for others.
    pretrained : bool or str
        Load trained parameters from a store that ``dmr publish`` wrote: True takes the newest
        of that network (with ``classes``, if given), a string the one whose hash begins with
        it. No weights are published with this package: you need a store of your own.
    ctx : Context or list of Context, optional
        The devices for trained parameters; default the CPU. Without ``pretrained`` it has no
        effect, as in GluonCV: ``net.initialize(ctx=...)`` decides.
    root : str, optional
        Folder of the store; default: the environment variable DMR_MODEL_STORE. Has no effect
        without ``pretrained``. (In GluonCV, the folder that keeps downloads.)
    norm_layer : callable, optional
        Replaces every BN. Default: ours, as in the paper.
    norm_kwargs : dict, optional
        Further arguments for it, such as ``{"use_global_stats": True}`` to freeze statistics.
    prefix : str
        Prepended to every parameter's name. Two networks in one block need different ones.
    **overrides
        ``width``, ``branches``, ``mapping`` or another field of
        :class:`~dmr_gluon.models.spec.NetworkSpec`; options of a registered network's builder.

    Returns
    -------
    Network, or CustomNetwork for a registered one
        Not initialised; ``net.initialize()`` uses the paper's initialisation. A trained one is
        initialised, and has its labels as ``classes`` and its ``bundle.json`` as ``bundle``. It
        takes images (NCHW) normalised with ``mean`` and ``std`` of ``bundle["input"]``, even if
        the bundle's own graph takes pixels.

    Raises
    ------
    DMRError
        For an unknown name or override, an unsuitable layer, and for trained parameters that
        are missing or do not fit.
    """
    base, call, options = str(name).partition("(")
    spec = read_spec(base.lower() + call + options, classes=classes, **overrides)
    if pretrained:
        path, content, spec = _find_trained(spec, classes, pretrained, root)
    net: Any = build(spec, prefix)
    if norm_layer or norm_kwargs:
        replace_norms(net, norm_layer, norm_kwargs)
    if pretrained:
        net.initialize(ctx=ctx or mx.cpu())
        if isinstance(net, CustomNetwork):
            net.infer_shapes(max(content["input"]["shape"]))
        advice = (
            "use a norm_layer with BatchNorm's parameters" if norm_layer else "publish it again"
        )
        read_parameters(net, path, advice)
        net.classes, net.bundle = list(content["classes"]), content
    return net


def get_model_list() -> List[str]:
    """Return the constructors' names; for further valid names see :mod:`.models.names`."""
    return sorted({published.name for published in NETWORKS} | set(example_names()))


def register_in_gluoncv(*names: str) -> List[str]:
    """Make ``gluoncv.model_zoo.get_model`` build our networks, for GluonCV's own scripts.

    They take the arguments of :func:`get_model`; others, such as ``last_gamma``, are refused.

    Parameters
    ----------
    *names : str
        Names besides those of :func:`get_model_list`, such as ``cifar_dmrnet26_k4``.

    Returns
    -------
    list of str
        The names that GluonCV knows now.

    Raises
    ------
    DMRError
        If a name is invalid, or GluonCV is missing.
    """
    try:
        from gluoncv.model_zoo import model_zoo as gluoncv_zoo
    except ImportError as error:
        raise DMRError(
            f"GluonCV cannot be imported ({error}); pip install 'dmr-gluon[gluoncv]' (in a clone: "
            f"'.[gluoncv]')"
        ) from error
    lower = [name.lower() for name in names]  # as GluonCV looks them up
    constructors = {
        name: _constructor(read_spec(name).name) for name in [*get_model_list(), *lower]
    }
    gluoncv_zoo._models.update(constructors)
    return list(constructors)


def _find_trained(spec, classes, pretrained, root):
    """Return the path of a trained network's parameters, its bundle's description, and its spec."""
    from .runs.bundles import PARAMETERS, find

    folder, content = find(spec.name, pretrained, root, classes)
    trained = NetworkSpec.from_json(content["network"])
    if classes not in (None, trained.classes):
        raise DMRError(
            f"{folder} has {trained.classes} classes, not {classes}; to fine-tune it, leave out "
            f"classes={classes} and then call net.replace_output({classes})"
        )
    if replace(spec, classes=trained.classes) != trained:
        raise DMRError(f"{folder} is another network than {spec.name} with these arguments")
    return os.path.join(folder, PARAMETERS), content, trained


def _constructor(name):
    def constructor(*arguments, **options):
        return get_model(name, *arguments, **options)

    build: Any = constructor  # mypy knows no function's __signature__
    build.__name__ = build.__qualname__ = name
    build.__doc__ = f"``{name}``; the arguments are those of :func:`get_model` after the name."
    signature = inspect.signature(get_model)
    build.__signature__ = signature.replace(parameters=list(signature.parameters.values())[1:])
    return build


__all__ = ["get_model", "get_model_list", *get_model_list()]
globals().update({name: _constructor(name) for name in get_model_list()})

if TYPE_CHECKING:  # mypy and editors do not run the line above

    def __getattr__(name: str) -> Callable[..., Network]: ...
