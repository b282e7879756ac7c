"""Networks that a user's code builds, or that only their graph describes."""

import warnings
from typing import Any, Callable, Sequence, Union

from ..errors import DMRError, located
from ..runtime import mx
from .custom_spec import BUILDERS, CustomSpec, split_call
from .network import Network, TrainableNetwork
from .spec import Spec


class CustomNetwork(TrainableNetwork):
    """Any HybridBlock, with what training, evaluation and export need.

    Parameters
    ----------
    spec : CustomSpec
    build : callable
        Returns the HybridBlock, given ``classes``.
    prefix : str
        Prepended to the names of the parameters that it creates.

    Attributes
    ----------
    body : HybridBlock
    """

    spec: CustomSpec

    def __init__(self, spec: CustomSpec, build: Callable[..., Any], prefix: str = "") -> None:
        super().__init__(prefix=prefix)
        self.spec = spec
        # Names count from 0, whatever this process has built before.
        with mx.name.NameManager(), self.name_scope():
            try:
                body = build(classes=spec.classes)
            except DMRError:
                raise
            except Exception as error:  # of a user's code
                raise DMRError(f"{spec.name} cannot be built: {located(error)}") from error
        if not isinstance(body, mx.gluon.HybridBlock):
            raise DMRError(f"{spec.name} must be a HybridBlock, not {type(body).__name__}")
        self.body = body

    @property
    def output(self) -> Any:
        """The block's own ``output``, as in GluonCV's networks, or None."""
        return getattr(self.body, "output", None)

    def _logits(self, x):
        return self.body(x)

    def initialize(self, init: Any = None, ctx: Any = None, **options: Any) -> None:
        """Initialise what is not initialised yet, and move the rest to the devices."""
        for parameter in self.collect_params().values():
            if parameter._data is None:
                parameter.initialize(init, ctx, mx.init.Uniform(), **options)
            else:
                parameter.reset_ctx(ctx)

    def infer_shapes(self, image_size: int) -> None:
        """Complete the shapes of an initialised network's parameters by trying it.

        Raises
        ------
        DMRError
            If it does not map (n, 3, image_size, image_size) to (n, classes).
        """
        given, wanted = (2, 3, image_size, image_size), (2, self.spec.classes)
        try:
            for device in next(iter(self.collect_params().values())).list_ctx():
                found = self(mx.nd.zeros(given, device))
                found.wait_to_read()
        except Exception as error:  # of a user's code
            raise DMRError(
                f"{self.spec.name} does not take images of shape {given}: {located(error)}"
            ) from error
        if found.shape != wanted:
            raise DMRError(
                f"{self.spec.name} returns {found.shape} for images of shape {given}, not logits "
                f"of shape {wanted}"
            )


def initialise(net: TrainableNetwork, image_size: int, devices: Sequence[mx.Context]) -> None:
    """Initialise a network on devices, and complete the shapes of a user's own."""
    net.initialize(ctx=devices)
    if isinstance(net, CustomNetwork):
        net.infer_shapes(image_size)


def is_registered(spec: Spec) -> bool:
    """Return whether this process can build a spec's network."""
    return not isinstance(spec, CustomSpec) or split_call(spec.name)[0] in BUILDERS


def build(spec: Spec, prefix: str = "") -> TrainableNetwork:
    """Build the network of a spec, not initialised.

    Raises
    ------
    DMRError
        For a network that is not registered in this process.
    """
    if not isinstance(spec, CustomSpec):
        return Network(spec, prefix)
    name, options = split_call(spec.name)
    if not is_registered(spec):
        raise DMRError(
            f"the network {spec.name} is not registered here; import what registers it, or name "
            f"it with --plugin"
        )
    return CustomNetwork(spec, lambda classes: BUILDERS[name](classes=classes, **options), prefix)


def wrapped(net: Union[mx.gluon.HybridBlock, Callable[..., Any]], classes: int):
    """Return a block, or what a function builds, as a network that can be trained and exported.

    Parameters
    ----------
    net : HybridBlock or callable
        A function is called with ``classes``.
    classes : int

    Returns
    -------
    TrainableNetwork
        The same object, if it is one of the networks that its spec describes.
    """
    if isinstance(net, Network):
        plain = Network(net.spec, net.prefix).portable_symbol().tojson()
        if net.portable_symbol().tojson() == plain:
            return net
        name = f"{net.spec.name}_changed"
    elif isinstance(net, CustomNetwork):
        return net
    else:
        name = getattr(net, "__name__", type(net).__name__).strip("<>").lower()
    is_block = isinstance(net, mx.gluon.Block)
    return CustomNetwork(CustomSpec(name, classes), (lambda classes: net) if is_block else net)


def load_graph(spec: Spec, path: str) -> CustomNetwork:
    """Return the network that a symbol file describes, with parameters yet to be loaded."""
    block = symbol_block(path)
    return CustomNetwork(CustomSpec(spec.name, spec.classes), lambda classes: block)


def symbol_block(path: str) -> mx.gluon.SymbolBlock:
    """Read a symbol file that maps ``data`` to logits."""
    with open(path, encoding="utf-8") as file:
        symbol = mx.sym.load_json(file.read())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # the file does not say the input's type
        return mx.gluon.SymbolBlock(symbol, [mx.sym.var("data")])
