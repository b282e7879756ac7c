"""From a :class:`~dmr_gluon.models.spec.NetworkSpec` to a HybridBlock."""

import contextlib
from dataclasses import replace
from typing import Any, Dict, List, Mapping, Optional, Tuple

from ..errors import DMRError
from ..runtime import mx
from .blocks import InceptionLike, MergeAndRun, Plain, Residual
from .grouped_blocks import GroupedInceptionLike, GroupedMergeAndRun
from .layers import BatchNorm, GlobalAveragePool
from .spec import INCEPTION_LIKE, MERGE_AND_RUN, PLAIN, RESIDUAL, NetworkSpec
from .stem_and_head import Concatenate, head, stem

nn = mx.gluon.nn


class Network(mx.gluon.HybridBlock):
    """Stem, stages of blocks, global average pooling, fully connected layer.

    Input: images, NCHW, normalised. Output: (batch, classes) logits, before the
    softmax.

    ``features`` is everything up to the pooling, ``output`` the classifier, as in
    GluonCV. Parameter names are structural, such as
    ``stage2_block1_branch1_conv1_weight``; stages, blocks, branches and layers count
    from 1.

    Parameters
    ----------
    spec : NetworkSpec
        What to build.
    prefix : str
        Put before every parameter's name; empty by default.
    """

    #: Of a network with trained parameters; see :func:`dmr_gluon.model_zoo.get_model`.
    classes: List[str]
    bundle: Dict[str, Any]

    _half = False
    _portable = {"_half": False}

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
            separate = spec.block == MERGE_AND_RUN and spec.form == "branches"
            if spec.ends == "concatenated" and separate:
                self.features.add(Concatenate(prefix=""))
            self.features.add(GlobalAveragePool("pool_"))
            self.output = head(spec)

    def hybrid_forward(self, F, x):
        if self._half:
            return F.cast(self.output(self.features(F.cast(x, "float16"))), "float32")
        return self.output(self.features(x))

    def fuse_for_cpu(self) -> None:
        """Use the operators that are fastest on CPUs; the numbers stay the same.

        BN and the ReLU after it become one oneDNN operator, the pooling a plain mean, sums one
        operator each, and the merge divides by K once in a stage; before that, the streams grow
        (see :class:`~.blocks.MergeAndRun`). For networks that stay in this process and on
        CPUs: a symbol made from this object afterwards holds operators that other devices and
        other runtimes lack. float32 only.
        """

        def fuse(block):
            if "fused" in getattr(block, "_portable", ()):
                block.fused = True

        self.apply(fuse)
        for stage in self.features._children.values():
            blocks = [block for block in stage._children.values() if isinstance(block, MergeAndRun)]
            if all(block.can_grow() for block in blocks):
                times = 1.0
                for block in blocks:
                    times = block.let_streams_grow(times, last=block is blocks[-1])
        self._clear_cached_op()

    def compute_in_float16(self) -> None:
        """Convolutions and FC in float16, BN in float32; input and logits stay float32.

        For GPUs: MXNet has no float16 convolutions for CPUs.
        """
        self.cast("float16")  # Gluon's BN stays float32 by itself
        self._half = True
        self._clear_cached_op()

    def synchronise_bn(self, devices: int) -> None:
        """In training, take BN's statistics over the images of so many GPUs together.

        Each then waits for the others within every BN, forwards and backwards.
        """

        def synchronise(block):
            if isinstance(block, BatchNorm):
                block.devices = devices

        self.apply(synchronise)
        self._clear_cached_op()

    def use_bn_momentum(self, momentum: float) -> None:
        """How much of BN's running statistics stays at a training step.

        They have no influence on the training, only on what is computed outside of it.
        """

        def use(block):
            if isinstance(block, mx.gluon.nn.BatchNorm):
                block._kwargs["momentum"] = momentum

        self.apply(use)
        self._clear_cached_op()

    def replace_output(self, classes: int) -> None:
        """Another number of classes: a new classifier like the old one, to be trained anew.

        It has the old one's parameter names, is initialised as in the paper on the same
        devices, and ``spec`` says so. Make the Trainer afterwards: one that was made before
        holds the old parameters.

        Parameters
        ----------
        classes : int

        Raises
        ------
        DMRError
            For a number that is none.
        """
        self.spec = replace(self.spec, classes=classes)
        with self.name_scope():
            output = head(self.spec)
        with contextlib.suppress(RuntimeError):  # not initialised yet: it will be with the rest
            devices = next(iter(self.features.collect_params().values())).list_ctx()
            output.initialize(ctx=devices)
        output.cast(next(iter(self.output.collect_params().values())).dtype)
        self.output = output

    def portable_symbol(self) -> mx.sym.Symbol:
        """The network as it is now, as a symbol of common operators, from ``data`` to logits.

        An ``output`` or BN layers that were replaced are in it; what :meth:`fuse_for_cpu`,
        :meth:`compute_in_float16` and :meth:`synchronise_bn` changed is not. The text of the
        symbol does not depend on what else was built, traced or run before.
        """
        with _in_portable_form(self), mx.name.NameManager():
            symbol = self(mx.sym.var("data"))
        for variable in symbol.get_internals():
            if variable.attr("__dtype__") == _FLOAT16:
                variable._set_attr(__dtype__=_FLOAT32)
        return symbol


def load_arrays(path: str) -> Dict[str, mx.nd.NDArray]:
    """Read a ``.params`` file. MXNet itself opens only paths that are UTF-8."""
    with open(path, "rb") as file:
        return mx.nd.load_frombuffer(file.read())


def misfit(
    expected: Mapping[str, Tuple[int, ...]], found: Mapping[str, Tuple[int, ...]]
) -> Optional[str]:
    """Say which array is surplus, missing or of another shape; None where all fit.

    Parameters
    ----------
    expected, found : dict of str to tuple of int
        Shapes by name.
    """
    for name in sorted({*expected, *found}):
        if name not in found:
            return f"{name} is missing"
        if name not in expected:
            return f"{name} has no place in it"
        if tuple(found[name]) != tuple(expected[name]):
            return f"{name} has the shape {tuple(found[name])}, not {tuple(expected[name])}"
    return None


def read_parameters(net: Network, path: str, otherwise: str) -> None:
    """Fill a network from a file of MXNet's, by name.

    Parameters
    ----------
    net : Network
        Initialised. Its prefix is not in the file's names.
    path : str
        As :func:`dmr_gluon.models.serialization.save_model` writes it.
    otherwise : str
        What to do where the file is damaged.

    Raises
    ------
    DMRError
        For a file that cannot be read, is damaged, or is not of just this network.
    """
    try:
        arrays = {name.split(":", 1)[1]: array for name, array in load_arrays(path).items()}
    except OSError as error:
        raise DMRError(f"{path} cannot be read ({error.strerror}); {otherwise}") from error
    # What MXNet raises goes by the byte that is damaged; a name need no longer be text.
    except (mx.base.MXNetError, IndexError, AttributeError, ValueError, AssertionError) as error:
        raise DMRError(f"{path} is damaged; {otherwise}") from error
    parameters = {name[len(net.prefix) :]: one for name, one in net.collect_params().items()}
    # A deeper network of the same family has all that a shallower one needs, and more.
    fault = misfit(*({n: one.shape for n, one in part.items()} for part in (parameters, arrays)))
    if fault:
        raise DMRError(f"{path} does not fit {net.spec.name}: {fault}; {otherwise}")
    for name, parameter in parameters.items():
        parameter.set_data(arrays[name])


#: As symbols write them.
_FLOAT32, _FLOAT16 = "0", "2"


@contextlib.contextmanager
def _in_portable_form(net):
    """Take back for a while what makes a network fast where it runs."""
    before = []

    def change(thing, name, value):
        before.append((thing, name, getattr(thing, name)))
        setattr(thing, name, value)

    def make_portable(block):
        for name, value in getattr(block, "_portable", {}).items():
            change(block, name, value)

    try:
        net.apply(make_portable)
        for parameter in net.collect_params().values():
            change(parameter, "_var", None)  # MXNet counts in a variable how often it was traced
        yield
    finally:
        for thing, name, value in reversed(before):  # a block may be met twice
            setattr(thing, name, value)


def _block(spec, channels, stride, in_channels, first, last, prefix):
    """One block; ``first`` and ``last`` of the network."""
    inner = (
        {"bottleneck": True}
        if spec.bottleneck
        else {"layers": spec.branch_layers, "inner_width": spec.inner_width}
    )
    common = {"channels": channels, "stride": stride, "in_channels": in_channels, "prefix": prefix}
    common.update(inner)
    if spec.block == PLAIN:
        return Plain(**common)
    common["projections"] = spec.projections
    if spec.block == RESIDUAL:
        return Residual(**common)
    common["branches"] = spec.branches
    grouped = spec.form == "grouped"
    if spec.block == INCEPTION_LIKE:
        return (GroupedInceptionLike if grouped else InceptionLike)(**common)
    common.update(mapping=spec.mapping, last=last and spec.ends == "shared")
    if grouped:
        return GroupedMergeAndRun(first=first and spec.ends != "unshared", **common)
    return MergeAndRun(**common)
