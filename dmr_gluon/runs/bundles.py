"""Read the description of a bundle, and find a bundle in a store. Needs no MXNet.

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
    """Find a bundle by its folder, or by a network's name in the store of DMR_MODEL_STORE.

    Parameters
    ----------
    named : str
        A folder; or a network's name, if need be with the beginning of a bundle's hash:
        ``cifar_dmrnet14-1a2b3c4d``. A file or folder of that name takes precedence.

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
    store = os.environ.get("DMR_MODEL_STORE")
    if store and not os.path.lexists(named) and re.fullmatch(_NAME + "(-[0-9a-f]+)?", named):
        name, _, digits = named.partition("-")
        return _newest(name, digits, os.path.expanduser(store))
    return None


def find(name, pretrained=True, root=None, classes=None):
    """Find a network's bundle in a store and verify its hashes.

    Parameters
    ----------
    name : str
        Name of the network.
    pretrained : True or str
        True selects the bundle published last; a string, the bundle whose hash starts with it.
    root : str, optional
        Folder of the store. Default: the environment variable DMR_MODEL_STORE.
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
    root = os.path.expanduser(os.fspath(root or os.environ.get("DMR_MODEL_STORE") or ""))
    if not root:
        raise DMRError(
            f"no weights of {name} are published; make a store of your own with dmr publish RUN "
            f"STORE, and name it with root=STORE or DMR_MODEL_STORE"
        )
    digits = "" if pretrained is True else str(pretrained)
    folder = _newest(name, digits, root, classes)
    if folder is None:
        raise DMRError(_inventory(name, digits, root, "no"))
    return folder, read_bundle(folder)


def _newest(name, digits, root, classes=None):
    """Return the folder of a network's newest bundle with such a hash, or None.

    It need not be intact. With ``classes``, of those with so many classes, if there are any.
    """
    wanted = _beginning(name, digits)
    found = [one for one in _folders(root) if os.path.basename(one).startswith(wanted)]
    if digits and len(found) > 1:
        raise DMRError(_inventory(name, digits, root, len(found)))
    newest = found[-1] if found else None
    if not digits and classes is not None:
        # The newest with so many classes; older ones need not be read, or intact.
        bundles = ((one, read_bundle(one, others=False)) for one in reversed(found))
        fitting = (one for one, content in bundles if len(content["classes"]) == classes)
        return next(fitting, newest)
    return newest


def _inventory(name, digits, root, count):
    names = ", ".join(map(os.path.basename, _folders(root))) or "nothing"
    return f"{root} has {count} {_beginning(name, digits)}...; it has {names}"


def _beginning(name, digits):
    return f"{file_name(name)}-{digits.lower()[:8]}"


def _folders(root):
    """Return the folders of all bundles in the order of publication."""
    try:
        names = [one for one in os.listdir(root) if re.fullmatch(_NAME + "-[0-9a-f]{8}", one)]
    except OSError as error:
        raise DMRError(
            f"{root} is not a store ({error.strerror}); name a folder that dmr publish wrote"
        ) from error
    return sorted((os.path.join(root, one) for one in names), key=os.path.getmtime)
