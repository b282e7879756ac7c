"""The report of ``dmr compare`` as one HTML file without references to the network.

It shows the tables of :mod:`.tables` and the figures of :mod:`.figures`. Names and messages come
from logs and folders, which anybody may have written: all of them are escaped.
"""

import base64
import dataclasses
import hashlib
import os
from html import escape

from ..paper.recipes import OF_DATASET, Recipe
from ..runs.reader import FINISHED
from ..system.text_tables import counted
from .figures.drawing import pictures_of
from .groups import published_name, recipe_deviations, shown
from .statistics import LEVEL, PAPER_RUNS
from .tables import Section, printable, sections

_METHOD = (
    "An error is that after a run's last epoch, as in the paper, not the least on the way; “best” "
    "is the least of the runs' last ones. Only finished runs count, each seed once.",
    f"The paper's Table 2 prints means over {PAPER_RUNS} runs and standard deviations, which the "
    f"authors' scripts divide by n. The verdicts use sample standard deviations (n - 1) for both: "
    f"what it prints, times √(5/4).",
    f"Two sets of runs are compared by Welch's t-test, two-sided, with the 95% interval of the "
    f"difference. “Consistent” and “not distinguished” mean that p is at least {LEVEL:.0%}: these "
    f"runs do not tell the two apart. A single run is consistent within two of the paper's "
    f"standard deviations, or within the 95% prediction interval of several of ours. A number that "
    f"the paper prints without a spread is taken as exact. Nothing is corrected for the number of "
    f"tests.",
)


def page(comparison, command, reload_seconds=None):
    """Return the report, the same for the same runs.

    Parameters
    ----------
    comparison : Comparison
    command : str
        The command that made the page.
    reload_seconds : int, optional
        Reload the page at this interval, for runs that are not finished.

    Returns
    -------
    str
        HTML, to be written as UTF-8.
    """
    style, script = _file("page.css"), _file("page.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = (
        f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
        f"script-src 'sha256-{digest}'"
    )
    reload = f'<meta http-equiv="refresh" content="{reload_seconds}">' if reload_seconds else ""
    runs, groups = counted(len(comparison.runs), "run"), len(comparison.groups)
    title = f"{runs} in {counted(groups, 'group')}, compared with the paper"
    body = [
        f"<h1>{title}</h1>",
        *(_section(section, "h2") for section in sections(comparison)),
        *map(_figure, pictures_of(comparison).values()),
        "<h2>Trainings</h2>",
        *map(_details, comparison.groups),
        "<h2>Method</h2>",
        f"<p>Made by <code>{_text(command)}</code>.</p>",
        *(f"<p>{_text(paragraph)}</p>" for paragraph in _METHOD),
    ]
    return (
        f'<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">{reload}'
        f"<title>{title}</title><style>{style}</style></head><body>\n"
        + "\n".join(body)
        + f"\n<script>{script}</script></body></html>\n"
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
    (content,) = picture.write("svg")
    data = base64.b64encode(content).decode()
    return (
        f'<figure><img alt="{_text(picture.title)}" src="data:image/svg+xml;base64,{data}">'
        f"<figcaption>{_text(picture.title)}. {_text(picture.caption)}</figcaption></figure>"
    )


def _details(group):
    """Return a group's runs, recipe and environment, to be opened."""
    setup = group.setup
    deviations = "; ".join(group.deviations) or "none"
    runs = Section(
        "Runs",
        ("run", "seed", "state", "epochs", "test error", "left out because"),
        [
            (
                *(run.path, shown(run.setup.seed), run.state, f"{run.last}/{setup.epochs}"),
                f"{run.final('test_error'):.2f}" if run.state == FINISHED else "-",
                group.reasons.get(run.path, "-"),
            )
            for run in group.runs
        ],
        (1, 3, 4),
        list(group.remarks),
    )
    paper, differs = OF_DATASET.get(published_name(setup.dataset)), recipe_deviations(setup)
    recipe = Section(
        "Recipe",
        ("field", "value", f"recipe {paper.name} of the paper" if paper else "usual", "meaning"),
        [
            (
                *(item.name, shown(getattr(setup.recipe, item.name))),
                shown(differs[item.name][1]) if item.name in differs else "the same",
                item.metadata.get("help", "-"),
            )
            for item in dataclasses.fields(Recipe)
            if item.name not in ("name", "model")
        ],
    )
    facts = [
        (run.name, name, _plain(value))
        for run in group.runs
        for name, value in run.setup.environment.items()
    ]
    environment = Section("Environment", ("run", "fact", "value"), facts)
    tables = "".join(map(_section, (runs, recipe, environment)))
    return (
        f"<details><summary>{_text(group.title)}, {counted(setup.epochs, 'epoch')}, "
        f"{counted(len(group.runs), 'run')} ({_text(group.runs[0].name)})</summary>"
        f"<p>Deviations from the paper: {_text(deviations)}</p>{tables}</details>"
    )


def _plain(value):
    if isinstance(value, dict):
        return ", ".join(f"{key} {part}" for key, part in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
