"""The report's details of each group, and of runs of which nothing is known. Needs no MXNet."""

import dataclasses
import json

from ...paper.recipes import OF_DATASET, Recipe
from ...runs.training_run import AUTHORS, FINISHED, counted
from ..groups import dataset_title, published_name, unlike_the_paper
from .markup import Cell, bullets, name, number, table, text

#: Lines about one log that are shown.
_PROBLEMS = 10


def details(group, names):
    """All that is known of a group, folded.

    Parameters
    ----------
    group : Group
    names : Names

    Returns
    -------
    str
    """
    sample, key, count = group.sample(), names.key(group), len(group.runs)
    facts = counted(count, "run")
    if len(group.counted) != count:
        facts += f", {len(group.counted)} of them count{'s' if len(group.counted) == 1 else ''}"
    if sample:
        facts += f", {sample.mean:.2f}%"
    unlike = ', <span class="unlike">unlike the paper’s</span>' if group.departures else ""
    parts = [
        _facts(group),
        _list("Unlike the paper’s training", group.departures),
        _list("Remarks", group.remarks),
        _list("Changed while it ran", group.runs[0].changes),
        _runs(group, key),
        _problems(group.runs),
        _recipe(group.setup, key),
        _environment(group.runs),
    ]
    return (
        f'<details class="group" id="{key}"><summary id="{key}-summary">'
        f"<span>{name(names.label(group))} on {name(dataset_title(group.setup.dataset))}</span> "
        f'<span class="muted">{facts}{unlike}</span></summary>{"".join(parts)}</details>'
    )


def _list(title, items):
    return f"<h4>{title}</h4>{bullets(items)}" if items else ""


def _facts(group):
    setup = group.setup
    images = ", ".join(f"{count:,} {kind}" for kind, count in setup.images.items())
    facts = [
        ("network", name(setup.network)),
        ("data set", name(setup.dataset)),
        ("images", text(images) or "not known"),
        ("epochs", text(setup.epochs)),
        ("BN over", "not known" if setup.bn_images is None else f"{setup.bn_images} images"),
        ("log", "of the authors’ code" if group.runs[0].format == AUTHORS else "dmr_gluon"),
    ]
    rows = "".join(f"<div><dt>{term}</dt><dd>{value}</dd></div>" for term, value in facts)
    return f'<dl class="facts">{rows}</dl>'


def _runs(group, key):
    reasons = group.reasons
    rows = []
    for run in group.runs:
        final = run.epochs.get(run.setup.epochs, {}).get("test_error")
        rows.append(
            [
                name(run.name),
                number(run.setup.seed, "{}"),
                text(run.state),
                Cell(f"{run.last} of {run.setup.epochs}", run.last),
                number(final if run.state == FINISHED else None),
                text(f"no: {reasons[run.path]}" if run.path in reasons else "yes", 400),
                f"<code>{text(run.path, 1000)}</code>",
            ]
        )
    columns = [
        ("run", "text"),
        ("seed", "number"),
        ("state", "text"),
        ("epochs", "number"),
        ("final error %", "number"),
        ("counts", "text"),
        ("where", "text"),
    ]
    return "<h4>Runs</h4>" + table(f"runs-{key}", columns, rows, f"Runs of {group.title}")


def _problems(runs):
    found = [
        f"<li>{name(run.name)}: {bullets(run.problems, _PROBLEMS)}</li>"
        for run in runs
        if run.problems
    ]
    return f"<h4>Problems in the logs</h4><ul>{''.join(found)}</ul>" if found else ""


def _recipe(setup, key):
    """Every field of the recipe, with the paper's where that is another."""
    recipe = setup.recipe
    if recipe is None:
        return '<h4>Recipe</h4><p class="muted">The log does not say it.</p>'
    paper = OF_DATASET.get(published_name(setup.dataset))
    unlike = unlike_the_paper(setup)
    rows, alike = [], []
    for item in dataclasses.fields(Recipe):
        if item.name in ("name", "model"):
            continue
        differs = item.name in unlike
        its = f"≠ {text(_value(unlike[item.name][1]))}" if differs else "the same"
        meaning = text(item.metadata.get("help", "images it was published with"), 400)
        source = item.metadata.get("source")
        if source:
            meaning += f' <span class="muted">· {text(source)}</span>'
        rows.append(
            [
                f"<code>{item.name}</code>",
                text(_value(getattr(recipe, item.name))),
                f'<strong class="unlike">{its}</strong>' if differs else its,
                meaning,
            ]
        )
        if not differs:
            alike.append(len(rows) - 1)
    whose = f"the paper’s recipe {paper.name}" if paper else f"the recipe {recipe.name}"
    columns = [("field", "text"), ("here", "text"), (f"in {whose}", "text"), ("meaning", "text")]
    return "<h4>Recipe</h4>" + table(f"recipe-{key}", columns, rows, f"Recipe, and {whose}", alike)


def _value(value):
    if isinstance(value, tuple):
        return ", ".join(map(_value, value))
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "none" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def _environment(runs):
    """Where the runs ran: what several have alike once, each with its command."""
    found = {}
    for run in runs:
        same = dict(run.setup.environment)
        command = same.pop("command", None)
        if run.setup.environment:
            found.setdefault(json.dumps(same, sort_keys=True), []).append((run, command))
    parts = []
    for same, members in found.items():
        facts = "".join(
            f"<div><dt>{text(term)}</dt><dd>{text(_plain(value), 1000)}</dd></div>"
            for term, value in json.loads(same).items()
        )
        commands = "".join(
            f"<li>{name(run.name)}: <code>{text(command or 'command not known', 2000)}</code></li>"
            for run, command in members
        )
        parts.append(f'<dl class="facts">{facts}</dl><ul>{commands}</ul>')
    return f"<h4>Environment</h4>{''.join(parts)}" if parts else ""


def _plain(value):
    if isinstance(value, dict):
        return ", ".join(f"{key} {_plain(part)}" for key, part in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_plain, value))
    return str(value)


def unknown(runs):
    """Runs of which nothing says what was trained, with their problems."""
    rows = [
        [name(run.name), f"<code>{text(run.path, 1000)}</code>", bullets(run.problems, _PROBLEMS)]
        for run in runs
    ]
    columns = [("run", "text"), ("where", "text"), ("problems", "text")]
    caption = "Runs of which nothing says what was trained"
    return table("unknown", columns, rows, caption)
