"""Choose a recipe for a set of one's own, by what it contains."""

import math
from dataclasses import replace
from typing import Optional, Tuple

from .recipes import CIFAR, IMAGENET, OF_DATASET, Recipe, fine_tuning

#: Images of another size are photographs, to be scaled; these are trained on as they are.
_LARGEST_UNSCALED = 96
#: Of a training from random weights on a set of one's own: the updates that it should have, its
#: fewest and most epochs, and the number of photographs from which ImageNet's recipe suits it.
_UPDATES, _FEWEST_EPOCHS, _MOST_EPOCHS, _AS_IMAGENET = 60_000, 60, 300, 300_000


def recipe_for(
    dataset: str, image_size: Optional[Tuple[int, int]], images: int, fine_tune: bool
) -> Tuple[Recipe, str]:
    """Choose a recipe by what a prepared set contains.

    Parameters
    ----------
    dataset : str
        Its name.
    image_size : (int, int) or None
        Height and width, if all its images have the same.
    images : int
        Number of training images.
    fine_tune : bool
        Whether the network begins from trained weights.

    Returns
    -------
    Recipe
    str
        The reason, for the user.
    """
    height, width = image_size or (0, 0)
    unscaled = 0 < height == width <= _LARGEST_UNSCALED
    if dataset in OF_DATASET:
        recipe, why = OF_DATASET[dataset], f"for {dataset}"
    elif unscaled:
        recipe, why = CIFAR, f"for {images:,} images of {width}x{height}"
        recipe = replace(recipe, image_size=width, pad=width // 8)
    else:
        recipe, why = IMAGENET, f"for {images:,} photographs"
    if fine_tune:
        recipe, why = fine_tuning(recipe), f"{why} and trained weights"
    elif dataset not in OF_DATASET and (unscaled or images < _AS_IMAGENET):
        # The learning rate per image stays the same.
        batch, lr = CIFAR.batch_size, recipe.lr * CIFAR.batch_size / recipe.batch_size
        epochs = math.ceil(_UPDATES * batch / images)
        epochs = min(_MOST_EPOCHS, max(_FEWEST_EPOCHS, epochs))
        recipe = replace(recipe, batch_size=batch, lr=lr, epochs=epochs)
        why = f"{why}, for {epochs} epochs"
    return recipe, why
