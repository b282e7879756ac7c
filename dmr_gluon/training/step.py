"""One update of a network: forward, backward, sum over devices and workers, optimiser."""

from collections import deque

import numpy as np

from ..errors import DMRError
from ..runtime import mx
from .distributed import ALONE
from .flat_parameters import FlatParameters
from .state import NotFinite


class _LossAndErrors(mx.gluon.HybridBlock):
    """Softmax cross-entropy for each image, their sum, and the number of wrong answers.

    With smoothing s the wanted distribution is 1 - s for the label, and s spread evenly over
    all classes.
    """

    def __init__(self, smoothing=0.0):
        super().__init__(prefix="")
        self.smoothing = smoothing

    def hybrid_forward(self, F, logits, label):
        log_probability = F.log_softmax(logits)
        loss = -F.pick(log_probability, label)
        if self.smoothing:
            everywhere = -F.mean(log_probability, axis=1)
            loss = (1 - self.smoothing) * loss + self.smoothing * everywhere
        wrong = F.argmax(logits, axis=1) != label
        return loss, loss.sum(), wrong.sum()


class TrainingStep:
    """One update, data-parallel over devices and workers.

    Every device computes on its part of the batch; the gradients are summed through the
    kvstore, and every device makes the same update. Gradients are averaged over the whole
    batch, BN's statistics over the part of each device, as in the paper's MXNet.

    Parameters
    ----------
    net : Network or HybridBlock
        Gives logits; initialised on ``devices``.
    optimizer : Optimizer
    devices : list of Context
    kv_store : str
        How gradients are summed over the devices; not used for one device, nor with several
        workers, whose parameter server sums over all.
    accumulate : int
        Parts that each device computes one after the other. Part by part, BN and all else
        are as on so many times more devices.
    smoothing : float
        See :class:`_LossAndErrors`.
    sync_bn : bool
        BN's statistics over all devices' parts.
    float16 : bool
        Compute in float16, with a loss that is scaled so that small gradients survive.
    group : WorkerGroup
        The workers.
    """

    def __init__(
        self,
        net,
        optimizer,
        devices,
        kv_store="device",
        accumulate=1,
        smoothing=0.0,
        sync_bn=False,
        float16=False,
        group=ALONE,
    ):
        self.net, self.devices, self.kv_store = net, devices, kv_store
        self.accumulate, self.group = accumulate, group
        if float16:
            net.compute_in_float16()
        if sync_bn and len(devices) > 1:
            net.synchronise_bn(len(devices))
        self.loss_scale = LossScale() if float16 else None
        self.host = HostBuffers(devices)
        # Without BN's running statistics: at its beginning the Trainer copies all that it is
        # given from the first device to the others.
        # CPU contexts gain nothing by more and shorter ones (3% slower, two contexts).
        sums = len(devices) if devices[0].device_type == "gpu" else 1
        self.flat = FlatParameters(net, add=accumulate > 1, devices=sums)
        kv_store = kv_store if len(devices) > 1 else None
        self.trainer = mx.gluon.Trainer(
            self.flat.arrays,
            optimizer,
            kvstore=group.kv if group.kv is not None else kv_store,
            update_on_kvstore=False,
        )
        # MXNet would do this after the first backward pass, when on CPUs it makes the first
        # worker's weights the sum of all workers' first gradients.
        self.trainer._init_kvstore()
        self.trainer._init_params()
        mx.nd.waitall()
        self._losses = _LossAndErrors(smoothing)
        self._losses.hybridize(static_alloc=True, static_shape=True)

    def place(self, data, label):
        """Send a batch on its way to the devices.

        Parameters
        ----------
        data : NDArray or array
            (n, 3, height, width).
        label : array
            (n,).

        Returns
        -------
        list of (NDArray, NDArray)
            Images and labels of each part.
        """
        devices = [device for device in self.devices for _ in range(self.accumulate)]
        if len(label) < len(devices):
            raise ValueError(f"{len(label)} images are not enough for {len(devices)} parts")
        pieces = (split_over(devices, array, self.host) for array in (data, label))
        return list(zip(*pieces))

    def __call__(self, data, label, lr, total=None):
        """Make one update: :meth:`place` and :meth:`update`.

        ``total`` is by default the n of this batch; all else is as there.
        """
        return self.update(self.place(data, label), lr, len(label) if total is None else total)

    def update(self, parts, lr, total, meanwhile=None):
        """Make one update with a batch that was placed.

        Parameters
        ----------
        parts : list of (NDArray, NDArray)
        lr : float
        total : int
            Images of this step on all workers.
        meanwhile : callable, optional
            Called in float16 when all is queued that does not depend on whether the gradients
            are finite, which the processor has to wait for.

        Returns
        -------
        list of (NDArray, NDArray)
            For each part the sum of the losses and the number of wrong answers.

        Raises
        ------
        NotFinite
            Where float16's gradients are not finite whatever the scale of the loss.
        """
        results = []
        if self.accumulate > 1:
            self.flat.forget_gradients()
        for i in range(self.accumulate):
            with mx.autograd.record():
                mine = [self._losses(self.net(x), y) for x, y in parts[i :: self.accumulate]]
            self._backward([loss for loss, _, _ in mine])
            results += [(total, wrong) for _, total, wrong in mine]
        self.trainer.set_learning_rate(lr)
        self._update(total, meanwhile)
        return results

    def check_replicas(self):
        """Refuse to go on where the devices of this process have different weights.

        MXNet says nothing of sums over GPUs that fail, and a checkpoint is of the first device.
        """
        for bucket in self.flat.arrays:
            first, *others = bucket.list_data()
            wanted = first.asnumpy().tobytes() if others else None
            for other in others:
                if other.asnumpy().tobytes() != wanted:
                    raise DMRError(
                        f"{other.context} has other weights than {first.context}: --kv-store "
                        f"{self.kv_store} did not give both the same sums; what was saved "
                        f"before is good: go on with --resume and another --kv-store"
                    )

    def _backward(self, losses):
        heads = None
        if self.loss_scale:
            scale = self.loss_scale.scale
            heads = [mx.nd.full(loss.shape, scale, ctx=loss.context) for loss in losses]
        mx.autograd.backward(losses, heads)

    def _update(self, images, meanwhile):
        for bucket in self.flat.arrays:
            for array in bucket.list_data():
                array._fresh_grad = True  # MXNet marks the parameters' parts, not the whole
        if self.loss_scale is None:
            self.trainer.step(images)
            return
        self.trainer.allreduce_grads()
        flags = finite_flags([bucket.list_grad()[0] for bucket in self.flat.arrays])
        if meanwhile:
            meanwhile()
        if self.loss_scale.after(all(bool(flag.asscalar()) for flag in flags)):
            self.trainer.update(images * self.loss_scale.used)


def host_memory(devices):
    """Where a batch lies before it goes to devices: from pinned memory copies do not wait.

    Memory is pinned through a GPU, whose context is made with it: the first of these, as others
    may be somebody else's.
    """
    first = devices[0]
    return mx.cpu_pinned(first.device_id) if first.device_type == "gpu" else mx.cpu()


class HostBuffers:
    """Arrays in the host's memory, from which batches go to devices.

    For GPUs they are used in turn: MXNet has no pool of pinned memory, and to allocate some waits
    for all that GPUs do. MXNet waits with writing to one until what was in it has been copied.

    Parameters
    ----------
    devices : list of Context
    """

    #: Of a shape. Training runs two steps ahead.
    COUNT = 3

    def __init__(self, devices):
        self._context = host_memory(devices)
        self._rings = {}

    def hold(self, data):
        """A batch as an NDArray in host memory: (n, ...), float32."""
        if self._context.device_type == "cpu":
            return mx.nd.array(data, ctx=self._context)
        ring = self._rings.setdefault(np.shape(data), deque())
        if len(ring) < self.COUNT:
            ring.appendleft(mx.nd.empty(np.shape(data), ctx=self._context))
        ring.rotate(-1)
        ring[-1][:] = data
        return ring[-1]


def split_over(devices, data, host=None):
    """Cut a batch into as many near-equal parts as it has images or there are devices.

    Parameters
    ----------
    devices : list of Context
    data : NDArray or array
        First axis: images.
    host : HostBuffers, optional
        Of these devices, where many batches of the same shapes come.

    Returns
    -------
    list of NDArray
        One for each device, in order; fewer for a batch with fewer images than devices.
    """
    if not isinstance(data, mx.nd.NDArray):
        data = (host or HostBuffers(devices)).hold(data)
    bounds = np.linspace(0, len(data), min(len(data), len(devices)) + 1).astype(int)
    return [
        data[start:stop].as_in_context(device)
        for device, start, stop in zip(devices, bounds, bounds[1:])
    ]


def finite_flags(arrays):
    """For each type of number an array of one element: 1 where no array holds infinity or NaN."""
    by_type = {}
    for array in arrays:
        by_type.setdefault(array.dtype, []).append(array)
    return [mx.nd.multi_all_finite(*same, num_arrays=len(same)) for same in by_type.values()]


class LossScale:
    """The factor of the loss in float16: halved when gradients overflow, doubled after a while.

    A step whose gradients overflow is skipped.

    Attributes
    ----------
    scale : float
        Of the next step.
    used : float
        Of the last one.
    steps : int
        Without an overflow since the scale last changed.
    skipped : int
        Steps that were skipped since :meth:`take`.
    """

    FIRST, MOST, WAIT = 2.0**16, 2.0**24, 2000

    def __init__(self):
        self.scale = self.used = self.FIRST
        self.steps = self.skipped = 0

    def after(self, finite):
        """Adapt after a step's gradients; returns whether they can be used.

        Raises
        ------
        NotFinite
            Where they are not finite though the loss is not scaled: smaller steps would not help.
        """
        if not finite and self.scale == 1.0:
            raise NotFinite("gradients in float16 are not finite, even with a loss scale of 1")
        self.used = self.scale
        self.skipped += not finite
        self.steps = self.steps + 1 if finite else 0
        if not finite:
            self.scale = max(1.0, self.scale / 2)
        elif self.steps >= self.WAIT:
            self.scale, self.steps = min(self.MOST, self.scale * 2), 0
        return finite

    def state(self):
        return {"scale": self.scale, "steps": self.steps, "skipped": self.skipped}

    def take(self):
        """For an epoch's line of the log: the scale, and the steps skipped since the last one."""
        skipped, self.skipped = self.skipped, 0
        return {"loss_scale": self.scale, "skipped_steps": skipped}

    def restore(self, state):
        self.scale = self.used = state["scale"]
        self.steps, self.skipped = state["steps"], state.get("skipped", 0)


class WeightAverage:
    """A running average of the trained weights (EMA), for evaluation and export.

    average <- d average + (1 - d) weight after every step, d = min(decay, (1 + t) / (10 + t)) in
    step t, so that the first weights do not linger. BN's running statistics stay those of
    the weights themselves.

    Parameters
    ----------
    buckets : FlatParameters
        Of the network.
    decay : float

    Attributes
    ----------
    averages : list of NDArray
        One for each bucket; float32.
    """

    def __init__(self, buckets, decay):
        self.decay, self.flat = decay, buckets
        self.averages = [b.list_data()[0].astype(np.float32) for b in buckets.arrays]

    def update(self, step):
        """Take in the weights after a step, counted from 1."""
        kept = min(self.decay, (1 + step) / (10 + step))
        for average, bucket in zip(self.averages, self.flat.arrays):
            weight = bucket.list_data()[0].astype(np.float32, copy=False)
            # As plain SGD with the gradient -weight and a weight decay of 1.
            mx.nd.sgd_update(average, weight, out=average, lr=1 - kept, wd=1, rescale_grad=-1)

    def __enter__(self):
        """Put the averages into the network."""
        self._weights = [bucket.list_data()[0].copy() for bucket in self.flat.arrays]
        self._put(self.averages)

    def __exit__(self, *_):
        self._put(self._weights)
        self._weights = None

    def _put(self, arrays):
        for bucket, array in zip(self.flat.arrays, arrays):
            bucket.set_data(array.astype(bucket.dtype, copy=False))
