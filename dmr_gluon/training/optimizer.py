"""Nesterov momentum as in the MXNet of 2016, and learning-rate schedules."""

import math

import numpy as np

from ..runtime import mx


@mx.optimizer.register
class NAG2016(mx.optimizer.Optimizer):
    r"""SGD with Nesterov momentum, the learning rate outside the momentum.

    .. math::

        G &= g + wd \cdot w \\
        m &\leftarrow \mu m + G \\
        w &\leftarrow w - lr (G + \mu m)

    This is MXNet's ``nag`` up to version 1.4, with which the paper was made. Since 1.5
    MXNet keeps the learning rate inside the momentum (m <- mu m - lr G). The two agree
    while the learning rate is constant; after a drop by ten the newer one continues
    with ten times the momentum.

    Weight decay applies to every parameter (authors' code).

    The state of a parameter is its velocity v = -lr m, which lets MXNet's own kernel do
    the arithmetic; v is scaled when the learning rate changes. A learning rate of
    exactly 0 forgets the momentum.

    Parameters
    ----------
    learning_rate : float
        lr.
    momentum : float
        mu, above 0.
    **kwargs
        ``wd`` and the other arguments of ``mxnet.optimizer.Optimizer``. With
        ``multi_precision``, float16 weights have float32 master copies; their state is
        (velocity, master copy), as in MXNet's SGD.
    """

    def __init__(self, learning_rate=0.1, momentum=0.9, **kwargs):
        super().__init__(learning_rate=learning_rate, **kwargs)
        self.momentum = momentum
        #: The learning rate of each velocity, by (index, context).
        self.velocity_lr = {}
        self._scratch = {}

    def create_state(self, index, weight):
        return mx.nd.zeros(weight.shape, weight.context, dtype=weight.dtype)

    def update(self, index, weight, grad, state):
        self._update_count(index)
        lr, wd = self._get_lr(index), self._get_wd(index)
        key = (index, weight.context)
        previous_lr = self.velocity_lr.get(key, lr)
        if previous_lr != lr:
            state *= lr / previous_lr if previous_lr else 0.0
        self.velocity_lr[key] = lr
        if key not in self._scratch:
            self._scratch[key] = mx.nd.empty(weight.shape, weight.context, dtype=weight.dtype)
        # Not out=weight: the kernel writes the weight before it updates the velocity, whose
        # weight decay would then come from the new weight instead of the old one.
        mx.nd.nag_mom_update(
            weight,
            grad,
            state,
            out=self._scratch[key],
            lr=lr,
            wd=wd,
            momentum=self.momentum,
            rescale_grad=self.rescale_grad,
            clip_gradient=self.clip_gradient or -1,
        )
        self._scratch[key].copyto(weight)

    def create_state_multi_precision(self, index, weight):
        if not (self.multi_precision and weight.dtype == np.float16):
            return self.create_state(index, weight)
        master = weight.astype(np.float32)
        return self.create_state(index, master), master

    def update_multi_precision(self, index, weight, grad, state):
        if not isinstance(state, tuple):
            self.update(index, weight, grad, state)
            return
        velocity, master = state
        self.update(index, master, grad.astype(np.float32), velocity)
        master.astype(np.float16).copyto(weight)

    def __getstate__(self):
        return {**super().__getstate__(), "_scratch": {}}


def learning_rate(recipe, step, total_steps, steps_per_epoch=0):
    """Return the learning rate of one step.

    Parameters
    ----------
    recipe : Recipe
        Its ``lr``, ``schedule``, ``lr_factor``, ``lr_drops`` (fractions of the run) and
        ``warmup_epochs`` are used.
    step : int
        0 for the first update.
    total_steps : int
        Updates in the whole run.
    steps_per_epoch : int
        For ``warmup_epochs``.
    """
    warmup = round(recipe.warmup_epochs * steps_per_epoch)
    if step < warmup:
        lr = recipe.lr * (step + 1) / warmup
    elif recipe.schedule == "cosine":
        done = (step - warmup) / (total_steps - warmup)
        lr = recipe.lr * (1 + math.cos(math.pi * done)) / 2
    else:
        # Round up: a drop at 1/2 of 7 steps comes after 4 steps, not 3.
        drops = sum(step >= math.ceil(at * total_steps - 1e-9) for at in recipe.lr_drops)
        lr = recipe.lr * recipe.lr_factor**drops
    # Round to 12 digits, so that 0.1 dropped three times is logged as 0.0001.
    return float(f"{lr:.12g}")


def make_optimizer(recipe):
    """Create the optimiser of a recipe.

    Parameters
    ----------
    recipe : Recipe
        Its ``lr``, ``momentum``, ``nesterov``, ``weight_decay`` and ``dtype`` are used.

    Returns
    -------
    Optimizer
        :class:`NAG2016`, or MXNet's ``sgd`` without Nesterov.
    """
    name = "nag2016" if recipe.nesterov and recipe.momentum > 0 else "sgd"
    return mx.optimizer.create(
        name,
        learning_rate=recipe.lr,
        momentum=recipe.momentum,
        wd=recipe.weight_decay,
        multi_precision=recipe.dtype == "float16",
    )
