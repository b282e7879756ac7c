"""Keep trained networks in a store: a local folder with one bundle per subfolder.

A bundle's subfolder is ``NAME-HASH8``: the network's name and the first eight digits of the SHA256
of its ``bundle.json``, which holds the hash of every other file. Nothing here needs MXNet.
"""

import contextlib
import os
import shutil
import tempfile
from typing import Any, Dict, Optional, Tuple, Union

from ..errors import DMRError
from ..models.custom_spec import file_name
from ..runs.bundles import read_bundle
from ..standalone.predict_onnx import BUNDLE
from ..system.files import digests_of


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
