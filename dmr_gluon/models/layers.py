"""The layers that blocks, stems and classifiers are made of.

Some have a second form that is faster on CPUs and gives the same numbers: see
:meth:`.network.Network.fuse_for_cpu`. ``_portable`` of a class says which attributes make
it, and what they are in the common form.
"""

from ..runtime import mx

#: BatchNorm as in the authors' released code; no convolution has a bias.
BN_EPSILON = 2e-5
BN_MOMENTUM = 0.9


class Convolution(mx.gluon.nn.Conv2D):
    """Gluon's convolution.

    Attributes
    ----------
    factor : float
        The weights are multiplied by it; see :class:`dmr_gluon.models.blocks.MergeAndRun`.
    """

    factor = 1
    _portable = {"factor": 1}

    def hybrid_forward(self, F, x, weight, bias=None):
        if self.factor != 1:
            weight = weight * self.factor
        return super().hybrid_forward(F, x, weight, bias)


def convolution(channels, kernel, stride, in_channels, prefix, groups=1):
    """A convolution without bias, padded to keep the size, initialised as [6].

    Weights are Gaussian with variance 2 / fan-in (MSRA); with ``groups``, the fan-in is
    that of one group.

    Parameters
    ----------
    channels, in_channels : int
        Channels of the output and of the input.
    kernel, stride : int
        Height and width of the kernel, odd; and by how much it moves.
    prefix : str
        Such as ``conv1_``.
    groups : int
        Of channels that are convolved apart.

    Returns
    -------
    Convolution
    """
    return Convolution(
        channels,
        kernel,
        strides=stride,
        padding=kernel // 2,
        use_bias=False,
        in_channels=in_channels,
        groups=groups,
        weight_initializer=mx.init.Xavier("gaussian", "in", 2),
        prefix=prefix,
    )


class BatchNorm(mx.gluon.nn.BatchNorm):
    """BatchNorm with learned gamma (1 at first) and beta (0), epsilon 2e-5, momentum 0.9.

    Parameters
    ----------
    channels : int
    prefix : str
    **options
        Of Gluon's BatchNorm, where they are to be others than the paper's; see
        :mod:`dmr_gluon.models.norm_layers`.

    Attributes
    ----------
    devices : int
        Of one process, over whose images together the statistics are taken in training. See
        :meth:`dmr_gluon.models.network.Network.synchronise_bn`.
    factor : float
        The output is multiplied by it; see :class:`dmr_gluon.models.blocks.MergeAndRun`.
    """

    devices = 1
    factor = 1
    _portable = {"devices": 1, "factor": 1}

    def __init__(self, channels, prefix, **options):
        options = {"epsilon": BN_EPSILON, "momentum": BN_MOMENTUM, **options}
        super().__init__(in_channels=channels, prefix=prefix, **options)

    def hybrid_forward(self, F, x, gamma, beta, running_mean, running_var):
        if self.factor != 1:
            gamma, beta = gamma * self.factor, beta * self.factor
        if self.devices == 1:
            return super().hybrid_forward(F, x, gamma, beta, running_mean, running_var)
        options = {name: value for name, value in self._kwargs.items() if name != "axis"}
        return F.contrib.SyncBatchNorm(
            x,
            gamma,
            beta,
            running_mean,
            running_var,
            ndev=self.devices,
            key=self.prefix,  # by which the devices find each other
            **options,
        )


class BatchNormRelu(BatchNorm):
    """BatchNorm as above, then ReLU.

    Attributes
    ----------
    fused : bool
        Compute both with oneDNN's one operator: faster, the same numbers, but on CPUs
        only, and a symbol that holds it loads nowhere else. See
        :meth:`.network.Network.fuse_for_cpu`.
    """

    fused = False
    _portable = {**BatchNorm._portable, "fused": False}

    def hybrid_forward(self, F, x, gamma, beta, running_mean, running_var):
        if self.fused and self.devices == 1:
            return F.contrib.BatchNormWithReLU(
                x, gamma, beta, running_mean, running_var, name="fwd", **self._kwargs
            )
        return relu(F, super().hybrid_forward(F, x, gamma, beta, running_mean, running_var))


class GlobalAveragePool(mx.gluon.HybridBlock):
    """(n, channels, height, width) to (n, channels): the mean over each image.

    Attributes
    ----------
    fused : bool
        Compute it as a plain mean. On CPUs the backward pass of oneDNN's pooling is slow
        and leaves a memory layout in which the BNs before it are slower still, together a
        fifth of cifar_dmrnet14's training time.
    """

    fused = False
    _portable = {"fused": False}

    def hybrid_forward(self, F, x):
        if isinstance(x, (list, tuple)):  # streams that do not end in one (Table 5, unshared)
            return [self.hybrid_forward(F, stream) for stream in x]
        if self.fused:
            return F.mean(x, axis=(2, 3))
        return F.flatten(F.Pooling(x, global_pool=True, pool_type="avg", kernel=(1, 1)))


def relu(F, x):
    # Activation stays in oneDNN's blocked layout; F.relu would leave it and come back.
    return F.Activation(x, act_type="relu")
