#!/usr/bin/env python3
"""Train a network on SVHN: 40 epochs, no augmentation (section 4.2).

    python train_svhn.py --model cifar_dmrnet56 --gpus 0,1

Data sets are prepared with `dmr prepare`; every field of the recipe is a flag, see --help.
"""

from dmr_gluon.cli.program import run
from dmr_gluon.cli.training_flags import train
from dmr_gluon.paper.recipes import SVHN


def main():
    train(__doc__, SVHN, dataset="svhn")


if __name__ == "__main__":
    run(main)
