"""Sizes of the paper's data sets, and the statistics that its authors normalise them with."""

from dataclasses import dataclass
from typing import Tuple


@dataclass(frozen=True)
class DatasetFacts:
    """Published facts of a data set; mean and standard deviation are R, G, B in 0-255."""

    classes: int
    train_images: int
    test_images: int
    mean: Tuple[float, float, float]
    std: Tuple[float, float, float]


#: Counts: sections 4.1 and 4.5. Means and standard deviations: authors' code. SVHN's count is
#: without the validation images; ImageNet's statistics are of training images scaled to a
#: shorter side of 480.
PUBLISHED = {
    "cifar10": DatasetFacts(
        10, 50_000, 10_000, (125.307, 122.950, 113.865), (62.993, 62.089, 66.705)
    ),
    "cifar100": DatasetFacts(
        100, 50_000, 10_000, (129.304, 124.070, 112.434), (68.170, 65.392, 70.418)
    ),
    "svhn": DatasetFacts(
        10, 598_388, 26_032, (111.609, 113.161, 120.565), (50.498, 51.259, 50.244)
    ),
    "imagenet": DatasetFacts(
        1000, 1_281_167, 50_000, (123.370, 112.757, 99.406), (68.998, 66.093, 68.292)
    ),
}

_CIFAR10 = "airplane automobile bird cat deer dog frog horse ship truck"
_CIFAR100 = """
apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly
camel can castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile
cup dinosaur dolphin elephant flatfish forest fox girl hamster house kangaroo keyboard lamp
lawn_mower leopard lion lizard lobster man maple_tree motorcycle mountain mouse mushroom
oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree plain plate poppy porcupine
possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk skyscraper snail snake
spider squirrel streetcar sunflower sweet_pepper table tank telephone television tiger tractor
train trout tulip turtle wardrobe whale willow_tree wolf woman worm
"""
#: Official class names of CIFAR, in the order of their numbers.
CIFAR_CLASSES = {"cifar10": tuple(_CIFAR10.split()), "cifar100": tuple(_CIFAR100.split())}
