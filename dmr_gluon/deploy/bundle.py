"""Read and write ``bundle.json``, the description of a bundle. Needs no MXNet.

A bundle is a folder with a trained network, for use without this package:

====================  =====================================================================
``bundle.json``       the network, its input and output, what was checked, and the hash of
                      every other file; its last field is its own hash
``model-symbol.json`` the network as an MXNet symbol, without a softmax
``model-0000.params`` its parameters
``example.png``       an image, whose logits are in ``bundle.json``
others                further variants of the network, see :mod:`.variants`; ``forms.md``, their
                      table; ``predict_onnx.py``, which runs ``model.onnx``; ``mapping.json``, the
                      authors' names of imported parameters
====================  =====================================================================

``bundle.json`` has

``format``
    1
``network``
    the fields of its :class:`~dmr_gluon.models.spec.NetworkSpec`
``epochs``
    the number of epochs it was trained
``classes``
    the labels, in the order of the outputs
``input``
    ``name`` (data), ``layout`` (NCHW or NHWC), ``channels`` (RGB), ``dtype`` (float32), ``shape``
    (of one image, in that layout), ``values``: ``normalised`` ((pixel - mean) / std) or ``pixels``
    (0 to 255, the graph normalises), ``short_side`` (larger images are scaled to it before the
    centre is cropped; null: the input's size), ``fit`` (``crop``, ``pad`` or ``stretch``),
    ``mean`` and ``std`` (R, G, B in 0-255; null if the training data are unknown), ``formula``
``output``
    what the logits mean
``dataset``
    the data set's name; null if unknown
``training``
    the training log's line of that epoch; null if missing
``versions``
    of this package and MXNet
``example``
    ``image`` (file), ``label`` (its class, or null), where it comes ``from``
``forms``
    the variants by name: ``files`` (that a loader needs), ``runtime`` (mxnet or onnxruntime),
    ``logits`` (the worked example's) and their ``tolerance``, ``compared`` (with the network:
    number of ``images``, ``largest_difference`` of the logits, ``largest_logit``,
    ``another_class``: number of images whose class differs, and ``error`` in percent, or null),
    ``megabytes`` of its files and, if measured, ``speed``
``imported_from``
    only for imported networks: the name of the authors' checkpoint
``files``
    by name: ``bytes`` and ``sha256``
``sha256``
    of this file, with zeros in place of these 64 digits
"""

import hashlib
import json
import os

from ..runs.bundles import problems_as_errors as problems_as_errors
from ..runs.bundles import read_bundle as read_bundle
from ..standalone.predict_onnx import BUNDLE, BUNDLE_FORMAT
from ..system.files import digests_of, write_atomically

#: Variants (:mod:`.variants`) that run on CPUs only.
CPU_ONLY = ("fused", "int8", "onnx")
#: Replaces bundle.json's own hash while the hash is computed.
_ZEROS = "0" * 64


def write_description(folder, content, names):
    """Write ``bundle.json`` last, with the hashes of all other files.

    Parameters
    ----------
    folder : str
    content : dict
        All fields except ``format``, ``files`` and ``sha256``.
    names : collection of str
        The bundle's files.

    Raises
    ------
    OSError
    """
    files = {}
    for name in sorted(names):
        path = os.path.join(folder, name)
        (sha256,) = digests_of(path, "sha256")
        files[name] = {"bytes": os.path.getsize(path), "sha256": sha256}
    whole = {"format": BUNDLE_FORMAT, **content, "files": files, "sha256": _ZEROS}
    text = (json.dumps(whole, indent=1) + "\n").encode()
    sealed = text.replace(_ZEROS.encode(), hashlib.sha256(text).hexdigest().encode())
    write_atomically(os.path.join(folder, BUNDLE), sealed)
