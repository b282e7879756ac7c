"""Pictures of comparisons: what there is, what is drawn, and that it is the same every time."""

import datetime
import os
import re
import statistics
import xml.etree.ElementTree as ElementTree
from dataclasses import replace

import cv2
import matplotlib
import numpy as np
import pytest
from conftest import REPOSITORY
from matplotlib.cbook import is_math_text
from matplotlib.text import Text

from dmr_gluon.compare.comparison import compare
from dmr_gluon.compare.figures.drawing import pictures_of, write_pictures
from dmr_gluon.compare.figures.names import group_labels
from dmr_gluon.compare.figures.style import SETTINGS, looks_of
from dmr_gluon.compare.groups import published_name
from dmr_gluon.errors import DMRError
from dmr_gluon.models.names import get_spec
from dmr_gluon.paper.dataset_facts import PUBLISHED
from dmr_gluon.paper.numbers import TABLE2_ERRORS, TABLE2_L
from dmr_gluon.paper.recipes import OF_DATASET
from dmr_gluon.runs.learning_curve import own_settings
from dmr_gluon.runs.log import EpochRecord
from dmr_gluon.runs.reader import FAILED, FINISHED, RUNNING, Run, Setup, read_runs

#: Data sets' names that would do harm in a path, a page, a formula or XML, or have no glyphs.
DRAWN = [
    "../../<b>set</b>", "$x^2$ & $y_1$", "x" * 500, "a\nb\0c\ud800", '数据 "quoted" -->',
]  # fmt: skip
HOSTILE = [*DRAWN, "..", "a/b\\c", "CIFAR10", "--out", "_hidden", " ", "cifar10 ", "a b c"]


def run(
    name="cifar_dmrnet14", dataset="cifar10", seed=1, epochs=None, final=6.5, state=FINISHED,
    upto=None, **changes,
):  # fmt: skip
    """A run with errors that fall to the final one; with the paper's recipe but for changes."""
    known = published_name(dataset)
    recipe = OF_DATASET[known or "digits"]
    epochs = epochs or recipe.epochs
    recipe = replace(recipe, model=name, epochs=epochs, **changes)
    rows = {}
    for n in range(1, (upto or epochs) + 1):
        left = 1 - n / epochs
        rows[n] = EpochRecord(
            n,
            train_loss=0.01 + left,
            train_error=0.5 + 50 * left,
            test_error=final + (40 + seed) * left,
        )
    images = {"train": 50_000, "test": 10_000}
    if known:
        images = {"train": PUBLISHED[known].train_images, "test": PUBLISHED[known].test_images}
    setup = Setup(dataset, name, get_spec(name), recipe, epochs, images, 32, seed)
    folder = dataset.encode("ascii", "backslashreplace").decode().replace("\0", "")
    path = f"{folder}/{name}/{epochs}/{seed}/{sorted(changes.items())}/{state}"
    return Run(path, "dmr_gluon", state, setup, rows, reason="killed")


def names_of(*runs):
    return list(pictures_of(compare(list(runs))))


def drawn(name, *runs):
    """A figure; as long as nobody looks at it, it needs no layout."""
    with own_settings(SETTINGS):
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
        ([run()], ["curves-cifar10-400-epochs", "depth-cifar10-400-epochs"]),
        # One depth is no curve; two are.
        (
            [run(epochs=8), run("cifar_resnet26", epochs=8)],
            ["curves-cifar10-8-epochs", "paths-cifar10-8-epochs"],
        ),
        (
            [run(epochs=8), run("cifar_dmrnet20", epochs=8)],
            ["curves-cifar10-8-epochs", "depth-cifar10-8-epochs", "paths-cifar10-8-epochs"],
        ),
        # Figure 6's networks are not in Table 2.
        ([run("cifar_plain26")], ["curves-cifar10-400-epochs"]),
        ([run("dmrnet44", "imagenet")], ["curves-imagenet-100-epochs"]),
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
    assert all(re.fullmatch(r"depth-cifar10-\d+-epochs(-2)?", name) for name in depths)


# What is in them.


def test_curves_are_the_means_and_all_between_the_extremes():
    runs = [run(seed=seed, epochs=8, final=6 + seed) for seed in (1, 2, 3)]
    figure = drawn("curves-cifar10-8-epochs", *runs)
    loss, error = figure.axes
    assert loss.get_yscale() == error.get_yscale() == "linear"
    for axes, measure in ((loss, "train_loss"), (error, "test_error")):
        ((x, y),) = lines_of(axes)
        assert x == list(range(1, 9))
        values = [[getattr(r.epochs[n], measure) for r in runs] for n in x]
        assert y == pytest.approx([statistics.fmean(row) for row in values])
        (band,) = axes.collections
        corners = band.get_paths()[0].vertices
        for n, row in zip(x, values):
            at = corners[corners[:, 0] == n, 1]
            assert (min(at), max(at)) == pytest.approx((min(row), max(row)))
    assert "CIFAR-10, 8 epochs" in texts_of(figure)


def test_a_long_training_has_logarithmic_losses_and_its_first_errors_cut():
    loss, error = drawn("curves-cifar10-400-epochs", run()).axes
    assert (loss.get_yscale(), error.get_yscale()) == ("log", "linear")
    ((_, errors),) = lines_of(error)
    assert errors[-1] < error.get_ylim()[1] < 100 and error.get_ylim()[0] == 0
    figure = drawn("curves-digits-1-epochs", run("cifar_dmrnet8", "digits", epochs=1))
    assert "digits, 1 epoch" in texts_of(figure)


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
    assert lines_of(only) == [([1, 2, 3], [part.epochs[n].test_error for n in (1, 2, 3)])]


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
    assert "ImageNet, 100 epochs" in texts_of(figure)


def test_networks_share_a_row_with_those_of_their_size():
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
    assert titles == ["L = 12", "L = 18"]
    assert [len(lines_of(axes)) for axes in figure.axes[::2]] == [4, 3]


def test_groups_of_one_network_are_told_apart_by_their_runs():
    groups = compare([run(epochs=8), run("cifar_resnet26", epochs=8), run(epochs=8, lr=0.2)]).groups
    labels = sorted(group_labels(groups))
    assert len(set(labels)) == 3 and labels[0].startswith("DMRNet-14 (") and "ResNet-26" in labels


def errorbars(axes):
    """By label in the legend: x, mean and both ends of each bar."""
    found = {}
    for bars in axes.containers:
        line, _, (spans,) = bars
        x, y = (list(map(float, values)) for values in line.get_data())
        found[bars.get_label()] = x, y, [tuple(span[:, 1]) for span in spans.get_segments()]
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
        assert np.abs(np.subtract(x, TABLE2_L)).max() < 1  # side by side
        assert y == [mean for mean, _ in printed]
        assert np.ravel(spans) == pytest.approx(np.ravel([(m - s, m + s) for m, s in printed]))
    assert list(bars) == ["DMRNet", "ResNet"]
    x, y, spans = bars["DMRNet"]
    assert (x, y) == (pytest.approx([12, 54], abs=2), pytest.approx([6.5, 5.15]))
    assert spans[0] == pytest.approx((6.5 - np.sqrt(0.02), 6.5 + np.sqrt(0.02)))
    assert bars["ResNet"][1] == [7.0]
    dots = [y for line in axes.get_lines() if line.get_marker() == "." for y in line.get_ydata()]
    assert sorted(dots) == pytest.approx([5.0, 5.3, 6.4, 6.6, 7.0])


def test_what_is_not_comparable_never_stands_beside_the_papers_numbers():
    runs = [run(f"cifar_dmrnet{depth}", epochs=8) for depth in (14, 20)]
    runs += [run(), run("cifar_dmrnet20", "my set"), run("cifar_dmrnet14", "my set")]
    pictures = pictures_of(compare(runs))
    for name in ("depth-cifar10-8-epochs", "paths-cifar10-8-epochs"):
        figure = drawn(name, *runs)
        text = " ".join(" ".join(texts_of(figure)).split())
        assert "(paper)" not in text and "least" not in text
        (axes,) = figure.axes
        assert sum(len(bars[0].get_xdata()) for bars in axes.containers) == 2
    (other,) = [name for name in pictures if name.startswith("depth-my-set")]
    (axes,) = drawn(other, *runs).axes
    assert list(errorbars(axes)) == ["DMRNet"]
    (axes,) = drawn("depth-cifar10-400-epochs", *runs).axes
    assert len(errorbars(axes)["DMRNet"][0]) == 1


def test_depth_leaves_out_what_is_no_curve_and_not_in_table_2():
    names = ["dmrnet14", "dmrnet14_k3", "dmrnet20_k3", "dmrnet14_k4", "plain26"]
    runs = [run(f"cifar_{name}") for name in names]
    (axes,) = drawn("depth-cifar10-400-epochs", *runs).axes
    ours = [name for name in errorbars(axes) if "paper" not in name]
    assert ours == ["DMRNet", "DMRNet k3"]


def test_paths_are_as_figure_6_counts_them():
    names = ["resnet26_blocks3", "resnet38_blocks3", "resnet38_blocks6", "plain26", "resnet26"]
    runs = [run(f"cifar_{name}", final=5 + n) for n, name in enumerate(names)]
    figure = drawn("paths-cifar10-400-epochs", *runs)
    (axes,) = figure.axes
    bars = {name: (x, y) for name, (x, y, _) in errorbars(axes).items()}
    assert bars["ResNet blocks3"] == ([15, 21], [5, 6])  # L + 3
    assert bars["ResNet blocks6"] == ([21], [7])
    assert bars["Plain"] == ([26], [8])  # its one path has all layers
    assert bars["ResNet"][1] == [9]
    assert "paper: least at 15 (3 blocks)" in texts_of(figure)
    hints = [line.get_xdata()[0] for line in axes.get_lines() if line.get_color() == "#555555"]
    assert sorted(hints) == [15, 21]


def test_the_papers_minima_are_of_cifar10():
    runs = [run(name, "cifar100") for name in ("cifar_dmrnet14", "cifar_dmrnet20")]
    assert "least" not in " ".join(texts_of(drawn("paths-cifar100-400-epochs", *runs)))


# Names.


@pytest.mark.parametrize("dataset", DRAWN, ids=range(len(DRAWN)))
def test_any_data_set_can_be_drawn(dataset):
    runs = [run(name, dataset, epochs=2) for name in ("cifar_dmrnet8", "cifar_dmrnet14")]
    pictures = pictures_of(compare(runs))
    assert [name.split("-")[0] for name in pictures] == ["curves", "depth", "paths"]
    for name in pictures:
        assert re.fullmatch(r"[a-z]+-[a-z0-9_-]{1,60}-2-epochs", name)
    picture = pictures[list(pictures)[1]]
    ElementTree.fromstring(picture.content("svg"))
    for text in texts_of(drawn(list(pictures)[1], *runs)):
        assert not is_math_text(text) or re.fullmatch(r"\$\\mathdefault\{.*\}\$", text)


def test_data_sets_with_like_names_have_other_files():
    datasets = (*HOSTILE, "a-b-c", "cifar10", "x" * 501)
    names = names_of(*(run(dataset=name, epochs=2) for name in datasets))
    assert len(names) == len(datasets)
    for name in names:
        assert re.fullmatch(r"curves-[a-z0-9_-]{0,60}-2-epochs(-\d)?", name)


# Files.


@pytest.fixture(scope="module")
def comparison():
    return compare(
        [run(seed=seed, epochs=8) for seed in (1, 2)] + [run("cifar_dmrnet20", epochs=8)]
    )


def test_the_same_runs_give_the_same_bytes(comparison):
    def drawn_anew():
        picture = pictures_of(comparison)["depth-cifar10-8-epochs"]
        return [picture.content(kind) for kind in ("png", "svg", "svg")]

    first = drawn_anew()
    assert first[1] == first[2]
    with matplotlib.rc_context({"font.size": 20, "svg.fonttype": "none", "lines.linewidth": 9}):
        # Whatever the user's own settings are.
        assert drawn_anew() == first
    for content in first:
        assert b"Matplotlib v" not in content
        assert str(datetime.date.today().year).encode() + b"-" not in content


def test_the_sizes_are_those_of_print(comparison, tmp_path):
    paths = write_pictures(pictures_of(comparison), str(tmp_path))
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
        with own_settings(SETTINGS):
            sizes = [text.get_fontsize() for text in picture.draw().findobj(Text)]
        assert min(sizes) >= 7


def test_series_differ_in_more_than_their_colour():
    kinds = ["dmrnet"] * 3 + ["resnet", "plain", "dmrnet", "other"] * 3
    colours = {kind: number for number, kind in enumerate(dict.fromkeys(kinds))}
    looks = looks_of(kinds, colours)
    assert len({(look.line, look.marker) for look in looks}) == len(looks)
    assert len({look.colour for look in looks}) == len(colours)


def test_a_network_has_one_colour_in_all_figures():
    networks = [
        *("cifar_dmrnet14_k4", "cifar_plain14", "cifar_dilnet14", "cifar_resnet26"),
        *("cifar_dmrnet14", "cifar_dmrnet20", "cifar_dmrnet14_w4"),
    ]
    comparison = compare([run(name) for name in networks])
    seen = {}
    for name, picture in pictures_of(comparison).items():
        if name.startswith(("curves", "paths")):
            with own_settings(SETTINGS):
                figure = picture.draw()
            for axes in figure.axes:
                for handle, label in zip(*axes.get_legend_handles_labels()):
                    line = getattr(handle, "lines", [handle])[0]
                    if not label.startswith("paper"):
                        seen.setdefault(re.sub(r"-\d+", "", label), set()).add(line.get_color())
    assert set(map(len, seen.values())) == {1}, seen
    # Six kinds, six colours; DMRNets of two depths share theirs.
    assert len(seen) == 6 and len(set.union(*seen.values())) == 6


def test_a_folder_that_cannot_be_written_is_named(comparison, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DMRError, match="file.* cannot be written"):
        write_pictures(pictures_of(comparison), str(tmp_path / "file"))


def test_a_log_without_any_test_error_is_drawn(tmp_path):
    """Of the authors' code, in its first epoch, of many."""
    text = (REPOSITORY / "results" / "authors" / "cross_d26w1_exp3.txt").read_text()
    text = re.sub(r"(num_epochs\W+)5\b", r"\g<1>400", text[: text.index("Validation-accuracy")])
    (tmp_path / "cut.txt").write_text(text[: text.rindex("\n") + 1])
    pictures = pictures_of(compare(read_runs([str(tmp_path / "cut.txt")])))
    (name,) = pictures
    assert name == "curves-cifar10-400-epochs"
    assert pictures[name].content("png").startswith(b"\x89PNG")
