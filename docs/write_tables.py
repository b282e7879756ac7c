"""Write the generated table of docs/networks.md: python docs/write_tables.py [--check].

The table of networks is what `dmr verify` finds: sizes counted in the built graphs, beside
what the paper prints. With --check nothing is written, and a table that is out of date is an
error.
"""

import itertools
import sys
from pathlib import Path

from dmr_gluon.analysis.published import EQUAL, NOTES
from dmr_gluon.analysis.verify import measure_networks
from dmr_gluon.system.text_tables import markdown_table, replace_between

PAGE = Path(__file__).resolve().parent / "networks.md"


def networks_table():
    """One row for each place in the paper, in Markdown."""
    rows, notes = [], {}
    for source, group in itertools.groupby(measure_networks(), lambda one: one.published.source):
        group = list(group)
        checks = [one.parameters for one in group if one.parameters]
        letters = sorted({check.note for check in checks if check.verdict != EQUAL})
        notes.update({letter: NOTES[letter] for letter in letters})
        printed = {check.published.split()[0]: None for check in checks}
        rows.append(
            (
                source,
                ", ".join(f"`{one.published.name}`" for one in group),
                ", ".join(f"{one.complexity.parameters / 1e6:.3f}" for one in group),
                ", ".join(printed) + "".join(f" ({letter})" for letter in letters),
                ", ".join(f"{one.complexity.multiply_adds / 1e6:,.0f}" for one in group),
            )
        )
    header = ("paper", "networks", "M parameters", "paper's", "M multiply-adds")
    table = markdown_table(header, rows)
    explained = "\n".join(f"- ({letter}) {text}" for letter, text in sorted(notes.items()))
    return f"{table}\n\n{explained}"


def main(check):
    text = PAGE.read_text(encoding="utf-8")
    new = replace_between(text, "networks", networks_table())
    if check and new != text:
        sys.exit("docs/networks.md is out of date: make figures")
    PAGE.write_text(new, encoding="utf-8")


if __name__ == "__main__":
    main("--check" in sys.argv[1:])
