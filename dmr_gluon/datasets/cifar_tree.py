"""CIFAR-10 and CIFAR-100 as trees of images, from which their splits and labels are read."""

import glob
import os
import re
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from ..data import recordio as form
from ..errors import DMRError
from ..paper.dataset_facts import CIFAR_CLASSES
from ..standalone.predict_onnx import EXTENSIONS
from ..system.machine import usable_cores

#: Folders of the test images in trees that can be downloaded.
_TEST_FOLDERS = ("test", "val", "valid", "validation")


def tree_of(source):
    """Return the folders of the splits if a source is a tree of images and has no archive.

    A tree has ``train/`` and ``test/`` (or ``val/``, ``valid/``). Each contains a folder for each
    class by its official name, directly or inside folders of superclasses, or files called
    ``NUMBER_CLASS.png``.

    Returns
    -------
    dict of str to str, or None
    """
    train = os.path.join(source, "train")
    tests = [os.path.join(source, name) for name in _TEST_FOLDERS]
    test = next(filter(os.path.isdir, tests), None)
    archive = any(glob.glob(os.path.join(glob.escape(source), "cifar-*.tar.gz")))
    return {"train": train, "test": test} if os.path.isdir(train) and test and not archive else None


def tree_images(folder):
    """Return the paths of all images in a folder, at any depth, in a fixed order."""

    def refuse(error):
        raise error

    found = []
    for path, folders, files in os.walk(folder, onerror=refuse):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        names = (name for name in sorted(files) if not name.startswith("."))
        found += [os.path.join(path, n) for n in names if n.lower().endswith(EXTENSIONS)]
    return found


def read_tree(name, source, tree):
    """Read all images of a tree.

    Returns
    -------
    dict of str to (list of numpy.ndarray, numpy.ndarray)
        Images and labels by split.
    dict of str to list of str
        Names of the images by split.
    int
        How many are JPEGs.
    """
    classes = CIFAR_CLASSES[name]
    labels_of = {class_name: label for label, class_name in enumerate(classes)}
    splits, names, jpegs = {}, {}, 0
    for split, folder in tree.items():
        paths = tree_images(folder)
        names[split] = [os.path.relpath(path, source) for path in paths]
        labels = [_label_in_tree(path, folder, labels_of, name) for path in paths]
        with ThreadPoolExecutor(usable_cores()) as pool:
            read = list(pool.map(_read_image, paths))
        jpegs += sum(is_jpeg for _, is_jpeg in read)
        splits[split] = [image for image, _ in read], np.array(labels, dtype=np.int64)
    return splits, names, jpegs


def _label_in_tree(path, split_folder, labels, dataset):
    folder, file = os.path.split(path)
    texts = [os.path.splitext(file)[0].partition("_")[2]]
    if folder != split_folder:  # which may be called train, as a class of CIFAR-100 is
        texts.insert(0, os.path.basename(folder))
    for text in texts:
        label = labels.get(re.sub("[ -]", "_", text.lower()))
        if label is not None:
            return label
    raise DMRError(
        f"{path!r} is of no class of {dataset}: neither its folder nor its name has one; "
        f"remove it, or rename the folder"
    )


def _read_image(path):
    with open(path, "rb") as file:
        content = file.read()
    image = form.decode(content)
    if image is None:
        raise DMRError(f"{path!r} is not an image that can be read; remove or replace it")
    return image, form.is_jpeg(content)
