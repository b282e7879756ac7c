"""Comparisons with published numbers, and the sizes of the paper's networks. Needs no MXNet."""

import json
import os
from dataclasses import dataclass

from ..paper import numbers

VERDICTS = EQUAL, KNOWN, DIFFERS = "equal", "known", "DIFFERS"

#: Explained differences, by the letter in the tables.
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

#: The parameters that notes a and b explain; they excuse no other number.
KNOWN_PARAMETERS = {
    "cifar_dilnet14": ("a", 346_650),
    "cifar_dmrnet14": ("a", 349_402),
    "cifar_dilnet20": ("a", 541_082),
    "cifar_dmrnet20": ("a", 543_834),
    "cifar_dilnet26": ("a", 735_514),
    "cifar_dmrnet26": ("a", 738_266),
    "cifar_dilnet32": ("a", 929_946),
    "cifar_dmrnet32": ("a", 932_698),
    "cifar_resnet74": ("a", 1_147_418),
    "cifar_dilnet38": ("a", 1_124_378),
    "cifar_dmrnet38": ("a", 1_127_130),
    "cifar_dmrnet50_w4": ("b", 24_151_882),
}


@dataclass(frozen=True)
class Check:
    """One published number or claim, and our result.

    Parameters
    ----------
    what : str
    published : str
        As the paper prints it.
    ours : str
    difference : str
        Ours minus the published one; empty if not applicable.
    verdict : str
        ``equal``: to the digits that the paper prints; ``known``: a difference that is
        explained; ``DIFFERS``: an unexplained one.
    note : str
        A letter of ``NOTES``, or empty.
    """

    what: str
    published: str
    ours: str
    difference: str
    verdict: str
    note: str = ""


def network_sizes():
    """Return the sizes of the paper's networks, as they were counted in their graphs.

    A test counts them again (``tests/test_golden.py``).

    Returns
    -------
    dict of str to dict
        By name: ``parameters``, ``multiply_adds``, ``activations``, ``depth``.
    """
    path = os.path.join(os.path.dirname(numbers.__file__), "network_sizes.json")
    with open(path, encoding="utf-8") as file:
        return json.load(file)


def check_parameters(published, count):
    """Compare a network's number of parameters with the published one, if there is one.

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
    note, known = KNOWN_PARAMETERS.get(published.name, ("", None))
    what = f"parameters of {published.name}"
    return compare_millions(what, published.parameters, count, note if count == known else "")


def compare_millions(what, printed, count, note=""):
    """Compare a count with millions printed to a few digits."""
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
