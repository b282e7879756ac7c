"""Train a network, or let it answer, on random images in a process of its own, to be timed.

    python -m dmr_gluon.bench.worker train NETWORK --batch 64
    python -m dmr_gluon.bench.worker infer NETWORK --batch 64

Answers as :mod:`.answering` says; the first run is a step, or a batch answered. In training a run
is a whole step: from images in host memory to the loss in host memory, one loss to the next.
Otherwise it is one batch, from host memory to logits in host memory. ``memory`` has
``start_bytes`` too, what the process had before the network was made, and on a GPU ``gpu_bytes``,
what is taken there.
"""

from .answering import peak_bytes, redirected, serve


def training(net, devices, recipe):
    """A function from images and labels to the loss, after a whole step."""
    from ..training.optimizer import make_optimizer
    from ..training.step import TrainingStep

    step = TrainingStep(net, make_optimizer(recipe), devices)

    def run(images, labels):
        # So small a learning rate that random labels make nothing overflow.
        return sum(loss.asscalar() for loss, _ in step(images, labels, lr=1e-4))

    return run


def answering(net, device):
    """A function from images to logits; takes and ignores labels."""
    from ..runtime import mx

    return lambda images, labels: net(mx.nd.array(images, device)).asnumpy()


def make_run(kind, name, devices, change=None):
    """A network with random weights, ready to run.

    Parameters
    ----------
    kind : str
        ``train`` or ``infer``.
    name : str
    devices : list of Context
        The first one answers, all of them train.
    change : function, optional
        Called with the network before it runs.

    Returns
    -------
    function, function
        From images and labels to the loss or the logits; and from a number to so many random
        images and labels, always the same.
    """
    import numpy as np

    from ..models.complexity import image_size
    from ..models.names import network
    from ..models.network import Network
    from ..models.serialization import prepare_to_run
    from ..paper.recipes import CIFAR, IMAGENET
    from ..runtime import mx

    spec = network(name)
    size = image_size(spec)
    mx.random.seed(0)
    net = Network(spec)
    net.initialize(ctx=devices)
    prepare_to_run(net, devices)
    if change:
        change(net)
    if kind == "train":
        run = training(net, devices, CIFAR if spec.stem == "cifar" else IMAGENET)
    else:
        run = answering(net, devices[0])

    def batch(count):
        random = np.random.RandomState(0)
        images = random.standard_normal((count, 3, size, size)).astype(np.float32)
        return images, random.randint(0, spec.classes, count).astype(np.float32)

    return run, batch


def main(arguments=None):
    answers = redirected()
    options = _parser().parse_args(arguments)

    from ..devices import make_devices
    from ..runtime import mx

    (device,) = make_devices(options.gpu)
    start_bytes = peak_bytes()
    run, batch = make_run(options.kind, options.network, [device])

    def memory():
        found = {"start_bytes": start_bytes}
        if device.device_type == "gpu":
            free, total = mx.context.gpu_memory_info(device.device_id)
            found["gpu_bytes"] = total - free
        return found

    # The update after the last loss must not run on into another process's turn.
    serve(answers, run, batch, [options.batch], settle=mx.nd.waitall, memory=memory)


def _parser():
    from ..cli.program import Parser

    parser = Parser(prog="dmr_gluon.bench.worker", description=__doc__.splitlines()[0])
    parser.add_argument("kind", choices=("train", "infer"))
    parser.add_argument("network", help="a name, such as cifar_dmrnet56_k3")
    parser.add_argument("--batch", type=int, required=True)
    parser.add_argument("--gpu", metavar="N", help="without it, the CPU")
    return parser


if __name__ == "__main__":
    from ..cli.program import run as run_program

    run_program(main)
