"""A store of trained networks: a folder that any web server can serve.

``index.json`` has ``format`` and ``entries``, the oldest first. An entry has

``network``
    name, as :func:`dmr_gluon.get_model` reads it
``sha256``
    of its ``bundle.json``, which has the hash of every other file
``folder``
    ``NAME-HASH8``: the network's name and the first eight digits of that hash
``classes``, ``dataset``, ``test_error``
    how many, on what, and in percent; null where it is not known
``files``
    by name: ``bytes`` and ``sha256``
``published``
    when, UTC

What stands in a store may be anybody's: names are looked at before they become paths, and files
are used only when they have their hashes. Nothing here needs MXNet.
"""

import contextlib
import json
import os
import re
import shutil
import time
import urllib.parse
import urllib.request
from typing import Any, Dict, Optional, Tuple, Union

from ..datasets.download import fetch
from ..errors import DMRError
from ..runs.directory import RunDirectory
from ..standalone.predict_onnx import BUNDLE
from ..system.files import digests_of, write_atomically
from ..system.machine import lock
from .bundle import are_files, read_bundle

STORE_FORMAT = 1
INDEX = "index.json"
PARAMETERS = "model-0000.params"

_NETWORK = re.compile(r"[a-z0-9_]{1,100}")
_HASH = re.compile(r"[0-9a-f]{64}")
_LARGEST_INDEX = 16 << 20
#: Seconds to wait for another process that publishes or downloads.
_PATIENCE = 600
_INSTEAD = "root= or DMR_MODEL_STORE names another store"


def find(name, pretrained=True, root=None, classes=None):
    """A bundle of a network from a store, checked.

    Parameters
    ----------
    name : str
        The network's.
    pretrained : True or str
        True: the newest. Otherwise the beginning of a bundle's hash.
    root : str, optional
        A folder, or the URL of one (http, https or file). Default: DMR_MODEL_STORE.
    classes : int, optional
        Among several, only those with so many.

    Returns
    -------
    str, dict
        Its folder, in the store or in the cache (DMR_CACHE, default ``~/.cache/dmr_gluon``),
        and what ``bundle.json`` says.

    Raises
    ------
    DMRError
        Where there is none, or a file is damaged or cannot be had.
    """
    root = os.fspath(root or os.environ.get("DMR_MODEL_STORE") or "")
    if not root:
        raise DMRError(
            f"no weights of {name} are published; make a store of your own with dmr publish RUN "
            f"STORE, and name it with root=STORE or DMR_MODEL_STORE"
        )
    place = _local(root)
    try:
        entries = _read_index(place) if place else _download_index(root)
    except OSError as error:
        raise DMRError(f"the index of {root} cannot be kept: {error}; see TMPDIR") from error
    entry = _choose(entries, name, pretrained, root, classes)
    if place:
        folder = os.path.join(place, entry["folder"])
        return folder, _read_entry(folder, entry)
    return _cached(root, entry)


def publish(
    source: Union[str, "os.PathLike[str]"],
    store: Union[str, "os.PathLike[str]"],
    epoch: Optional[int] = None,
) -> Tuple[Dict[str, Any], bool]:
    """Put a run's network, or a bundle, into a store, checked.

    Parameters
    ----------
    source : str
        A run's folder, or that of a bundle.
    store : str
        A folder; made if need be.
    epoch : int, optional
        Of a run, as for :func:`dmr_gluon.deploy.export.export`.

    Returns
    -------
    dict, bool
        The entry of ``index.json``, and whether it is new.

    Raises
    ------
    DMRError
        For a source that is neither or is damaged, or a store that cannot be written.
    """
    place = _local(store)
    if place is None:
        raise DMRError(f"{store}: publish into a folder, and let a web server serve that")
    try:
        os.makedirs(place, exist_ok=True)
        with _held(os.path.join(place, ".lock")):
            return _publish(source, place, epoch)
    except OSError as error:
        raise DMRError(f"cannot write to {store}: {error.strerror or error}") from error


def _publish(source, place, epoch):
    entries = _read_index(place) if os.path.exists(os.path.join(place, INDEX)) else []
    new = os.path.join(place, ".new")
    shutil.rmtree(new, ignore_errors=True)  # of a process that was killed
    try:
        _fill(new, source, epoch)
        entry = _describe(new)
        folder = os.path.join(place, entry["folder"])
        for known in [one for one in entries if one["folder"] == entry["folder"]]:
            if known["sha256"] != entry["sha256"]:
                raise DMRError(f"{folder} is another bundle; use another store")
            with contextlib.suppress(DMRError):
                _read_entry(folder, known)
                return known, False
            entries.remove(known)  # damaged
        shutil.rmtree(folder, ignore_errors=True)  # damaged, or of a process that was killed
        os.replace(new, folder)
    finally:
        shutil.rmtree(new, ignore_errors=True)
    index = {"format": STORE_FORMAT, "entries": [*entries, entry]}
    write_atomically(os.path.join(place, INDEX), json.dumps(index, indent=1))
    return entry, True


def _fill(folder, source, epoch):
    """Write the bundle that ``source`` is, or that it gives."""
    if os.path.exists(os.path.join(source, BUNDLE)):
        if epoch is not None:
            raise DMRError(f"{source} is a bundle of one epoch; leave out --epoch")
        files = read_bundle(source)["files"]  # before it is copied
        os.makedirs(folder)
        for name in [BUNDLE, *files]:
            shutil.copyfile(os.path.join(source, name), os.path.join(folder, name))
        return
    if not RunDirectory(source).exists():
        raise DMRError(f"{source} is neither a run nor a bundle: it has no config.json or {BUNDLE}")
    from .export import export

    export(source, folder, epoch)


def _describe(folder):
    """The entry for a bundle."""
    content = read_bundle(folder)
    path, training = os.path.join(folder, BUNDLE), content.get("training")
    if PARAMETERS not in content["files"]:
        raise DMRError(f"{folder} has no {PARAMETERS}; export the run again, with the plain form")
    said, digest = _says(content), _sha256(path)
    _require(said, path)
    entry = {
        **said,
        "sha256": digest,
        "folder": f"{said['network']}-{digest[:8]}",
        "dataset": content.get("dataset"),
        "test_error": training.get("test_error") if isinstance(training, dict) else None,
        "files": {BUNDLE: {"bytes": os.path.getsize(path), "sha256": digest}, **content["files"]},
        "published": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }
    _require(_is_entry(entry), path)
    return entry


def _read_index(place):
    path = os.path.join(place, INDEX)
    try:
        with open(path, "rb") as file:
            return _entries(file.read(_LARGEST_INDEX + 1), path)
    except OSError as error:
        raise DMRError(
            f"{place} is not a store: its {INDEX} cannot be read ({error.strerror}); name a "
            f"folder that dmr publish wrote"
        ) from error


def _download_index(root):
    import requests

    url = f"{root.rstrip('/')}/{INDEX}"
    try:
        response = requests.get(url, timeout=30)
        response.raise_for_status()
    except requests.RequestException as error:
        reason = " ".join(str(error).split())
        raise DMRError(f"{url} cannot be downloaded ({reason}); {_INSTEAD}") from None
    return _entries(response.content, url)


def _entries(text, path):
    remedy = "remove it and publish the bundles again, or copy the store anew"
    _require(len(text) <= _LARGEST_INDEX, path, remedy)
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        content = None
    _require(isinstance(content, dict) and isinstance(content.get("entries"), list), path, remedy)
    if content.get("format") != STORE_FORMAT:
        raise DMRError(f"{path} was written by another version of dmr-gluon")
    for entry in content["entries"]:
        _require(_is_entry(entry), path, remedy)
    return content["entries"]


def _is_entry(entry):
    """Nothing in it leads out of the store."""
    if not isinstance(entry, dict) or not are_files(entry.get("files")):
        return False
    name, digest, files = entry.get("network"), entry.get("sha256"), entry["files"]
    return (
        _matches(_NETWORK, name)
        and _matches(_HASH, digest)
        and entry.get("folder") == f"{name}-{str(digest)[:8]}"
        and _count(entry.get("classes"))
        and isinstance(entry.get("dataset"), (str, type(None)))
        and isinstance(entry.get("test_error"), (int, float, type(None)))
        and {BUNDLE, PARAMETERS} <= set(files)
        and files[BUNDLE]["sha256"] == digest
    )


def _count(value):
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _matches(pattern, text):
    return isinstance(text, str) and pattern.fullmatch(text)


def _require(whole, path, remedy="publish again, or copy the store anew"):
    if not whole:
        raise DMRError(f"{path} is damaged; {remedy}")


def _choose(entries, name, pretrained, root, classes):
    named = [entry for entry in entries if entry["network"] == name]
    if pretrained is not True:
        pretrained = pretrained.lower() if isinstance(pretrained, str) else pretrained
        if not _matches(re.compile("[0-9a-f]{1,64}"), pretrained):
            raise DMRError(
                f"pretrained must be True, False or the beginning of a bundle's hash, not "
                f"{pretrained!r}"
            )
        found = [entry for entry in named if entry["sha256"].startswith(pretrained)]
        if len(found) > 1:
            raise DMRError(
                f"pretrained={pretrained!r} fits {len(found)} of {name} in {root}; give more digits"
            )
    else:
        found = [entry for entry in named if classes in (None, entry["classes"])] or named
    if not found:
        there = ", ".join(entry["folder"] for entry in named or entries) or "nothing"
        wanted = name if pretrained is True else f"{name}-{pretrained}"
        raise DMRError(f"{root} has no {wanted}; there is {there}")
    return found[-1]


def _read_entry(folder, entry):
    """What an entry's ``bundle.json`` says, after a look at every hash."""
    path = os.path.join(folder, BUNDLE)
    content = read_bundle(folder)
    _require(_sha256(path) == entry["sha256"], path)
    _require({BUNDLE: entry["files"][BUNDLE], **content["files"]} == entry["files"], path)
    _require(_says(content) == {key: entry[key] for key in ("network", "classes")}, path)
    return content


def _says(content):
    """What of an entry stands in a ``bundle.json``; None where that is no bundle's."""
    try:
        return {"network": content["network"]["name"], "classes": len(content["classes"])}
    except (KeyError, TypeError):
        return None


def _cached(root, entry):
    """The folder of a bundle in the cache, where what is missing or damaged is fetched."""
    cache = os.path.expanduser(os.environ.get("DMR_CACHE") or "~/.cache/dmr_gluon")
    if cache.startswith("~"):
        raise DMRError("there is no home to keep downloads in; name a folder with DMR_CACHE")
    folder = os.path.join(cache, entry["folder"])
    with contextlib.suppress(DMRError, OSError):  # it may be whole and somebody else's
        return folder, _read_entry(folder, entry)
    try:
        os.makedirs(folder, exist_ok=True)
        with _held(folder + ".lock"):
            for name, facts in entry["files"].items():
                path = os.path.join(folder, name)
                if not os.path.exists(path) or _sha256(path) != facts["sha256"]:
                    url = f"{root.rstrip('/')}/{entry['folder']}/{name}"
                    fetch(url, path, f"sha256:{facts['sha256']}", INDEX, _INSTEAD)
            return folder, _read_entry(folder, entry)
    except OSError as error:
        raise DMRError(
            f"cannot write to {folder} ({error.strerror or error}); name another folder with "
            f"DMR_CACHE"
        ) from error


@contextlib.contextmanager
def _held(path):
    with open(path, "w", encoding="ascii") as file:
        if lock(file, _PATIENCE) is False:
            raise DMRError(f"another process has held {path} for {_PATIENCE} s; wait for it")
        yield


def _local(root):
    """The path of a store that is a folder; None for a URL."""
    root = os.fspath(root)
    parts = urllib.parse.urlsplit(root)
    if parts.scheme in ("http", "https"):
        return None
    if parts.scheme == "file":
        return urllib.request.url2pathname(parts.path)
    if "://" in root:
        raise DMRError(f"{root}: a store is a folder or a URL of http, https or file")
    return os.path.expanduser(root)


def _sha256(path):
    return digests_of(path, ["sha256"])["sha256"].hexdigest()
