"""Train one of our networks, or run inference, on random images in a process to be timed.

    python benchmarks/ours.py train NETWORK --batch 64
    python benchmarks/ours.py infer NETWORK --batch 64 1

Answers the commands of :mod:`answering`. A training run is a whole step, from images in host
memory to the loss in host memory; an inference run is one batch, from host memory to logits in
host memory.
"""

import os
import sys
import time

from answering import BEGAN, batch_of, redirected, serve, weights_from

from dmr_gluon.cli.program import Parser, run
from dmr_gluon.system.machine import share_cores
from dmr_gluon.system.worker_process import Process

#: So small that random labels make nothing overflow.
LEARNING_RATE = 1e-4


def make_run(kind, name, devices, change=None, weights=None):
    """Build a network that is ready to run, and return it with a function that runs it.

    Parameters
    ----------
    kind : str
        ``train`` or ``infer``.
    name : str
    devices : list of Context
        They divide each batch.
    change : function, optional
        Called with the network before it runs.
    weights : dict of array, optional
        Weights by name. Default: random.

    Returns
    -------
    Network, function
        The function takes images and labels, and returns the loss or the logits.
    """
    from dmr_gluon.models.names import get_spec
    from dmr_gluon.models.network import Network
    from dmr_gluon.models.serialization import prepare_to_run
    from dmr_gluon.paper.recipes import CIFAR, IMAGENET
    from dmr_gluon.runtime import mx
    from dmr_gluon.training.optimizer import make_optimizer
    from dmr_gluon.training.step import TrainingStep

    mx.random.seed(0)
    net = Network(get_spec(name))
    net.initialize(ctx=devices)
    if weights:
        load(net, weights)
    prepare_to_run(net, devices)
    if change:
        change(net)
    if kind == "infer":
        return net, lambda images, labels=None: infer(net, devices, images)
    recipe = CIFAR if net.spec.stem == "cifar" else IMAGENET
    step = TrainingStep(net, make_optimizer(recipe), devices)
    return net, lambda images, labels: sum(
        loss.asscalar() for loss, _ in step(images, labels, lr=LEARNING_RATE)
    )


def infer(net, devices, images):
    """Return the logits of a batch that the devices divide."""
    import numpy as np

    from dmr_gluon.training.step import split_over

    parts = [net(part) for part in split_over(devices, images)]
    return np.concatenate([logits.asnumpy() for logits in parts])


def load(net, weights):
    """Set all parameters of a network."""
    from dmr_gluon.runtime import mx

    for name, parameter in net.collect_params().items():
        parameter.set_data(mx.nd.array(weights[name], dtype=parameter.dtype))


def double(name, weights, images, labels):
    """Compute logits, loss and gradients with common operators in double precision."""
    from dmr_gluon.models.names import get_spec
    from dmr_gluon.models.network import Network
    from dmr_gluon.runtime import mx

    net = Network(get_spec(name))
    net.cast("float64")
    net.initialize()
    load(net, weights)
    net.hybridize()
    images, labels = (mx.nd.array(one, dtype="float64") for one in (images, labels))
    found = {"logits": net(images).asnumpy()}
    with mx.autograd.record():
        loss = mx.gluon.loss.SoftmaxCrossEntropyLoss()(net(images), labels).mean()
    loss.backward()
    found["loss"] = loss.asscalar()
    for key, parameter in net.collect_params().items():
        if parameter.grad_req != "null":
            found[key] = parameter.grad().asnumpy()
    return found


def measured_forms(forms, options, start):
    """Start a process per form, time them in turn, and return Speed and peak MiB by form.

    Parameters
    ----------
    forms : sequence of str
    options : argparse.Namespace
        ``batch``, ``rounds`` and ``seconds``.
    start : function
        From a form to a :class:`.Process`.
    """
    from dmr_gluon.system.timing import measure

    running = {}
    for form in forms:  # one after the other: two that start at a time slow each other down
        running[form] = start(form)
        running[form].wait()
    speeds = measure(running, (options.batch,), options.rounds, options.seconds)
    found = {}
    for form, process in running.items():
        found[form] = speeds[form], process.ask({"do": "memory"})["peak_bytes"] / 2**20
        process.close()
    return found


def start(kind, name, sizes, gpu=None, environment=None, contexts=1):
    """Start this program; return a Process."""
    command = [sys.executable, os.path.abspath(__file__), kind, name, "--batch", *map(str, sizes)]
    command += ["--gpu", gpu] if gpu is not None else ["--cpus", str(contexts)]
    return Process(f"{name} ({kind})", command, {BEGAN: repr(time.time()), **(environment or {})})


def main():
    parser = Parser(description=__doc__.splitlines()[0])
    parser.add_argument("kind", choices=("train", "infer"))
    parser.add_argument("network", help="a name, such as cifar_dmrnet56_k3")
    parser.add_argument("--batch", type=int, nargs="+", required=True)
    parser.add_argument("--gpu", metavar="N", help="default: the CPU")
    parser.add_argument("--cpus", type=int, default=1, metavar="N", help="contexts to train on (1)")
    parser.add_argument("--weights", metavar="FILE.npz", help="parameters by name")
    answers = redirected()
    options = parser.parse_args()

    share_cores(options.cpus)

    from dmr_gluon.devices import make_devices
    from dmr_gluon.runtime import mx

    weights = weights_from(options.weights) if options.weights else None
    devices = make_devices(options.gpu, options.cpus)
    net, run_once = make_run(options.kind, options.network, devices, weights=weights)

    def step(images, labels):
        load(net, weights)
        return {"loss": run_once(images, labels) / len(labels)}

    others = {
        "logits": lambda images: {"logits": run_once(images)},
        "step": step,
        "double": lambda images, labels: double(options.network, weights, images, labels),
    }

    def batch(count):
        return batch_of(options.network, count)

    serve(answers, run_once, batch, options.batch, others, mx.nd.waitall)


if __name__ == "__main__":
    run(main)
