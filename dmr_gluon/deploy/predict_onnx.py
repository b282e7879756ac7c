"""Predict with an exported network, without MXNet and without dmr_gluon.

    python predict_onnx.py IMAGE [IMAGE ...]

Lies in a bundle that has ``model.onnx``, and needs numpy, onnxruntime, and Pillow or OpenCV.
"""

import hashlib
import json
import os
import re

BUNDLE = "bundle.json"
BUNDLE_FORMAT = 1
#: The last field of bundle.json: the hash of that file with zeros in the place of this one.
_SEAL = re.compile(rb'"sha256": "([0-9a-f]{64})"\s*}\s*\Z')


class Problem(Exception):
    """What the user can mend, in one line."""


def seal(content):
    """The text of a ``bundle.json``, with its own hash as the last field.

    Parameters
    ----------
    content : dict
        What JSON can hold.

    Returns
    -------
    bytes
    """
    zeros = "0" * 64
    text = (json.dumps({**content, "sha256": zeros}, indent=1) + "\n").encode()
    return text.replace(zeros.encode(), hashlib.sha256(text).hexdigest().encode())


def read_bundle(folder):
    """What ``bundle.json`` says, once every file of the bundle has the hash that stands there.

    Parameters
    ----------
    folder : str

    Returns
    -------
    dict

    Raises
    ------
    Problem
        Naming the first file that is missing or damaged.
    """
    path = os.path.join(folder, BUNDLE)
    try:
        with open(path, "rb") as file:
            text = file.read()
    except OSError as error:
        raise Problem(
            f"{folder} is not a bundle: its bundle.json cannot be read ({error.strerror}); name "
            f"a folder that dmr export wrote"
        ) from None
    found = _SEAL.search(text)
    if not found:
        raise Problem(_damaged(path))
    zeroed = text[: found.start(1)] + b"0" * 64 + text[found.end(1) :]
    if hashlib.sha256(zeroed).hexdigest().encode() != found.group(1):
        raise Problem(_damaged(path))
    content = json.loads(text)
    if content.get("format") != BUNDLE_FORMAT:
        raise Problem(f"{path} was written by another version of dmr-gluon; export the run again")
    for name, facts in content["files"].items():
        path = os.path.join(folder, name)
        if _sha256(path) != facts["sha256"]:
            raise Problem(_damaged(path))
    return content


def _sha256(path):
    digest = hashlib.sha256()
    try:
        with open(path, "rb") as file:
            for block in iter(lambda: file.read(1 << 20), b""):
                digest.update(block)
    except OSError as error:
        raise Problem(
            f"{path} cannot be read ({error.strerror}); export the run again, or copy it anew"
        ) from None
    return digest.hexdigest()


def _damaged(path):
    return (
        f"{path} is damaged: its hash is not the one that it was written with; export the run "
        f"again, or copy the bundle anew"
    )
