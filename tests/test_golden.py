"""Sizes and parameter names of every network of the paper, against a file of counted ones."""

import hashlib
import json

import pytest
from conftest import REPOSITORY

from dmr_gluon.paper.numbers import NETWORKS

GOLDEN = REPOSITORY / "tests" / "golden"
SIZES = REPOSITORY / "dmr_gluon" / "paper" / "network_sizes.json"
#: Of that file. No test writes it; whoever does has to change this too.
SHA256 = "a1fbc0c8743d08cabee02f18381c28b23db345e64bfcb89ed5e2581c7ee95dcd"


def test_the_golden_file_holds_every_network_and_nobody_has_written_it():
    content = SIZES.read_bytes()
    golden = json.loads(content)
    assert len(golden) == 48
    assert set(golden) == {network.name for network in NETWORKS}
    assert hashlib.sha256(content).hexdigest() == SHA256


@pytest.mark.parametrize("name", [network.name for network in NETWORKS])
def test_counts_and_names_are_those_of_the_golden_file(name, monkeypatch):
    monkeypatch.syspath_prepend(str(GOLDEN))
    from write import count

    assert count(name) == json.loads(SIZES.read_text())[name]


def test_the_writer_writes_nothing_that_is_not_named(monkeypatch, capsys):
    monkeypatch.syspath_prepend(str(GOLDEN))
    import write

    before = SIZES.read_bytes()
    monkeypatch.setattr(write, "NETWORKS", NETWORKS[:2])
    monkeypatch.setattr(write, "count", lambda name: "another")
    with pytest.raises(SystemExit, match="nothing written"):
        write.main([])
    with pytest.raises(SystemExit, match="not a network"):
        write.main(["cifar_dmrnet15"])
    assert NETWORKS[0].name in capsys.readouterr().out
    assert SIZES.read_bytes() == before
