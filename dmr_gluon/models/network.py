"""Build a HybridBlock from a :class:`~dmr_gluon.models.spec.NetworkSpec`."""

import contextlib
from dataclasses import replace
from typing import Any, Dict, List, Mapping, Optional, Tuple

from ..errors import DMRError
from ..runtime import mx
from .blocks import InceptionLike, MergeAndRun, Plain, Residual
from .grouped_blocks import GroupedInceptionLike, GroupedMergeAndRun
from .layers import BatchNorm, GlobalAveragePool
from .spec import INCEPTION_LIKE, MERGE_AND_RUN, PLAIN, RESIDUAL, NetworkSpec, Spec
from .stem_and_head import Concatenate, head, stem
from .summary import parameters_in, summary

nn = mx.gluon.nn

#: The class of each kind of block; :func:`_block` calls the constructor.
BLOCKS: Dict[str, Any] = {
    PLAIN: Plain,
    RESIDUAL: Residual,
    INCEPTION_LIKE: InceptionLike,
    MERGE_AND_RUN: MergeAndRun,
}
#: The same in the grouped form; the constructors take the spec.
GROUPED_BLOCKS: Dict[str, Any] = {
    INCEPTION_LIKE: GroupedInceptionLike,
    MERGE_AND_RUN: GroupedMergeAndRun,
}
#: A graph that takes pixels has these parameters, see :mod:`dmr_gluon.deploy.variants`.
_PIXELS = ("arg:input_mean", "arg:input_scale")


class TrainableNetwork(mx.gluon.HybridBlock):
    """What training, evaluation and export need of a network.

    Maps normalised images (NCHW) to logits (batch, classes).

    Attributes
    ----------
    spec : NetworkSpec or CustomSpec
    """

    spec: Spec
    #: Set for trained networks; see :func:`dmr_gluon.model_zoo.get_model`.
    classes: List[str]
    bundle: Dict[str, Any]

    _half = False
    _portable = {"_half": False}

    def _logits(self, x):
        """Map images of the network's own dtype to logits."""
        raise NotImplementedError

    def hybrid_forward(self, F, x):
        if self._half:
            return F.cast(self._logits(F.cast(x, "float16")), "float32")
        return self._logits(x)

    def fuse_for_cpu(self) -> None:
        """Use the fastest operators on CPUs; outputs change only by rounding.

        BN and the ReLU after it become one oneDNN operator, the pooling a plain mean, each sum
        one operator, and a depthwise convolution divides in the merge. Other devices and
        runtimes lack these operators: export with :meth:`portable_symbol`. Not for float16.
        """
        for layer in _layers(self):
            if "fused" in getattr(layer, "_portable", ()):
                layer.fused = True
        self._clear_cached_op()

    def compute_in_float16(self) -> None:
        """Compute convolutions and FC in float16, BN in float32; input and logits stay float32.

        Only for GPUs: MXNet has no float16 convolutions for CPUs.
        """
        self.cast("float16")  # Gluon's BN stays float32 by itself
        self._half = True
        self._clear_cached_op()

    def synchronise_bn(self, devices: int) -> None:
        """Compute BN's statistics in training over the images of this many GPUs together.

        The GPUs then wait for each other in every BN, in forward and backward passes.

        Raises
        ------
        DMRError
            For a BN layer that is not this package's.
        """
        for layer in _layers(self):
            if isinstance(layer, BatchNorm):
                layer.devices = devices
            elif isinstance(layer, nn.BatchNorm):
                raise DMRError(
                    f"--sync-bn: {layer.name} is MXNet's BatchNorm; build the network with "
                    f"dmr_gluon.models.layers.BatchNorm, or leave out --sync-bn"
                )
        self._clear_cached_op()

    def use_bn_momentum(self, momentum: float) -> None:
        """Set the momentum of BN's running statistics, used in inference only."""
        for layer in _layers(self):
            if isinstance(layer, nn.BatchNorm):
                layer._kwargs["momentum"] = momentum
        self._clear_cached_op()

    def portable_symbol(self) -> mx.sym.Symbol:
        """Return the network as a symbol of portable operators, from ``data`` to logits.

        Includes a replaced ``output`` and replaced BN layers, but not the changes of
        :meth:`fuse_for_cpu`, :meth:`compute_in_float16` and :meth:`synchronise_bn`. The
        symbol's text does not depend on other networks or on earlier traces.
        """
        with _in_portable_form(self), mx.name.NameManager():
            symbol = self(mx.sym.var("data"))
        for variable in symbol.get_internals():
            if variable.attr("__dtype__") == _FLOAT16:
                variable._set_attr(__dtype__=_FLOAT32)
        return symbol


class Network(TrainableNetwork):
    """Stem, stages of blocks, global average pooling, fully connected layer.

    Maps normalised images (NCHW) to logits (batch, classes).

    ``features`` is everything up to the pooling, ``output`` the classifier, as in
    GluonCV. Parameter names are structural, such as
    ``stage2_block1_branch1_conv1_weight``; stages, blocks, branches and layers count
    from 1.

    Parameters
    ----------
    spec : NetworkSpec
    prefix : str
        Prepended to every parameter's name; empty by default.
    """

    spec: NetworkSpec

    def __init__(self, spec: NetworkSpec, prefix: str = "") -> None:
        super().__init__(prefix=prefix)
        self.spec = spec
        with self.name_scope():
            self.features = nn.HybridSequential(prefix="")
            self.features.add(stem(spec))
            in_channels = spec.stem_channels
            for stage, (count, channels) in enumerate(zip(spec.blocks, spec.channels), start=1):
                layers = nn.HybridSequential(prefix="")
                for block in range(1, count + 1):
                    layers.add(
                        _block(
                            spec,
                            channels=channels,
                            stride=2 if stage > 1 and block == 1 else 1,
                            in_channels=in_channels,
                            first=stage == 1 and block == 1,
                            last=stage == len(spec.blocks) and block == count,
                            prefix=f"stage{stage}_block{block}_",
                        )
                    )
                    in_channels = channels
                self.features.add(layers)
            if spec.ends == "concatenated" and spec.form == "branches":
                self.features.add(Concatenate(prefix=""))
            self.features.add(GlobalAveragePool("pool_"))
            self.output = head(spec)

    def _logits(self, x):
        return self.output(self.features(x))

    def __repr__(self) -> str:
        head = f"{self.spec.name}: depth {self.spec.depth}, {parameters_in(self)} parameters"
        return f"{head}\n{summary(self)}"

    def replace_output(self, classes: int) -> None:
        """Replace the classifier by an untrained one with another number of classes.

        The new one has the old parameter names and is initialised as in the paper, on the same
        devices. Create the Trainer afterwards: an older one holds the old parameters.

        Parameters
        ----------
        classes : int

        Raises
        ------
        DMRError
            For an invalid number.
        """
        self.spec = replace(self.spec, classes=classes)
        with self.name_scope():
            output = head(self.spec)
        with contextlib.suppress(RuntimeError):  # not initialised yet
            devices = next(iter(self.features.collect_params().values())).list_ctx()
            output.initialize(ctx=devices)
        output.cast(next(iter(self.output.collect_params().values())).dtype)
        self.output = output


def load_arrays(path: str) -> Dict[str, mx.nd.NDArray]:
    """Read a ``.params`` file, also at a path that is not UTF-8, which MXNet refuses."""
    with open(path, "rb") as file:
        return mx.nd.load_frombuffer(file.read())


def misfit(
    expected: Mapping[str, Tuple[int, ...]], found: Mapping[str, Tuple[int, ...]]
) -> Optional[str]:
    """Describe the first missing, surplus or misshapen array; return None if all fit.

    Parameters
    ----------
    expected, found : dict of str to tuple of int
        Shapes by name.
    """
    for name in sorted({*expected, *found}):
        if name not in found:
            return f"{name} is missing"
        if name not in expected:
            return f"{name} is not part of it"
        if tuple(found[name]) != tuple(expected[name]):
            return f"{name} has the shape {tuple(found[name])}, not {tuple(expected[name])}"
    return None


def named_arrays(path: str, otherwise: str) -> Dict[str, mx.nd.NDArray]:
    """Read a ``.params`` file's arrays by name, without MXNet's ``arg:`` and ``aux:``.

    Leaves out those with which a graph normalises pixels: they are not the network's.

    Parameters
    ----------
    path : str
    otherwise : str
        Advice for the error message.

    Raises
    ------
    DMRError
        If the file cannot be read or is damaged.
    """
    try:
        return {n.rpartition(":")[2]: a for n, a in load_arrays(path).items() if n not in _PIXELS}
    except OSError as error:
        raise DMRError(f"{path} cannot be read ({error.strerror}); {otherwise}") from error
    # The exception depends on which byte is damaged; a name may no longer be text.
    except (mx.base.MXNetError, IndexError, AttributeError, ValueError, AssertionError) as error:
        raise DMRError(f"{path} is damaged; {otherwise}") from error


def read_parameters(net: TrainableNetwork, path: str, otherwise: str) -> None:
    """Load a network's parameters from one of MXNet's files, by name.

    Parameters
    ----------
    net : TrainableNetwork
        Initialised. Its prefix is not in the file's names.
    path : str
        Written by :func:`dmr_gluon.models.serialization.save_model`.
    otherwise : str
        Advice for the error message.

    Raises
    ------
    DMRError
        If the file cannot be read, is damaged, or belongs to another network.
    """
    arrays = named_arrays(path, otherwise)
    parameters = {name[len(net.prefix) :]: one for name, one in net.collect_params().items()}
    # Compare both ways: a deeper network has every array of a shallower one.
    expected, found = ({n: one.shape for n, one in side.items()} for side in (parameters, arrays))
    if fault := misfit(expected, found):
        raise DMRError(f"{path} does not fit {net.spec.name}: {fault}; {otherwise}")
    for name, parameter in parameters.items():
        parameter.set_data(arrays[name])


#: Type codes in a symbol's attributes.
_FLOAT32, _FLOAT16 = "0", "2"


def _layers(block):
    """Yield a block and everything inside it."""
    yield block
    for child in block._children.values():
        yield from _layers(child)


@contextlib.contextmanager
def _in_portable_form(net):
    """Put a network into its portable form temporarily."""
    with contextlib.ExitStack() as undo:

        def change(thing, name, value):
            undo.callback(setattr, thing, name, getattr(thing, name))
            setattr(thing, name, value)

        for layer in _layers(net):
            for name, value in getattr(layer, "_portable", {}).items():
                change(layer, name, value)
        for parameter in net.collect_params().values():
            change(parameter, "_var", None)  # a variable counts how often it was traced
        yield


def _block(spec, first, last, **place):
    """Build one block; ``first`` and ``last`` refer to the whole network."""
    last = last and spec.ends == "shared"
    if spec.form == "grouped":
        first = first and spec.ends != "unshared"
        return GROUPED_BLOCKS[spec.block](spec, first=first, last=last, **place)
    options = {
        "bottleneck": spec.bottleneck,
        "layers": spec.branch_layers,
        "inner_width": spec.inner_width,
    }
    if spec.kind.skip:
        options["projections"] = spec.projections
    if spec.kind.parallel:
        options["branches"] = spec.branches
    if spec.kind.streams:
        options.update(mapping=spec.mapping, last=last)
    return BLOCKS[spec.block](**place, **options)
