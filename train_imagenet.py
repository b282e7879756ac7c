#!/usr/bin/env python3
"""Train a network on ImageNet (section 4.5).

    python train_imagenet.py --model dmrnet44 --gpus 0-7

Data sets are prepared with `dmr prepare`; every field of the recipe is a flag, see --help.
"""

from dmr_gluon.cli.program import run
from dmr_gluon.cli.training_flags import parse_training_flags
from dmr_gluon.paper.recipes import IMAGENET


def main():
    recipe, options = parse_training_flags(__doc__, IMAGENET, dataset="imagenet")

    # Imported only now, so that wrong flags are refused at once.
    from dmr_gluon.training.fit import fit

    fit(recipe, options)


if __name__ == "__main__":
    run(main)
