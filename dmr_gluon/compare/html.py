"""Write the report of ``dmr compare`` as one HTML file without references to the network.

It shows the tables of :mod:`.tables` and the figures of :mod:`.figures`. Names and messages come
from logs and folders, which anybody may have written, so all of them are escaped.
"""

import base64
import json
import os
from html import escape

from ..system.text_tables import counted
from .groups import shown
from .statistics import LEVEL, PAPER_RUNS
from .tables import Section, printable, sections

_METHOD = (
    f"An error is that after a run's last epoch, as in the paper; “best” is the minimum over the "
    f"runs. Table 2 prints means and NumPy's standard deviations over {PAPER_RUNS} runs; verdicts "
    f"use sample standard deviations, √(5/4) times as large. “Consistent” and “not distinguished” "
    f"mean p ≥ {LEVEL:.0%} in a two-sided t-test, without correction for the number of tests. In "
    f"curves, bands span the finished runs, and thin lines with a cross are unfinished runs; "
    f"elsewhere bars are standard deviations, and dots single runs."
)


def page(comparison, pictures, command):
    """Return the report as HTML, the same for the same runs.

    Parameters
    ----------
    comparison : Comparison
    pictures : dict of str to Picture
        From :func:`.figures.drawing.pictures_of`.
    command : str
        The command that made the page.

    Returns
    -------
    str
        To be written as UTF-8.
    """
    groups = counted(len(comparison.groups), "group")
    title = f"{counted(len(comparison.runs), 'run')} in {groups}, compared with the paper"
    body = [
        f"<h1>{title}</h1>",
        *(_section(section, "h2") for section in sections(comparison)),
        *map(_figure, pictures.values()),
        "<h2>Trainings</h2>",
        *map(_details, comparison.groups),
        f"<h2>Method</h2><p>{_METHOD} Made by <code>{_text(command)}</code>.</p>",
    ]
    return (
        f'<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{title}</title><style>{_file('page.css')}</style></head><body>\n"
        + "\n".join(body)
        + f"\n<script>{_file('page.js')}</script></body></html>\n"
    )


def _file(name):
    with open(os.path.join(os.path.dirname(__file__), name), encoding="utf-8") as file:
        return file.read()


def _text(value):
    return escape(printable(str(value)))


def _section(section, heading="h3"):
    parts = [f"<{heading}>{_text(section.title)}</{heading}>"]
    if section.rows:
        head = _cells("th", section.header, section.right)
        rows = "\n".join(f"<tr>{_cells('td', row, section.right)}</tr>" for row in section.rows)
        parts.append(
            f'<div class="scroll" tabindex="0"><table><thead><tr>{head}</tr></thead>'
            f"<tbody>{rows}</tbody></table></div>"
        )
    if section.notes:
        notes = "".join(f"<li>{_text(note)}</li>" for note in section.notes)
        parts.append(f'<ul class="muted">{notes}</ul>')
    return "\n".join(parts)


def _cells(tag, row, right):
    classes = [
        "right" if i in right else "long" if len(str(cell)) > 40 else ""
        for i, cell in enumerate(row)
    ]
    return "".join(f'<{tag} class="{css}">{_text(cell)}</{tag}>' for cell, css in zip(row, classes))


def _figure(picture):
    data = base64.b64encode(picture.content("svg")).decode()
    return (
        f'<figure><img alt="{_text(picture.title)}" src="data:image/svg+xml;base64,{data}">'
        f"<figcaption>{_text(picture.title)}</figcaption></figure>"
    )


def _details(group):
    """Return a group's runs, recipe and environment, folded."""
    setup, reasons = group.setup, {run.path: reason for run, reason in group.left_out}
    runs = [
        (
            run.path,
            shown(run.setup.seed),
            run.state,
            f"{run.last}/{setup.epochs}",
            "-" if run.final("test_error") is None else f"{run.final('test_error'):.2f}",
            reasons.get(run.path, "-"),
        )
        for run in group.runs
    ]
    recipe = [(name, shown(value)) for name, value in vars(setup.recipe).items()]
    environment = [(name, json.dumps(value)) for name, value in setup.environment.items()]
    header = ("run", "seed", "state", "epochs", "test error", "left out because")
    tables = (
        Section("Runs", header, runs, (1, 3, 4), list(group.remarks)),
        Section("Recipe", ("field", "value"), recipe),
        Section("Environment of the first run", ("fact", "value"), environment),
    )
    return (
        f"<details><summary>{_text(group.title)}, {counted(setup.epochs, 'epoch')}, "
        f"{counted(len(group.runs), 'run')} ({_text(group.runs[0].name)})</summary>"
        f"<p>Deviations from the paper: {_text('; '.join(group.deviations) or 'none')}</p>"
        f"{''.join(map(_section, tables))}</details>"
    )
