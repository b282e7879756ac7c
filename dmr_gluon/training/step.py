"""One update of a network: forward, backward, sum over devices and workers, optimiser."""

import contextlib
import itertools

import numpy as np

from ..errors import DMRError
from ..paper.recipes import CIFAR
from ..runtime import mx
from .distributed import ALONE
from .flat_parameters import FlatParameters
from .small_sets import mixup
from .state import NotFinite


class _LossAndErrors(mx.gluon.HybridBlock):
    """Softmax cross-entropy per image, its sum, and the number of misclassified images.

    With smoothing s the target is 1 - s for the label plus s spread evenly over all classes. Class
    weights multiply the loss of each image by its class's.
    """

    def __init__(self, smoothing=0.0, class_weights=None):
        super().__init__(prefix="")
        self.smoothing = smoothing
        if class_weights is not None:
            self.weights = self.params.get_constant("class_weights", class_weights)

    def hybrid_forward(self, F, logits, label, weights=None):
        log_probability = F.log_softmax(logits)
        loss = -F.pick(log_probability, label)
        if self.smoothing:
            everywhere = -F.mean(log_probability, axis=1)
            loss = (1 - self.smoothing) * loss + self.smoothing * everywhere
        if weights is not None:
            loss = loss * F.take(weights, label)
        wrong = F.argmax(logits, axis=1) != label
        return loss, loss.sum(), wrong.sum()


class TrainingStep:
    """One update, data-parallel over devices and workers.

    Each device computes its part of the batch, the kvstore sums the gradients, and all devices
    make the same update. Gradients are averaged over the whole batch, BN's statistics over each
    device's part, as in the paper's MXNet.

    Parameters
    ----------
    net : Network or HybridBlock
        Returns logits; initialised on ``devices``.
    optimizer : Optimizer
    devices : list of Context
    kv_store : str
        How gradients are summed over the devices; unused with one device, and with several
        workers, whose parameter server does the sums.
    recipe : Recipe
        Its ``accumulate`` (parts that each device computes in sequence, with the result of as
        many times more devices, BN included), ``label_smoothing``, ``sync_bn`` (BN's statistics
        over all devices' parts), ``dtype``, ``ema_decay`` and ``class_weights`` are used. Default:
        none of them.
    group : WorkerGroup
        The workers.
    weights : numpy.ndarray, optional
        Of the losses by class, (classes,), for a recipe with ``class_weights``; see
        :func:`.small_sets.balanced`.
    """

    def __init__(
        self, net, optimizer, devices, kv_store="device", recipe=CIFAR, group=ALONE, weights=None
    ):
        self.net, self.devices, self.kv_store = net, devices, kv_store
        self.accumulate, self.group = recipe.accumulate, group
        self.loss_scale = LossScale() if recipe.dtype == "float16" else None
        if self.loss_scale:
            net.compute_in_float16()
        if recipe.sync_bn and len(devices) > 1:
            net.synchronise_bn(len(devices))
        self.host = HostBuffers(devices)
        # More and shorter arrays only pay on GPUs (two CPU contexts: 3% slower).
        sums = len(devices) if devices[0].device_type == "gpu" else 1
        self.flat = FlatParameters(net, add=self.accumulate > 1, devices=sums)
        if group.kv is not None:
            kv_store = group.kv
        elif len(devices) == 1:
            kv_store = None
        # The Trainer gets no running statistics: it would copy them from the first device to the
        # others.
        self.trainer = mx.gluon.Trainer(
            self.flat.arrays, optimizer, kvstore=kv_store, update_on_kvstore=False
        )
        # MXNet would do this after the first backward pass, and on CPUs overwrite the first
        # worker's weights with the sum of all workers' gradients.
        self.trainer._init_kvstore()
        self.trainer._init_params()
        mx.nd.waitall()
        self.average = WeightAverage(self.flat, recipe.ema_decay) if recipe.ema_decay else None
        weights = weights if recipe.class_weights else None
        self._losses = _LossAndErrors(recipe.label_smoothing, weights)
        self._losses.initialize(ctx=devices)
        self._losses.hybridize(static_alloc=True, static_shape=True)

    def place(self, data, label):
        """Start copying a batch to the devices.

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

    def update(self, parts, lr, total, meanwhile=None, share=1.0):
        """Make one update with a placed batch.

        Parameters
        ----------
        parts : list of (NDArray, NDArray)
        lr : float
        total : int
            Images of this step over all workers.
        meanwhile : callable, optional
            Called in float16 before waiting for the check that gradients are finite.
        share : float
            Mixup: the share of each image and of its loss. The rest is that of its partner, which
            has the same place counted from the end of the part. Default: no mixup.

        Returns
        -------
        list of (NDArray, NDArray)
            For each part the sum of the losses and the number of wrong answers.

        Raises
        ------
        NotFinite
            If float16 gradients are not finite at any loss scale.
        """
        results, heads = [], None
        scale = self.loss_scale.scale if self.loss_scale else 1.0
        if self.accumulate > 1:
            self.flat.forget_gradients()
        for i in range(self.accumulate):
            with mx.autograd.record():
                mine = [
                    mixup(self.net, self._losses, *p, share) for p in parts[i :: self.accumulate]
                ]
            losses = [loss for loss, _, _ in mine]
            if self.loss_scale:
                heads = [mx.nd.full(loss.shape, scale, ctx=loss.context) for loss in losses]
            mx.autograd.backward(losses, heads)
            results += [(loss, wrong) for _, loss, wrong in mine]
        self.trainer.set_learning_rate(lr)
        for bucket in self.flat.arrays:
            for array in bucket.list_data():
                array._fresh_grad = True  # MXNet marks the views, not the whole
        if self.loss_scale is None:
            self.trainer.step(total)
            return results
        self.trainer.allreduce_grads()
        flags = finite_flags([bucket.list_grad()[0] for bucket in self.flat.arrays])
        if meanwhile:
            meanwhile()
        if self.loss_scale.after(all(bool(flag.asscalar()) for flag in flags)):
            self.trainer.update(total * scale)
        return results

    def averaged(self):
        """Context in which the network has the averages of its weights, if there are any."""
        return self.average or contextlib.nullcontext()

    def check_replicas(self):
        """Refuse to continue if the devices of this process have different weights.

        MXNet does not report failed sums over GPUs, and checkpoints hold the first device only.
        """
        if len(self.devices) == 1:
            return
        for bucket in self.flat.arrays:
            if len({array.asnumpy().tobytes() for array in bucket.list_data()}) > 1:
                raise DMRError(
                    f"the devices have different weights: --kv-store {self.kv_store} did not give "
                    f"all the same sums; what was saved before is good: go on with --resume and "
                    f"another --kv-store"
                )


class HostBuffers:
    """Host arrays from which batches are copied to devices.

    For GPUs they are in pinned memory, which is copied asynchronously, and a few arrays per shape
    are reused: MXNet has no pool of pinned memory, and allocating some synchronises with all GPUs.
    MXNet does not overwrite an array before it has been copied.

    Parameters
    ----------
    devices : list of Context
    """

    #: Arrays per shape. Training runs two steps ahead.
    COUNT = 3

    def __init__(self, devices):
        # Pinning creates a CUDA context. Other GPUs than these may belong to somebody else.
        gpu = devices[0].device_type == "gpu"
        self._context = mx.cpu_pinned(devices[0].device_id) if gpu else mx.cpu()
        self._reuse, self._rings = gpu, {}

    def hold(self, data):
        """Return a batch as a float32 NDArray (n, ...) in host memory."""
        if not self._reuse:
            return mx.nd.array(data, ctx=self._context)
        shape = np.shape(data)
        if shape not in self._rings:
            ring = [mx.nd.empty(shape, ctx=self._context) for _ in range(self.COUNT)]
            self._rings[shape] = itertools.cycle(ring)
        array = next(self._rings[shape])
        array[:] = data
        return array


def split_over(devices, data, host=None):
    """Split a batch into near-equal parts, one per device, or per image if there are fewer.

    Parameters
    ----------
    devices : list of Context
    data : NDArray or array
        First axis: images.
    host : HostBuffers, optional
        The devices' buffers, if many batches of the same shapes follow.

    Returns
    -------
    list of NDArray
        One per device, in order; fewer if there are fewer images.
    """
    if not isinstance(data, mx.nd.NDArray):
        data = (host or HostBuffers(devices)).hold(data)
    bounds = np.linspace(0, len(data), min(len(data), len(devices)) + 1).astype(int)
    return [
        data[start:stop].as_in_context(device)
        for device, start, stop in zip(devices, bounds, bounds[1:])
    ]


def finite_flags(arrays):
    """Return one array of one element per dtype: 1 if all arrays are finite."""
    by_type = {}
    for array in arrays:
        by_type.setdefault(array.dtype, []).append(array)
    return [mx.nd.multi_all_finite(*same, num_arrays=len(same)) for same in by_type.values()]


class LossScale:
    """Dynamic loss scale for float16: halved when gradients overflow, doubled after a while.

    Steps whose gradients overflow are skipped.

    Attributes
    ----------
    scale : float
        Scale of the next step.
    steps : int
        Steps without an overflow since the scale last changed.
    skipped : int
        Skipped steps of this epoch.
    """

    FIRST, MOST, WAIT = 2.0**16, 2.0**24, 2000

    def __init__(self):
        self.scale = self.FIRST
        self.steps = self.skipped = 0

    def after(self, finite):
        """Adapt to a step's gradients; return whether they are usable.

        Raises
        ------
        NotFinite
            If they are not finite at scale 1: a smaller scale would not help.
        """
        if not finite and self.scale == 1.0:
            raise NotFinite("gradients in float16 are not finite, even with a loss scale of 1")
        self.skipped += not finite
        self.steps = self.steps + 1 if finite else 0
        if not finite:
            self.scale = max(1.0, self.scale / 2)
        elif self.steps >= self.WAIT:
            self.scale, self.steps = min(self.MOST, self.scale * 2), 0
        return finite


class WeightAverage:
    """Exponential moving average (EMA) of the trained weights, for evaluation and export.

    average <- d average + (1 - d) weight after every step, d = min(decay, (1 + t) / (10 + t)) in
    step t, so that the initial weights fade quickly. BN's running statistics are not averaged.

    Parameters
    ----------
    buckets : FlatParameters
        The network's.
    decay : float

    Attributes
    ----------
    averages : list of NDArray
        One per bucket; float32.
    """

    def __init__(self, buckets, decay):
        self.decay, self.flat = decay, buckets
        self.averages = [b.list_data()[0].astype(np.float32) for b in buckets.arrays]

    def update(self, step):
        """Include the weights after a step, counted from 1."""
        kept = min(self.decay, (1 + step) / (10 + step))
        for average, bucket in zip(self.averages, self.flat.arrays):
            weight = bucket.list_data()[0].astype(np.float32, copy=False)
            # This is plain SGD with the gradient -weight and a weight decay of 1.
            mx.nd.sgd_update(average, weight, out=average, lr=1 - kept, wd=1, rescale_grad=-1)

    def __enter__(self):
        """Swap the averages into the network."""
        self._weights = [bucket.list_data()[0].copy() for bucket in self.flat.arrays]
        self._put(self.averages)

    def __exit__(self, *_):
        self._put(self._weights)
        self._weights = None

    def _put(self, arrays):
        for bucket, array in zip(self.flat.arrays, arrays):
            bucket.set_data(array.astype(bucket.dtype, copy=False))
