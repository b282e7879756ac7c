"""Try MXNet for ``dmr doctor``: python -m dmr_gluon.probe."""

import json

from .errors import DMRError, last_line


def main():
    """Import MXNet and train a step on each device; print an updated answer after each."""
    try:
        from .runtime import mx
    except DMRError as error:
        print(json.dumps({"error": str(error)}))
        return
    devices = {}
    answer = {"version": mx.__version__, "path": mx.__file__, "devices": devices}
    print(json.dumps(answer), flush=True)
    gpus = mx.context.num_gpus() if mx.runtime.Features().is_enabled("CUDA") else 0
    for device in (mx.cpu(), *map(mx.gpu, range(gpus))):
        devices[str(device)] = _train_step(mx, device)
        print(json.dumps(answer), flush=True)


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
        mx.nd.waitall()
    except mx.base.MXNetError as error:
        return last_line(error)
    return "ok" if loss.asscalar() == loss.asscalar() else "the loss is NaN"


if __name__ == "__main__":
    main()
