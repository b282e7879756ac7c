"""Pictures of comparisons: what there is, what is drawn, and that it is the same every time."""

import datetime
import itertools
import json
import os
import re
import statistics
import warnings
import xml.etree.ElementTree as ElementTree
from dataclasses import replace

import cv2
import matplotlib
import numpy as np
import pytest
from conftest import REPOSITORY
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cbook import is_math_text
from matplotlib.text import Text

from dmr_gluon.compare.comparison import compare
from dmr_gluon.compare.figures.drawing import as_bytes, pictures_of, write_pictures
from dmr_gluon.compare.figures.names import group_labels, kind_of, kind_title
from dmr_gluon.compare.figures.style import colours_of, house_style, styles
from dmr_gluon.compare.groups import published_name
from dmr_gluon.compare.html.page import page
from dmr_gluon.errors import DMRError
from dmr_gluon.models.names import get_spec
from dmr_gluon.paper.dataset_facts import PUBLISHED
from dmr_gluon.paper.numbers import TABLE2_ERRORS, TABLE2_L, TABLE3
from dmr_gluon.paper.recipes import OF_DATASET
from dmr_gluon.runs.training_run import FAILED, FINISHED, RUNNING, STOPPED, Run, Setup

#: Data sets' names that would do harm in a path, a page, a formula or XML, or have no glyphs.
DRAWN = [
    "../../<b>set</b>", "$x^2$ & $y_1$", "x" * 500, "a\nb\0c\ud800", '数据 "quoted" -->',
]  # fmt: skip
HOSTILE = [*DRAWN, "..", "a/b\\c", "CIFAR10", "--out", "_hidden", " ", "cifar10 ", "a b c"]


def run(
    name="cifar_dmrnet14", dataset="cifar10", seed=1, epochs=None, final=6.5, state=FINISHED,
    upto=None, without=(), **changes,
):  # fmt: skip
    """A run with errors that fall to the final one; with the paper's recipe but for changes."""
    known = published_name(dataset)
    recipe = OF_DATASET[known or "digits"]
    epochs = epochs or recipe.epochs
    recipe = replace(recipe, model=name, epochs=epochs, **changes)
    rows = {}
    for n in range(1, (upto or epochs) + 1):
        left = 1 - n / epochs
        rows[n] = {
            "train_loss": 0.01 + left,
            "train_error": 0.5 + 50 * left,
            "test_error": final + (40 + seed) * left,
        }
        for measure in without:
            del rows[n][measure]
    images = {"train": 50_000, "test": 10_000}
    if known:
        images = {"train": PUBLISHED[known].train_images, "test": PUBLISHED[known].test_images}
    setup = Setup(dataset, name, get_spec(name), recipe, epochs, images, 32, seed)
    path = f"{dataset}/{name}/{epochs}/{seed}/{sorted(changes.items())}/{state}"
    return Run(path, "dmr_gluon", state, setup, rows, reason="killed")


def names_of(*runs):
    return list(pictures_of(compare(list(runs))))


def drawn(name, *runs):
    """A figure; as long as nobody looks at it, it needs no layout."""
    with house_style():
        return pictures_of(compare(list(runs)))[name].draw()


def lines_of(axes, least=2):
    """(x, y) of the lines in an axes that have several points."""
    return [
        (list(map(float, line.get_xdata())), list(map(float, line.get_ydata())))
        for line in axes.get_lines()
        if len(line.get_xdata()) >= least
    ]


def texts_of(figure):
    return [text.get_text() for text in figure.findobj(Text) if text.get_text()]


# Which pictures there are.


@pytest.mark.parametrize(
    "runs, names",
    [
        ([], []),
        ([run(epochs=8)], ["curves-cifar10-8-epochs"]),
        ([run(dataset="cifar10-jpeg", epochs=8)], ["curves-cifar10-jpeg-8-epochs"]),
        ([run(upto=3, state=RUNNING)], ["curves-cifar10-400-epochs"]),
        (
            [run()],
            [
                "curves-cifar10-400-epochs",
                "depth-cifar10-400-epochs",
                "parameters-cifar10-400-epochs",
            ],
        ),
        # One depth is no curve; two are.
        ([run(epochs=8), run("cifar_resnet26", epochs=8)], ["curves-cifar10-8-epochs"]),
        (
            [run(epochs=8), run("cifar_dmrnet20", epochs=8)],
            ["curves-cifar10-8-epochs", "depth-cifar10-8-epochs", "paths-cifar10-8-epochs"],
        ),
        # Figure 6's networks are not in Table 2.
        (
            [run("cifar_plain26")],
            ["curves-cifar10-400-epochs", "parameters-cifar10-400-epochs"],
        ),
        ([run("dmrnet44", "imagenet")], ["curves-imagenet-100-epochs"]),
        # Nothing says what it is of.
        ([Run("log", "dmr_gluon", STOPPED)], []),
    ],
)
def test_only_pictures_with_something_to_show(runs, names):
    assert names_of(*runs) == names


def test_a_run_without_epochs_is_not_drawn():
    assert names_of(replace(run(state=FAILED), epochs={})) == []


def test_other_trainings_get_pictures_of_their_own():
    pair = ("cifar_dmrnet14", "cifar_dmrnet20")
    kinds = [{}, {"lr": 0.05}, {"epochs": 8}, {"epochs": 8, "lr": 0.05}]
    names = names_of(*(run(name, **kind) for name in pair for kind in kinds))
    depths = [name for name in names if name.startswith("depth")]
    assert len(set(depths)) == 4
    assert {"depth-cifar10-400-epochs", "depth-cifar10-8-epochs"} < set(depths)
    # One that the name would not tell apart has a digest of what is unlike.
    assert all(re.fullmatch(r"depth-cifar10-\d+-epochs(-[0-9a-f]{8})?", name) for name in depths)
    alone = names_of(*(run(name, lr=0.05) for name in pair))
    assert set(alone) <= set(names)


# What is in them.


def test_curves_are_the_means_and_all_between_the_extremes():
    runs = [run(seed=seed, epochs=8, final=6 + seed) for seed in (1, 2, 3)]
    figure = drawn("curves-cifar10-8-epochs", *runs)
    loss, error = figure.axes
    assert loss.get_yscale() == "log" and error.get_yscale() == "linear"
    for axes, measure in ((loss, "train_loss"), (error, "test_error")):
        ((x, y),) = lines_of(axes)
        assert x == list(range(1, 9))
        values = [[r.epochs[n][measure] for r in runs] for n in x]
        assert y == pytest.approx([statistics.fmean(row) for row in values])
        (band,) = axes.collections
        corners = band.get_paths()[0].vertices
        for n, row in zip(x, values):
            at = corners[corners[:, 0] == n, 1]
            assert (min(at), max(at)) == pytest.approx((min(row), max(row)))
    assert "CIFAR-10, 8 epochs" in texts_of(figure)


def test_the_papers_number_of_epochs_is_not_in_the_title():
    assert "CIFAR-10" in texts_of(drawn("curves-cifar10-400-epochs", run()))
    assert "digits, 1 epoch" in texts_of(
        drawn("curves-digits-1-epochs", run("cifar_dmrnet8", "digits", epochs=1))
    )


def test_an_unfinished_run_is_drawn_as_far_as_it_is_and_not_in_the_mean():
    whole, part = run(epochs=8), run(seed=2, epochs=8, final=30, upto=3, state=FAILED)
    for axes in drawn("curves-cifar10-8-epochs", whole, part).axes:
        (_, y), (x, _) = lines_of(axes)
        assert x == [1, 2, 3]
        assert len(y) == 8
        assert [line.get_xdata()[-1] for line in axes.get_lines() if line.get_marker() == "x"] == [
            3
        ]
    only = drawn("curves-cifar10-8-epochs", part).axes[1]
    assert lines_of(only) == [([1, 2, 3], [part.epochs[n]["test_error"] for n in (1, 2, 3)])]


def test_missing_epochs_leave_no_gap_that_is_not_a_number():
    damaged = run(epochs=8)
    del damaged.epochs[4], damaged.epochs[5]["train_loss"]
    loss, error = drawn("curves-cifar10-8-epochs", damaged).axes
    assert lines_of(loss)[0][0] == [1, 2, 3, 6, 7, 8]
    assert lines_of(error)[0][0] == [1, 2, 3, 5, 6, 7, 8]
    assert all(np.isfinite(line.get_ydata()).all() for line in loss.get_lines())


def test_a_loss_of_nothing_can_be_drawn():
    perfect = run(epochs=2)
    for row in perfect.epochs.values():
        row.update(train_loss=0.0, test_error=0.0)
    loss, error = drawn("curves-cifar10-2-epochs", perfect).axes
    assert loss.get_yscale() == "linear"
    assert error.get_ylim()[1] > 0


def test_a_loss_beyond_all_numbers_is_drawn_as_far_as_makes_sense():
    broken = run(epochs=4)
    for number, row in broken.epochs.items():
        row["train_loss"] = [1e-300, 0.0, 2.0, 1e299][number - 1]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loss = drawn("curves-cifar10-4-epochs", broken).axes[0]
    assert loss.get_yscale() == "log"
    low, high = loss.get_ylim()
    assert 1e-31 < low < 2 < high < 1e31


def test_a_measure_that_no_log_has_gets_no_axes():
    (axes,) = drawn("curves-cifar10-8-epochs", run(epochs=8, without=["train_loss"])).axes
    assert axes.get_ylabel() == "test error, %"


def test_imagenet_has_the_axes_of_figure_8():
    runs = [run("dmrnet44", "imagenet"), run("resnet101", "imagenet", final=26)]
    figure = drawn("curves-imagenet-100-epochs", *runs)
    left, right = figure.axes
    assert [left.get_ylabel(), right.get_ylabel()] == [
        "top-1 training error, %",
        "top-1 validation error, %",
    ]
    assert left.get_yscale() == "linear"
    assert lines_of(left)[0][1][-1] == 0.5
    assert "ImageNet" in texts_of(figure)


def test_ends_that_lie_apart_are_labelled_there_and_others_in_a_legend():
    far = [run("cifar_dmrnet14", epochs=8, final=5), run("cifar_resnet26", epochs=8, final=25)]
    figure = drawn("curves-cifar10-8-epochs", *far)
    assert {text.get_text() for text in figure.axes[1].texts} == {"DMRNet-14", "ResNet-26"}
    assert not any(axes.get_legend() for axes in figure.axes)
    near = [run("cifar_dmrnet14", epochs=8, final=5), run("cifar_resnet26", epochs=8, final=5.1)]
    figure = drawn("curves-cifar10-8-epochs", *near)
    (legend,) = [axes.get_legend() for axes in figure.axes if axes.get_legend()]
    assert [text.get_text() for text in legend.get_texts()] == ["DMRNet-14", "ResNet-26"]


@pytest.mark.parametrize("more", [[], ["cifar_dmrnet20", "cifar_dmrnet26", "cifar_dmrnet32"]])
def test_no_legend_stands_over_an_axis(more):
    names = ["cifar_dmrnet14"] * 4 + more
    runs = [
        run(name, epochs=8, bn_momentum=0.9 + n / 99, lr=0.1 + n, weight_decay=n / 9e4)
        for n, name in enumerate(names)
    ]
    figure = pictures_of(compare(runs))["curves-cifar10-8-epochs"]()
    found = [one for axes in figure.axes for one in (axes.get_legend(),) if one] + figure.legends
    assert found
    for legend in found:
        box = legend.get_window_extent()
        assert box.x0 >= 0 and box.x1 <= legend.figure.bbox.x1
        for axes in figure.axes:
            own = axes.get_window_extent()
            inside = own.x0 <= box.x0 and box.x1 <= own.x1
            assert inside if axes is legend.axes else not box.overlaps(own)


def test_many_networks_share_a_row_with_those_of_their_size():
    families = (
        "dmrnet14",
        "dilnet14",
        "resnet26",
        "dmrnet20",
        "dilnet20",
        "resnet38",
        "dmrnet14_w4",
    )
    runs = [run(f"cifar_{name}", epochs=8) for name in families]
    figure = drawn("curves-cifar10-8-epochs", *runs)
    titles = [axes.get_title(loc="left") for axes in figure.axes[::2]]
    assert titles == ["L = 12", "L = 18", "L = 12, 4× wide"]
    assert [len(lines_of(axes)) for axes in figure.axes[::2]] == [3, 3, 1]


def test_more_rows_than_a_page_has_make_two_pictures():
    runs = [run(f"cifar_dmrnet{6 * n + 2}", epochs=2) for n in range(1, 9)]
    names = [name for name in names_of(*runs) if name.startswith("curves")]
    assert names == ["curves-cifar10-2-epochs-1", "curves-cifar10-2-epochs-2"]
    figures = [drawn(name, *runs) for name in names]
    assert sum(len(figure.axes) for figure in figures) == 2 * len(runs)


def test_groups_of_one_network_are_told_apart():
    groups = compare([run(epochs=8), run(epochs=8, lr=0.05), run(epochs=8, lr=0.2)]).groups
    assert sorted(group_labels(groups)) == [
        "DMRNet-14, lr 0.05",
        "DMRNet-14, lr 0.1",
        "DMRNet-14, lr 0.2",
    ]
    twice = compare([run(epochs=8)], [run(epochs=8), run(epochs=8, seed=2)]).groups
    assert len(set(group_labels(twice))) == 2


def errorbars(axes):
    """By label in the legend: x, mean and both ends of each bar."""
    found = {}
    for text, bars in zip(axes.get_legend().get_texts(), axes.containers):
        line, _, (spans,) = bars
        x, y = (list(map(float, values)) for values in line.get_data())
        found[text.get_text()] = x, y, [tuple(span[:, 1]) for span in spans.get_segments()]
    return found


@pytest.mark.parametrize("dataset", ["cifar10", "cifar100", "svhn"])
def test_depth_has_the_papers_table_and_our_means(dataset):
    results = {"cifar_dmrnet14": (6.4, 6.6), "cifar_dmrnet56": (5.0, 5.3), "cifar_resnet26": (7.0,)}
    runs = [
        run(name, dataset, seed, final=final)
        for name, finals in results.items()
        for seed, final in enumerate(finals, start=1)
    ]
    (axes,) = drawn(f"depth-{dataset}-{OF_DATASET[dataset].epochs}-epochs", *runs).axes
    bars = errorbars(axes)
    for family, title in (("dmrnet", "DMRNet"), ("resnet", "ResNet"), ("dilnet", "DILNet")):
        x, y, spans = bars.pop(f"{title} (paper)")
        printed = [(float(mean), float(std)) for mean, std in TABLE2_ERRORS[dataset, family]]
        assert x == list(TABLE2_L)
        assert y == [mean for mean, _ in printed]
        assert np.ravel(spans) == pytest.approx(np.ravel([(m - s, m + s) for m, s in printed]))
    assert list(bars) == ["DMRNet (ours)", "ResNet (ours)"]
    x, y, spans = bars["DMRNet (ours)"]
    assert (x, y) == ([12, 54], pytest.approx([6.5, 5.15]))
    assert spans[0] == pytest.approx((6.5 - np.sqrt(0.02), 6.5 + np.sqrt(0.02)))
    assert bars["ResNet (ours)"][:2] == ([12], [7.0])
    dots = [y for line in axes.get_lines() if line.get_marker() == "." for y in line.get_ydata()]
    assert sorted(dots) == pytest.approx([5.0, 5.3, 6.4, 6.6, 7.0])


def test_what_is_not_comparable_never_stands_beside_the_papers_numbers():
    runs = [run(f"cifar_dmrnet{depth}", epochs=8) for depth in (14, 20)]
    runs += [run(), run("cifar_dmrnet20", "my set"), run("cifar_dmrnet14", "my set")]
    pictures = pictures_of(compare(runs))
    assert not [name for name in pictures if name.startswith("parameters") and "400" not in name]
    for name in ("depth-cifar10-8-epochs", "paths-cifar10-8-epochs"):
        figure = drawn(name, *runs)
        text = " ".join(" ".join(texts_of(figure)).split())
        assert "Not comparable with the paper: 8 epochs instead of 400." in text
        assert "(paper)" not in text and "least" not in text
        (axes,) = figure.axes
        assert sum(len(bars[0].get_xdata()) for bars in axes.containers) == 2
    (other,) = [name for name in pictures if name.startswith("depth-my-set")]
    text = " ".join(" ".join(texts_of(drawn(other, *runs))).split())
    assert "the paper has no data set my set" in text
    (axes,) = drawn("depth-cifar10-400-epochs", *runs).axes
    assert errorbars(axes)["DMRNet (ours)"][0] == [12]


def test_depth_leaves_out_what_is_no_curve_and_not_in_table_2():
    names = ["dmrnet14", "dmrnet14_k3", "dmrnet20_k3", "dmrnet14_k4", "plain26", "plain38"]
    runs = [run(f"cifar_{name}") for name in names]
    (axes,) = drawn("depth-cifar10-400-epochs", *runs).axes
    ours = [name for name in errorbars(axes) if "paper" not in name]
    assert ours == ["DMRNet (ours)", "DMRNet, K = 3 (ours)"]


def test_paths_are_as_figure_6_counts_them():
    names = ["resnet26_blocks3", "resnet38_blocks3", "resnet38_blocks6", "plain26", "resnet26"]
    runs = [run(f"cifar_{name}", final=5 + n) for n, name in enumerate(names)]
    figure = drawn("paths-cifar10-400-epochs", *runs)
    (axes,) = figure.axes
    bars = {name: (x, y) for name, (x, y, _) in errorbars(axes).items()}
    assert bars["ResNet, 3 blocks"] == ([15, 21], [5, 6])  # L + 3
    assert bars["ResNet, 6 blocks"] == ([21], [7])
    assert bars["Plain"] == ([26], [8])  # its one path has all layers
    assert bars["ResNet"][1] == [9]
    assert "paper: least at 15 (3 blocks)" in texts_of(figure)
    hints = [line.get_xdata()[0] for line in axes.get_lines() if line.get_color() == "#555555"]
    assert sorted(hints) == [15, 21]


def test_the_papers_minima_are_of_cifar10():
    runs = [run(name, "cifar100") for name in ("cifar_dmrnet14", "cifar_dmrnet20")]
    assert "least" not in " ".join(texts_of(drawn("paths-cifar100-400-epochs", *runs)))


def boxes_of(figure, axes):
    renderer = FigureCanvasAgg(figure).get_renderer()
    return [text.get_window_extent(renderer) for text in axes.texts if text.get_text()]


@pytest.mark.parametrize("dataset, column", [("cifar10", 3), ("svhn", 5)])
def test_parameters_beside_table_3(dataset, column):
    names = ("cifar_dmrnet14", "cifar_resnet26", "cifar_dilnet14", "cifar_plain26")
    runs = [run(name, dataset, final=1.6 + n / 9) for n, name in enumerate(names)]
    figure = drawn(f"parameters-{dataset}-{OF_DATASET[dataset].epochs}-epochs", *runs)
    (axes,) = figure.axes
    assert axes.get_xscale() == "log"
    printed = [row for row in TABLE3 if row[2] and row[column]]
    ours = [row for row in printed if "ours" in row[0]]
    by_marker = {line.get_marker(): line.get_xydata() for line in axes.get_lines()[:2]}
    assert len(by_marker["x"]) == len(printed) - len(ours)
    assert by_marker["o"].tolist() == [
        [pytest.approx(float(row[2][:-1]) * 1e6), float(row[column])] for row in ours
    ]
    assert [text.get_text() for text in axes.texts if "ours" in text.get_text()] == [
        f"{name} (ours)" for name in ("DMRNet-14", "ResNet-26", "DILNet-14", "Plain-26")
    ]
    golden = json.loads((REPOSITORY / "tests/golden/networks.json").read_text())
    counted = [bars[0].get_xdata()[0] for bars in axes.containers]
    assert counted == [golden[name]["parameters"] for name in names]
    boxes = boxes_of(figure, axes)
    assert len(boxes) == len(printed) + 4
    for one, other in itertools.combinations(boxes, 2):
        assert not one.overlaps(other)
    edge = axes.bbox
    assert all(edge.x0 <= box.x0 and box.x1 <= edge.x1 for box in boxes)


# Names.


@pytest.mark.parametrize("dataset", DRAWN, ids=range(len(DRAWN)))
def test_any_data_set_can_be_drawn(dataset):
    runs = [run(name, dataset, epochs=2) for name in ("cifar_dmrnet8", "cifar_dmrnet14")]
    pictures = pictures_of(compare(runs))
    assert [name.split("-")[0] for name in pictures] == ["curves", "depth", "paths"]
    for name in pictures:
        assert re.fullmatch(r"[a-z]+-[a-z0-9_-]{1,60}-2-epochs", name)
    figure = pictures[list(pictures)[1]]()
    ElementTree.fromstring(as_bytes(figure, "svg"))
    for text in texts_of(figure):
        assert not is_math_text(text) or re.fullmatch(r"\$\\mathdefault\{.*\}\$", text)


def test_data_sets_with_like_names_have_other_files():
    names = [
        names_of(run(dataset=name, epochs=2)) for name in (*HOSTILE, "a-b-c", "cifar10", "x" * 501)
    ]
    assert len({name for (name,) in names}) == len(names)
    for (name,) in names:
        assert re.fullmatch(r"curves-[a-z0-9_-]{1,60}-2-epochs", name)


# Files.


@pytest.fixture(scope="module")
def comparison():
    return compare(
        [run(seed=seed, epochs=8) for seed in (1, 2)] + [run("cifar_dmrnet20", epochs=8)]
    )


def test_the_same_runs_give_the_same_bytes(comparison):
    one, other = (pictures_of(comparison)["depth-cifar10-8-epochs"]() for _ in range(2))
    first = {kind: as_bytes(one, kind) for kind in ("png", "svg", "pdf")}
    with matplotlib.rc_context({"font.size": 20, "svg.fonttype": "none", "lines.linewidth": 9}):
        # Whatever the user's own settings are, and however often it has been written before.
        for kind, content in first.items():
            assert as_bytes(other, kind) == content
        assert as_bytes(one, "svg") == first["svg"]
    for kind in ("png", "svg"):
        assert b"Matplotlib v" not in first[kind]
    for content in first.values():
        assert str(datetime.date.today().year).encode() + b"-" not in content
        assert b"CreationDate" not in content


def test_the_sizes_are_those_of_print(comparison, tmp_path):
    paths = write_pictures(comparison, str(tmp_path))
    assert [os.path.basename(path) for path in paths] == [
        f"{name}-cifar10-8-epochs.{kind}"
        for name in ("curves", "depth", "paths")
        for kind in ("png", "svg")
    ]
    widths = {}
    for path in paths:
        if path.endswith(".png"):
            height, width, _ = cv2.imread(path).shape
            widths[os.path.basename(path).split("-")[0]] = width / 300
            assert 1.5 < height / 300 < 9
    assert widths == pytest.approx({"curves": 7, "depth": 3.4, "paths": 3.4}, abs=0.01)


def test_no_letter_is_under_7_points(comparison):
    for picture in pictures_of(comparison).values():
        with house_style():
            sizes = [text.get_fontsize() for text in picture.draw().findobj(Text)]
        assert min(sizes) >= 7


def test_series_differ_in_more_than_their_colour():
    kinds = ["cifar_dmrnet"] * 3 + ["cifar_resnet", "cifar_plain", "dmrnet", "other"] * 3
    looks = styles(kinds, colours_of(kinds))
    assert len({(look.line, look.marker) for look in looks}) == len(looks)
    assert looks[0] == styles(["cifar_plain", "cifar_dmrnet"], {})[1]


def test_a_network_has_one_colour_in_all_pictures_and_on_the_page():
    networks = [
        *("cifar_dmrnet14_k4", "cifar_plain14", "cifar_dilnet14", "cifar_resnet26"),
        *("cifar_dmrnet14", "cifar_dmrnet20", "cifar_dmrnet14_w4"),
    ]
    comparison = compare(
        [run(name, dataset=kind) for name in networks for kind in ("cifar10", "svhn")]
    )
    seen = {}
    for name, picture in pictures_of(comparison).items():
        with house_style():
            axes = picture.draw().axes
        if name.startswith("curves-cifar10"):
            # Rows are of one size, in the order of their legends.
            for row in axes[::2]:
                texts = [text.get_text() for text in row.get_legend().get_texts()]
                for text, line in zip(texts, row.get_legend().get_lines()):
                    seen.setdefault(re.sub(r"-\d+", "", text), set()).add(line.get_color())
        if name.startswith("paths-"):
            (legend,) = [one.get_legend() for one in axes]
            for text, handle in zip(legend.get_texts(), axes[0].containers):
                seen[text.get_text()].add(handle.lines[0].get_color())
    text = page(comparison, "dmr compare")
    curves = text[text.index('<section class="curves"') :]
    for line in re.findall(r'<path class="line" (color="#.*?</label>)', curves):
        colour, label = re.match(r'color="(#\w+)".*<bdi>(.*)</bdi>', line).groups()
        kind = kind_title(kind_of(get_spec(label.replace("<wbr>", ""))))
        seen[kind].add(colour)
    assert set(map(len, seen.values())) == {1}, seen
    # Six kinds, six colours; DMRNets of two depths share theirs.
    assert len(seen) == 6 and len(set.union(*seen.values())) == 6


def test_the_last_of_the_papers_minima_is_within_the_picture():
    runs = [run(name) for name in ("cifar_dmrnet14", "cifar_dmrnet20", "cifar_dilnet14")]
    (axes,) = drawn("paths-cifar10-400-epochs", *runs).axes
    assert axes.get_xlim()[1] > 21


def test_refusals(comparison, tmp_path):
    with pytest.raises(DMRError, match="'gif'.*png, svg, pdf"):
        write_pictures(comparison, str(tmp_path), ["gif"])
    with pytest.raises(DMRError, match="'jpg'"):
        as_bytes(pictures_of(comparison)["curves-cifar10-8-epochs"](), "jpg")
    (tmp_path / "file").write_text("")
    with pytest.raises(DMRError, match="file.* cannot be written"):
        write_pictures(comparison, str(tmp_path / "file"))
