"""Draw what a network sees: augmented training images and evaluation images."""

from dataclasses import replace

import numpy as np

from ..data.loader import evaluation_batches, training_batches
from ..data.preprocessing import Preparation
from ..paper.recipe_choice import recipe_for
from ..runs.learning_curve import letters

#: Images in each half.
ROWS, COLUMNS = 6, 6


def draw(prepared):
    """Draw the first images of a training of the set, and of its evaluation.

    Parameters
    ----------
    prepared : RecordDataset

    Returns
    -------
    Figure
    """
    from matplotlib.figure import Figure

    images = prepared.count("train")
    recipe, _ = recipe_for(prepared.name, prepared.image_size, images, fine_tune=False)
    recipe = replace(recipe, batch_size=ROWS * COLUMNS)
    halves = {"training, epoch 1, seed 1": training_batches(prepared, recipe, seed=1, epoch=1)}
    if prepared.count("test"):
        halves["evaluation"] = evaluation_batches(prepared, recipe)
    preparation = Preparation(recipe.image_size, prepared.mean, prepared.std)
    classes = prepared.words or prepared.classes
    names = [name if len(name) <= 14 else name[:13] + "…" for name in map(letters, classes)]
    figure = Figure(figsize=(6.5 * len(halves), 7.6), dpi=100, constrained_layout=True)
    figure.suptitle(f"{letters(prepared.name)}: {len(classes)} classes, recipe {recipe.name}")
    (areas,) = figure.subfigures(1, len(halves), squeeze=False)
    for half, (title, batches) in zip(areas, halves.items()):
        batch = next(iter(batches))
        batches.close()
        half.suptitle(title, fontsize=11)
        half.suppressComposite = True  # each image by itself, also in a vector format
        images = np.clip(preparation.pixels(batch.data), 0, 255).astype(np.uint8)
        _draw_grid(half.subplots(), images, [names[label] for label in batch.label])
    return figure


def _draw_grid(axes, images, names):
    """Draw on one pair of axes: a pair for each image is several times slower in Matplotlib."""
    for number, (image, name) in enumerate(zip(images, names)):
        row, column = divmod(number, COLUMNS)
        left, top = 1.1 * column, 1.25 * row
        axes.imshow(image, interpolation="nearest", extent=(left, left + 1, top + 1, top))
        axes.text(left + 0.5, top - 0.03, name, fontsize=8, ha="center", va="bottom")
    axes.set(xlim=(0, 1.1 * COLUMNS - 0.1), ylim=(1.25 * ROWS - 0.25, -0.25))
    axes.axis("off")
