"""Read the description of a bundle, and find a bundle in the stores. Needs no MXNet.

:mod:`dmr_gluon.deploy.bundle` describes a bundle's files, :mod:`dmr_gluon.deploy.store` a store.
"""

import contextlib
import os
import re

from ..errors import DMRError
from ..models.custom_spec import file_name
from ..standalone import predict_onnx
from ..standalone.predict_onnx import BUNDLE, Problem

#: The parameters of the variant ``plain``.
PARAMETERS = "model-0000.params"
#: The store that comes with the package.
STORE = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "pretrained")
#: A network's name in a store.
_NAME = "[a-z0-9_]+"


@contextlib.contextmanager
def problems_as_errors():
    """Raise the standalone program's Problem as a DMRError."""
    try:
        yield
    except Problem as problem:
        raise DMRError(str(problem)) from None


def read_bundle(folder, others=True, form=None):
    """Read ``bundle.json`` after verifying its hash.

    Parameters
    ----------
    folder : str
    others : bool
        Verify the hash of every other file too.
    form : str, optional
        Verify only what this variant needs, if the bundle has it.

    Returns
    -------
    dict

    Raises
    ------
    DMRError
        For a missing or damaged file, by its name.
    """
    with problems_as_errors():
        content = predict_onnx.read_bundle(folder, others, form)
    if any(os.path.dirname(name) for name in content["files"]):  # names to copy, or to remove
        raise DMRError(f"{folder} lists files outside of it; export the run again")
    return content


def are_labels(labels, classes):
    """Return whether labels name these classes in this order; a word may follow an ImageNet class.

    Parameters
    ----------
    labels, classes : sequence of str

    Returns
    -------
    bool
    """
    pairs = zip(labels, classes)
    return len(labels) == len(classes) and all(f"{a} ".startswith(f"{b} ") for a, b in pairs)


def named_bundle(named):
    """Find a bundle by its folder, or by the name of a pretrained network.

    Parameters
    ----------
    named : str
        A folder; or a network's name, if need be with the beginning of a bundle's hash:
        ``cifar_dmrnet14-1a2b3c4d``. A file or folder of that name comes first, then the store of
        DMR_MODEL_STORE, then the package's own.

    Returns
    -------
    str or None
        The bundle's folder; None if ``named`` is something else.

    Raises
    ------
    DMRError
        If several bundles begin with that hash, or DMR_MODEL_STORE names no store.
    """
    named = os.fspath(named)
    if os.path.exists(os.path.join(named, BUNDLE)):
        return named
    if os.path.lexists(named) or not re.fullmatch(_NAME + "(-[0-9a-f]+)?", named):
        return None
    name, _, digits = named.partition("-")
    return _select(name, digits, _stores())


def find(name, pretrained=True, root=None, classes=None):
    """Find a network's bundle in the stores and verify its hashes.

    Parameters
    ----------
    name : str
        Name of the network.
    pretrained : True or str
        True selects the bundle published last; a string, the bundle whose hash starts with it.
    root : str, optional
        Folder of the only store. Default: that of DMR_MODEL_STORE, then the package's own.
    classes : int, optional
        With ``pretrained=True``, prefer bundles with this number of classes.

    Returns
    -------
    str, dict
        The bundle's folder and the content of its ``bundle.json``.

    Raises
    ------
    DMRError
        If no bundle matches, or several begin with that hash, or a file is missing or damaged.
    """
    digits, stores = "" if pretrained is True else str(pretrained), _stores(root)
    folder = _select(name, digits, stores, classes)
    if folder is None:
        raise DMRError(
            f"{_inventory(name, digits, stores, 'no')}; make a store of your own with dmr publish "
            f"RUN STORE, and name it with root=STORE or DMR_MODEL_STORE"
        )
    return folder, read_bundle(folder)


def _stores(root=None):
    """Return the folders of the stores, in the order of the search."""
    own = root or os.environ.get("DMR_MODEL_STORE")
    named = [os.path.expanduser(os.fspath(own))] if own else []
    return named if root else [*named, STORE]


def _select(name, digits, stores, classes=None):
    """Return the folder of a network's bundle with such a hash, or None. It need not be intact.

    Earlier stores come before later ones, and newer bundles before older ones of the same store.
    With ``classes``, bundles with so many come before all others.
    """
    wanted = _beginning(name, digits)
    found = [
        folder
        for store in stores
        for folder in reversed(_folders(store))
        if os.path.basename(folder).startswith(wanted)
    ]
    distinct = {os.path.basename(folder) for folder in found}
    if digits and len(distinct) > 1:
        raise DMRError(_inventory(name, digits, stores, len(distinct)))
    first = found[0] if found else None
    if digits or classes is None:
        return first
    # Those after the first with so many classes need not be read, or intact.
    bundles = ((folder, read_bundle(folder, others=False)) for folder in found)
    fitting = (folder for folder, content in bundles if len(content["classes"]) == classes)
    return next(fitting, first)


def _inventory(name, digits, stores, count):
    held = []
    for store in stores:
        names = ", ".join(map(os.path.basename, _folders(store))) or "nothing"
        held.append(f"{'the package' if store == STORE else store} has {names}")
    return f"{count} bundles match {_beginning(name, digits)}...; {'; '.join(held)}"


def _beginning(name, digits):
    return f"{file_name(name)}-{digits.lower()[:8]}"


def _folders(store):
    """Return the folders of all bundles in the order of publication."""
    try:
        names = [one for one in os.listdir(store) if re.fullmatch(_NAME + "-[0-9a-f]{8}", one)]
    except OSError as error:
        raise DMRError(
            f"{store} is not a store ({error.strerror}); name a folder that dmr publish wrote"
        ) from error
    return sorted((os.path.join(store, one) for one in names), key=os.path.getmtime)
