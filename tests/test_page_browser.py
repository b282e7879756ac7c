"""The HTML report in a real browser: what it does there, and what it must not do."""

import os
import re
import time

import pytest
from browser import Browser, find
from made_up_runs import made_up_run

from dmr_gluon.compare.comparison import compare
from dmr_gluon.compare.html.page import page
from dmr_gluon.paper.recipes import IMAGENET
from dmr_gluon.runs.training_run import STOPPED, Run

pytestmark = pytest.mark.skipif(
    find() is None, reason="no chromium, chromium-browser or google-chrome is installed"
)

SCRIPT = "<script>alert(1)</script>"
#: A picture with styles of its own, as matplotlib writes it.
PICTURE = (
    b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg" width="90" height="30">'
    b'<style>rect { fill: #00ff00 }</style><rect width="90" height="30"/></svg>'
)
CHART = "document.querySelectorAll('svg.chart')"


def the_runs():
    yield from (made_up_run(f"/runs/d{s}", seed=s, final=6.4 + s / 9) for s in (1, 2, 3))
    yield made_up_run("/runs/r1", "cifar_resnet26", final=7.1)
    yield made_up_run("/runs/wide", "cifar_dmrnet32_w4", upto=90)
    yield made_up_run(f"/runs/{SCRIPT}", dataset=f"my {SCRIPT}", called=SCRIPT, epochs=12)
    yield made_up_run(
        "/runs/" + "very_long" * 30, dataset="y" * 300, called="x" * 300, final=3, epochs=1
    )
    yield made_up_run("/runs/big", "dmrnet44", "imagenet", epochs=100, recipe=IMAGENET)
    yield Run(f"/runs/what {SCRIPT}", "dmr_gluon", STOPPED, problems=(SCRIPT, "z" * 500))


@pytest.fixture(scope="module")
def runs():
    return list(the_runs())


@pytest.fixture(scope="module")
def report(runs, tmp_path_factory):
    """The address of a report that has everything."""
    path = tmp_path_factory.mktemp("report") / "report.html"
    text = page(compare(runs, runs), f"dmr compare '{SCRIPT}'", {"a picture": PICTURE})
    path.write_text(text, encoding="utf-8")
    return path.as_uri()


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    folder = str(tmp_path_factory.mktemp("profile"))
    browser = Browser(find(), folder)
    yield browser
    browser.close()
    # Its helpers end a moment after it.
    latest = time.monotonic() + 20
    while left_of(folder) and time.monotonic() < latest:
        time.sleep(0.1)
    assert left_of(folder) == []


def left_of(folder):
    """Processes that still have a browser's profile in their command line."""
    found = []
    for number in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{number}/cmdline", "rb") as file:
                line = file.read()
        except OSError:
            continue
        if f"--user-data-dir={folder}".encode() in line:
            found.append(line)
    return found


@pytest.fixture
def opened(browser, report):
    """The report, just loaded, in a wide window."""
    browser.media()
    browser.size(1280)
    browser.open(report)
    return browser


def column(browser, number, table="beside-paper"):
    return browser.run(
        f"[...document.getElementById('{table}').tBodies[0].rows]"
        f".map(row => row.cells[{number}].textContent)"
    )


def legend(browser, figure=0):
    """Epoch, and by network the two values that the table below a figure shows."""
    return browser.run(
        f"(section => [section.querySelector('.epoch').textContent, Object.fromEntries("
        f"[...section.querySelectorAll('.legend tbody tr')].map(row => ["
        f"row.querySelector('bdi').textContent,"
        f"[...row.querySelectorAll('td.number span')].map(one => one.textContent)]))])"
        f"(document.querySelectorAll('section.curves')[{figure}])"
    )


def of_log(run, epoch):
    row = run.epochs[epoch]
    return [f"{row['train_loss']:#.3g}", f"{row['test_error']:.2f}"]


def test_it_loads_without_a_complaint_and_without_the_network(opened, report):
    for path in ("details", "details:last-of-type"):
        opened.run(f"document.querySelector('{path}').open = true")
    assert opened.seen("Runtime.exceptionThrown", "Runtime.consoleAPICalled") == []
    assert opened.seen("Log.entryAdded", "Page.javascriptDialogOpening") == []
    urls = [found["request"]["url"] for found in opened.seen("Network.requestWillBeSent")]
    assert report in urls and all(url == report or url.startswith("data:") for url in urls)


def test_names_do_nothing_and_can_be_read(opened):
    assert opened.run("document.scripts.length") == 1 + opened.run(
        "document.querySelectorAll('section.curves').length"
    )
    text = opened.run("document.body.textContent")
    assert f"my {SCRIPT}" in text and f"dmr compare '{SCRIPT}'" in text
    assert opened.seen("Page.javascriptDialogOpening") == []


def test_the_policy_stops_a_script_that_were_there(opened):
    opened.run(
        "document.body.append(Object.assign(document.createElement('script'),"
        " {textContent: 'window.evil = 1'}))"
    )
    assert opened.run("window.evil === undefined")


def test_pictures_are_shown_with_their_own_styles(opened):
    # Drawn from another file onto a canvas: its pixels could not be read otherwise.
    colour = opened.run(
        "(async image => { await image.decode(); const canvas = document.createElement('canvas');"
        "const context = canvas.getContext('2d'); context.drawImage(image, 0, 0);"
        "return [...context.getImageData(5, 5, 1, 1).data]; })(document.querySelector('img'))"
    )
    assert colour == [0, 255, 0, 255]


class TestSorting:
    def test_by_click_up_and_down(self, opened):
        number = 5
        head = f"document.getElementById('beside-paper-{number}')"
        before = column(opened, number)
        opened.click(head)
        up = column(opened, number)
        opened.click(head)
        down = column(opened, number)
        numbers = [[float(text.split()[0]) for text in one if text != "–"] for one in (up, down)]
        assert numbers[0] == sorted(numbers[0]) and numbers[1] == numbers[0][::-1]
        assert up[-1] == down[-1] == "–"  # what has no number stays at the end
        assert sorted(before) == sorted(up)
        assert opened.run(f"{head}.parentNode.getAttribute('aria-sort')") == "descending"

    def test_by_keyboard(self, opened):
        opened.run("document.getElementById('beside-paper-0').focus()")
        for key, state in (("Enter", "ascending"), (" ", "descending")):
            opened.press(key)
            assert state == opened.run(
                "document.activeElement.parentNode.getAttribute('aria-sort')"
            )
            names = column(opened, 0)
            assert names != sorted(names) if key == " " else names
        assert names[0].startswith("x" * 50)

    def test_equal_rows_keep_their_order(self, opened):
        opened.click("document.getElementById('beside-paper-5')")
        means = column(opened, 5)
        opened.click("document.getElementById('beside-paper-4')")
        counts, sorted_means = column(opened, 4), column(opened, 5)
        ones = [mean for count, mean in zip(counts, sorted_means) if count == "1"]
        assert ones == [mean for mean in means if mean in ones] and len(ones) > 3

    def test_numbers_in_names_are_numbers(self, opened):
        opened.click("document.getElementById('beside-each-other-1')")
        names = column(opened, 1, "beside-each-other")
        assert names == sorted(
            names,
            key=lambda name: [
                int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)
            ],
        )


class TestCurves:
    def point(self, browser, epoch, figure=0, panel=1):
        """Move the mouse to an epoch of a figure of 400."""
        chart = f"{CHART}[{2 * figure + panel}]"
        browser.centre(chart)
        x, y, width = browser.run(
            f"(box => [box.x, box.y + box.height / 2, box.width])({chart}.getBoundingClientRect())"
        )
        browser.mouse("mouseMoved", x + width * (50 + 420 * epoch / 400) / 480, y)

    def test_at_first_the_last_epoch_is_shown(self, opened, runs):
        epoch, values = legend(opened)
        assert epoch == "400" and values["cifar_resnet26"] == of_log(runs[3], 400)
        assert values["cifar_dmrnet32_w4"] == ["–", "–"]
        assert opened.run("document.querySelector('.readout').hidden")

    @pytest.mark.parametrize("at", [1, 57, 213, 399])
    def test_the_mouse_shows_the_values_of_the_log(self, opened, runs, at):
        self.point(opened, at)
        epoch, values = legend(opened)
        assert epoch == str(at)
        assert values["cifar_resnet26"] == of_log(runs[3], at)
        errors = [run.epochs[at]["test_error"] for run in runs[:3]]
        assert values["cifar_dmrnet14"][1] == f"{sum(errors) / 3:.2f}"
        low, high = f"{min(errors):.2f}", f"{max(errors):.2f}"
        assert f"{low} – {high}" in opened.run(
            "document.querySelector('.legend tbody').textContent"
        )
        # Beside the pointer too, and with a line through both panels.
        assert of_log(runs[3], at)[1] in opened.run(
            "document.querySelectorAll('.readout')[1].innerText"
        )
        assert opened.run("document.querySelectorAll('.cursor.shown').length") == 2

    @pytest.mark.parametrize("panel", [0, 1], ids=["logarithmic", "linear"])
    def test_a_dot_is_on_its_line(self, opened, panel):
        self.point(opened, 213)
        # The line of the third group has a point for each epoch from the first on.
        far = opened.run(
            f"(chart => {{ const dot = chart.querySelectorAll('circle')[2];"
            f"const line = [...chart.querySelectorAll('.line')]"
            f".find(one => one.parentNode.dataset.group === '2' && !one.matches('.alone'));"
            f"const numbers = line.getAttribute('d').slice(1).split(' ').map(Number);"
            f"return [dot.getAttribute('cx') - numbers[2 * 212],"
            f"dot.getAttribute('cy') - numbers[2 * 212 + 1]]; }})({CHART}[{panel}])"
        )
        assert far == pytest.approx([0, 0], abs=0.3)

    def test_the_mouse_leaves_nothing_behind(self, opened):
        self.point(opened, 100)
        opened.mouse("mouseMoved", 5, 5)
        assert legend(opened)[0] == "400"
        assert opened.run("document.querySelectorAll('.cursor.shown').length") == 0

    def test_a_finger_does_the_same_on_a_phone(self, opened, runs):
        opened.size(375, 812, phone=True)
        x, y = opened.centre(f"{CHART}[0]")
        opened.call("Input.dispatchTouchEvent", type="touchStart", touchPoints=[{"x": x, "y": y}])
        opened.call("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])
        epoch, values = legend(opened)
        assert 150 < int(epoch) < 250
        assert values["cifar_resnet26"] == of_log(runs[3], int(epoch))
        assert not opened.run("document.querySelector('.readout').hidden")

    def test_keys_move_the_epoch_and_its_values_are_said(self, opened, runs):
        opened.run("document.querySelector('.panels').focus()")
        for keys, at in (
            (["ArrowLeft"], 399), (["Home"], 1), (["ArrowRight", "ArrowRight"], 3),
            (["End"], 400), (["PageDown"], 360), (["ArrowRight"] * 50, 400),
        ):  # fmt: skip
            for key in keys:
                opened.press(key)
            epoch, values = legend(opened)
            assert (keys, epoch) == (keys, str(at))
            assert values["cifar_resnet26"] == of_log(runs[3], at)
            assert opened.run("document.activeElement.getAttribute('aria-valuenow')") == str(at)
        opened.until("document.getElementById('say').textContent.startsWith('Epoch 400. ')")
        said = opened.run("document.getElementById('say').textContent")
        assert of_log(runs[3], 400)[1] in said
        assert "cifar_resnet26: Training loss" in said

    def test_a_group_can_be_taken_away(self, opened):
        box = "document.querySelector('.legend tbody input')"
        opened.click(box)
        hidden = f"getComputedStyle({CHART}[0].querySelector('[data-group=\"0\"]')).display"
        assert opened.run(hidden) == "none"
        opened.click(box)
        assert opened.run(hidden) != "none"
        # All of them at once.
        opened.click("document.querySelector('.legend .all')")
        assert opened.run(f"{CHART}[1].querySelectorAll('g[data-group]:not(.off)').length") == 0
        opened.click("document.querySelector('.legend .all')")
        assert opened.run(f"{CHART}[1].querySelectorAll('.off').length") == 0


def test_a_link_opens_the_training_that_it_leads_to(opened):
    opened.click("document.querySelector('#beside-paper a')")
    opened.until("location.hash && document.querySelector(location.hash).open")


@pytest.mark.parametrize("width", [320, 360, 768, 1280])
def test_the_page_is_never_wider_than_the_window(opened, width):
    opened.size(width, 740, phone=width < 700)
    opened.run("document.querySelectorAll('details').forEach(one => one.open = true)")
    assert opened.run("document.scrollingElement.scrollWidth <= innerWidth")
    assert opened.run("innerWidth") == width
    # Tables do it by themselves.
    wide = opened.run(
        "(box => box.scrollWidth > box.clientWidth)(document.querySelector('.scroll'))"
    )
    assert wide or width == 1280


CONTRAST = """
(() => {
  const numbers = text => text.match(/[\\d.]+/g).map(Number);
  const light = text => {
    const [r, g, b] = numbers(text).slice(0, 3).map(v => v / 255)
      .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = element => {
    for (; element; element = element.parentElement) {
      const colour = getComputedStyle(element).backgroundColor;
      if ((numbers(colour)[3] ?? 1) === 1) return colour;
    }
    return "rgb(255, 255, 255)";
  };
  const found = {};
  for (const element of document.querySelectorAll("body *")) {
    if (element.closest("script") || element.closest("svg") && element.tagName !== "text") continue;
    if (![...element.childNodes].some(node => node.nodeType === 3 && node.data.trim())) continue;
    const style = getComputedStyle(element);
    const colour = element.tagName === "text" ? style.fill : style.color;
    const pair = [light(colour), light(behind(element))].sort((a, b) => b - a);
    const what = `${element.tagName}.${element.getAttribute("class") || ""}`;
    found[what] = Math.min(found[what] ?? 99, (pair[0] + 0.05) / (pair[1] + 0.05));
  }
  return found;
})()
"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_all_text_stands_out_in_both_schemes(opened, scheme, tmp_path):
    opened.media(prefers_color_scheme=scheme)
    opened.run("document.querySelectorAll('details').forEach(one => one.open = true)")
    contrasts = opened.run(CONTRAST)
    assert len(contrasts) > 20
    assert {what: found for what, found in contrasts.items() if found < 4.5} == {}
    dark = opened.run("getComputedStyle(document.body).backgroundColor") == "rgb(20, 23, 27)"
    assert dark == (scheme == "dark")
    for width in (1280, 375):
        opened.size(width, phone=width < 700)
        opened.screenshot(tmp_path / f"{scheme}-{width}.png", whole=False)
        assert (tmp_path / f"{scheme}-{width}.png").stat().st_size > 20_000


def test_the_keyboard_reaches_everything_in_order(opened):
    reached = []
    for _ in range(12):
        opened.press("Tab")
        reached.append(
            opened.run(
                "[document.activeElement.className || document.activeElement.tagName,"
                " getComputedStyle(document.activeElement).outlineStyle]"
            )
        )
    assert reached[0][0] == "skip" and "scroll" in [what for what, _ in reached]
    assert "BUTTON" in [what for what, _ in reached]
    assert {outline for _, outline in reached} == {"solid"}


class TestLive:
    def load(self, browser, tmp_path, runs, seconds):
        path = tmp_path / "live.html"
        path.write_text(page(compare(runs), "dmr compare", None, seconds), encoding="utf-8")
        browser.media()
        browser.size(1280, 500)
        browser.open(path.as_uri())

    def test_what_the_reader_has_done_stays(self, browser, tmp_path, runs):
        self.load(browser, tmp_path, runs, 600)
        browser.click("document.getElementById('beside-paper-5')")
        browser.click("document.querySelector('.legend tbody input')")
        browser.run("document.querySelectorAll('details')[1].open = true")
        browser.run("document.querySelector('.panels').focus(), scrollTo(0, 800)")
        for _ in range(3):
            browser.press("ArrowLeft")
        browser.run("scrollTo(0, 800), window.before = 1")
        means = column(browser, 5)
        browser.events.clear()
        browser.call("Page.reload")
        browser.wait("Page.loadEventFired")
        assert browser.run("window.before === undefined")
        assert column(browser, 5) == means
        assert browser.run("document.querySelectorAll('details')[1].open")
        assert not browser.run("document.querySelector('.legend tbody input').checked")
        assert browser.run("[scrollY, document.activeElement.className]") == [800, "panels"]
        assert legend(browser)[0] == "397"
        assert browser.seen("Runtime.exceptionThrown", "Log.entryAdded") == []

    def test_it_loads_itself_until_it_is_stopped(self, browser, tmp_path, runs):
        self.load(browser, tmp_path, runs, 2)
        browser.wait("Page.loadEventFired")
        browser.click("document.getElementById('pause')")
        browser.run("window.before = 1")
        waited = "new Promise(done => setTimeout(() => done(window.before), 2200))"
        assert browser.run(waited) == 1


def test_without_a_script_everything_is_there(browser, report):
    browser.call("Emulation.setScriptExecutionDisabled", value=True)
    try:
        browser.media()
        browser.size(1280)
        browser.open(report)
        assert browser.run("document.querySelectorAll('th button:not(:disabled)').length") == 0
        assert browser.run(f"{CHART}[1].querySelector('.line').getBBox().width") > 100
        assert browser.run("document.querySelector('.legend tbody input').hidden")
    finally:
        browser.call("Emulation.setScriptExecutionDisabled", value=False)
