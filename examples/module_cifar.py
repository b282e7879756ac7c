"""Train one of the hand-written symbols with MXNet's Module, as the paper did.

    python examples/module_cifar.py --data-dir data/cifar10 --model cifar_dmrnet56

The losses are those of train_cifar.py with the same seed and initial parameters, up to rounding.
Batches are padded, cropped and mirrored; the learning rate drops after 1/2, 3/4 and 7/8 of the
run; Nesterov's momentum is that of MXNet in 2016; weight decay applies to all parameters.
"""

import argparse
import logging
import math
import sys

import dmr_gluon.training.optimizer  # noqa: F401, registers nag2016
from dmr_gluon import DMRError, recipes, symbols
from dmr_gluon.data import RecordIter
from dmr_gluon.runtime import mx

CIFAR = recipes.CIFAR


class Module(mx.mod.Module):
    """A Module with two corrections."""

    def forward_backward(self, data_batch):
        # Module always divides by the full batch size. An epoch's last batch may be smaller.
        self._optimizer.rescale_grad = 1 / len(data_batch.label[0])
        super().forward_backward(data_batch)

    def get_params(self):
        # On CPUs, BN writes its running statistics in the backward pass, and reading them does not
        # wait for it. At the end of an epoch, Module would write old ones back.
        mx.nd.waitall()
        return super().get_params()


def train(data_dir, model, epochs, batch_size, contexts, seed=1, **more):
    """Train; ``more`` goes to ``Module.fit``."""
    images = {"batch_size": batch_size, "devices": len(contexts)}
    train = RecordIter(data_dir, recipe=CIFAR, seed=seed, **images)
    test = RecordIter(data_dir, split="test", **images)
    count = train.prepared.split("train").count
    rest = count % batch_size
    steps = epochs * (count // batch_size + (rest >= len(contexts)))
    drops = [math.ceil(drop * steps) for drop in CIFAR.lr_drops]
    mx.random.seed(seed)
    module = Module(symbols.get_symbol(model, len(train.prepared.classes)), context=contexts)
    module.fit(
        train,
        eval_data=test,
        eval_metric=["acc", "ce"],
        num_epoch=epochs,
        kvstore="device",
        optimizer="nag2016",
        optimizer_params={
            "learning_rate": CIFAR.lr,
            "momentum": CIFAR.momentum,
            "wd": CIFAR.weight_decay,
            "lr_scheduler": mx.lr_scheduler.MultiFactorScheduler(drops, CIFAR.lr_factor, CIFAR.lr),
        },
        **more,
    )
    return module


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-dir", default="data/cifar10", help="a prepared data set")
    parser.add_argument("--model", default="cifar_dmrnet56", help="network (cifar_dmrnet56)")
    parser.add_argument("--epochs", type=int, default=CIFAR.epochs, help="(400)")
    parser.add_argument("--batch-size", type=int, default=CIFAR.batch_size, help="(64)")
    parser.add_argument("--gpus", help="such as 0,1; default: the CPU")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    gpus = options.gpus.split(",") if options.gpus else []
    contexts = [mx.gpu(int(gpu)) for gpu in gpus] or [mx.cpu()]
    module = train(options.data_dir, options.model, options.epochs, options.batch_size, contexts)
    module.save_checkpoint(options.model, options.epochs)


if __name__ == "__main__":
    try:
        main()
    except DMRError as error:
        sys.exit(f"error: {error}")
