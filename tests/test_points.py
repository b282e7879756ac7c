"""Runs beside one other run, point by point: intervals, the joint verdict, what is shown."""

import json
from dataclasses import replace

import numpy as np
import pytest
from run_folders import ARGUMENTS, append, authors_lines, write_run

from dmr_gluon.cli import main as cli
from dmr_gluon.compare.comparison import compare
from dmr_gluon.compare.figures.drawing import pictures_of
from dmr_gluon.compare.figures.style import SETTINGS
from dmr_gluon.compare.points import Point, joint
from dmr_gluon.compare.statistics import CONSISTENT, HIGHER, LOWER, NO_VERDICT, Sample, prediction
from dmr_gluon.compare.tables import as_json, as_text, sections
from dmr_gluon.paper.recipes import CIFAR
from dmr_gluon.runs.authors_log import images_of
from dmr_gluon.runs.learning_curve import own_settings
from dmr_gluon.runs.reader import read_runs

RECIPE = replace(CIFAR, model="cifar_dmrnet14", epochs=5, lr_drops=(0.4, 0.6, 0.8))
PLACES = [(epoch, step) for epoch in range(1, 6) for step in (250, 500, 750)]


def means(epoch, step, shift):
    """Falling, with all points of a run shifted alike."""
    error = 60 / epoch - step / 250 + shift
    return {"train_loss": 2 / epoch - step / 2500 + shift / 50, "train_error": error}


def our_runs(folder, shifts, dataset="cifar10", places=PLACES, **choices):
    for seed, shift in enumerate(shifts, start=1):
        path = write_run(
            folder / f"seed{seed}", 21 + shift, seed=seed, recipe=RECIPE, dataset=dataset, epochs=5,
            images=(50_000, 10_000), **choices,
        )  # fmt: skip
        for place in places:
            row = means(*place, shift)
            append(path, "steps", epoch=place[0], step=place[1], images=1, **row)
    return read_runs([folder])


def their_log(path, shift, accuracies=(0.42, 0.58625, 0.77625, 0.79125, 0.78875)):
    """As the authors' code writes it, of its five epochs."""
    head = "2016-11-25 10:31:02,548 "
    lines = authors_lines({}, arguments=ARGUMENTS.replace("=400", "=5"))
    for epoch, accuracy in enumerate(accuracies, start=1):
        for step in (250, 500, 750):
            row = means(epoch, step, shift)
            lines.append(
                f"{head}Epoch[{epoch - 1}] Batch [{step}]\tSpeed: 1237\tloss: 1.0000"
                f"({row['train_loss']:.4f})\ttop1: 50.0000({100 - row['train_error']:.4f})"
            )
        lines.append(f"{head}Epoch[{epoch - 1}] Validation-accuracy={accuracy:.6f}")
    path.write_text("\n".join(lines) + "\n")
    return read_runs([path])


SHIFTS = (-0.3, 0.1, 0.2, -0.1, 0.0, 0.15)


def only(items):
    (item,) = items
    return item


def test_every_point_that_both_have(tmp_path):
    ours = our_runs(tmp_path / "ours", SHIFTS, places=[*PLACES, (1, 100)])
    item = only(compare(ours, their_log(tmp_path / "theirs.txt", 0.1)).points)
    assert len(item.points) == 15 * 2 + 5 and len(item.runs) == 6
    assert [p.step for p in item.points if p.epoch == 1] == [250, 250, 500, 500, 750, 750, None]
    for point in item.points:
        if point.step is None:
            assert point.measure == "test_error"
            continue
        values = [run.points[point.epoch, point.step][point.measure] for run in item.runs]
        assert point.ours.mean == pytest.approx(np.mean(values))
        assert point.theirs == pytest.approx(
            means(point.epoch, point.step, 0.1)[point.measure], abs=1e-4
        )
        # 2.5706: Student's t with 5 degrees of freedom, 97.5%.
        half = 2.5706 * np.std(values, ddof=1) * np.sqrt(7 / 6)
        assert point.half == pytest.approx(half, rel=1e-4)
        assert point.within
    assert item.verdict.kind == CONSISTENT
    assert item.verdict.text.startswith("30 points within epochs, 0 outside; root mean square of t")


def test_their_tests_are_of_fewer_images(tmp_path):
    ours = our_runs(tmp_path / "ours", SHIFTS)
    item = only(compare(ours, their_log(tmp_path / "theirs.txt", 0.1)).points)
    assert item.test_images == 800
    last = item.points[-1]
    spread = last.ours.std * np.sqrt(7 / 6)
    chance = 100 * np.sqrt(0.21125 * 0.78875 / 800)
    assert last.half == pytest.approx(2.5706 * np.hypot(spread, chance), rel=1e-4)
    # Of all 10,000 there is nothing to allow for.
    whole = their_log(tmp_path / "whole.txt", 0.1, (0.4201, 0.5862, 0.7763, 0.7913, 0.7888))
    item = only(compare(ours, whole).points)
    assert item.test_images is None
    assert item.points[-1].half == pytest.approx(2.5706 * spread, rel=1e-4)


@pytest.mark.parametrize(
    "errors, count",
    [
        ((58.0, 41.375, 22.375, 20.875, 21.125), 800),
        ((58.01, 41.37, 22.37, 20.88, 21.14), None),
        # Of 5,000 images, or by chance: one in 32. Of twelve errors not any more.
        ((58.02, 41.38, 22.36, 20.88, 21.14), None),
        ((58.02, 41.38, 22.36, 20.88, 21.14, 20.1, 20.02, 20.06, 20.14, 19.98, 19.9, 19.86), 5000),
        ((58.0,), None),
        ((90.0,) * 9, None),
        ((0, 100, 0), None),
        ((), None),
    ],
)
def test_of_how_many_images_errors_are(errors, count):
    assert images_of(errors, 10_000) == count


@pytest.mark.parametrize("shift, kind", [(0.2, CONSISTENT), (2.0, LOWER), (-2.0, HIGHER)])
def test_the_joint_verdict(tmp_path, shift, kind):
    ours = our_runs(tmp_path / "ours", SHIFTS)
    item = only(compare(ours, their_log(tmp_path / "theirs.txt", shift)).points)
    assert item.verdict.kind == kind
    assert item.verdict.difference == pytest.approx(np.mean(SHIFTS) - shift, abs=1e-3)
    # All points move as one here: the joint t is that of each.
    from scipy import stats

    t = (shift - np.mean(SHIFTS)) / (np.std(SHIFTS, ddof=1) * np.sqrt(7 / 6))
    assert item.verdict.p == pytest.approx(2 * stats.t.sf(abs(t), 5), rel=0.02)


def test_three_runs_are_too_few_for_a_joint_verdict(tmp_path):
    ours = our_runs(tmp_path / "ours", SHIFTS[:3])
    item = only(compare(ours, their_log(tmp_path / "theirs.txt", 9.0)).points)
    assert item.verdict.kind == NO_VERDICT and "at least 4 runs" in item.verdict.text
    assert not any(point.within for point in item.points if point.step)
    single = our_runs(tmp_path / "one", SHIFTS[:1])
    item = only(compare(single, their_log(tmp_path / "theirs.txt", 9.0)).points)
    assert {(point.half, point.within) for point in item.points} == {(None, None)}


def _often(cases, quick):
    """Mark all cases as slow but some."""
    return [
        case if case in quick else pytest.param(*case, marks=pytest.mark.slow) for case in cases
    ]


@pytest.mark.parametrize(
    "runs, most, correlation",
    _often(
        [
            (runs, most, correlation)
            for runs, most in [(4, 0.065), (6, 0.055), (10, 0.055)]
            for correlation in [0.0, 0.5, 0.8, 0.95, 1.0]
        ],
        quick=[(6, 0.055, 0.5), (6, 0.055, 1.0)],
    ),
)
def test_chance_makes_a_joint_verdict_no_more_often_than_it_says(runs, most, correlation):
    """Of many trainings that differ in nothing, however their points hang together."""
    rng, found, many = np.random.default_rng(7), 0, 1500
    for _ in range(many):
        common = rng.standard_normal((runs + 1, 1))
        own = rng.standard_normal((runs + 1, 30))
        values = np.sqrt(correlation) * common + np.sqrt(1 - correlation) * own
        ours = [Sample.of(column) for column in values[:-1].T]
        points = [
            Point(1, i, "train_error", sample, theirs, prediction(sample))
            for i, (sample, theirs) in enumerate(zip(ours, values[-1]))
        ]
        found += joint(points).kind != CONSISTENT
    chance = 2 * np.sqrt(0.05 * 0.95 / many)
    assert found / many <= most + chance
    if correlation == 1:
        assert found / many >= 0.05 - chance  # exact there


def test_what_is_not_the_same_training_is_not_set_beside(tmp_path):
    ours = our_runs(tmp_path / "ours", SHIFTS)
    log = tmp_path / "theirs.txt"
    for old, new in (("'cross'", "'half'"), ("cifar10", "cifar100"), ("epochs=5", "epochs=6")):
        their_log(log, 0.1)
        log.write_text(log.read_text().replace(old, new).replace("0.3494M", "?"))
        assert compare(ours, read_runs([log])).points == (), new
    assert compare(ours, ours).points == ()
    # Another training of our own is no further run of this one.
    other = our_runs(tmp_path / "other", [0.1], devices=1)
    assert compare(ours, other).points == ()
    assert compare(our_runs(tmp_path / "none", SHIFTS, places=()), their_log(log, 1)).points == ()


def test_images_that_are_jpegs_are_set_beside_and_told(tmp_path):
    ours = our_runs(tmp_path / "ours", SHIFTS, dataset="cifar10-jpeg95")
    item = only(compare(ours, their_log(tmp_path / "theirs.txt", 0.1)).points)
    assert item.deviations[0] == "CIFAR-10-JPEG95 and CIFAR-10"


def test_a_run_that_is_not_finished_has_the_points_that_it_has(tmp_path):
    ours = our_runs(tmp_path / "ours", SHIFTS[:1], places=PLACES[:4], done=1)
    item = only(compare(ours, their_log(tmp_path / "theirs.txt", 0.1)).points)
    assert [p.step for p in item.points if p.measure == "train_loss"] == [250, 500, 750, 250]


def test_a_run_without_points_is_left_out_and_told(tmp_path):
    our_runs(tmp_path / "ours", SHIFTS)
    old = tmp_path / "ours" / "old"
    write_run(old, 21, seed=9, recipe=RECIPE, epochs=5, images=(50_000, 10_000))
    ours = read_runs([tmp_path / "ours"])
    comparison = compare(ours, their_log(tmp_path / "theirs.txt", 0.1))
    item = only(comparison.points)
    assert len(item.runs) == 6
    assert "left out: 1 run without points" in as_text(comparison)


def test_a_run_is_not_set_beside_itself(tmp_path, monkeypatch):
    our_runs(tmp_path / "ours", SHIFTS)
    monkeypatch.chdir(tmp_path)
    assert compare(read_runs(["ours"]), read_runs([str(tmp_path / "ours" / "seed1")])).points == ()


def test_a_pair_has_no_verdict_on_other_images(tmp_path):
    """Theirs of 800 images beside ours of all: the points allow for that, a plain test does not."""
    ours = our_runs(tmp_path / "ours", SHIFTS)
    pair = only(compare(ours, their_log(tmp_path / "theirs.txt", 0.1)).pairs)
    verdict = pair.verdict
    assert (verdict.kind, verdict.text) == (NO_VERDICT, "tested on 10,000 and on 800 images")
    # BN's momentum was theirs; of the order only that it was another is known.
    assert set(pair.deviations) == {
        "bn_momentum 0.9 and 0.99",
        "one shuffled as a whole, the authors' in chunks of 8 MB of records",
        "10,000 and 800 test images",
    }


def test_logs_of_one_name_have_pictures_of_their_own(tmp_path):
    ours, theirs = our_runs(tmp_path / "ours", SHIFTS), []
    for folder in "abc":
        (tmp_path / folder).mkdir()
        theirs += their_log(tmp_path / folder / "log.txt", 0.1)
    for number, run in enumerate(theirs):  # of trainings of their own
        theirs[number] = replace(run, setup=replace(run.setup, seed=number, bn_images=32 + number))
    comparison = compare(ours, theirs)
    names = [name for name in pictures_of(comparison) if name.startswith("points-")]
    assert len(comparison.points) == len(names) == 3


def test_of_many_points_some_are_shown(tmp_path):
    places = [(epoch, step) for epoch in range(1, 6) for step in range(10, 780, 10)]
    ours = our_runs(tmp_path / "ours", SHIFTS[:5], places=places)
    theirs = our_runs(tmp_path / "theirs", [0.1], places=places)
    comparison = compare(ours, theirs)
    assert len(only(comparison.points).points) == 5 * 77 * 2 + 5
    (section,) = [s for s in sections(comparison) if s.title.endswith("point by point")]
    assert len(section.rows) == 100 and "the last 100 of 775 points" in " ".join(section.notes)


def test_text_json_page_and_picture(tmp_path, capsys, monkeypatch):
    ours = our_runs(tmp_path / "ours", SHIFTS)
    theirs = their_log(tmp_path / "theirs.txt", 1.0)
    comparison = compare(ours, theirs)
    item = only(comparison.points)
    (section,) = [s for s in sections(comparison) if s.title.endswith("point by point")]
    assert section.title == "cifar_dmrnet14 on CIFAR-10 compared with theirs, point by point"
    assert len(section.rows) == 35 and section.notes[0].startswith(
        "ours together: lower: 30 points"
    )
    text = as_text(comparison)
    assert "epoch 5, step 750  training loss" in text and "10,000 and 800 test images" in text
    found = only(as_json(comparison)["points"])
    assert len(found["points"]) == 35 and found["verdict"]["kind"] == LOWER
    json.dumps(found)
    monkeypatch.chdir(tmp_path)
    arguments = ["compare", "ours", "--against", "theirs.txt", "--html", "page.html"]
    cli._main([*arguments, "--pictures", "pictures", "--markdown", "page.md"])
    page = (tmp_path / "page.html").read_text()
    assert page.count("epoch 3, step 500") == 2 and "point by point" in page
    assert "points-cifar_dmrnet14-theirs-cifar10-5-epochs" in (tmp_path / "page.md").read_text()
    pictures = {n: p for n, p in pictures_of(comparison).items() if n.startswith("points-")}
    with own_settings(SETTINGS):
        figure = only(pictures.values()).draw()
    loss, error, test = figure.axes
    # Their points less our mean; of training and test.
    for axes, count in ((loss, 15), (error, 15), (test, 5)):
        marks = [line for line in axes.lines if line.get_marker() == "o"]
        values = sorted(y for line in marks for y in line.get_ydata())
        assert len(values) == count
        measure = {loss: "train_loss", error: "train_error", test: "test_error"}[axes]
        wanted = sorted(-p.difference for p in item.points if p.measure == measure)
        assert values == pytest.approx(wanted)
