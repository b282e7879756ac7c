"""Compare counts with published numbers. Needs no MXNet."""

import functools
import json
import os
from dataclasses import dataclass

from ..paper import numbers

EQUAL, KNOWN, DIFFERS = "equal", "known", "DIFFERS"

#: Explanations of known differences, by their letters in the tables.
NOTES = {
    "a": "Table 2 has one column of parameters for three networks. In all eight rows it "
    "equals the ResNet's with 100 classes; ours are counted with 10.",
    "b": "The paper prints 24.8 M for DMRNet-Wide of depth 50. The network of Table 1, four times "
    "wider, has 24.152 M. With 3x3 projections it would have 24.807 M, but then DMRNet-Wide of "
    "depth 32 would have 15.507 M, not the published 14.9 M. Unresolved.",
    "c": "The paper's average assumes identical merge-and-run blocks. The last one has one "
    "output, the sum of both branches (authors' code; the parameter counts confirm it), so that "
    "its branch has more weight: B/2 instead of B/3.",
    "d": "L counts blocks in Table 1, section 3.2 and Figure 3, and layers in Table 2: DMRNet with "
    "L = 9 of Figure 3 is cifar_dmrnet20, DMRNet with L = 54 of Table 2 is cifar_dmrnet56.",
}

#: Networks whose parameters a note explains, as long as their count is that of network_sizes().
NOTED = {
    **{f"cifar_{kind}net{n}": "a" for kind in ("dil", "dmr") for n in (14, 20, 26, 32, 38)},
    "cifar_resnet74": "a",
    "cifar_dmrnet50_w4": "b",
}


@dataclass(frozen=True)
class Check:
    """A published number or claim, and our result.

    Parameters
    ----------
    what : str
    published : str
        As the paper prints it.
    ours : str
    difference : str
        Ours minus the published one; empty if not applicable.
    verdict : str
        ``equal`` (to the digits that the paper prints), ``known`` (an explained difference) or
        ``DIFFERS`` (an unexplained one).
    note : str
        A letter from ``NOTES``, or empty.
    """

    what: str
    published: str
    ours: str
    difference: str
    verdict: str
    note: str = ""


@functools.lru_cache(maxsize=None)
def network_sizes():
    """Return the sizes of the paper's networks as counted in their graphs.

    ``tests/test_golden.py`` counts them again.

    Returns
    -------
    dict of str to dict
        By name: ``parameters``, ``multiply_adds``, ``activations``, ``depth``.
    """
    path = os.path.join(os.path.dirname(numbers.__file__), "network_sizes.json")
    with open(path, encoding="utf-8") as file:
        return json.load(file)


def check_parameters(published, count):
    """Compare a network's number of parameters with the published one, if any.

    Parameters
    ----------
    published : PublishedNetwork
    count : int

    Returns
    -------
    Check or None
    """
    if published.parameters is None:
        return None
    known = count == network_sizes()[published.name]["parameters"]
    note = NOTED.get(published.name, "") if known else ""
    return compare_millions(f"parameters of {published.name}", published.parameters, count, note)


def compare_millions(what, printed, count, note=""):
    """Compare a count with a published number of millions, to the digits printed.

    Parameters
    ----------
    what : str
    printed : str
        In millions.
    count : int
    note : str
        Letter of the note that explains a difference, if any.

    Returns
    -------
    Check
    """
    digits = len(printed.split(".")[1])
    same = f"{count / 1e6:.{digits}f}" == printed
    return Check(
        what,
        f"{printed} M",
        f"{count / 1e6:.3f} M",
        f"{count / 1e6 - float(printed):+.3f}",
        EQUAL if same else KNOWN if note else DIFFERS,
        "" if same else note,
    )
