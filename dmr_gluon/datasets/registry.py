"""All data sets that ``dmr prepare`` makes. A new one is a module and a line here."""

import os

from ..data.datasets import quoted
from .cifar import CIFAR10, CIFAR100
from .digits import DIGITS
from .folder import FOLDER
from .imagenet import IMAGENET
from .recordio import RECORDIO
from .svhn import SVHN

_ALL = DIGITS, FOLDER, RECORDIO, CIFAR10, CIFAR100, SVHN, IMAGENET
DATASETS = {entry.name: entry for entry in _ALL}


def preparing_command(directory, name=None):
    """Return the command that prepares a missing set.

    Parameters
    ----------
    directory : str
    name : str, optional
        The set's name; default: the folder's.

    Returns
    -------
    str
    """
    what = name or os.path.basename(os.path.abspath(directory))
    if what not in DATASETS or what in (FOLDER.name, RECORDIO.name):
        what = f"folder SRC --name {quoted(name)}" if name else "folder SRC"
    return f"dmr prepare {what} --out {quoted(directory)}"
