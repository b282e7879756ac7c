"""The paper's numbers as data, against sums made from its text and against each other."""

from dmr_gluon.models.names import get_spec
from dmr_gluon.paper import numbers as paper


def hundredths(values):
    return sum(round(float(value) * 100) for value in values if value is not None)


def test_the_columns_of_table_2_have_the_sums_of_the_paper():
    sums = {
        "cifar10": {"resnet": (4497, 156), "dilnet": (4370, 107), "dmrnet": (4281, 89)},
        "cifar100": {"resnet": (21147, 269), "dilnet": (21005, 305), "dmrnet": (20858, 137)},
        "svhn": {"resnet": (1535, 59), "dilnet": (1506, 72), "dmrnet": (1453, 53)},
    }
    for (dataset, family), cells in paper.TABLE2_ERRORS.items():
        assert len(cells) == len(paper.TABLE2_L) == len(paper.TABLE2_PARAMETERS)
        found = tuple(hundredths(column) for column in zip(*cells))
        assert found == sums[dataset][family], (dataset, family)


def test_the_columns_of_tables_3_to_5_have_the_sums_of_the_paper():
    columns = list(zip(*paper.TABLE3))
    assert [hundredths(column) for column in columns[2:]] == [1247, 6266, 474]
    assert [hundredths(column) for column in zip(*paper.TABLE4.values())] == [6066, 5019]
    found = [hundredths(column) for column in zip(*paper.TABLE5.values())]
    assert found == [1949, 1861, 9566, 9508]


def test_tables_2_3_and_5_agree_with_each_other():
    mean = {
        (dataset, layers): cells[i][0]
        for (dataset, family), cells in paper.TABLE2_ERRORS.items()
        if family == "dmrnet"
        for i, layers in enumerate(paper.TABLE2_L)
    }
    for layers in (48, 96):
        _, ten, _, hundred = paper.TABLE5[True, layers]
        assert ten == mean["cifar10", layers] and hundred == mean["cifar100", layers]
    name, depth, *ours = paper.TABLE3[0]
    assert (name, depth) == ("dmrnet", 56)
    assert ours == [mean[dataset, 54] for dataset in ("cifar10", "cifar100", "svhn")]


def test_every_network_is_one_and_has_the_depth_of_its_row():
    names = [row.name for row in paper.NETWORKS]
    assert len(names) == len(set(names)) == 48
    for row in paper.NETWORKS:
        assert get_spec(row.name).depth == row.depth and get_spec(row.name).name == row.name
