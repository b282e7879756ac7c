"""What the programs that are compared with ours are given, and are asked.

The protocol is that of :mod:`dmr_gluon.bench.answering`, with two more commands, whose arrays go
through .npz files:

``{"do": "logits"}``: from ``images`` (n, 3, height, width) to ``logits``, in the form that is timed
``{"do": "step"}``: the weights as they were loaded, then one training step on ``images`` and
    ``labels``; the answer has its ``loss``
"""

import numpy as np

from dmr_gluon.models.names import network


def batch_of(name, count):
    """Random images and labels, as :mod:`dmr_gluon.bench.worker` has them."""
    spec = network(name)
    size = 32 if spec.stem == "cifar" else 224
    random = np.random.RandomState(0)
    images = random.standard_normal((count, 3, size, size)).astype(np.float32)
    return images, random.randint(0, spec.classes, count)


def weights_from(path):
    """Arrays by our parameters' names."""
    with np.load(path) as arrays:
        return {name: arrays[name] for name in arrays.files}
