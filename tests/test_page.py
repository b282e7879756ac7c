"""The HTML report: what is in it, and that nothing from a log can do anything there."""

import base64
import hashlib
import json
import re
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from conftest import REPOSITORY
from made_up_runs import made_up_epochs, made_up_run

from dmr_gluon.compare.comparison import compare
from dmr_gluon.compare.html.page import page
from dmr_gluon.errors import DMRError
from dmr_gluon.paper.recipes import CIFAR, DIGITS, IMAGENET
from dmr_gluon.runs.training_run import FAILED, RUNNING, STOPPED, Run

COMMAND = "dmr compare runs --html report.html"
VOID = {"meta", "link", "img", "input"}
HOSTILE = [
    "<script>alert(1)</script>",
    "\"><img src=x onerror=alert(1)>' onload='alert(1)",
    "</script></style></title><!--",
    "\u202egnp.exe\u2066\u2028\u0000\x1b[31m\udc80",
    "&lt;b&gt;" + "x" * 5000,
]


class Page(HTMLParser):
    """A page's elements, refused where they are not closed in order."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.open, self.elements, self.texts = [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        names = [key for key, _ in attributes]
        assert len(set(names)) == len(names), (tag, names)
        self.elements.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open and self.open.pop() == tag, f"</{tag}> at {self.getpos()}"

    def handle_data(self, text):
        self.texts.append((self.open[-1] if self.open else "", text))

    def attributes(self, name):
        return [found[name] for _, found in self.elements if name in found]

    @property
    def shape(self):
        """Elements and the names of their attributes, without what they hold."""
        return [(tag, tuple(found)) for tag, found in self.elements]

    @property
    def text(self):
        return " ".join(text for tag, text in self.texts if tag not in ("script", "style"))

    @property
    def curves(self):
        """What the script is given of every figure."""
        return [json.loads(text) for tag, text in self.texts if tag == "script"][:-1]


def plain(page_text):
    """Without the program, which is no JSON, and without the places where a name may break."""
    return re.sub(r"(?s)<script>.*?</script>", "<script>0</script>", page_text).replace("<wbr>", "")


def made(runs, others=None, **options):
    text = page(compare(runs, others), options.pop("command", COMMAND), **options)
    return Page(plain(text))


@pytest.fixture(scope="module")
def full():
    """A report that has everything."""
    runs = [
        *(made_up_run(f"/runs/dmr{seed}", seed=seed, final=6.4 + seed / 20) for seed in (1, 2, 3)),
        *(made_up_run(f"/runs/res{s}", "cifar_resnet26", seed=s, final=7 + s / 9) for s in (1, 2)),
        made_up_run("/runs/late", seed=4, upto=123, state=FAILED, reason="killed"),
        made_up_run("/runs/slow", "cifar_dilnet14", upto=30, state=RUNNING),
        made_up_run("/runs/short", epochs=12, final=14.2, problems=["line 3 is cut off"] * 30),
        made_up_run(
            "/runs/big", "dmrnet44", "imagenet", epochs=100, final=23.7, recipe=IMAGENET,
            images={"train": 1_281_167, "test": 50_000},
        ),
        Run("/runs/what", "dmr_gluon", STOPPED, problems=("config.json cannot be read",)),
    ]  # fmt: skip
    return page(compare(runs, runs), COMMAND, {"lengths of paths": b"<svg></svg>"}, 30)


class TestForm:
    def test_every_element_is_closed_and_every_reference_leads_somewhere(self, full):
        found = Page(plain(full))
        ids = found.attributes("id")
        assert len(set(ids)) == len(ids)
        targets = [link[1:] for link in found.attributes("href") if link.startswith("#")]
        assert targets and set(targets) <= set(ids)
        assert set(found.attributes("aria-labelledby")) <= set(ids)

    def test_it_is_the_same_every_time(self, full):
        runs = [made_up_run(f"/runs/{seed}", seed=seed) for seed in (1, 2)]
        assert page(compare(runs), COMMAND) == page(compare(runs), COMMAND)

    def test_nothing_is_loaded_from_anywhere(self, full):
        found = Page(plain(full))
        for name in ("src", "href", "action", "srcset", "poster", "data", "formaction"):
            for value in found.attributes(name):
                assert value.startswith(("#", "data:")), (name, value)
        assert not re.search(r"https?:|@import|url\(|//", re.sub(r"base64,[^\"]*", "", full))

    def test_the_browser_is_told_to_run_and_load_nothing_else(self, full):
        policy = re.search(r'Content-Security-Policy" content="([^"]*)"', full)[1]
        assert policy.startswith("default-src 'none'; ") and "unsafe" not in policy
        for kind, pattern in (
            ("script-src", r"<script>(.*?)</script>"),
            ("style-src", r"<style>(.*?)</style>"),
        ):
            (content,) = re.findall(pattern, full, flags=re.S)
            digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
            assert f"{kind} 'sha256-{digest}'" in policy
        assert not Page(plain(full)).attributes("style")

    def test_it_stays_small(self):
        runs = [
            made_up_run(f"/runs/{layers}-{seed}", f"cifar_dmrnet{layers + 2}", seed=seed, final=5)
            for layers in (12, 18, 24, 30, 36, 48, 54, 96)
            for seed in range(1, 6)
        ]
        assert len(page(compare(runs, runs), COMMAND).encode()) < 1_000_000

    def test_a_long_training_is_thinned_out(self):
        found = made([made_up_run(epochs=5000)])
        (curves,) = found.curves
        assert curves["step"] == 7 and curves["last"] == 5000
        assert len(curves["panels"][0]["mean"][0]) == 715
        assert "every 7th" in found.text

    def test_the_files_beside_it_are_installed_with_it(self, tmp_path):
        command = [sys.executable, "setup.py", "-q", "build", "-b", str(tmp_path)]
        subprocess.run(command, cwd=REPOSITORY, check=True, capture_output=True, timeout=120)
        found = {path.name for path in tmp_path.glob("lib*/dmr_gluon/compare/html/*")}
        assert {"page.py", "page.css", "page.js"} <= found


def everywhere(what):
    """A page with a text in every place where one can come from outside."""
    run = made_up_run(
        f"/runs/{what.replace('/', '_')}", dataset=f"a {what}", called=f"net {what}",
        problems=[what], changes=(what,), remarks=(what,),
        environment={"versions": {what: what}, "devices": [what], "command": what},
    )  # fmt: skip
    failed = made_up_run("/runs/b", upto=3, state=FAILED, reason=what)
    runs = [run, failed, Run(what, "dmr_gluon", STOPPED, problems=(what,))]
    return page(compare(runs, runs), what, {what: b"\x89PNG"}, 9)


class TestHostileNames:
    @pytest.mark.parametrize("what", HOSTILE)
    def test_they_make_no_element_and_no_attribute(self, what):
        hostile, tame = (Page(plain(everywhere(name))) for name in (what, "tame"))
        assert hostile.shape == tame.shape
        assert hostile.curves == tame.curves

    @pytest.mark.parametrize("what", HOSTILE)
    def test_no_character_is_left_that_cannot_be_seen(self, what):
        text = everywhere(what)
        text.encode("utf-8")
        assert {sign for sign in text if not sign.isprintable()} == {"\n"}

    def test_they_can_be_read(self):
        assert everywhere("<b>bold</b>").count("&lt;b&gt;bold&lt;/b&gt;") > 15
        assert "\\u202egnp.exe" in everywhere(HOSTILE[3])

    def test_long_ones_are_cut_off(self):
        assert len(everywhere("x" * 100_000)) < len(everywhere("tame")) + 50_000

    def test_what_is_written_from_right_to_left_is_set_apart(self):
        text = everywhere("שלום")
        assert "<bdi>net שלום</bdi>" in text and "<bdi>a שלום</bdi>" in text


class TestBesideThePaper:
    def test_a_row_has_every_number(self, full):
        text = Page(plain(full)).text
        # Of 6.45, 6.5 and 6.55; Table 2 has 6.48 ± 0.04 for L=12.
        for words in ("6.50 ± 0.05", "6.48 ± 0.04", "Table 2, L=12", "+0.02", "Welch test, p = "):
            assert words in text
        assert re.search(r"95% interval −0\.\d\d to \+0\.\d\d", text)

    def test_verdicts_have_a_sign_and_a_word(self, full):
        assert '<b aria-hidden="true">≈</b> consistent' in full
        assert '<b aria-hidden="true">–</b> no verdict' in full
        higher = page(compare([made_up_run(final=9.0)]), COMMAND)
        assert '<b aria-hidden="true">▲</b> higher than the paper’s' in higher
        lower = page(compare([made_up_run(final=2.0)]), COMMAND)
        assert '<b aria-hidden="true">▼</b> lower than the paper’s' in lower

    def test_what_is_not_comparable_says_why_and_stands_back(self):
        text = page(compare([made_up_run(epochs=12)]), COMMAND)
        row = re.search(r'<tr class="muted">.*?</tr>', text)[0]
        assert "not comparable" in row and "12 epochs instead of 400" in row
        assert row.count("not comparable") == 1

    def test_numbers_can_be_sorted_where_they_are_not_written_as_numbers(self, full):
        values = Page(plain(full)).attributes("data-value")
        assert "6.48" in values and "6.5" in values and "0.02" in values
        for value in values:
            float(value)

    def test_how_many_tests_there_are(self, full):
        assert re.search(r"(\d+) verdicts rest on a test at 5%", full)
        assert "rest on a test" not in page(compare([made_up_run()]), COMMAND)


class TestPairs:
    def test_the_better_one_is_named_with_its_lead(self, full):
        text = Page(plain(full)).text
        assert re.search(r"cifar_dmrnet14 \(dmr1\)\s+by 0\.67", text)

    def test_what_else_differs(self):
        one = made_up_run("/a")
        other = made_up_run("/b", "cifar_resnet26", recipe=replace(CIFAR, lr=0.05))
        assert "lr 0.1 and 0.05" in page(compare([one], [other]), COMMAND)

    def test_without_pairs_there_is_no_table_of_them(self):
        assert "Beside each other" not in page(compare([made_up_run()]), COMMAND)

    def test_few_runs_that_show_no_difference_are_not_called_chance(self):
        runs = [made_up_run(f"/d{s}", seed=s, final=6 + s / 2) for s in (1, 2)]
        others = [made_up_run(f"/r{s}", "cifar_resnet26", seed=s, final=7 + s) for s in (1, 2)]
        text = page(compare(runs, others), COMMAND)
        assert re.search(r'class="verdict consistent"><b aria-hidden="true">≈</b> not dist', text)
        assert "not distinguished by these runs" in text and "more than chance" not in text
        # Whose colour says neither good nor bad.
        assert "--lower" in text and "consistent {" not in text and "--consistent" not in text


class TestCurves:
    def test_a_single_epoch_is_a_point(self):
        text = page(compare([made_up_run(epochs=1)]), COMMAND)
        assert len(re.findall(r'<circle class="point" r="3" cx="[\d.]+" cy="[\d.]+"/>', text)) == 2

    def test_more_trainings_of_a_kind_than_colours_all_look_different(self):
        names = [f"cifar_dmrnet{depth}" for depth in range(8, 62, 6)] + ["cifar_resnet26"]
        text = page(compare([made_up_run(f"/{name}", name) for name in names]), COMMAND)
        looks = re.findall(r'<path class="line" color="(#\w+)"( stroke-dasharray="[^"]+")? d', text)
        assert len(looks) == len(set(looks)) == len(names)

    def test_the_script_has_the_values_of_the_log(self):
        run = made_up_run(epochs=12)
        (curves,) = made([run]).curves
        loss, error = curves["panels"]
        assert error["mean"] == [run.series("test_error")[1]]
        assert loss["mean"][0] == pytest.approx(run.series("train_loss")[1], rel=5e-3)
        assert error["range"] == [None]

    def test_several_runs_are_a_mean_within_a_band(self):
        runs = [made_up_run(f"/runs/{seed}", seed=seed, final=6 + seed) for seed in (1, 2, 3)]
        (curves,) = made(runs).curves
        error = curves["panels"][1]
        assert error["mean"][0][-1] == 8.0
        assert [values[-1] for values in error["range"][0]] == [7.0, 9.0]
        assert 'class="band"' in page(compare(runs), COMMAND)

    def test_imagenet_has_the_errors_of_figure_8(self, full):
        assert "Validation error" in full and "Training error" in full

    def test_unfinished_runs_are_drawn_and_do_not_change_the_mean(self):
        runs = [made_up_run("/a"), made_up_run("/b", seed=2, upto=100)]
        with_it, without = (made(some).curves[0]["panels"] for some in (runs, runs[:1]))
        assert with_it[1]["mean"] == without[1]["mean"]
        assert page(compare(runs), COMMAND).count("line alone") == 2

    def test_an_unfinished_run_beside_finished_ones_does_not_stretch_the_axis(self):
        runs = [made_up_run("/a"), made_up_run("/b", seed=2, upto=2)]
        # It stands at 50%; finished ones are below 40% for nine tenths of their epochs.
        assert made(runs).curves[0]["panels"][1]["high"] == 40

    def test_two_trainings_of_one_network_have_different_names(self):
        runs = [made_up_run("/a"), made_up_run("/b", recipe=replace(CIFAR, lr=0.05))]
        text = made(runs).text
        assert "cifar_dmrnet14 (a)" in text and "cifar_dmrnet14 (b)" in text

    def test_a_missing_epoch_is_a_gap(self):
        rows = made_up_epochs(1, 12, 14.2)
        del rows[5], rows[7]
        text = page(compare([replace(made_up_run(epochs=12), epochs=rows)]), COMMAND)
        lines = re.findall(r'class="line" d="([^"]*)"', text)
        assert sum(line.count("M") == 3 for line in lines) == 2
        assert text.count('<circle class="point"') == 2  # epoch 6 stands alone


@pytest.mark.parametrize(
    "runs",
    [
        [],
        [Run("/runs/what", "dmr_gluon", STOPPED)],
        [made_up_run(epochs=1)],
        [made_up_run(upto=1)],
        [replace(made_up_run(upto=1), epochs={})],
        [replace(made_up_run(), epochs={400: {"test_error": 6.5}})],
        [replace(made_up_run(), epochs={7: {"train_loss": 0.0}}, state=STOPPED)],
        [replace(made_up_run(), epochs={400: {"test_error": 0.0, "train_loss": 1e299}})],
        [replace(made_up_run(), epochs={9: {"train_loss": 1e-320, "test_error": 100.0}})],
        [replace(made_up_run(epochs=1_000_000, upto=3), state=RUNNING)],
        [replace(made_up_run(epochs=9, recipe=None), format="authors")],
        [made_up_run(dataset="digits", recipe=DIGITS, epochs=20)],
    ],
    ids=str,
)
def test_unusual_runs_make_a_page(runs):
    found = made(runs)
    assert COMMAND in found.text
    assert not re.search(r"\b(nan|inf)\b", " ".join(found.attributes("d")))


class TestDetails:
    def test_fields_that_differ_from_the_papers_are_marked(self):
        text = page(compare([made_up_run(recipe=replace(CIFAR, lr=0.05))]), COMMAND)
        assert re.search(r"<code>lr</code></th><td>0\.05</td><td><strong[^>]*>≠ 0\.1", text)
        assert text.count("<strong") == 1
        assert "learning rate at the start" in text and "sections 4.2 and 4.5" in text

    def test_runs_say_whether_they_count_and_why_not(self, full):
        assert "no: failed after epoch 123 of 400: killed" in full

    def test_many_problems_are_counted(self, full):
        assert full.count("line 3 is cut off") == 10 and "and 20 more" in full

    def test_runs_of_which_nothing_is_known_have_their_problems(self, full):
        text = Page(plain(full)).text
        assert "/runs/what" in text and "config.json cannot be read" in text

    def test_the_commands_and_the_devices_stand_there(self):
        run = made_up_run(environment={"devices": ["gpu(0)"], "command": "train_cifar.py --x"})
        text = made([run]).text
        assert "train_cifar.py --x" in text and "gpu(0)" in text and COMMAND in text


def test_pictures_are_within_the_page():
    text = page(compare([]), COMMAND, {"a": b"\x89PNG...", 'b "': b"<?xml?><svg/>"})
    assert '<img alt="a" src="data:image/png;base64,' in text
    assert '<img alt="b &quot;" src="data:image/svg+xml;base64,' in text
    with pytest.raises(DMRError, match="neither SVG nor PNG"):
        page(compare([]), COMMAND, {"a": b"GIF89a"})


def test_a_live_page_loads_itself_again():
    assert '<meta http-equiv="refresh" content="30">' in page(compare([]), COMMAND, None, 30)
    assert "refresh" not in page(compare([]), COMMAND)
