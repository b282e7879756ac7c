"""`dmr verify`: what it finds, what it would not overlook, and the tables made from it."""

import importlib.util
import sys
from dataclasses import replace

import pytest
from conftest import REPOSITORY

from dmr_gluon.analysis import published, verify
from dmr_gluon.analysis.published import DIFFERS, EQUAL, KNOWN
from dmr_gluon.cli import main as cli
from dmr_gluon.paper import numbers as paper


@pytest.fixture(scope="module")
def everything():
    """All sections of the command, once."""
    return {title: list(checks) for title, checks in verify.sections()}


@pytest.mark.slow  # .ci/run calls the command itself
def test_nothing_is_unexplained(everything):
    checks = [check for section in everything.values() for check in section]
    assert not [check for check in checks if check.verdict == DIFFERS]
    assert len(everything) == 7 and len(checks) > 70
    # Twelve rows of Tables 2 and 3, and the average path of a network as it is built.
    # And what would follow for the other wide network, note b.
    assert sum(check.verdict == KNOWN for check in checks) == 14
    assert all(check.note in published.NOTES for check in checks if check.verdict == KNOWN)


@pytest.mark.slow
def test_what_the_paper_prints_is_what_is_compared(everything):
    printed = {check.what: check.published for check in everything[next(iter(everything))]}
    assert len(printed) == 30
    assert printed["parameters of dmrnet44"] == "43.3 M"
    assert printed["parameters of cifar_dmrnet50_w4"] == "24.8 M"
    assert printed["parameters of cifar_dmrnet98"] == "3.1 M"


@pytest.mark.parametrize(
    "name, printed",
    [("cifar_dmrnet56", "1.8"), ("cifar_dmrnet14", "0.5"), ("resnet101", "44.6")],
)
def test_another_printed_number_is_noticed(name, printed, monkeypatch):
    networks = [replace(row, parameters=printed) for row in paper.NETWORKS if row.name == name]
    monkeypatch.setattr(verify.paper, "NETWORKS", networks)
    (measured,) = verify.measure_networks()
    known = name in published.NOTED
    assert measured.parameters.verdict == (KNOWN if known else DIFFERS)


def test_a_known_discrepancy_excuses_one_count_only(monkeypatch):
    """A network that is built otherwise is not covered by the note about Table 2."""
    rows = [row for row in paper.NETWORKS if row.name == "cifar_dmrnet14"]
    monkeypatch.setattr(verify.paper, "NETWORKS", rows)
    get_spec = verify.get_spec
    monkeypatch.setattr(verify, "get_spec", lambda name: get_spec(name, classes=11))
    (measured,) = verify.measure_networks()
    assert measured.parameters.verdict == DIFFERS


def test_another_depth_is_noticed(monkeypatch):
    rows = [replace(row, depth=45) for row in paper.NETWORKS if row.name == "dmrnet44"]
    monkeypatch.setattr(verify.paper, "NETWORKS", rows)
    (measured,) = verify.measure_networks()
    check = verify.check_depths([measured])
    assert (check.verdict, check.difference) == (DIFFERS, "dmrnet44")
    assert measured.parameters.verdict == EQUAL


def test_another_average_of_path_lengths_is_noticed(monkeypatch):
    monkeypatch.setitem(paper.PATH_AVERAGES, "merge_and_run", (1, 2))
    wrong = [check.what for check in verify.check_paths() if check.verdict == DIFFERS]
    assert len(wrong) == 3 and all("DMRNet" in text or "dmrnet" in text for text in wrong)


def test_a_difference_of_forms_is_noticed(monkeypatch):
    monkeypatch.setattr(verify.equivalence, "BN_EPSILON", 0.1)
    checks = list(verify.check_equivalences(["cifar_dilnet14"], steps=1))
    assert [c.what for c in checks if c.verdict == DIFFERS] == [
        "Figure 4: cifar_dilnet14 as cifar_resnet14_inner2, after 1 steps of training"
    ]


def test_a_difference_of_implementations_is_noticed(monkeypatch):
    monkeypatch.setattr(paper, "NETWORKS", paper.NETWORKS[:3])
    for changes, verdict in (
        ({}, EQUAL),
        ({"outputs": 1e-8}, DIFFERS),
        ({"gradients": 1e-6}, DIFFERS),
        ({"statistics": 1e-8}, DIFFERS),
        ({"outputs": float("nan")}, DIFFERS),
        ({"statistics": float("nan")}, DIFFERS),
    ):
        agreement = replace(verify.symbol_parity.Agreement(1e-12, 1e-12, 1e-12), **changes)
        monkeypatch.setattr(verify.symbol_parity, "compare", lambda name, found=agreement: found)
        found = [check.verdict for check in verify.check_symbol_parity(["cifar_dmrnet14"])]
        assert found == [EQUAL, verdict]
    monkeypatch.setattr(verify.symbol_parity, "same_names", lambda name: name != "cifar_dmrnet14")
    assert next(verify.check_symbol_parity([])).verdict == DIFFERS
    assert verify._near("nan", float("nan"), 1).verdict == DIFFERS


def test_a_network_that_violates_equation_five_is_noticed(monkeypatch):
    monkeypatch.setattr(verify.mapping, "equation_five", lambda net, images: 1e-3)
    monkeypatch.setattr(verify.mapping, "is_idempotent", lambda matrix: len(matrix) < 8)
    assert {check.verdict for check in verify.check_mapping()} == {DIFFERS}


@pytest.mark.parametrize("verdict, status", [(EQUAL, None), (KNOWN, None), (DIFFERS, 1)])
def test_the_exit_status_tells_of_what_is_unexplained(verdict, status, monkeypatch, capsys):
    check = published.Check("a number", "1", "2", "+1", verdict, "a" if verdict == KNOWN else "")
    monkeypatch.setattr(verify, "sections", lambda full: [("a section", [check])])
    monkeypatch.setattr(sys, "argv", ["dmr", "verify"])
    if status:
        with pytest.raises(SystemExit) as stopped:
            cli.main()
        assert stopped.value.code == status
    else:
        cli.main()
    printed = capsys.readouterr().out
    assert verdict in printed and "1 checks" in printed and published.NOTES["d"][:40] in printed


def test_the_readmes_table_is_the_generated_one():
    path = REPOSITORY / "docs" / "write_tables.py"
    module = importlib.util.module_from_spec(
        specification := importlib.util.spec_from_file_location("write_tables", path)
    )
    specification.loader.exec_module(module)
    assert module.networks_table() in (REPOSITORY / "docs" / "networks.md").read_text()
