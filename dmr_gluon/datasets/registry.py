"""All data sets that ``dmr prepare`` makes. A new one is a module and a line here."""

from .cifar import CIFAR10, CIFAR100
from .digits import DIGITS
from .folder import FOLDER
from .imagenet import IMAGENET
from .svhn import SVHN

DATASETS = {entry.name: entry for entry in (DIGITS, FOLDER, CIFAR10, CIFAR100, SVHN, IMAGENET)}
