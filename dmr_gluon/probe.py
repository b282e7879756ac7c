"""Try MXNet for ``dmr doctor``: python -m dmr_gluon.probe."""

import json
import time

from .errors import DMRError, last_line


def main():
    """Import MXNet and train a step on each device; print an updated answer after each."""
    found, started = {"error": None}, time.monotonic()

    def say(**more):
        found.update(more)
        print(json.dumps(found), flush=True)

    try:
        from .runtime import mx
    except DMRError as error:
        say(error=str(error))
        return
    features = mx.runtime.Features()
    enabled = sorted(name for name in features if features.is_enabled(name))
    seconds = round(time.monotonic() - started, 2)
    say(version=mx.__version__, path=mx.__file__, seconds=seconds, features=enabled, gpus={})
    say(cpu=_train_step(mx, mx.cpu()))
    for number in range(mx.context.num_gpus()) if "CUDA" in enabled else ():
        say(gpus={**found["gpus"], number: "no answer"})
        say(gpus={**found["gpus"], number: _train_step(mx, mx.gpu(number))})


def _train_step(mx, device):
    """Train a small network for one step; return ``ok`` or the error."""
    try:
        net = mx.gluon.nn.HybridSequential()
        # MXNet fuses these pointwise operators on GPUs and compiles a kernel for them.
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
    return "ok" if value == value else "the loss is NaN"


if __name__ == "__main__":
    main()
