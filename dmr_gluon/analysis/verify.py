"""Every published number that can be checked without data, checked: ``dmr verify``."""

import math
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Iterator, Optional

import numpy as np

from ..models import equivalence
from ..models.complexity import Complexity, complexity_of, symbol_of
from ..models.names import get_spec
from ..models.network import Network
from ..models.spec import INCEPTION_LIKE, MERGE_AND_RUN, RESIDUAL
from ..paper import numbers as paper
from ..runtime import mx
from ..training.optimizer import NAG2016
from ..training.step import TrainingStep
from . import mapping, paths, symbol_parity
from .conversion import convert_training

#: What a check can come to.
VERDICTS = EQUAL, KNOWN, DIFFERS = "equal", "known", "DIFFERS"

#: Differences that are understood, by the letter that the tables show.
NOTES = {
    "a": "Table 2 has one column of parameters for three networks. In all eight rows it "
    "equals the ResNet's with 100 classes; ours are counted with 10.",
    "b": "The paper prints 24.8 M for DMRNet-Wide of depth 50. The network of Table 1, four times "
    "wider, has 24.152 M. With 3x3 projections it would have 24.807 M, but then DMRNet-Wide of "
    "depth 32 would have 15.507 M, not the published 14.9 M. Left open.",
    "c": "The paper's average takes all merge-and-run blocks as alike. The last one gives one "
    "output, the sum of both branches (authors' code; the parameter counts confirm it), so that "
    "its branch counts for more: B/2 instead of B/3.",
    "d": "L counts blocks in Table 1, section 3.2 and Figure 3, and layers in Table 2: DMRNet with "
    "L = 9 of Figure 3 is cifar_dmrnet20, DMRNet with L = 54 of Table 2 is cifar_dmrnet56.",
}

#: Parameters of the networks of notes a and b. Any other number is not explained by them.
_KNOWN_PARAMETERS = {
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

#: One network of each kind: what is compared in numbers unless all are asked for.
KINDS = (
    "cifar_plain26",
    "cifar_resnet26",
    "cifar_resnet26_blocks3",
    "cifar_dilnet14",
    "cifar_dmrnet14",
    "cifar_dmrnet14_k3",
    "cifar_dmrnet14_identity",
    "cifar_dmrnet14_unshared",
    "cifar_dmrnet14_identity_unshared",
    "resnet50",
    "dmrnet29",
    "resnet98_ijcai",
    "dmrnet50_ijcai",
)

#: In double precision; the issue is equality, and single precision would leave doubt.
_OUTPUTS, _GRADIENTS = 1e-10, 1e-8


def sections(full=False):
    """All checks, section by section.

    Parameters
    ----------
    full : bool
        Compare all networks in numbers, not one of each kind.

    Yields
    ------
    str, iterator of Check
        The section's title, and its checks as they are made.
    """
    measured = list(measure_networks())
    yield "parameters, counted in the built graph", [m.parameters for m in measured if m.parameters]
    yield "what explains the differences", [*check_table2_column(), *check_3x3_projections()]
    equal = sum(m.depth.verdict == EQUAL for m in measured)
    depths = [m.depth for m in measured if m.depth.verdict != EQUAL]
    depths.append(_all("depth of the paper's networks, 14 to 194", equal, len(measured)))
    yield "depth, counted in the built graph", depths
    yield "lengths of paths", check_paths()
    yield "information flow", check_mapping()
    if full:
        large = ("cifar_dilnet14", "cifar_dmrnet14", "dmrnet44")
        yield "equivalent forms", check_equivalences(large, steps=20)
        names = dict.fromkeys([*(row.name for row in paper.NETWORKS), *KINDS])
        yield "two implementations", check_symbol_parity(names)
    else:
        yield "equivalent forms", check_equivalences()
        yield "two implementations", check_symbol_parity()


@dataclass(frozen=True)
class Check:
    """One published number, or one claim, and what comes out here.

    Parameters
    ----------
    what : str
    published : str
        As the paper prints it.
    ours : str
    difference : str
        Ours less the published, empty where that makes no sense.
    verdict : str
        ``equal``: as far as the paper prints digits; ``known``: not, and understood;
        ``DIFFERS``: not understood.
    note : str
        A letter of ``NOTES``, or empty.
    """

    what: str
    published: str
    ours: str
    difference: str
    verdict: str
    note: str = ""


@dataclass(frozen=True)
class MeasuredNetwork:
    """A network of the paper, counted from its graph."""

    published: paper.PublishedNetwork
    complexity: Complexity
    parameters: Optional[Check]
    depth: Check


def measure_networks() -> Iterator[MeasuredNetwork]:
    """Count every network of the paper and compare it with what is printed."""
    for published in paper.NETWORKS:
        spec = get_spec(published.name)
        complexity = complexity_of(spec)
        depth = Check(
            f"depth of {published.name}",
            str(published.depth),
            str(complexity.depth),
            str(complexity.depth - published.depth),
            EQUAL if complexity.depth == published.depth == spec.depth else DIFFERS,
        )
        parameters = None
        if published.parameters is not None:
            note, known = _KNOWN_PARAMETERS.get(published.name, ("", None))
            parameters = _parameters(
                f"parameters of {published.name}",
                published.parameters,
                complexity.parameters,
                note if complexity.parameters == known else "",
            )
        yield MeasuredNetwork(published, complexity, parameters, depth)


def _parameters(what, printed, count, note=""):
    """A count against millions with few digits."""
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


def check_table2_column() -> Iterator[Check]:
    """Note a: the column of parameters is the ResNet's with 100 classes."""
    for layers, printed in zip(paper.TABLE2_L, paper.TABLE2_PARAMETERS):
        spec = get_spec(f"cifar_resnet{2 * layers + 2}", classes=100)
        count = complexity_of(spec).parameters
        yield _parameters(f"Table 2, L = {layers}: {spec.name}, 100 classes", printed, count)


def check_3x3_projections() -> Iterator[Check]:
    """Note b: with them one of the wide networks has the printed number, the other has not."""
    for name, printed, note in (
        ("cifar_dmrnet50_w4", "24.8", ""),
        ("cifar_dmrnet32_w4", "14.9", "b"),
    ):
        counted = complexity_of(get_spec(name))
        more = sum(8 * layer.parameters for layer in counted.layers if layer.kind == "conv 1x1/2")
        yield _parameters(f"{name} with 3x3 projections", printed, counted.parameters + more, note)


def check_paths() -> Iterator[Check]:
    """Averages of path lengths: introduction, section 3.2, section 4.3."""
    for block, average in paper.BLOCK_AVERAGES.items():
        blocks = 2 if block == RESIDUAL else 1
        count = "two residual blocks" if blocks == 2 else f"one {block.replace('_', '-')} block"
        ours = paths.of_paper(block, blocks).mean - 2
        yield _average(f"average length of {count}, B = 2", Fraction(*average), ours)
    names = {RESIDUAL: "ResNet", INCEPTION_LIKE: "DILNet", MERGE_AND_RUN: "DMRNet"}
    for length in paper.FIGURE3_L:
        for block, factor in paper.PATH_AVERAGES.items():
            blocks = 2 * length if block == RESIDUAL else length
            printed = Fraction(*factor) * 2 * length + 2
            ours = paths.of_paper(block, blocks).mean
            yield _average(f"average path of the {names[block]}, L = {length}", printed, ours)
    built = get_spec("cifar_dmrnet20")
    printed = Fraction(*paper.PATH_AVERAGES[MERGE_AND_RUN]) * 2 * 9 + 2
    check = _average("average path of cifar_dmrnet20 as built", printed, _mean(built))
    # B/2 - B/3 for B = 2, and nothing else.
    explained = _mean(built) - printed == Fraction(1, 3)
    yield replace(check, verdict=KNOWN, note="c") if explained else check
    for blocks, least in paper.FIGURE6:
        layers = least - 3
        spec = get_spec(f"cifar_resnet{2 * layers + 2}_blocks{blocks}")
        ours = paths.of_network(spec, count_projections=True).mean
        yield _average(f"average path of Figure 6, {blocks} blocks, L = {layers}", least, ours)
    agree = sum(
        paths.of_graph(symbol_of(spec)) == paths.of_network(spec)
        for spec in (get_spec(row.name) for row in paper.NETWORKS)
    )
    yield _all("path lengths by formula = counted in the graph", agree, len(paper.NETWORKS))


def _mean(spec):
    return paths.of_network(spec).mean


def _average(what, published, ours):
    same = ours == published
    return Check(
        what,
        _fraction(published),
        _fraction(ours),
        _fraction(ours - published),
        EQUAL if same else DIFFERS,
    )


def _fraction(value):
    value = Fraction(value)
    return str(value) if value.denominator < 10 else f"{float(value):.4f}"


def _all(what, agree, total):
    verdict = EQUAL if agree == total else DIFFERS
    return Check(what, f"all {total}", f"{agree} of {total}", "", verdict)


def _near(what, difference, tolerance, ours=""):
    """A claim of equality between two computations."""
    equal = math.isfinite(difference) and difference <= tolerance
    return Check(what, "equal", ours, f"{difference:.1e}", EQUAL if equal else DIFFERS)


def check_mapping() -> Iterator[Check]:
    """Section 3.2: the merge-and-run mapping is idempotent, and equation (5)."""
    for kind, text in (("mean", "merge-and-run"), ("identity", "identity")):
        matrices = [mapping.mapping_matrix(branches, kind) for branches in range(1, 9)]
        agree = sum(map(mapping.is_idempotent, matrices))
        yield _all(f"M M = M of the {text} mapping, K = 1 to 8", agree, 8)
    images = mx.nd.array(np.random.RandomState(0).standard_normal((4, 3, 32, 32)))
    for name in ("cifar_dmrnet20", "cifar_dmrnet20_k3"):
        net = symbol_parity.randomise(Network(get_spec(name)))
        yield _near(f"equation (5) in {name}, as it runs", mapping.equation_five(net, images), 1e-5)


def check_equivalences(names=("cifar_dilnet14", "cifar_dmrnet14"), steps=3) -> Iterator[Check]:
    """Figures 4 and 5 on networks that have been trained for some steps."""
    for name in names:
        spec = get_spec(name)
        size = 32 if spec.stem == "cifar" else 64
        random = np.random.RandomState(0)
        data = mx.nd.array(random.standard_normal((16, 3, size, size)))
        label = mx.nd.array(random.randint(0, spec.classes, 16))
        net = symbol_parity.randomise(Network(spec))
        trained = TrainingStep(net, _optimizer(), [mx.cpu()])
        for _ in range(steps):
            trained(data, label, _LR)
        mx.nd.waitall()  # BN's running statistics are written in the backward pass
        other = convert_training(trained, _optimizer(), "grouped")
        figure = "Figure 4, equation (6)" if spec.block == INCEPTION_LIKE else "Figure 5"
        after = f"after {steps} steps of training"
        with trained.flat.apart(), other.flat.apart():
            off = _difference(net, other.net, data)
            yield _near(f"{figure}: {name}, grouped, {after}", off, 1e-4)
            if spec.block == INCEPTION_LIKE:
                wide = equivalence.fold(net)
                text = f"Figure 4: {name} as {wide.spec.name}, {after}"
                yield _near(text, _difference(net, wide, data), 1e-4)
        # The first of these losses is from before the update, the second shows its effect.
        for text in ("the next step", "the step after it"):
            one, two = (_loss(form(data, label, _LR)) for form in (trained, other))
            loss = f"{one / len(label):.4f}"
            yield _near(f"{figure}: {name}, loss of {text}", abs(one - two) / one, 1e-4, loss)
        mx.nd.waitall()
        back = equivalence.convert(other.net, "branches")
        # Beside the form that it came from: both have been trained on apart, and in single
        # precision another order of a sum flips a ReLU now and then.
        with other.flat.apart():
            off = _difference(other.net, back, data)
        yield _near(f"{figure}: {name}, and back", off, 1e-4)


#: Of the steps that networks are trained before they are converted.
_LR = 0.05


def _optimizer():
    return NAG2016(learning_rate=_LR, momentum=0.9, wd=1e-4)


def _loss(results):
    ((total, _),) = results
    return float(total.asscalar())


def _difference(one, other, data):
    expected, found = one(data).asnumpy(), other(data).asnumpy()
    return float(np.abs(expected - found).max() / np.abs(expected).max())


def check_symbol_parity(names=KINDS) -> Iterator[Check]:
    """The networks of ``model`` against those of ``symbols``."""
    agree = sum(symbol_parity.same_names(row.name) for row in paper.NETWORKS)
    yield _all("Gluon = symbols: names and shapes", agree, len(paper.NETWORKS))
    for name in names:
        agreement = symbol_parity.compare(name)
        outputs = max(agreement.outputs, agreement.statistics)
        equal = agreement.names and outputs <= _OUTPUTS and agreement.gradients <= _GRADIENTS
        text = f"{outputs:.0e}, {agreement.gradients:.0e}"
        what = f"Gluon = symbols in outputs, BN and gradients: {name}"
        yield Check(what, "equal", "", text, EQUAL if equal else DIFFERS)
