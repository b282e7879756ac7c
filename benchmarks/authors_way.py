"""The way of the paper's authors on this MXNet, in a process of its own, to be timed.

    python authors_way.py train NETWORK --batch 64
    python authors_way.py infer NETWORK --batch 1 64

A network of ``symbols/`` in MXNet's plain operators, trained by ``mx.mod.Module`` as its ``fit``
does it, with MXNet's ``nag``; MXNet decides how many threads it takes (:data:`THREADS`). Answers
what :mod:`answering` says.
"""

import argparse
import os
import sys
from pathlib import Path

sys.path.insert(1, str(Path(__file__).resolve().parent.parent))

#: What MXNet takes by itself: half of the processors.
THREADS = max(1, len(os.sched_getaffinity(0)) // 2)
os.environ["OMP_NUM_THREADS"] = str(THREADS)

import numpy as np  # noqa: E402
from answering import batch_of, redirected, serve, weights_from  # noqa: E402

import symbols  # noqa: E402
from dmr_gluon.models.names import get_spec  # noqa: E402
from dmr_gluon.paper.recipes import CIFAR, IMAGENET  # noqa: E402
from dmr_gluon.runtime import mx  # noqa: E402


class Authors:
    """A Module, bound for each size of batch it meets; they share their weights."""

    def __init__(self, options):
        self.training = options.kind == "train"
        self.name = options.network
        self.symbol = symbols.get_symbol(options.network)
        if not self.training:
            self.symbol = self.symbol.get_internals()["head_fc_output"]
        self.weights = weights_from(options.weights) if options.weights else None
        self.modules = {}
        self.metric = mx.metric.CrossEntropy()

    def module(self, shape):
        if shape not in self.modules:
            labels = [("softmax_label", shape[:1])] if self.training else None
            module = mx.mod.Module(self.symbol, label_names=["softmax_label"] if labels else None)
            first = next(iter(self.modules.values()), None)
            module.bind([("data", shape)], labels, self.training, shared_module=first)
            if first is None:
                module.init_params(mx.init.Xavier())
                if self.weights:
                    self.load(module)
            if self.training:
                self.init_optimizer(module)
            self.modules[shape] = module
        return self.modules[shape]

    def init_optimizer(self, module):
        recipe = CIFAR if get_spec(self.name).stem == "cifar" else IMAGENET
        settings = {"momentum": recipe.momentum, "wd": recipe.weight_decay}
        settings["learning_rate"] = 1e-4  # as ours.py
        module.init_optimizer("local", "nag" if recipe.nesterov else "sgd", settings)

    def load(self, module):
        states = set(self.symbol.list_auxiliary_states())
        arrays = {name: mx.nd.array(array) for name, array in self.weights.items()}
        module.set_params(
            {name: array for name, array in arrays.items() if name not in states},
            {name: array for name, array in arrays.items() if name in states},
        )

    def train(self, images, labels):
        module = self.module(images.shape)
        labels = [mx.nd.array(labels)]
        module.forward_backward(mx.io.DataBatch([mx.nd.array(images)], labels))
        module.update()
        self.metric.reset()
        module.update_metric(self.metric, labels)
        return self.metric.get()[1]

    def infer(self, images, labels=None):
        module = self.module(images.shape)
        module.forward(mx.io.DataBatch([mx.nd.array(images)]), is_train=False)
        return module.get_outputs()[0].asnumpy()

    def logits(self, images):
        return {"logits": self.infer(images)}

    def step(self, images, labels):
        self.load(self.module(images.shape))
        return {"loss": self.train(images, labels)}


def main():
    answers = redirected()
    options = _parser().parse_args()
    authors = Authors(options)
    run = authors.train if authors.training else authors.infer
    others = {"logits": authors.logits, "step": authors.step}
    np.random.seed(0)
    mx.random.seed(0)

    def batch(count):
        return batch_of(options.network, count)

    serve(answers, run, batch, options.batch, others, mx.nd.waitall)


def _parser():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("kind", choices=("train", "infer"))
    parser.add_argument("network", help="a name, such as cifar_dmrnet56")
    parser.add_argument("--batch", type=int, nargs="+", required=True)
    parser.add_argument("--weights", metavar="FILE.npz", help="our parameters by name")
    return parser


if __name__ == "__main__":
    main()
