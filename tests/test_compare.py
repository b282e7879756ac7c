"""dmr compare, as it is used."""

import json
import os

import pytest
from run_folders import write_run

from dmr_gluon.cli import main as cli
from dmr_gluon.compare.figures.drawing import Picture
from dmr_gluon.errors import DMRError


@pytest.fixture
def runs(tmp_path):
    """Three seeds of DMRNet-14, two of ResNet-26, as the paper trained them; one on other data."""
    for seed, error in ((1, 6.45), (2, 6.50), (3, 6.53)):
        write_run(tmp_path / f"runs/d{seed}", error, network="cifar_dmrnet14", seed=seed)
    for seed, error in ((1, 7.60), (2, 7.70)):
        write_run(tmp_path / f"runs/r{seed}", error, network="cifar_resnet26", seed=seed)
    write_run(tmp_path / "runs/jpeg", 9.0, dataset="cifar10-jpeg", epochs=12)
    return str(tmp_path / "runs")


def compare(*arguments):
    cli._main(["compare", *map(str, arguments)])


def line_of(text, *words):
    """The only line that has all these words."""
    (line,) = [line for line in text.splitlines() if all(word in line for word in words)]
    return line


def test_tables_on_the_terminal(runs, capsys):
    compare(runs)
    text = capsys.readouterr().out
    ours = line_of(text, "cifar_dmrnet14", "6.49 ± 0.04")
    assert "Table 2, L=12" in ours and "6.48 ± 0.04" in ours and "+0.01" in ours
    assert "consistent: Welch test, p = 0.68" in ours
    assert "higher: Welch test" in line_of(text, "cifar_resnet26", "7.65 ± 0.07")
    assert "not comparable (1)" in line_of(text, "cifar_dmrnet14", "9.00")
    assert "(1) not comparable: 12 epochs instead of 400; CIFAR-10-JPEG instead of CIFAR-10" in text
    assert "2 tests at the 5% level" in text
    assert max(map(len, text.splitlines())) < 200


def test_runs_beside_each_other(runs, capsys):
    compare(runs, "--against", runs)
    text = capsys.readouterr().out
    line = line_of(text, "cifar_dmrnet14 (3)", "cifar_resnet26 (2)")
    assert "-1.16" in line and "one: Welch test" in line
    assert text.count("compared with each other") == 1  # one group alone on its data has no other


def test_json_has_what_the_tables_have(runs, capsys):
    compare(runs, "--json", "--against", os.path.join(runs, "r1"))
    found = json.loads(capsys.readouterr().out)
    (row,) = [row for row in found["rows"] if row["group"]["network"] == "cifar_resnet26"]
    assert row["sample"]["count"] == 2 and abs(row["sample"]["mean"] - 7.65) < 1e-9
    assert row["verdict"]["kind"] == "higher" and row["printed"] == "6.62 ± 0.24"
    kinds = {pair["one"]["network"]: pair["verdict"]["kind"] for pair in found["pairs"]}
    # Of ResNet-26 one of the two runs is on both sides.
    assert kinds == {"cifar_dmrnet14": "lower", "cifar_resnet26": "none"}
    seeds = [run["seed"] for group in found["groups"] for run in group["runs"]]
    assert sorted(seeds) == [1, 1, 1, 1, 2, 2, 3]


class TestMarkdown:
    def test_a_new_document(self, runs, tmp_path, capsys):
        document = tmp_path / "docs" / "results.md"
        document.parent.mkdir()
        compare(runs, "--markdown", document, "--pictures", tmp_path / "pictures")
        text = document.read_text()
        assert text.startswith("# Results\n\n## CIFAR-10: compared with the paper\n\n| network |")
        linked = [line.split("](")[1].strip("<>)") for line in text.splitlines() if "![" in line]
        assert linked and all((document.parent / path).is_file() for path in linked)
        assert "written: " in capsys.readouterr().err

    def test_between_its_marks_of_a_document_that_is_there(self, runs, tmp_path):
        document = tmp_path / "own.md"
        document.write_text(
            "Before.\n\n<!-- dmr compare -->\nold\n<!-- /dmr compare -->\n\nAfter.\n"
        )
        compare(runs, "--markdown", document)
        text = document.read_text()
        assert text.startswith("Before.\n\n<!-- dmr compare -->\n## ") and "old" not in text
        assert text.endswith("<!-- /dmr compare -->\n\nAfter.\n")
        compare(runs, "--markdown", document)
        assert document.read_text() == text

    def test_what_is_outside_the_marks_stays_to_the_byte(self, runs, tmp_path):
        document, link = tmp_path / "document.md", tmp_path / "link.md"
        around = b"# Title\r\n\r\n<!-- dmr compare -->\r\n<!-- /dmr compare -->\r\n\r\n\r\n"
        document.write_bytes(around)
        link.symlink_to(document)
        compare(runs, "--markdown", link)
        before, _, rest = document.read_bytes().partition(b"<!-- dmr compare -->")
        assert (before, rest.partition(b"<!-- /dmr compare -->")[2]) == (
            b"# Title\r\n\r\n",
            b"\r\n\r\n\r\n",
        )
        assert link.is_symlink()

    def test_a_document_without_marks_is_left_alone(self, runs, tmp_path):
        document = tmp_path / "own.md"
        document.write_text("Mine.\n")
        with pytest.raises(DMRError, match="exists without <!-- dmr compare -->"):
            compare(runs, "--markdown", document)
        assert document.read_text() == "Mine.\n"

    def test_names_are_shown_as_they_are(self, tmp_path):
        write_run(tmp_path / "runs/a|b*c", 9.0, dataset="my <b>set</b> | x")
        compare(tmp_path / "runs", "--markdown", tmp_path / "new.md")
        text = (tmp_path / "new.md").read_text()
        assert "\\<b\\>set\\</b\\> \\| x" in text and "<b>" not in text


def test_a_page_and_pictures(runs, tmp_path, monkeypatch):
    drawn, draw = [], Picture._figure.func
    monkeypatch.setattr(Picture._figure, "func", lambda self: drawn.append(self) or draw(self))
    compare(runs, "--html", tmp_path / "page.html", "--pictures", tmp_path / "pictures")
    page = (tmp_path / "page.html").read_text()
    assert "cifar_dmrnet14" in page and "6.49" in page and "<code>dmr" in page
    names = sorted(os.listdir(tmp_path / "pictures"))
    assert 2 * len(drawn) == len(names)  # each figure is laid out once for all its files
    assert names and {os.path.splitext(name)[1] for name in names} == {".png", ".svg"}


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["nowhere"], "nowhere cannot be read"),
        (["RUNS", "--html", "RUNS"], "cannot be written (Is a directory)"),
        (["RUNS", "--against", "nowhere"], "nowhere cannot be read"),
    ],
)
def test_wrong_input_is_refused_in_one_line(runs, arguments, message):
    with pytest.raises(DMRError) as refusal:
        compare(*(runs if argument == "RUNS" else argument for argument in arguments))
    assert message in str(refusal.value) and "\n" not in str(refusal.value)


def test_a_file_that_cannot_be_written_is_named(runs, tmp_path, command):
    done = command(
        "-m", "dmr_gluon.cli.main", "compare", runs, "--html", str(tmp_path / "no/page.html")
    )
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert "no/page.html" in done.stderr
