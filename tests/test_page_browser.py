"""The HTML report in a browser: sorting, narrow windows, light and dark. Skipped without one."""

import shutil

import pytest
from browser import Browser, find
from made_up_runs import made_up_run

from dmr_gluon.compare.comparison import compare
from dmr_gluon.compare.html import page

pytestmark = pytest.mark.skipif(find() is None, reason="needs Chromium or Chrome")

#: The least contrast of all texts with what is behind them, by WCAG's formula.
CONTRAST = """(() => {
  const rgb = (text) => text.match(/[\\d.]+/g).map(Number);
  const light = (c) => c.slice(0, 3).map((v) => v / 255)
    .map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const dark = matchMedia("(prefers-color-scheme: dark)").matches;
  const back = light(dark ? [30, 30, 30] : [255, 255, 255]);
  const texts = [...document.querySelectorAll("body *")].filter((e) => e.innerText);
  return Math.min(...texts.map((e) => {
    const ink = light(rgb(getComputedStyle(e).color));
    return (Math.max(ink, back) + 0.05) / (Math.min(ink, back) + 0.05);
  }));
})()"""


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    folder = tmp_path_factory.mktemp("browser")
    runs = [
        *(made_up_run(f"/runs/dmr{seed}", seed=seed, final=6.4 + seed / 20) for seed in (1, 2)),
        made_up_run("/runs/res", "cifar_resnet26", final=10.5),
        made_up_run("/runs/long" + "g" * 300, "cifar_dilnet14", final=7.5),
    ]
    (folder / "page.html").write_text(page(compare(runs, runs), "dmr compare"), encoding="utf-8")
    browser = Browser(find(), str(folder / "profile"))
    browser.open((folder / "page.html").as_uri())
    yield browser
    browser.close()
    shutil.rmtree(folder, ignore_errors=True)


def test_it_loads_without_a_complaint(opened):
    assert opened.seen("Log.entryAdded", "Runtime.exceptionThrown") == []
    assert opened.run("[...document.images].every((image) => image.naturalWidth > 100)")


def test_a_click_sorts_by_numbers_and_again_backwards(opened):
    column = "[...document.querySelector('table').tBodies[0].rows].map((r) => r.cells[3].innerText)"
    header = "document.querySelectorAll('table th')[3]"
    opened.click(header)
    values = [float(text.split()[0]) for text in opened.run(column)]
    assert values == sorted(values) and len(set(values)) == 3
    opened.click(header)
    assert [float(text.split()[0]) for text in opened.run(column)] == sorted(values, reverse=True)
    assert opened.run(f"{header}.ariaSort") == "descending"


@pytest.mark.parametrize("width", [320, 768, 1280])
def test_the_page_is_never_wider_than_the_window(opened, width):
    opened.size(width, phone=width < 500)
    opened.run("document.querySelectorAll('details').forEach((one) => one.open = true)")
    assert opened.run("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_all_text_stands_out_in_both_schemes(opened, scheme):
    opened.media(prefers_color_scheme=scheme)
    assert opened.run(CONTRAST) >= 4.5
