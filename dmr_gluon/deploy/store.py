"""Keep trained networks in a store: a local folder with one bundle per subfolder.

A bundle's subfolder is ``NAME-HASH8``: the network's name and the first eight digits of the SHA256
of its ``bundle.json``, which holds the hash of every other file. Nothing here needs MXNet.
"""

import contextlib
import os
import re
import shutil
import tempfile
from typing import Any, Dict, Optional, Tuple, Union

from ..errors import DMRError
from ..models.spec import file_name
from ..standalone.predict_onnx import BUNDLE
from ..system.files import digests_of
from .bundle import read_bundle

PARAMETERS = "model-0000.params"


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
    wanted = f"{file_name(name)}-{'' if pretrained is True else str(pretrained).lower()[:8]}"
    there = _folders(root)
    found = [one for one in there if os.path.basename(one).startswith(wanted)]
    if pretrained is True and classes is not None and found:
        # The newest with so many classes; older ones need not be read, or intact.
        bundles = ((one, read_bundle(one, others=False)) for one in reversed(found))
        found = [next((one for one, b in bundles if len(b["classes"]) == classes), found[-1])]
    if not found or (pretrained is not True and len(found) > 1):
        names = ", ".join(map(os.path.basename, there)) or "nothing"
        raise DMRError(f"{root} has {len(found) or 'no'} {wanted}...; it has {names}")
    return found[-1], read_bundle(found[-1])


def publish(
    source: Any,
    store: Union[str, "os.PathLike[str]"],
    epoch: Optional[int] = None,
    **options: Any,
) -> Tuple[Dict[str, Any], bool]:
    """Add the network of a run, a bundle, or a network of your own to a store.

    Parameters
    ----------
    source : str or HybridBlock
        Folder of a run or a bundle, or a trained network.
    store : str
        Folder of the store; created if it does not exist.
    epoch : int, optional
        Epoch of the run, as for :func:`dmr_gluon.export`.
    **options
        ``classes`` and ``preprocessing`` of a network, as for :func:`dmr_gluon.export`.

    Returns
    -------
    dict, bool
        ``network``, ``classes``, ``dataset``, ``test_error`` (in percent), ``sha256`` (of
        ``bundle.json``) and ``folder`` (in the store); and whether the bundle is new.

    Raises
    ------
    DMRError
        If the source is neither or is damaged, or if the store cannot be written.
    """
    store = os.path.expanduser(os.fspath(store))
    try:
        os.makedirs(store, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=store, prefix=".new-") as temporary:
            new = os.path.join(temporary, "bundle")
            _write_bundle(new, source, epoch, options)
            entry = _describe(new)
            folder = os.path.join(store, entry["folder"])
            if os.path.exists(folder):
                with contextlib.suppress(DMRError):
                    read_bundle(folder)
                    return entry, False
                shutil.rmtree(folder)  # damaged
            os.replace(new, folder)
            return entry, True
    except OSError as error:
        raise DMRError(f"cannot write to {store}: {error.strerror or error}") from error


def _folders(root):
    """Return the folders of all bundles in the order of publication."""
    try:
        names = [one for one in os.listdir(root) if re.fullmatch("[a-z0-9_]+-[0-9a-f]{8}", one)]
    except OSError as error:
        raise DMRError(
            f"{root} is not a store ({error.strerror}); name a folder that dmr publish wrote"
        ) from error
    return sorted((os.path.join(root, one) for one in names), key=os.path.getmtime)


def _write_bundle(folder, source, epoch, options):
    """Copy a bundle, or export a run or a network."""
    is_path = isinstance(source, (str, os.PathLike))
    if is_path and os.path.exists(os.path.join(source, BUNDLE)):
        if epoch is not None:
            raise DMRError(f"{source} is a bundle of one epoch; leave out --epoch")
        files = read_bundle(source)["files"]  # verified before anything is copied
        os.makedirs(folder)
        for name in [*files, BUNDLE]:
            shutil.copyfile(os.path.join(source, name), os.path.join(folder, name))
        return
    from .export import export

    export(source, folder, epoch, **options)


def _describe(folder):
    """Read what identifies a bundle."""
    content = read_bundle(folder, others=False)
    name = content["network"]["name"]
    (sha256,) = digests_of(os.path.join(folder, BUNDLE), "sha256")
    return {
        "network": name,
        "classes": len(content["classes"]),
        "dataset": content["dataset"],
        "test_error": (content["training"] or {}).get("test_error"),
        "sha256": sha256,
        "folder": f"{file_name(name)}-{sha256[:8]}",
    }
