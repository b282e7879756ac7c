"""The layers of blocks, stems and classifiers.

Some have a second, equivalent form that is faster on CPUs: see
:meth:`.network.Network.fuse_for_cpu`. A class's ``_portable`` maps the attributes that select the
form to their values in the portable form.
"""

from ..runtime import mx

#: BatchNorm as in the authors' released code; no convolution has a bias.
BN_EPSILON = 2e-5
BN_MOMENTUM = 0.9


def convolution(channels, kernel, stride, in_channels, prefix, groups=1):
    """Make a convolution without bias, padded to keep the size, initialised as in [6].

    Weights are Gaussian with variance 2 / fan-in (MSRA); the fan-in is that of one group.

    Parameters
    ----------
    channels, in_channels : int
        Channels of the output and of the input.
    kernel, stride : int
        The kernel's height and width, an odd number, and its stride.
    prefix : str
        Such as ``conv1_``.
    groups : int
        Number of groups of channels.

    Returns
    -------
    mx.gluon.nn.Conv2D
    """
    return mx.gluon.nn.Conv2D(
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
    """BatchNorm with learned gamma (initially 1) and beta (0), epsilon 2e-5, momentum 0.9.

    Parameters
    ----------
    channels : int
    prefix : str
    **options
        Options of Gluon's BatchNorm other than the paper's; see
        :mod:`dmr_gluon.models.norm_layers`.

    Attributes
    ----------
    devices : int
        Number of this process's devices that share BN statistics in training. See
        :meth:`dmr_gluon.models.network.Network.synchronise_bn`.
    """

    devices = 1
    _portable = {"devices": 1}

    def __init__(self, channels, prefix, **options):
        options = {"epsilon": BN_EPSILON, "momentum": BN_MOMENTUM, **options}
        super().__init__(in_channels=channels, prefix=prefix, **options)

    def hybrid_forward(self, F, x, gamma, beta, running_mean, running_var):
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
            key=self.prefix,  # the devices find each other by it
            **options,
        )


class BatchNormRelu(BatchNorm):
    """BatchNorm as above, then ReLU.

    Attributes
    ----------
    fused : bool
        Compute both with one oneDNN operator: equal and faster, but on CPUs only. A symbol
        with it loads nowhere else. See :meth:`.network.Network.fuse_for_cpu`.
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
    """Average each channel over the image: (n, channels, height, width) to (n, channels).

    Attributes
    ----------
    fused : bool
        Compute a plain mean. On CPUs the backward pass of oneDNN's pooling is slow, and its
        memory layout slows down the BNs before it; together they cost a fifth of the training
        time of cifar_dmrnet14.
    """

    fused = False
    _portable = {"fused": False}

    def hybrid_forward(self, F, x):
        if isinstance(x, (list, tuple)):  # K streams (Table 5, unshared)
            return [self.hybrid_forward(F, stream) for stream in x]
        if self.fused:
            return F.mean(x, axis=(2, 3))
        return F.flatten(F.Pooling(x, global_pool=True, pool_type="avg", kernel=(1, 1)))


def relu(F, x):
    # Activation keeps oneDNN's blocked layout; F.relu would convert to another one and back.
    return F.Activation(x, act_type="relu")
