"""The report of ``dmr compare`` as one HTML file, which needs nothing else. Needs no MXNet."""

import base64
import hashlib
import os

from ...errors import DMRError
from ...runs.training_run import counted
from ..statistics import LEVEL, PAPER_RUNS
from .charts import curves
from .groups import details, unknown
from .markup import text
from .tables import SIGNS, Names, beside_each_other, beside_paper, point_by_point, word


def page(comparison, command, pictures=None, reload_seconds=None):
    """The report, the same for the same runs.

    Parameters
    ----------
    comparison : Comparison
    command : str
        That made the page.
    pictures : dict of str to bytes, optional
        By caption, SVG or PNG.
    reload_seconds : int, optional
        Load the page again after so many seconds, for runs that are not finished. What the reader
        has sorted and opened stays.

    Returns
    -------
    str
        HTML, to be written as UTF-8.

    Raises
    ------
    DMRError
        For a picture that is neither SVG nor PNG.
    """
    names = Names(comparison.groups)
    sections = [
        ("paper", "Beside the paper", beside_paper(comparison, names)),
        ("pairs", "Beside each other", beside_each_other(comparison, names)),
        ("points", "Point by point", "".join(map(point_by_point, comparison.points))),
        ("curves", "Curves", curves(comparison.groups, names)),
        ("pictures", "Pictures", _pictures(pictures or {})),
        ("groups", "Trainings", _groups(comparison, names)),
        ("unknown-runs", "Unknown", unknown(comparison.unknown) if comparison.unknown else ""),
        ("made", "How this page was made", _made(command)),
    ]
    sections = [section for section in sections if section[2]]
    contents = "".join(f'<li><a href="#{key}">{title}</a></li>' for key, title, _ in sections)
    body = "".join(
        f'<section aria-labelledby="{key}"><h2 id="{key}">{title}</h2>{content}</section>'
        for key, title, content in sections
    )
    style, script = _file("page.css"), _file("page.js")
    return (
        f"{_head(comparison, style, script, reload_seconds)}<body>"
        f'<a class="skip" href="#{sections[0][0]}">Skip to the results</a>'
        f"<header>{_summary(comparison)}{_reloading(reload_seconds)}"
        f'<nav aria-label="On this page"><ul>{contents}</ul></nav></header>'
        f'<main>{body}</main><p class="visually-hidden" id="say" aria-live="polite"></p>'
        f"<script>{script}</script></body></html>\n"
    )


def _file(what):
    with open(os.path.join(os.path.dirname(__file__), what), encoding="utf-8") as file:
        return file.read()


def _hash(content):
    return base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()


def _head(comparison, style, script, reload_seconds):
    policy = (
        f"default-src 'none'; script-src 'sha256-{_hash(script)}'; "
        f"style-src 'sha256-{_hash(style)}'; img-src data:; base-uri 'none'; form-action 'none'"
    )
    # The script loads it again by itself, so that the reader can stop it.
    again = (
        f'<noscript><meta http-equiv="refresh" content="{reload_seconds}"></noscript>'
        if reload_seconds
        else ""
    )
    return (
        f'<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta name="color-scheme" content="light dark"><meta name="referrer" '
        f'content="no-referrer"><link rel="icon" href="data:,">{again}'
        f"<title>{counted(len(comparison.runs), 'run')} beside the paper</title>"
        f"<style>{style}</style></head>"
    )


def _summary(comparison):
    kinds = [(*SIGNS[row.verdict.kind], word(row)) for row in comparison.rows if row.printed]
    tally = "".join(
        f'<li class="verdict {css}"><b><span aria-hidden="true">{sign}</span> '
        f"{kinds.count((sign, css, words))}</b> {words}</li>"
        for sign, css, words in sorted(set(kinds), key=lambda kind: (kind[0] == "–", kind[2]))
    )
    tally = f'<ul class="tally" aria-label="Verdicts">{tally}</ul>' if tally else ""
    tests = comparison.tests
    chance = (
        f" {counted(tests, 'verdict')} rest{'s' if tests == 1 else ''} on a test at "
        f"{LEVEL:.0%}: where there is no difference, one in {1 / LEVEL:.0f} finds one by chance."
        if tests
        else ""
    )
    caveats = "".join(f'<p class="muted note">{text(caveat)}</p>' for caveat in comparison.caveats)
    return (
        f"<h1>Runs beside the paper</h1><p>Test errors of trainings beside those that “Deep "
        f"Convolutional Neural Networks with Merge-and-Run Mappings” prints, and beside each "
        f"other: {counted(len(comparison.runs), 'run')} in "
        f"{counted(len(comparison.groups), 'group')} of repetitions.{chance}</p>{tally}{caveats}"
    )


def _reloading(seconds):
    if not seconds:
        return ""
    return (
        f'<p class="live" id="live" data-seconds="{seconds}">This page loads itself again '
        f'every {counted(seconds, "second")}. <button type="button" id="pause" '
        f'aria-pressed="false" hidden>Pause</button></p>'
    )


def _pictures(pictures):
    parts = []
    for caption, content in pictures.items():
        if content.startswith(b"\x89PNG"):
            kind = "png"
        elif b"<svg" in content[:4096]:
            kind = "svg+xml"
        else:
            raise DMRError(f"the picture {caption!r} is neither SVG nor PNG; draw it as one")
        parts.append(
            f'<figure class="picture"><img alt="{text(caption)}" src="data:image/{kind};base64,'
            f'{base64.b64encode(content).decode()}"><figcaption>{text(caption)}</figcaption>'
            f"</figure>"
        )
    return "".join(parts)


def _groups(comparison, names):
    return "".join(details(group, names) for group in comparison.groups)


def _made(command):
    return (
        f'<pre class="command"><code>{text(command, 10_000)}</code></pre>'
        f"<p>An error is that after a run’s <b>last epoch</b>, as the paper takes it, not the "
        f"least on the way; <i>best</i> is the least of the runs’ last ones. Only finished runs "
        f"count, each seed once. The paper’s Table 2 prints means over <b>{PAPER_RUNS} runs</b> "
        f"and standard deviations, which the authors’ scripts divide by n. For the verdicts they "
        f"are made sample standard deviations (divided by n − 1, that is × √(5/4)), as ours "
        f"are.</p>"
        f"<p>Two sets of runs are compared by <b>Welch’s t-test</b>, which does not suppose that "
        f"they scatter alike: two-sided, with the 95% interval of the difference. "
        f"<i>Consistent</i> and <i>not distinguished</i> mean that p is at least {LEVEL:.0%}: "
        f"these runs do not tell the two apart, which few runs seldom do. A single run is "
        f"consistent within two of the paper’s standard deviations, and beside several of ours "
        f"within the 95% interval in which one more of them is to be expected. A number that the "
        f"paper prints without a spread is taken as exact. Nothing is corrected for the number of "
        f"tests.</p>"
    )
