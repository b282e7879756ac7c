#!/usr/bin/env python3
"""Train a network on CIFAR-10, CIFAR-100, or any prepared set of 32x32 images (section 4.2).

    python train_cifar.py --model cifar_dmrnet56 --gpus 0,1

Data sets are prepared with `dmr prepare`; every field of the recipe is a flag, see --help.
"""

from dmr_gluon.cli.program import run
from dmr_gluon.cli.training_flags import train
from dmr_gluon.paper.recipes import CIFAR, DIGITS


def main():
    train(__doc__, CIFAR, dataset="cifar10", others={"digits": DIGITS})


if __name__ == "__main__":
    run(main)
