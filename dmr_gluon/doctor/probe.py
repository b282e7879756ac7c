"""``python -m dmr_gluon.doctor.probe [NETWORK SIZE]``: imports MXNet and trains a step with it.

Prints what it knows as a line of JSON, after each thing that may crash or hang once more.
"""

import json
import sys
import time

from ..errors import DMRError, last_line


def main(arguments):
    found = {"error": None}
    started = time.monotonic()
    try:
        from ..runtime import mx
    except DMRError as error:
        _say({"error": str(error)})
        return
    found["seconds"] = round(time.monotonic() - started, 2)
    found["version"], found["path"] = mx.__version__, mx.__file__
    features = mx.runtime.Features()
    found["features"] = sorted(name for name in features if features.is_enabled(name))
    found["cpu"] = found["gpus"] = None
    _say(found)
    found["cpu"] = _step(mx, mx.cpu())
    _say(found)
    if arguments:
        found["network"] = _sizes(arguments[0], int(arguments[1]))
        _say(found)
    if features.is_enabled("CUDA"):
        found["gpus"] = {}
        for number in range(mx.context.num_gpus()):
            found["gpus"][number] = "no answer"
            _say(found)
            found["gpus"][number] = _step(mx, mx.gpu(number))
            _say(found)


def _say(found):
    print(json.dumps(found), flush=True)


def _step(mx, device):
    """A step of a small network: what is wrong with it, or ``ok``."""
    try:
        net = mx.gluon.nn.HybridSequential()
        # Pointwise operators in a row, which MXNet fuses on GPUs: it compiles a kernel for them.
        pointwise = mx.gluon.nn.HybridLambda(lambda F, x: F.sigmoid(F.relu(x * 2) + 1))
        net.add(mx.gluon.nn.Conv2D(8, 3), mx.gluon.nn.BatchNorm(), pointwise, mx.gluon.nn.Dense(2))
        net.initialize(ctx=device)
        net.hybridize(static_alloc=True, static_shape=True)
        trainer = mx.gluon.Trainer(net.collect_params(), "sgd", kvstore=None)
        with mx.autograd.record():
            loss = net(mx.nd.ones((2, 3, 8, 8), ctx=device)).sum()
        loss.backward()
        trainer.step(2)
        value = loss.asscalar()
        mx.nd.waitall()
    except mx.base.MXNetError as error:
        return last_line(error)
    return "ok" if value == value else "not a number came out"


def _sizes(name, size):
    from ..models.complexity import measure
    from ..models.names import network
    from ..models.network import Network

    found = measure(Network(network(name)).portable_symbol(), (3, size, size))
    return {"name": name, "parameters": found.parameters, "activations": found.activations}


if __name__ == "__main__":
    main(sys.argv[1:])
