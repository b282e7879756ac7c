"""The HTML report: what it has, and that nothing from a log can do anything there."""

import base64
import re
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from html import unescape
from html.parser import HTMLParser

import pytest
from made_up_runs import made_up_run

from dmr_gluon.compare.comparison import compare
from dmr_gluon.compare.figures.drawing import pictures_of
from dmr_gluon.compare.html import page
from dmr_gluon.compare.tables import sections
from dmr_gluon.paper.recipes import IMAGENET
from dmr_gluon.runs.reader import FAILED, RUNNING

COMMAND = "dmr compare runs --html report.html"
VOID = {"meta", "img"}
HOSTILE = [
    "<script>alert(1)</script>",
    "\"><img src=x onerror=alert(1)>' onload='alert(1)",
    "</script></style></title><!--",
    "\u202egnp.exe\u2066\u2028\u0000\x1b[31m\udc80",
    "&lt;b&gt;" + "x" * 500,
]


class Page(HTMLParser):
    """A page's elements, refused if they are not closed in order."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.open, self.elements, self.texts = [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open and self.open.pop() == tag, f"</{tag}> at {self.getpos()}"

    def handle_data(self, text):
        if self.open and self.open[-1] not in ("script", "style"):
            self.texts.append(text)

    @property
    def shape(self):
        return [(tag, tuple(found)) for tag, found in self.elements]

    def attributes(self, name):
        return [found[name] for _, found in self.elements if name in found]


@pytest.fixture(scope="module")
def comparison():
    """A comparison that has everything."""
    runs = [
        *(made_up_run(f"/runs/dmr{seed}", seed=seed, final=6.4 + seed / 20) for seed in (1, 2, 3)),
        *(made_up_run(f"/runs/res{s}", "cifar_resnet26", seed=s, final=7 + s / 9) for s in (1, 2)),
        made_up_run("/runs/late", seed=4, upto=123, state=FAILED, reason="killed"),
        made_up_run("/runs/slow", "cifar_dilnet14", upto=30, state=RUNNING),
        made_up_run("/runs/short", epochs=12, final=14.2),
        made_up_run(
            "/runs/big", "dmrnet44", "imagenet", epochs=100, final=23.7, recipe=IMAGENET,
            images={"train": 1_281_167, "test": 50_000},
        ),
    ]  # fmt: skip
    return compare(runs, runs)


@pytest.fixture(scope="module")
def full(comparison):
    return page(comparison, pictures_of(comparison), COMMAND)


def test_it_has_the_tables_of_the_terminal(comparison, full):
    texts = set(Page(full).texts)
    for section in sections(comparison):
        for row in (section.header, *section.rows, section.notes):
            assert {str(cell) for cell in row if str(cell)} <= texts, row


def test_every_training_has_its_details(comparison, full):
    text = " ".join(Page(full).texts)
    assert len(re.findall("<details>", full)) == len(comparison.groups)
    for run in comparison.runs:
        assert run.path in text
    for words in (
        "failed after epoch 123 of 400: killed",
        "running after epoch 30 of 400",
        "weight_decay",
        "12 epochs instead of 400",
        '"cpu(0)", "cpu(1)"',
        COMMAND,
    ):
        assert words in text


def test_it_needs_nothing_else(full):
    found = Page(full)
    assert not found.attributes("href") and not found.attributes("style")
    assert not re.findall(r"(?i)https?://|@import|url\(", re.sub(r'src="data:[^"]*"', "", full))
    images = [unescape(source) for source in found.attributes("src")]
    assert len(images) >= 4
    for image in images:
        kind, data = image.split(";base64,")
        assert kind == "data:image/svg+xml"
        ElementTree.fromstring(base64.b64decode(data))
    assert all(found.attributes("alt"))


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_nothing_from_a_log_is_anything_but_text(text):
    def made(name):
        runs = [
            made_up_run(
                "/runs/" + name.replace("\0", ""),
                dataset=name,
                epochs=3,
                environment={name: [name]},
            ),
            made_up_run("/runs/b", state=FAILED, upto=2, reason=name, epochs=3),
        ]
        runs[1] = replace(runs[1], changes=(name,), remarks=(name,))
        comparison = compare(runs)
        return page(comparison, pictures_of(comparison), name)

    found = made(text)
    assert Page(found).shape == Page(made("harmless")).shape
    found.encode()  # no half of a surrogate
    assert not [c for c in found if c != "\n" and not c.isprintable()]


def test_the_same_runs_give_the_same_page(comparison, full):
    assert page(comparison, pictures_of(comparison), COMMAND) == full
