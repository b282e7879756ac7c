"""What our network computes, to compare its twins with; in a process of its own.

    python our_side.py train NETWORK --batch 64 --weights FILE.npz

As :mod:`pytorch_worker`, by the functions that :mod:`dmr_gluon.bench.worker` times. ``double`` is
computed with common operators in double precision, the rest in the form that is fastest on CPUs.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(1, str(Path(__file__).resolve().parent.parent))

from inputs import batch_of, weights_from  # noqa: E402

from dmr_gluon.bench.answering import redirected, serve  # noqa: E402
from dmr_gluon.bench.worker import answering, training  # noqa: E402
from dmr_gluon.models.names import network  # noqa: E402
from dmr_gluon.models.network import Network  # noqa: E402
from dmr_gluon.models.serialization import prepare_to_run  # noqa: E402
from dmr_gluon.paper.recipes import CIFAR, IMAGENET  # noqa: E402
from dmr_gluon.runtime import mx  # noqa: E402


class Ours:
    """The network with given weights, trained or answering."""

    def __init__(self, options):
        self.spec = network(options.network)
        self.weights = weights_from(options.weights)
        self.net = Network(self.spec)
        self.net.initialize()
        self.load(self.net)
        prepare_to_run(self.net, [mx.cpu()])
        recipe = CIFAR if self.spec.stem == "cifar" else IMAGENET
        if options.kind == "train":
            self.run = training(self.net, [mx.cpu()], recipe)
        else:
            self.run = answering(self.net, mx.cpu())

    def load(self, net):
        for name, parameter in net.collect_params().items():
            parameter.set_data(mx.nd.array(self.weights[name], dtype=parameter.dtype))

    def logits(self, images):
        return {"logits": self.run(images, None)}

    def step(self, images, labels):
        self.load(self.net)
        return {"loss": self.run(images, labels) / len(labels)}

    def double(self, images, labels):
        net = Network(self.spec)
        net.cast("float64")
        net.initialize()
        self.load(net)
        net.hybridize()
        images, labels = (mx.nd.array(one, dtype="float64") for one in (images, labels))
        found = {"logits": net(images).asnumpy()}
        with mx.autograd.record():
            loss = mx.gluon.loss.SoftmaxCrossEntropyLoss()(net(images), labels).mean()
        loss.backward()
        found["loss"] = loss.asscalar()
        for name, parameter in net.collect_params().items():
            if parameter.grad_req != "null":
                found[name] = parameter.grad().asnumpy()
        return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("kind", choices=("train", "infer"))
    parser.add_argument("network")
    parser.add_argument("--batch", type=int, nargs="+", required=True)
    parser.add_argument("--weights", metavar="FILE.npz", required=True)
    answers = redirected()
    options = parser.parse_args()
    ours = Ours(options)
    others = {"logits": ours.logits, "step": ours.step, "double": ours.double}
    serve(answers, ours.run, lambda n: batch_of(options.network, n), options.batch, others)


if __name__ == "__main__":
    main()
