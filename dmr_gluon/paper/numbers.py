"""The numbers that the paper publishes about its networks, with table and row.

Rounded numbers are text: their digits show the precision of a comparison. Source: Zhao et al.,
arXiv 1611.07718v2, unless an entry names another.
"""

import itertools
from dataclasses import dataclass
from typing import Optional, Tuple

#: Table 2: L, parameters in millions (the same for all three networks of a row), and the test error
#: in percent, mean ± standard deviation of 5 runs, of ResNet, DILNet and DMRNet on CIFAR-10, on
#: CIFAR-100 and on SVHN.
_TABLE2 = """
12 0.4 6.62±0.24 6.53±0.12 6.48±0.04 29.69±0.15 29.75±0.27 29.62±0.08 1.90±0.08 2.13±0.09 2.00±0.04
18 0.6 5.93±0.17 5.83±0.09 5.79±0.13 27.90±0.26 27.87±0.22 27.80±0.26 1.97±0.09 1.96±0.10 1.87±0.09
24 0.8 5.60±0.14 5.59±0.17 5.47±0.14 27.03±0.66 26.88±0.22 26.76±0.16 1.93±0.17 1.86±0.14 1.86±0.05
30 1.0 5.50±0.09 5.45±0.09 5.10±0.08 26.44±0.69 26.19±0.41 25.87±0.04 1.89±0.03 1.86±0.07 1.81±0.04
36 1.2 5.35±0.14 5.26±0.20 5.18±0.20 26.00±0.48 25.98±0.23 25.41±0.19 1.90±0.04 1.81±0.11 1.77±0.11
48 1.5 5.26±0.09 5.05±0.20 4.99±0.13 25.44±0.20 24.76±0.33 24.73±0.40 1.91±0.03 1.84±0.06 1.84±0.15
54 1.7 5.24±0.23 5.02±0.17 4.96±0.06 24.56±0.15 24.56±0.69 24.41±0.09 2.00±0.12 1.85±0.09 1.68±0.02
96 3.1 5.47±0.46 4.97±0.03 4.84±0.11 24.41±0.10 24.06±0.68 23.98±0.15 1.85±0.03 1.75±0.06 1.70±0.03
"""
_TABLE2_ROWS = [line.split() for line in _TABLE2.strip().splitlines()]
_TABLE2_COLUMNS = itertools.product(("cifar10", "cifar100", "svhn"), ("resnet", "dilnet", "dmrnet"))

#: L counts layers: the ResNet has depth 2L + 2, the other two have L + 2.
TABLE2_L = tuple(int(row[0]) for row in _TABLE2_ROWS)
TABLE2_PARAMETERS = tuple(row[1] for row in _TABLE2_ROWS)

#: Test error by (data set, family): (mean, standard deviation) in the order of TABLE2_L.
TABLE2_ERRORS = {
    column: tuple(tuple(row[i].split("±")) for row in _TABLE2_ROWS)
    for i, column in enumerate(_TABLE2_COLUMNS, start=2)
}

#: Table 3, the networks of the paper: (kind, depth, error on CIFAR-10, CIFAR-100 and SVHN).
TABLE3 = (
    ("dmrnet", 56, "4.96", "24.41", "1.68"),
    ("dmrnet-wide", 32, "3.94", "19.25", "1.51"),
    ("dmrnet-wide", 50, "3.57", "19.00", "1.55"),
)

#: Table 4, errors in percent on ImageNet with one 224x224 crop: ResNet-101 trained by the authors,
#: DMRNet.
TABLE4 = {
    "top-1 validation error": ("26.41", "23.66"),
    "top-5 validation error": ("8.50", "6.81"),
    "top-1 training error": ("25.75", "19.72"),
}

#: Table 5, test error in percent by (first convolution and FC are shared, L): identity and
#: merge-and-run on CIFAR-10, identity and merge-and-run on CIFAR-100.
TABLE5 = {
    (True, 48): ("5.21", "4.99", "25.31", "24.73"),
    (True, 96): ("5.10", "4.84", "24.16", "23.98"),
    (False, 48): ("4.67", "4.41", "23.96", "23.75"),
    (False, 96): ("4.51", "4.37", "22.23", "22.62"),
}

#: Introduction: average path length, as a fraction, of two residual blocks, of one inception-like
#: and of one merge-and-run block, with B = 2 layers in a branch.
BLOCK_AVERAGES = {"residual": (2, 1), "inception_like": (4, 3), "merge_and_run": (2, 3)}

#: Section 3.2: a, as a fraction, in the average path length a B L + 2 with B layers in a branch.
PATH_AVERAGES = {"residual": (1, 1), "inception_like": (2, 3), "merge_and_run": (1, 3)}

#: L of Figure 3 counts blocks: the ResNet has 2L of them, the other two have L.
FIGURE3_L = (9, 24)

#: Figure 6: number of residual blocks, and the average path length with the lowest error.
FIGURE6 = ((3, 15), (6, 21))


@dataclass(frozen=True)
class PublishedNetwork:
    """A network of the paper with its published size.

    Parameters
    ----------
    name : str
        A name that :func:`dmr_gluon.models.names.get_spec` reads.
    source : str
        Its place in the paper.
    parameters : str or None
        In millions, as printed.
    depth : int
        As given in the paper.
    """

    name: str
    source: str
    parameters: Optional[str]
    depth: int


def _networks() -> Tuple[PublishedNetwork, ...]:
    rows = []
    for layers, printed in zip(TABLE2_L, TABLE2_PARAMETERS):
        source = f"Table 2, L = {layers}"
        for family in ("resnet", "dilnet", "dmrnet"):
            depth = (2 if family == "resnet" else 1) * layers + 2
            rows.append(PublishedNetwork(f"cifar_{family}{depth}", source, printed, depth))
    for name, source, parameters, depth in (
        ("cifar_dmrnet32_w4", "Table 3, DMRNet-Wide", "14.9", 32),
        ("cifar_dmrnet50_w4", "Table 3, DMRNet-Wide", "24.8", 50),
        ("resnet101", "Table 4", "44.5", 101),
        ("dmrnet44", "Table 4", "43.3", 44),
        ("resnet50", "authors' code", None, 50),
        ("dmrnet29", "authors' code", None, 29),
        ("resnet152", "authors' code", None, 152),
        ("dmrnet71", "authors' code", None, 71),
        ("resnet98_ijcai", "IJCAI 2018", "45.0", 98),
        ("dmrnet50_ijcai", "IJCAI 2018", "46.4", 50),
        ("cifar_dmrnet50_identity", "Table 5, shared, L = 48", None, 50),
        ("cifar_dmrnet98_identity", "Table 5, shared, L = 96", None, 98),
        ("cifar_dmrnet50_identity_unshared", "Table 5, not shared, L = 48", None, 50),
        ("cifar_dmrnet50_unshared", "Table 5, not shared, L = 48", None, 50),
        ("cifar_dmrnet98_identity_unshared", "Table 5, not shared, L = 96", None, 98),
        ("cifar_dmrnet98_unshared", "Table 5, not shared, L = 96", None, 98),
        ("cifar_dmrnet56_k3", "section 5, K = 3", None, 56),
        ("cifar_dmrnet56_k4", "section 5, K = 4", None, 56),
        ("cifar_plain26", "Figure 6, L = 12", None, 26),
        ("cifar_resnet26_blocks3", "Figure 6, L = 12", None, 26),
        ("cifar_resnet26_blocks6", "Figure 6, L = 12", None, 26),
        ("cifar_plain38", "Figure 6, L = 18", None, 38),
        ("cifar_resnet38_blocks3", "Figure 6, L = 18", None, 38),
        ("cifar_resnet38_blocks6", "Figure 6, L = 18", None, 38),
    ):
        rows.append(PublishedNetwork(name, source, parameters, depth))
    return tuple(rows)


#: Every network of the paper, once.
NETWORKS = _networks()
