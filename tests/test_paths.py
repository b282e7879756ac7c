"""Path lengths: the generating functions against paths that are followed one by one."""

import json
from collections import Counter
from fractions import Fraction

import pytest

from dmr_gluon import get_model
from dmr_gluon.analysis import paths
from dmr_gluon.analysis.path_plot import draw
from dmr_gluon.errors import DMRError
from dmr_gluon.models.names import get_spec
from dmr_gluon.paper.numbers import NETWORKS
from dmr_gluon.runs.learning_curve import write_picture


def follow(symbol, count_projections=False):
    """Lengths of all paths, by walking along each of them from the logits to the image."""
    nodes = json.loads(symbol.tojson())["nodes"]
    lengths = Counter()

    def walk(number, length):
        node = nodes[number]
        if node["name"] == "data":
            lengths[length] += 1
            return
        layer = node["op"] in ("Convolution", "FullyConnected")
        if "_proj" in node["name"] and not count_projections:
            layer = False
        for source, *_ in node["inputs"]:
            if nodes[source]["op"] != "null" or nodes[source]["name"] == "data":
                walk(source, length + layer)

    walk(len(nodes) - 1, 0)
    return dict(lengths)


@pytest.mark.parametrize("count_projections", [False, True])
@pytest.mark.parametrize(
    "name",
    [
        "cifar_plain14",
        "cifar_resnet14",
        "cifar_resnet14_blocks3",
        "cifar_dilnet14",
        "cifar_dilnet8_k3",
        "cifar_dmrnet14",
        "cifar_dmrnet8_k3",
        "cifar_dmrnet14_identity",
        "cifar_dmrnet14_unshared",
        "cifar_dmrnet14_identity_unshared",
    ],
)
def test_formulas_equal_paths_that_are_followed_one_by_one(name, count_projections):
    symbol = get_model(name).portable_symbol()
    expected = follow(symbol, count_projections)
    assert paths.of_network(get_spec(name), count_projections).counts == expected
    assert expected and (count_projections or paths.of_graph(symbol).counts == expected)


def test_an_imagenet_network_without_projections():
    spec = get_spec("dmrnet50_ijcai", blocks=(1, 1, 2, 1))
    net = get_model("dmrnet50_ijcai", blocks=(1, 1, 2, 1))
    assert paths.of_network(spec).counts == follow(net.portable_symbol())


@pytest.mark.parametrize("name", [row.name for row in NETWORKS if row.depth < 60])
def test_formulas_equal_the_graph(name):
    graph = paths.of_graph(get_model(name).portable_symbol())
    assert paths.of_network(get_spec(name)) == graph


def test_the_papers_count_is_that_of_blocks_that_keep_their_streams():
    """With a head for each stream all blocks are alike, but for one factor K."""
    built = paths.of_network(get_spec("cifar_dmrnet14_unshared"))
    published = paths.of_paper("merge_and_run", 6)
    assert built.counts == {n: 2 * count for n, count in published.counts.items()}


@pytest.mark.parametrize("length", [1, 9, 24, 100])
@pytest.mark.parametrize("layers", [2, 3, 5])
def test_averages_are_those_of_section_3_2(length, layers):
    averages = {
        "residual": (2 * length, layers * length + 2),
        "inception_like": (length, Fraction(2 * layers * length, 3) + 2),
        "merge_and_run": (length, Fraction(layers * length, 3) + 2),
    }
    for block, (blocks, average) in averages.items():
        assert paths.of_paper(block, blocks, layers).mean == average


def test_the_deviation_is_that_of_independent_blocks():
    # A path through a residual block has 0 or B layers with equal chances: variance B^2 / 4.
    assert paths.of_paper("residual", 18, 2).std == pytest.approx(18**0.5)
    assert paths.of_paper("merge_and_run", 9, 2).std == pytest.approx((9 * 4 * 2 / 9) ** 0.5)
    assert sum(map(paths.of_paper("residual", 3).share, range(20))) == pytest.approx(1)


def test_another_kind_of_block_is_refused():
    with pytest.raises(DMRError, match="residual"):
        paths.of_paper("plain", 3)


def test_figure_3_is_drawn(tmp_path):
    write_picture(lambda: draw([9, 24]), str(tmp_path / "paths.png"))
    assert (tmp_path / "paths.png").stat().st_size > 20_000
