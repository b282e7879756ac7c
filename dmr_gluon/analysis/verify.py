"""``dmr verify``: check every published number that can be checked without data."""

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
from . import mapping, path_plot, paths, symbol_parity
from .conversion import convert_training
from .published import DIFFERS, EQUAL, KNOWN, Check, check_parameters, compare_millions

#: One network of each kind, compared numerically unless --full is given.
KINDS = (
    *("cifar_plain26", "cifar_resnet26", "cifar_resnet26_blocks3", "cifar_dilnet14"),
    *("cifar_dmrnet14", "cifar_dmrnet14_k3", "cifar_dmrnet14_identity"),
    *("cifar_dmrnet14_unshared", "cifar_dmrnet14_identity_unshared"),
    *("resnet50", "dmrnet29", "resnet98_ijcai", "dmrnet50_ijcai"),
)

#: Networks that are converted between equivalent forms, and "dmrnet44" with --full.
_CONVERTED = ("cifar_dilnet14", "cifar_dmrnet14")

#: Tolerances of outputs and gradients in double precision.
_OUTPUTS, _GRADIENTS = 1e-10, 1e-8

#: Learning rate of the training before a conversion.
_LR = 0.05


def sections(full=False):
    """Run all checks, section by section.

    Parameters
    ----------
    full : bool
        Compare all networks numerically, not one of each kind.

    Yields
    ------
    str, iterator of Check
        The section's title, and its checks as they finish.
    """
    measured = list(measure_networks())
    yield "parameters, counted in the built graph", [m.parameters for m in measured if m.parameters]
    yield "what explains the differences", [*check_table2_column(), *check_3x3_projections()]
    yield "depth, counted in the built graph", [check_depths(measured)]
    yield "lengths of paths", check_paths()
    yield "information flow", check_mapping()
    names = dict.fromkeys([*(row.name for row in paper.NETWORKS), *KINDS]) if full else KINDS
    forms = (*_CONVERTED, "dmrnet44") if full else _CONVERTED
    yield "equivalent forms", check_equivalences(forms, steps=20 if full else 3)
    yield "two implementations", check_symbol_parity(names)


@dataclass(frozen=True)
class MeasuredNetwork:
    """A network of the paper, its sizes as counted in its graph, and a check of its parameters."""

    published: paper.PublishedNetwork
    complexity: Complexity
    parameters: Optional[Check]


def measure_networks() -> Iterator[MeasuredNetwork]:
    """Count every network of the paper and compare it with the published number."""
    for published in paper.NETWORKS:
        complexity = complexity_of(get_spec(published.name))
        check = check_parameters(published, complexity.parameters)
        yield MeasuredNetwork(published, complexity, check)


def check_table2_column() -> Iterator[Check]:
    """Check note a: the column of parameters is the ResNet's with 100 classes."""
    for layers, printed in zip(paper.TABLE2_L, paper.TABLE2_PARAMETERS):
        spec = get_spec(f"cifar_resnet{2 * layers + 2}", classes=100)
        count = complexity_of(spec).parameters
        yield compare_millions(f"Table 2, L = {layers}: {spec.name}, 100 classes", printed, count)


def check_3x3_projections() -> Iterator[Check]:
    """Check note b: with 3x3 projections, one of two wide networks has the published number."""
    for name, printed, note in (
        ("cifar_dmrnet50_w4", "24.8", ""),
        ("cifar_dmrnet32_w4", "14.9", "b"),
    ):
        counted = complexity_of(get_spec(name))
        more = sum(8 * layer.parameters for layer in counted.layers if layer.kind == "conv 1x1/2")
        yield compare_millions(
            f"{name} with 3x3 projections", printed, counted.parameters + more, note
        )


def check_depths(measured) -> Check:
    """Check the depth of every measured network."""
    found = {one.published.name: one.complexity.depth == one.published.depth for one in measured}
    return _all("depth of the paper's networks, 14 to 194", found)


def check_paths() -> Iterator[Check]:
    """Check average path lengths: introduction, section 3.2, section 4.3."""
    for block, average in paper.BLOCK_AVERAGES.items():
        blocks = 2 if block == RESIDUAL else 1
        count = "two residual blocks" if blocks == 2 else f"one {block.replace('_', '-')} block"
        ours = paths.of_paper(block, blocks).mean - 2
        yield _average(f"average length of {count}, B = 2", Fraction(*average), ours)
    for length in paper.FIGURE3_L:
        for name, block, factor in path_plot.NETWORKS:
            ours = paths.of_paper(block, factor * length).mean
            what = f"average path of the {name}, L = {length}"
            yield _average(what, _published_average(block, length), ours)
    printed = _published_average(MERGE_AND_RUN, 9)
    built = paths.of_network(get_spec("cifar_dmrnet20")).mean
    check = _average("average path of cifar_dmrnet20 as built", printed, built)
    explained = built - printed == Fraction(1, 3)  # B/2 - B/3 for B = 2
    yield replace(check, verdict=KNOWN, note="c") if explained else check
    for blocks, least in paper.FIGURE6:
        layers = least - 3
        spec = get_spec(f"cifar_resnet{2 * layers + 2}_blocks{blocks}")
        ours = paths.of_network(spec, count_projections=True).mean
        yield _average(f"average path of Figure 6, {blocks} blocks, L = {layers}", least, ours)
    specs = [get_spec(row.name) for row in paper.NETWORKS]
    same = {s.name: paths.of_graph(symbol_of(s)) == paths.of_network(s) for s in specs}
    yield _all("path lengths by formula = counted in the graph", same)


def _published_average(block, length):
    """Return the average path length of section 3.2 for L blocks of two layers."""
    return Fraction(*paper.PATH_AVERAGES[block]) * 2 * length + 2


def _average(what, published, ours):
    texts = [_fraction(value) for value in (published, ours, ours - published)]
    return Check(what, *texts, EQUAL if ours == published else DIFFERS)


def _fraction(value):
    value = Fraction(value)
    return str(value) if value.denominator < 10 else f"{float(value):.4f}"


def _all(what, found):
    """Check that all values of a dict are true, and name the others."""
    wrong = [str(name) for name, right in found.items() if not right]
    ours = f"{len(found) - len(wrong)} of {len(found)}"
    return Check(what, f"all {len(found)}", ours, ", ".join(wrong), DIFFERS if wrong else EQUAL)


def _near(what, difference, tolerance, ours=""):
    """Check that two computations are equal within a tolerance; NaN is not."""
    verdict = EQUAL if difference <= tolerance else DIFFERS
    return Check(what, "equal", ours, f"{difference:.1e}", verdict)


def check_mapping() -> Iterator[Check]:
    """Check section 3.2: the merge-and-run mapping is idempotent, and equation (5) holds."""
    for kind, text in (("mean", "merge-and-run"), ("identity", "identity")):
        found = {k: mapping.is_idempotent(mapping.mapping_matrix(k, kind)) for k in range(1, 9)}
        yield _all(f"M M = M of the {text} mapping, K = 1 to 8", found)
    images = mx.nd.array(np.random.RandomState(0).standard_normal((4, 3, 32, 32)))
    for name in ("cifar_dmrnet20", "cifar_dmrnet20_k3"):
        net = symbol_parity.randomise(Network(get_spec(name)))
        yield _near(f"equation (5) in {name}, as it runs", mapping.equation_five(net, images), 1e-5)


def check_equivalences(names=_CONVERTED, steps=3) -> Iterator[Check]:
    """Check Figures 4 and 5 on networks that have been trained for some steps."""
    for name in names:
        spec = get_spec(name)
        size, random = symbol_parity.image_size_of(spec), np.random.RandomState(0)
        data = mx.nd.array(random.standard_normal((16, 3, size, size)))
        label = mx.nd.array(random.randint(0, spec.classes, 16))
        net = symbol_parity.randomise(Network(spec))
        trained = TrainingStep(net, _optimizer(), [mx.cpu()])
        for _ in range(steps):
            trained(data, label, _LR)
        mx.nd.waitall()  # the backward pass writes BN's running statistics
        other = convert_training(trained, _optimizer(), "grouped")
        figure = "Figure 4, equation (6)" if spec.block == INCEPTION_LIKE else "Figure 5"
        after = f"after {steps} steps of training"
        with trained.flat.apart(), other.flat.apart():
            off = symbol_parity.difference(net(data), other.net(data))
            yield _near(f"{figure}: {name}, grouped, {after}", off, 1e-4)
            if spec.block == INCEPTION_LIKE:
                wide = equivalence.fold(net)
                off = symbol_parity.difference(net(data), wide(data))
                yield _near(f"Figure 4: {name} as {wide.spec.name}, {after}", off, 1e-4)
        # The first loss precedes the update, the second shows its effect.
        for text in ("the next step", "the step after it"):
            ((one, _),), ((two, _),) = trained(data, label, _LR), other(data, label, _LR)
            loss = f"{float(one.asscalar()) / len(label):.4f}"
            off = symbol_parity.difference(one, two)
            yield _near(f"{figure}: {name}, loss of {text}", off, 1e-4, loss)
        mx.nd.waitall()
        back = equivalence.convert(other.net, "branches")
        # Compared with the network it came from: in single precision another order of a sum now
        # and then flips a ReLU, so separately trained networks drift apart.
        with other.flat.apart():
            off = symbol_parity.difference(other.net(data), back(data))
        yield _near(f"{figure}: {name}, and back", off, 1e-4)


def _optimizer():
    return NAG2016(learning_rate=_LR, momentum=0.9, wd=1e-4)


def check_symbol_parity(names=KINDS) -> Iterator[Check]:
    """Compare the networks of ``models/`` with those of ``symbols/``."""
    same = {row.name: symbol_parity.same_names(row.name) for row in paper.NETWORKS}
    yield _all("Gluon = symbols: names and shapes", same)
    for name in names:
        agreement = symbol_parity.compare(name)
        outputs = float(np.max([agreement.outputs, agreement.statistics]))  # NaN if either is
        equal = outputs <= _OUTPUTS and agreement.gradients <= _GRADIENTS
        text = f"{outputs:.0e}, {agreement.gradients:.0e}"
        what = f"Gluon = symbols in outputs, BN and gradients: {name}"
        yield Check(what, "equal", "", text, EQUAL if equal else DIFFERS)
