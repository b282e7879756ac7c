"""The networks in PyTorch, written by hand, to be compared with.

Modules are named so that our parameters find their place (:func:`answering.twin_name`):
``stage2_block1_branch1_conv1_weight`` is ``stage2_block1.branch1.conv1.weight`` here. Sums and
ReLUs are made in place wherever autograd does not need what they overwrite.
"""

from collections import OrderedDict

from torch import nn
from torch.nn import functional as F

from dmr_gluon.errors import DMRError
from dmr_gluon.models.spec import MERGE_AND_RUN


def conv(in_channels, channels, kernel, stride=1):
    return nn.Conv2d(in_channels, channels, kernel, stride, padding=kernel // 2, bias=False)


def bn(channels):
    # PyTorch's momentum is the share of the new batch: MXNet's 0.9.
    return nn.BatchNorm2d(channels, eps=2e-5, momentum=0.1)


class Stem(nn.Sequential):
    """Images (n, 3, height, width) to ``stem_channels`` channels."""

    def __init__(self, spec):
        cifar = spec.stem == "cifar"
        layers = OrderedDict(
            conv=conv(3, spec.stem_channels, *((3, 1) if cifar else (7, 2))),
            bn=bn(spec.stem_channels),
            relu=nn.ReLU(inplace=True),
        )
        if not cifar:
            layers["pool"] = nn.MaxPool2d(3, stride=2, padding=1)
        super().__init__(layers)


class Branch(nn.Sequential):
    """H: convolutions, each with a BN, and a ReLU between one pair and the next."""

    def __init__(self, spec, in_channels, channels, stride):
        if spec.bottleneck:
            inner = channels // 4
            shapes = [(inner, 1, 1), (inner, 3, stride), (channels, 1, 1)]
        else:
            inner = channels * spec.inner_width
            shapes = [(inner, 3, 1)] * (spec.branch_layers - 1) + [(channels, 3, 1)]
            shapes[0] = (*shapes[0][:2], stride)
        layers = OrderedDict()
        for i, (width, kernel, layer_stride) in enumerate(shapes, start=1):
            layers[f"conv{i}"] = conv(in_channels, width, kernel, layer_stride)
            layers[f"bn{i}"] = bn(width)
            if i < len(shapes):
                layers[f"relu{i}"] = nn.ReLU(inplace=True)
            in_channels = width
        super().__init__(layers)


class Projection(nn.Sequential):
    """The skip connection where the width or the size changes."""

    def __init__(self, in_channels, channels, stride):
        super().__init__(OrderedDict(conv=conv(in_channels, channels, 1, stride), bn=bn(channels)))


class _Block(nn.Module):
    """Branches ``branch1`` to ``branchK``, and ``skips`` projections or identities."""

    def __init__(self, spec, in_channels, channels, stride, skips):
        super().__init__()
        changes = stride != 1 or in_channels != channels
        self.branches, self.skips = [], []
        for k in range(1, spec.branches + 1):
            self.branches.append(Branch(spec, in_channels, channels, stride))
            self.add_module(f"branch{k}", self.branches[-1])
        for k in range(1, skips + 1):
            skip = Projection(in_channels, channels, stride) if changes else nn.Identity()
            self.skips.append(skip)
            self.add_module(f"proj{k}", skip)


class Residual(_Block):
    """Equations (1) and (2): y = ReLU(H_1(x) + ... + H_K(x) + s(x)). Inception-like for K > 1."""

    def __init__(self, spec, in_channels, channels, stride):
        super().__init__(spec, in_channels, channels, stride, skips=1)

    def forward(self, x):
        total = self.skips[0](x)
        for branch in self.branches:
            y = branch(x)
            y += total
            total = y
        return F.relu(total, inplace=True)


class MergeAndRun(_Block):
    """Equation (3): y_k = ReLU(H_k(x_k) + m), m the mean of all s_j(x_j).

    Takes and returns a list of K tensors; the last block of a network returns one, the ReLU of
    the sum of all branches and m.
    """

    def __init__(self, spec, in_channels, channels, stride, last):
        super().__init__(spec, in_channels, channels, stride, skips=spec.branches)
        self.merges = last or spec.mapping == "mean"
        self.last = last

    def forward(self, streams):
        skips = [skip(x) for skip, x in zip(self.skips, streams)]
        if self.merges:
            skips = [self.mean(skips)] * len(skips)
        if self.last:
            total = skips[0]
            for branch, x in zip(self.branches, streams):
                y = branch(x)
                y += total
                total = y
            return F.relu(total, inplace=True)
        outputs = []
        for branch, x, skip in zip(self.branches, streams, skips):
            y = branch(x)
            y += skip
            outputs.append(F.relu(y, inplace=True))
        return outputs

    @staticmethod
    def mean(tensors):
        if len(tensors) == 1:
            return tensors[0]
        total = tensors[0] + tensors[1]
        for tensor in tensors[2:]:
            total += tensor
        total /= len(tensors)
        return total


class Network(nn.Module):
    """Images (n, 3, height, width) to logits (n, classes).

    Parameters
    ----------
    spec : dmr_gluon.models.spec.NetworkSpec

    Raises
    ------
    DMRError
        For a network that has no twin here.
    """

    def __init__(self, spec):
        super().__init__()
        if (
            spec.block == "plain"
            or spec.ends != "shared"
            or spec.form != "branches"
            or not (spec.projections and spec.stem_norm)
        ):
            raise DMRError(
                f"{spec.name} has no twin in PyTorch; there are those of residual, inception-like "
                f"and merge-and-run networks with shared ends, such as cifar_dmrnet56 or dmrnet44"
            )
        self.streams = spec.branches if spec.block == MERGE_AND_RUN else None
        self.stem = Stem(spec)
        self.blocks = []
        in_channels = spec.stem_channels
        for stage, (count, channels) in enumerate(zip(spec.blocks, spec.channels), start=1):
            for number in range(1, count + 1):
                measures = (in_channels, channels, 2 if stage > 1 and number == 1 else 1)
                if self.streams:
                    last = stage == len(spec.blocks) and number == count
                    block = MergeAndRun(spec, *measures, last)
                else:
                    block = Residual(spec, *measures)
                self.blocks.append(block)
                self.add_module(f"stage{stage}_block{number}", block)
                in_channels = channels
        self.head = nn.Sequential(OrderedDict(fc=nn.Linear(in_channels, spec.classes)))

    def forward(self, x):
        x = self.stem(x)
        if self.streams:
            x = [x] * self.streams
        for block in self.blocks:
            x = block(x)
        return self.head(x.mean((2, 3)))
