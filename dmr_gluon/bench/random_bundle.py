"""A bundle of a network with random weights, whose forms are measured."""

import itertools
import os

from ..data.preprocessing import MadeImages, Preparation
from ..deploy.bundle_writer import write_bundle
from ..models.complexity import image_size
from ..models.names import network
from ..models.network import Network
from ..paper.dataset_facts import PUBLISHED
from ..runtime import mx


def random_bundle(name, folder, options):
    """Write a network with random weights, its forms compared on made-up images.

    Parameters
    ----------
    name : str
        The network's.
    folder : str
        Where a folder of that name is made.
    options : ExportOptions

    Returns
    -------
    str
        The bundle's folder.
    """
    net = Network(network(name))
    net.initialize()
    net.hybridize()
    size = image_size(net.spec)
    facts = PUBLISHED["cifar10" if size == 32 else "imagenet"]
    preparation = Preparation(size, facts.mean, facts.std)
    images = MadeImages(preparation, options.check_images)
    _settle_statistics(net, images)
    classes = [str(label) for label in range(net.spec.classes)]
    path = os.path.join(folder, name)
    write_bundle(net, path, 0, classes, preparation, options, images)
    return path


def _settle_statistics(net, images):
    """Give BN's running statistics, which a backward pass changes, a few batches of images."""
    for data, _ in itertools.islice(images.batches(), 8):
        for begin in range(0, len(data), 4):  # a training pass takes much memory
            with mx.autograd.record():
                net(mx.nd.array(data[begin : begin + 4])).backward()
            mx.nd.waitall()
