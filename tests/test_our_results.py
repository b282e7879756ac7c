"""docs/results.md says what the logs in results/ say."""

import json

import pytest
from conftest import REPOSITORY

LOGS = sorted((REPOSITORY / "results").glob("*/*/log.jsonl"))


def test_the_document_is_made_from_the_logs(command, tmp_path):
    """By make results, to the letter: the tables, the verdicts and the names of the pictures."""
    (tmp_path / "docs").mkdir()
    document = (REPOSITORY / "docs" / "results.md").read_text()
    before, _, rest = document.partition("<!-- dmr compare -->")
    _, _, after = rest.partition("<!-- /dmr compare -->")
    emptied = f"{before}<!-- dmr compare -->\n<!-- /dmr compare -->{after}"
    (tmp_path / "docs" / "results.md").write_text(emptied)
    (tmp_path / "results").symlink_to(REPOSITORY / "results")
    recipe = (REPOSITORY / "Makefile").read_text().split("\nresults: install\n")[1]
    words = recipe.split("\n\n")[0].replace("\\\n", " ").split()
    assert words[0] == "$(VENV)/bin/dmr"
    done = command("-m", "dmr_gluon.cli.main", *words[1:], cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "docs" / "results.md").read_text() == document
    made = {path.name for path in (tmp_path / "docs" / "figures" / "results").iterdir()}
    kept = {path.name for path in (REPOSITORY / "docs" / "figures" / "results").iterdir()}
    assert made == kept != set()


@pytest.mark.parametrize("path", LOGS, ids=lambda path: path.parent.name)
def test_a_log_is_small_whole_and_of_no_machine(path):
    text = path.read_text()
    assert len(text) < 100_000
    events = [json.loads(line) for line in text.splitlines()]
    assert events[0]["event"] == "start" and events[-1]["event"] == "end"
    assert not events[0]["dataset"]["directory"].startswith("/")
    assert sum(event["event"] == "epoch" for event in events) == events[0]["epochs"]


def test_every_network_was_trained_with_two_seeds_at_least():
    """Table 2's L = 12: the three blocks."""
    starts = [json.loads(path.read_text().splitlines()[0]) for path in LOGS]
    for name in ("cifar_resnet26", "cifar_dilnet14", "cifar_dmrnet14"):
        seeds = {start["seed"] for start in starts if start["network"]["name"] == name}
        assert len(seeds) >= 2, name
