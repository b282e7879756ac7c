"""The files of the official data sets, as they are published."""

import os
from dataclasses import dataclass
from typing import Optional

from ..system.files import digests_of


@dataclass(frozen=True)
class Archive:
    """One file of an official data set, as it is published.

    Parameters
    ----------
    file : str
    url : str, optional
        None where it is given to registered users only.
    md5 : str
    bytes : int, optional
    origin : str
        Where the MD5 is published.
    alternative : bool
        The same images in another form: read where it is named, never downloaded.
    """

    file: str
    url: Optional[str]
    md5: str
    bytes: Optional[int]
    origin: str
    alternative: bool = False


def _cifar(file, md5, size, alternative=False):
    page = "https://www.cs.toronto.edu/~kriz/"
    return Archive(file, page + file, md5, size, page + "cifar.html", alternative)


def _svhn(file, md5, size):
    # The page has no hashes; these are what torchvision's loader demands.
    url = "http://ufldl.stanford.edu/housenumbers/" + file
    return Archive(file, url, md5, size, "torchvision/datasets/svhn.py")


def _ilsvrc(file, md5, size):
    return Archive(file, None, md5, size, "torchvision/datasets/imagenet.py")


#: Every file of the official data sets.
ARCHIVES = {
    "cifar10": (
        _cifar("cifar-10-python.tar.gz", "c58f30108f718f92721af3b95e74349a", 170_498_071),
        _cifar("cifar-10-binary.tar.gz", "c32a1d4ab5d03f1284b67883e8d87530", 170_052_171, True),
    ),
    "cifar100": (
        _cifar("cifar-100-python.tar.gz", "eb9058c3a382ffc7106e4002c42a8d85", 169_001_437),
        _cifar("cifar-100-binary.tar.gz", "03b5dce01913d631647c71ecec9e9cb8", 168_513_733, True),
    ),
    "svhn": (
        _svhn("train_32x32.mat", "e26dedcc434d2e4c54c9b2d4a06d8373", 182_040_794),
        _svhn("extra_32x32.mat", "a93ce644f1a588dc4d68dda5feec44a7", 1_329_278_602),
        _svhn("test_32x32.mat", "eb5a983be6a315427106f1b164d9cef3", 64_275_384),
    ),
    "imagenet": (
        _ilsvrc("ILSVRC2012_img_train.tar", "1d675b47d978889d74fa0da5fadfb00e", 147_897_477_120),
        _ilsvrc("ILSVRC2012_img_val.tar", "29b22e2961454d5413ddabcf34fc5622", 6_744_924_160),
        _ilsvrc("ILSVRC2012_devkit_t12.tar.gz", "fa75699e90414af021442c21a62c3abf", None),
    ),
}

_PUBLISHED_MD5 = {entry.file: entry.md5 for entries in ARCHIVES.values() for entry in entries}


def describe_archive(path, unpacked=False):
    """What a manifest says of a file that a set was made from.

    Parameters
    ----------
    path : str
    unpacked : bool
        It came out of an archive, so that nothing is published about it.

    Returns
    -------
    dict
        ``bytes``, ``md5``, ``sha256`` and whether it is the ``published`` file by its MD5; None
        for one that was unpacked.
    """
    found = digests_of(path, ("md5", "sha256"))
    digests = {name: digest.hexdigest() for name, digest in found.items()}
    published = _PUBLISHED_MD5.get(os.path.basename(path)) == digests["md5"]
    return {
        "bytes": os.path.getsize(path),
        **digests,
        "published": None if unpacked else published,
    }
