"""A bundle: a folder with a trained network, for use without this package.

====================  =====================================================================
``bundle.json``       what the network is, what goes in and comes out, what was checked, and
                      the hash of every other file; its last field is its own hash
``model-symbol.json`` the network as MXNet's own symbol, without a softmax
``model-0000.params`` its parameters
``example.png``       an image; the logits that it must give stand in ``bundle.json``
others                further forms of the network, see :mod:`.forms`; ``forms.md``, their table;
                      ``predict_onnx.py``, which runs ``model.onnx``; ``mapping.json``, the authors'
                      names of what was imported
====================  =====================================================================

``bundle.json`` has

``format``
    1
``network``
    fields of :class:`~dmr_gluon.models.spec.NetworkSpec`; ``name`` is among them
``epochs``
    how long it was trained
``classes``
    the labels, in the order of the outputs
``input``
    ``name`` (data), ``layout`` (NCHW or NHWC), ``channels`` (RGB), ``dtype`` (float32), ``shape``
    (of one image, in that layout), ``values``: ``normalised`` ((pixel - mean) / std) or ``pixels``
    (0 to 255, the graph normalises), ``short_side`` (what larger images are scaled to before the
    centre is cut out; null: the input's size), ``mean`` and ``std`` (R, G, B in 0-255; null where
    it is not known what the network was trained on), ``formula``
``output``
    what the logits mean
``dataset``
    ``name`` of the data set; null where it is not known
``training``
    the training log's last line of an epoch; null where there is none
``versions``
    of this package and MXNet
``example``
    ``image`` (file), ``label`` (its class, or null), where it comes ``from``
``forms``
    by name: ``files`` (which a loader needs), ``runtime`` (mxnet or onnxruntime), ``logits`` (the
    worked example's), ``tolerance`` (how far others may be from them), ``compared`` (with the
    network: ``images``, ``largest_difference`` of the logits, ``largest_logit``,
    ``another_class``: how many images get one, and the form's ``error`` in percent, or null),
    ``megabytes`` of its files and, where it was measured, ``speed``
``imported_from``
    of an imported network alone: the name of the authors' checkpoint
``files``
    by name: ``bytes`` and ``sha256``
``sha256``
    of this very file, with zeros in the place of these 64 digits

Nothing here needs MXNet.
"""

import hashlib
import json
import os
import re

from ..errors import DMRError
from ..standalone import predict_onnx
from ..standalone.predict_onnx import BUNDLE, BUNDLE_FORMAT
from ..system.files import write_atomically

#: Stands in the place of bundle.json's own hash while that is computed.
_ZEROS = "0" * 64
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,100}")
_HASH = re.compile(r"[0-9a-f]{64}")


def read_bundle(folder):
    """What a bundle says, after a look at the hash of every one of its files.

    Parameters
    ----------
    folder : str

    Returns
    -------
    dict
        ``bundle.json``.

    Raises
    ------
    DMRError
        Naming the file that is missing or damaged.
    """
    read_description(folder)  # the program in bundles believes what stands behind a right hash
    try:
        return predict_onnx.read_bundle(os.fspath(folder))
    except predict_onnx.Problem as problem:
        raise DMRError(str(problem)) from None


def read_description(folder):
    """What ``bundle.json`` says, after a look at its own hash but not at the other files.

    Parameters
    ----------
    folder : str

    Returns
    -------
    dict

    Raises
    ------
    DMRError
        Where it is missing, damaged or not of this format.
    """
    try:
        content = predict_onnx.read_bundle(os.fspath(folder), others=False)
    except predict_onnx.Problem as problem:
        raise DMRError(str(problem)) from None
    except (ValueError, RecursionError):
        content = {}
    if not are_files(content.get("files")) or BUNDLE in content["files"]:
        path = os.path.join(folder, BUNDLE)
        raise DMRError(f"{path} is damaged (it lists no files); export the run again")
    return content


def are_files(files):
    """Whether these are a bundle's files by name, of which none leads out of its folder."""
    return isinstance(files, dict) and all(
        _NAME.fullmatch(name)
        and isinstance(facts, dict)
        and type(facts.get("bytes")) is int
        and facts["bytes"] >= 0
        and isinstance(facts.get("sha256"), str)
        and _HASH.fullmatch(facts["sha256"])
        for name, facts in files.items()
    )


def write_description(folder, content, names):
    """Write ``bundle.json`` last, with the hashes of all other files.

    Parameters
    ----------
    folder : str
    content : dict
        Everything but ``format``, ``files`` and ``sha256``.
    names : collection of str
        The bundle's files.

    Raises
    ------
    OSError
    """
    files = {}
    for name in sorted(names):
        with open(os.path.join(folder, name), "rb") as file:
            data = file.read()
        files[name] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    whole = {"format": BUNDLE_FORMAT, **content, "files": files, "sha256": _ZEROS}
    text = (json.dumps(whole, indent=1) + "\n").encode()
    sealed = text.replace(_ZEROS.encode(), hashlib.sha256(text).hexdigest().encode())
    write_atomically(os.path.join(folder, BUNDLE), sealed)
