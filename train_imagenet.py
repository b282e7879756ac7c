#!/usr/bin/env python3
"""Train a network on ImageNet (section 4.5).

    python train_imagenet.py --model dmrnet44 --gpus 0-7

Data sets are prepared with `dmr prepare`; every field of the recipe is a flag, see --help.
"""

from dmr_gluon.cli.program import run
from dmr_gluon.cli.training_flags import train
from dmr_gluon.paper.recipes import IMAGENET


def main():
    train(__doc__, IMAGENET, dataset="imagenet")


if __name__ == "__main__":
    run(main)
