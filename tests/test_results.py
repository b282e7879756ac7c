"""Reading runs, grouping them, and comparing them with the paper and with each other."""

import dataclasses
import fcntl
import json
import os
import shutil

import pytest
from conftest import REPOSITORY
from run_folders import (
    ARGUMENTS,
    HEADS,
    append,
    authors_lines,
    configuration,
    epochs_of,
    log_of,
    write_authors_log,
    write_run,
)

from dmr_gluon.compare.comparison import compare
from dmr_gluon.compare.groups import dataset_title, deviations_of, grouped, published_name
from dmr_gluon.compare.statistics import CONSISTENT, HIGHER, LOWER, NO_VERDICT
from dmr_gluon.errors import DMRError
from dmr_gluon.models.names import get_spec, name_of
from dmr_gluon.paper.dataset_facts import PUBLISHED
from dmr_gluon.paper.recipes import DIGITS, IMAGENET, RECIPES
from dmr_gluon.runs.log import EpochRecord
from dmr_gluon.runs.reader import read_run, read_runs


def only(items):
    (item,) = items
    return item


def replace_in(path, old, new):
    with open(path) as file:
        text = file.read()
    assert old in text
    with open(path, "w") as file:
        file.write(text.replace(old, new))


def rows_of(*paths):
    """{(place, measure): row} of runs that are one group."""
    comparison = compare(read_runs(map(str, paths)))
    assert len(comparison.groups) == 1
    return {(row.place, row.measure): row for row in comparison.rows}


def row_of(*paths):
    return only(rows_of(*paths).values())


class TestReading:
    def test_a_real_run(self, short_run, digits):
        with open(os.path.join(short_run, "config.json")) as file:
            config = json.load(file)
        run = read_run(short_run)
        assert run.state == "finished" and run.changes == run.remarks == ()
        assert (run.setup.dataset, run.setup.network) == ("digits", "cifar_dmrnet8")
        assert (run.setup.seed, run.setup.epochs, run.last) == (1, 2, 2)
        assert run.setup.images == {
            name: config["dataset"][f"{name}_images"] for name in ("train", "test")
        }
        assert run.setup.bn_images == 64 and run.setup.environment["devices"] == ["cpu(0)"]
        for number, event in epochs_of(short_run).items():
            assert run.epochs[number] == EpochRecord.of(event)
            assert run.epochs[number].parameters_sha256 == event["parameters_sha256"]
        row = row_of(short_run)
        assert row.sample.mean == epochs_of(short_run)[2]["test_error"]
        assert "the paper has no data set digits" in row.verdict.text

    def test_a_made_up_run_has_the_fields_of_a_real_one(self, short_run, tmp_path):
        """So that what is tested with these holds for real ones."""
        path = write_run(tmp_path / "run", epochs=2)
        for name in ("config.json", "log.jsonl"):
            with open(os.path.join(path, name)) as ours, open(os.path.join(short_run, name)) as its:
                if name == "config.json":
                    found, real = json.load(ours), json.load(its)
                    assert found.keys() == real.keys()
                    for part in ("recipe", "network", "dataset"):
                        assert found[part].keys() == real[part].keys()
                    continue
                for line, real in zip(map(json.loads, ours), map(json.loads, its)):
                    assert line.keys() == real.keys()

    def test_what_is_finished_running_stopped_and_failed(self, tmp_path):
        done = write_run(tmp_path / "done", epochs=3)
        stopped = write_run(tmp_path / "stopped", epochs=3, done=2)
        append(stopped, "stop", signal=15, epoch=2, step=9)
        failed = write_run(tmp_path / "failed", epochs=3, done=1)
        append(failed, "failed", reason="the process was ended by SIGKILL")
        begun = write_run(tmp_path / "begun", epochs=3, done=0)
        states = {run.name: run for run in read_runs([str(tmp_path)])}
        assert {name: (run.state, run.last) for name, run in states.items()} == {
            "done": ("finished", 3),
            "stopped": ("stopped", 2),
            "failed": ("failed", 1),
            "begun": ("stopped", 0),
        }
        assert states["failed"].reason == "the process was ended by SIGKILL"
        with open(os.path.join(stopped, "lock"), "w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            assert read_run(stopped).state == "running"
            assert only(read_runs([log_of(stopped)])).state == "running"
        assert read_run(stopped).state == "stopped"
        left_out = {run.name: why for run, why in only(compare(states.values()).groups).left_out}
        assert left_out == {
            "stopped": "stopped after epoch 2 of 3",
            "failed": "failed after epoch 1 of 3: the process was ended by SIGKILL",
            "begun": "stopped after epoch 0 of 3",
        }
        assert done and begun

    def test_a_run_that_failed_and_went_on(self, tmp_path):
        path = write_run(tmp_path / "run", epochs=3, done=1)
        append(path, "failed", reason="x")
        append(path, "resume", epoch=1, step=2)
        assert read_run(path).state == "stopped" and read_run(path).reason is None
        append(path, "failed", reason="y")
        whole = write_run(tmp_path / "whole", epochs=3)
        with open(log_of(path), "a") as file, open(log_of(whole)) as other:
            file.writelines(other.readlines()[2:])
        run = read_run(path)
        assert (run.state, run.reason) == ("finished", None)

    def test_a_run_whose_end_is_not_logged_is_finished_with_its_last_epoch(self, tmp_path):
        assert read_run(write_run(tmp_path / "run", epochs=3, end=False)).state == "finished"

    def test_a_run_without_its_last_epoch_is_not_finished(self, tmp_path):
        path = write_run(tmp_path / "run", epochs=3)
        with open(log_of(path)) as file:
            lines = file.readlines()
        with open(log_of(path), "w") as file:
            file.writelines(lines[:3] + lines[4:])  # with the end
        run = read_run(path)
        assert (run.state, run.last, run.final("test_error")) == ("stopped", 2, None)

    def test_a_run_of_an_earlier_version(self):
        run = read_run(os.path.join(REPOSITORY, "tests", "golden", "old_run"))
        assert (run.state, run.last, run.setup.network) == ("finished", 3, "cifar_dmrnet8")
        assert run.changes == ("lr changed from 0.1 to 0.05 after epoch 1",)
        assert run.final("test_error") == pytest.approx(86.67, abs=0.01)
        assert len(run.points) == 9 and run.epochs[3].seconds["train"] > 0

    @pytest.mark.parametrize("changes", [5, [], "lr", [["lr", 1]], True, {"lr": "?"}, {"?": None}])
    def test_a_change_that_is_damaged_is_refused(self, tmp_path, changes):
        path = write_run(tmp_path / "run", epochs=3)
        append(path, "resume", epoch=3, step=9, changes=changes)
        with pytest.raises(DMRError, match="does not say what was trained"):
            read_run(path)

    def test_a_log_alone_is_enough(self, tmp_path):
        path = write_run(tmp_path / "run", epochs=3)
        whole = read_run(path)
        copy = shutil.copy(log_of(path), tmp_path / "seed1.jsonl")
        (tmp_path / "other").mkdir()
        other = shutil.copy(log_of(path), tmp_path / "other")
        for run, name in zip(read_runs([copy, other]), ("seed1", "other")):
            assert (run.state, run.setup, run.epochs) == (whole.state, whole.setup, whole.epochs)
            assert run.name == name

    def test_a_log_without_a_start_is_told_by_its_config(self, tmp_path):
        path = write_run(tmp_path / "run", epochs=3)
        whole = read_run(path)
        replace_in(log_of(path), '"event": "start"', '"event": "stop"')
        assert read_run(path) == whole
        os.remove(os.path.join(path, "config.json"))
        with pytest.raises(DMRError, match="it has no config.json"):
            read_run(path)

    def test_a_folder_that_was_used_again(self, tmp_path):
        """Its config.json was removed: the first training's epochs are not the second's."""
        path = write_run(tmp_path / "run", epochs=3, error=5)
        append(path, "rollback", reason="loss nan", at=2, step=1)
        append(path, "resume", epoch=3, step=2, changes={"lr": [0.1, 0.2]})
        os.remove(os.path.join(path, "config.json"))
        write_run(path, epochs=3, error=9, done=2)
        run = read_run(path)
        assert (run.state, run.last, run.changes, run.remarks) == ("stopped", 2, (), ())
        assert run.epochs[2].test_error == epochs_of(path)[2]["test_error"]

    def test_an_older_log_without_epochs_devices_and_workers(self, tmp_path):
        path = write_run(tmp_path / "run", epochs=3)
        config, _ = configuration(epochs=3)
        for name in ("epochs", "devices", "workers", "threads"):
            del config[name]
        for name in ("dtype", "accumulate", "sync_bn", "steps"):
            del config["recipe"][name]
        shutil.rmtree(path)
        run = read_run(write_run(path, epochs=3, config=config))
        assert (run.state, run.setup.epochs, run.setup.bn_images) == ("finished", 3, 64)

    @pytest.mark.parametrize(
        "choices, images",
        [
            ({}, 32),
            ({"devices": 1}, 64),
            ({"devices": 4, "workers": 2}, 8),
            ({"devices": 1, "accumulate": 2}, 32),
            ({"devices": 2, "sync_bn": True}, 64),
            ({"devices": 2, "workers": 4, "sync_bn": True}, 16),
        ],
    )
    def test_images_over_which_bn_takes_its_statistics(self, tmp_path, choices, images):
        run = read_run(write_run(tmp_path / "run", epochs=1, **choices))
        assert run.setup.bn_images == images
        remark = f"BN over {images} images, the paper's over 32"
        assert only(grouped([run])).remarks == (() if images == 32 else (remark,))

    def test_the_papers_bn_is_not_named_beside_a_set_of_ones_own(self, tmp_path):
        run = read_run(write_run(tmp_path / "run", epochs=1, dataset="mine", devices=1))
        assert run.setup.bn_images == 64 and only(grouped([run])).remarks == ()

    def test_paths_that_are_wrong(self, tmp_path):
        (tmp_path / "empty").mkdir()
        with pytest.raises(DMRError, match="none cannot be read .*; name a run"):
            read_runs([str(tmp_path / "none")])
        with pytest.raises(DMRError, match="there is no run in"):
            read_runs([str(tmp_path / "empty")])

    def test_a_run_that_is_named_twice_counts_once(self, tmp_path, monkeypatch):
        first = write_run(tmp_path / "a" / "first", epochs=1, seed=1)
        write_run(tmp_path / "a" / "second", epochs=1, seed=2)
        os.symlink(first, tmp_path / "link")
        monkeypatch.chdir(tmp_path)
        names = ["a/first", str(tmp_path), "a", "./a/first", first, log_of(first), "link"]
        runs = read_runs(names)
        assert [run.path for run in runs] == ["a/first", os.path.join(tmp_path, "a", "second")]

    def test_changes_of_the_recipe_and_what_else_happened(self, tmp_path):
        path = write_run(tmp_path / "run", done=5)
        append(path, "resume", epoch=5, step=9)
        assert read_run(path).changes == ()
        append(path, "rollback", reason="loss nan", at=7, step=6)
        append(path, "resume", epoch=5, step=9, changes={"lr": [0.1, 0.05], "lr_drops": [[1], []]})
        config, _ = configuration(lr=0.05, lr_drops=())
        with open(os.path.join(path, "config.json"), "w") as file:
            json.dump({"format": 1, **config}, file)
        run = read_run(path)
        assert run.changes == (
            "lr changed from 0.1 to 0.05 after epoch 5",
            "lr_drops changed from [1] to [] after epoch 5",
        )
        # What the start said of lr_drops is explained by the change, whatever the values.
        assert run.remarks == ("rolled back from a loss that was not finite: 1 time",)
        append(path, "rollback", reason="loss nan", at=7, step=6)
        assert read_run(path).remarks == ("rolled back from a loss that was not finite: 2 times",)


class TestBesideThePaper:
    def test_one_run_and_several(self, tmp_path):
        one = write_run(tmp_path / "1", 6.55)
        row = row_of(one)
        assert (row.place, row.measure, row.printed) == (
            "Table 2, L=12",
            "test_error",
            "6.48 ± 0.04",
        )
        assert (row.sample.count, row.sample.mean, row.sample.std) == (1, 6.55, None)
        assert (row.verdict.kind, row.verdict.difference) == (CONSISTENT, pytest.approx(0.07))
        assert row.verdict.text == "one run: within two standard deviations (1.57)"
        two = write_run(tmp_path / "2", 6.45, seed=2)
        row = row_of(one, two)
        assert (row.sample.count, row.sample.mean, row.sample.best) == (2, 6.5, 6.45)
        assert row.sample.std == pytest.approx(0.1 / 2**0.5)
        assert row.verdict.text == "Welch test, p = 0.76"
        three = [write_run(tmp_path / str(seed), 7 + seed / 100, seed=seed) for seed in (3, 4, 5)]
        row = row_of(one, two, *three)
        assert (row.sample.count, row.sample.median) == (5, 7.03)
        assert row_of(*three).verdict.kind == HIGHER
        assert row_of(write_run(tmp_path / "low", 4, seed=9)).verdict.kind == LOWER

    def test_none_is_finished(self, tmp_path):
        row = row_of(write_run(tmp_path / "run", done=399))
        assert (row.sample, row.verdict.kind, row.verdict.text) == (
            *(None, NO_VERDICT),
            "no finished run",
        )

    @pytest.mark.parametrize(
        "choices, words",
        [
            ({"epochs": 12}, ["12 epochs instead of 400"]),
            ({"lr": 0.05}, ["lr 0.05 instead of 0.1"]),
            ({"batch_size": 128}, ["batch_size 128 instead of 64"]),
            ({"label_smoothing": 0.1}, ["label_smoothing 0.1 instead of 0"]),
            ({"mirror": False}, ["mirror False instead of True"]),
            ({"lr_drops": ()}, ["lr_drops none instead of 0.5, 0.75, 0.875"]),
            ({"schedule": "cosine"}, ["schedule cosine instead of steps"]),
            ({"steps": 30}, ["1 epoch instead of 400", "steps 30 instead of none"]),
            (
                {"epochs": 800, "steps": 400 * 782},
                ["epochs 800 instead of 400", "steps 312800 instead of none"],
            ),
            ({"dataset": "cifar10-jpeg"}, ["CIFAR-10-JPEG instead of CIFAR-10"]),
            (
                {"dataset": "cifar10_half", "images": (25_000, 10_000), "epochs": 200},
                [
                    "200 epochs instead of 400",
                    "CIFAR-10_HALF instead of CIFAR-10",
                    "25,000 train images instead of 50,000",
                ],
            ),
            ({"images": (50_000, 2_000)}, ["2,000 test images instead of 10,000"]),
            # Another data set's recipe is compared with this one's.
            ({"recipe": DIGITS}, ["20 epochs instead of 400", "mirror False instead of True"]),
        ],
    )
    def test_what_is_not_comparable_gets_the_reasons_and_no_verdict(self, tmp_path, choices, words):
        paths = [write_run(tmp_path / str(s), 9, seed=s, **choices) for s in (1, 2)]
        row = row_of(*paths)
        assert row.verdict.text == "not comparable: " + "; ".join(words)
        assert (row.verdict.kind, row.verdict.p, row.verdict.interval) == (NO_VERDICT, None, None)
        assert row.group.deviations == tuple(words)
        assert row.place == "Table 2, L=12" and row.printed == "6.48 ± 0.04"
        # What was found, and how far it is from the paper's, are facts all the same.
        assert row.sample.count == 2 and row.verdict.difference == pytest.approx(9 - 6.48)

    def test_a_recipe_that_was_changed_at_a_resume(self, tmp_path):
        plain = [write_run(tmp_path / str(seed), seed=seed) for seed in (1, 2)]
        changed = write_run(tmp_path / "3", seed=3)
        append(changed, "resume", epoch=3, step=9, changes={"lr": [0.1, 0.1]})
        comparison = compare(read_runs([*plain, changed]))
        usual, other = sorted(comparison.rows, key=lambda row: row.group.setup.seed)
        assert (len(usual.group.runs), len(other.group.runs)) == (2, 1)
        assert usual.verdict.kind == CONSISTENT
        assert other.verdict.kind == NO_VERDICT
        assert other.verdict.text == "not comparable: lr changed from 0.1 to 0.1 after epoch 3"

    def test_the_same_network_at_several_places(self, tmp_path):
        paths = [
            write_run(tmp_path / str(s), 5 + s / 100, seed=s, network="cifar_dmrnet56")
            for s in (1, 2)
        ]
        rows = rows_of(*paths)
        assert {place: row.printed for (place, _), row in rows.items()} == {
            "Table 2, L=54": "4.96 ± 0.06",
            "Table 3, depth=56": "4.96",
        }
        texts = [row.verdict.text.split(",")[0] for row in rows.values()]
        assert texts == ["Welch test", "one-sample t-test; the paper prints no spread"]
        path = write_run(tmp_path / "50", network="cifar_dmrnet50", dataset="cifar100")
        places = {place: row.printed for (place, _), row in rows_of(path).items()}
        assert places == {"Table 2, L=48": "24.73 ± 0.40", "Table 5, L=48 shared": "24.73"}

    @pytest.mark.parametrize(
        "name, dataset, places",
        [
            ("cifar_resnet110", "cifar10", ["Table 2, L=54"]),
            ("cifar_dilnet14", "svhn", ["Table 2, L=12"]),
            ("cifar_dmrnet50_w4", "cifar100", ["Table 3, depth=50"]),
            ("cifar_dmrnet98_identity_unshared", "cifar10", ["Table 5, L=96 unshared"]),
            ("cifar_plain26", "cifar10", ["Figure 6, L=12"]),
            ("cifar_resnet38_blocks6", "cifar10", ["Figure 6, L=18"]),
            ("cifar_resnet38_blocks6", "cifar10-jpeg", ["Figure 6, L=18"]),
            ("cifar_resnet62_blocks3", "cifar10", [""]),  # the paper does not name L = 30
            ("cifar_resnet62_blocks3", "cifar100", [""]),
            ("cifar_resnet62_blocks15", "cifar10", [""]),
            ("cifar_resnet32", "cifar10", [""]),  # Table 2 has no L = 15
            ("cifar_dmrnet56_k3", "cifar10", [""]),
            ("resnet50", "imagenet", [""]),
            ("dmrnet50_ijcai", "imagenet", [""]),
        ],
    )
    def test_places_of_networks(self, tmp_path, name, dataset, places):
        path = write_run(tmp_path / "run", network=name, dataset=dataset)
        assert [place for place, _ in rows_of(path)] == places

    def test_where_the_paper_draws_or_has_nothing(self, tmp_path):
        row = row_of(write_run(tmp_path / "drawn", network="cifar_plain26"))
        assert (row.printed, row.verdict.text) == (
            *("", "the paper prints no number for this network"),
        )
        row = row_of(write_run(tmp_path / "none", network="cifar_dmrnet56_k3"))
        assert row.verdict.text == "the paper prints no number for this network"
        assert row.verdict.kind == NO_VERDICT and row.verdict.difference is None

    def test_the_grouped_form_is_the_same_function(self, tmp_path):
        paths = [
            write_run(tmp_path / "a"),
            write_run(tmp_path / "b", network="cifar_dmrnet14_grouped", seed=2),
        ]
        comparison = compare(read_runs(paths))
        assert [row.printed for row in comparison.rows] == ["6.48 ± 0.04"] * 2
        assert len(comparison.groups) == 2  # but another program

    def test_a_network_that_no_name_says(self, tmp_path):
        path = write_run(tmp_path / "run", epochs=400)
        custom = get_spec("cifar_dmrnet14", channels=(16, 32, 48))
        assert name_of(custom) == "cifar_dmrnet14(channels=(16, 32, 48))"  # once _custom
        for name in ("config.json", "log.jsonl"):
            with open(os.path.join(path, name)) as file:
                text = file.read()
            text = text.replace('"cifar_dmrnet14"', '"cifar_dmrnet14_custom"')
            text = text.replace("[16, 32, 64]", "[16, 32, 48]")
            text = text.replace("  16,\n   32,\n   64\n", "  16,\n   32,\n   48\n")
            with open(os.path.join(path, name), "w") as file:
                file.write(text)
        run = read_run(path)
        assert run.changes == () and run.setup.spec.channels == (16, 32, 48)
        row = row_of(path)
        assert (row.place, row.verdict.kind) == ("", NO_VERDICT)

    def test_imagenet_has_three_measures(self, tmp_path):
        choices = {"network": "dmrnet44", "dataset": "imagenet", "devices": 8}
        paths = [
            write_run(tmp_path / str(seed), 23.5 + seed / 10, seed=seed, **choices)
            for seed in (1, 2)
        ]
        rows = rows_of(*paths)
        assert {key: row.printed for key, row in rows.items()} == {
            ("Table 4, depth=44", "test_error"): "23.66",
            ("Table 4, depth=44", "test_top5_error"): "6.81",
            ("Table 4, depth=44", "train_error"): "19.72",
        }
        for (_, measure), row in rows.items():
            values = [epochs_of(path)[100][measure] for path in paths]
            assert row.sample.mean == pytest.approx(sum(values) / 2)
            assert row.verdict.p is not None
        rows = rows_of(write_run(tmp_path / "r", network="resnet101", dataset="imagenet"))
        assert [row.printed for row in rows.values()] == ["26.41", "8.50", "25.75"]

    @pytest.mark.parametrize(
        "images, recipe, words",
        [
            ((598_388, 26_032), "paper", ()),
            ((604_388, 26_032), "authors", ("604,388 train images instead of 598,388",)),
            ((604_388, 26_032), "paper", ("604,388 train images instead of 598,388",)),
            ((73_257, 26_032), "paper", ("73,257 train images instead of 598,388",)),
        ],
    )
    def test_svhns_images(self, tmp_path, images, recipe, words):
        recipe = RECIPES[recipe]["svhn"]
        path = write_run(tmp_path / "run", 2.0, dataset="svhn", images=images, recipe=recipe)
        row = row_of(path)
        assert row.group.deviations == words
        assert row.verdict.kind == (NO_VERDICT if words else CONSISTENT)

    def test_the_authors_recipe_for_imagenet(self, tmp_path):
        recipe = RECIPES["authors"]["imagenet"]
        path = write_run(tmp_path / "run", network="dmrnet44", dataset="imagenet", recipe=recipe)
        assert deviations_of(read_run(path))[:2] == (
            "120 epochs instead of 100",
            "lr_drops 0.25, 0.5, 0.75 instead of 0.3, 0.6, 0.9",
        )
        assert IMAGENET.epochs == 100

    @pytest.mark.parametrize(
        "name, published, title",
        [
            ("cifar10", "cifar10", "CIFAR-10"),
            ("cifar100", "cifar100", "CIFAR-100"),
            ("cifar10-jpeg", "cifar10", "CIFAR-10-JPEG"),
            ("cifar100_small", "cifar100", "CIFAR-100_SMALL"),
            ("svhn", "svhn", "SVHN"),
            ("imagenet", "imagenet", "ImageNet"),
            ("cifar1", None, "cifar1"),
            ("cifar101", None, "cifar101"),
            ("imagenet32", None, "imagenet32"),
            ("my cifar10", None, "my cifar10"),
            ("digits", None, "digits"),
        ],
    )
    def test_data_sets_that_are_made_from_the_papers(self, tmp_path, name, published, title):
        assert (published_name(name), dataset_title(name)) == (published, title)
        path = write_run(tmp_path / "run", dataset=name)
        assert (deviations_of(read_run(path)) == ()) == (name in PUBLISHED)


class TestGroups:
    def test_runs_that_differ_in_more_than_the_seed_are_apart(self, tmp_path):
        usual = [{}, {"seed": 2}, {"seed": 3}]
        others = [
            *({"lr": 0.05}, {"epochs": 200}, {"batch_size": 32}, {"label_smoothing": 0.1}),
            *({"dataset": "cifar10-jpeg"}, {"dataset": "cifar100"}, {"images": (40_000, 10_000)}),
            *({"network": "cifar_dmrnet20"}, {"devices": 1}, {"steps": 5}),
        ]
        for i, choices in enumerate([*usual, *others]):
            write_run(tmp_path / str(i), **choices)
        groups = grouped(read_runs([str(tmp_path)]))
        assert sorted(len(group.runs) for group in groups) == [1] * len(others) + [3]
        (large,) = [group for group in groups if len(group.runs) == 3]
        assert [run.setup.seed for run in large.counted] == [1, 2, 3]
        assert large.title == "cifar_dmrnet14 on CIFAR-10"

    def test_their_order(self, tmp_path):
        for i, (name, dataset) in enumerate(
            [
                ("cifar_dmrnet8", "zoo"), ("cifar_dmrnet8", "svhn"), ("cifar_dmrnet14", "cifar10"),
                ("cifar_dmrnet8", "cifar100"), ("cifar_dmrnet8", "cifar10"),
                ("cifar_dmrnet8", "cifar10-jpeg"), ("cifar_dmrnet110", "cifar10"),
            ]
        ):  # fmt: skip
            write_run(tmp_path / str(i), network=name, dataset=dataset, steps=1)
        groups = grouped(read_runs([str(tmp_path)]))
        assert [(group.setup.dataset, group.setup.network) for group in groups] == [
            ("cifar10", "cifar_dmrnet8"), ("cifar10", "cifar_dmrnet14"),
            ("cifar10", "cifar_dmrnet110"), ("cifar10-jpeg", "cifar_dmrnet8"),
            ("cifar100", "cifar_dmrnet8"), ("svhn", "cifar_dmrnet8"), ("zoo", "cifar_dmrnet8"),
        ]  # fmt: skip

    @pytest.mark.parametrize("name", ["²", "5²", "٣", "1"])
    def test_no_name_is_too_strange_to_be_put_in_order(self, tmp_path, name):
        paths = [write_run(tmp_path / str(seed), seed=seed, steps=1) for seed in (1, 2)]
        for file in ("config.json", "log.jsonl"):
            target = '"name": "cifar_dmrnet14"'
            replace_in(os.path.join(paths[0], file), target, f'"name": {json.dumps(name)}')
        groups = grouped(read_runs(paths))
        assert len(groups) == 2

    def test_the_same_seed_twice_and_copies(self, tmp_path):
        first = write_run(tmp_path / "a", 6.5, seed=1)
        again = write_run(tmp_path / "b", 6.6, seed=1)
        copy = str(shutil.copytree(first, tmp_path / "c"))
        renamed = str(shutil.copytree(first, tmp_path / "d"))
        for name in ("config.json", "log.jsonl"):
            replace_in(os.path.join(renamed, name), '"seed": 1', '"seed": 7')
        group = only(grouped(read_runs([again, renamed, copy, first])))
        assert [run.path for run in group.counted] == [first]
        assert {run.path: why for run, why in group.left_out} == {
            again: f"seed 1 again, already counted in {first}",
            copy: f"the same numbers as {first}",
            renamed: f"the same numbers as {first}",
        }
        assert group.sample().count == 1

    def test_a_seed_counts_with_its_finished_run(self, tmp_path):
        write_run(tmp_path / "a", seed=1, done=12)
        done = write_run(tmp_path / "b", seed=1)
        group = only(grouped(read_runs([str(tmp_path)])))
        assert [run.path for run in group.counted] == [done]
        assert only(group.left_out)[1] == "stopped after epoch 12 of 400"

    def test_remarks_name_the_run(self, tmp_path):
        path = write_run(tmp_path / "run", devices=1)
        append(path, "rollback", reason="loss nan", at=7, step=6)
        row = row_of(path)
        assert row.group.remarks == (
            "BN over 64 images, the paper's over 32",
            "run: rolled back from a loss that was not finite: 1 time",
        )
        assert row.group.deviations == ()  # they do not prevent a verdict


class TestPairs:
    @pytest.fixture
    def runs(self, tmp_path):
        """Two groups of three on CIFAR-10, one of one, one on CIFAR-100."""
        made = [("cifar_dmrnet14", 6.5), ("cifar_resnet26", 6.7)]
        for name, error in made:
            for seed in (1, 2, 3):
                write_run(tmp_path / f"{name}-{seed}", error + seed / 100, network=name, seed=seed)
        write_run(tmp_path / "cifar_dilnet14", 6.6, network="cifar_dilnet14")
        write_run(tmp_path / "c100", 30, dataset="cifar100")
        return str(tmp_path)

    @staticmethod
    def names(comparison):
        return [(pair.one.setup.network, pair.other.setup.network) for pair in comparison.pairs]

    def test_each_two_groups_once(self, runs, monkeypatch):
        ours = read_runs([runs])
        found = [
            ("cifar_dilnet14", "cifar_dmrnet14"),
            ("cifar_dilnet14", "cifar_resnet26"),
            ("cifar_dmrnet14", "cifar_resnet26"),
        ]
        comparison = compare(ours, ours)
        assert self.names(comparison) == found
        assert len(comparison.groups) == 4 and len(comparison.rows) == 4
        assert len(comparison.runs) == 8
        # The same paths by other names.
        monkeypatch.chdir(runs)
        comparison = compare(ours, read_runs(["."]))
        assert self.names(comparison) == found
        assert len(comparison.groups) == 4 and len(comparison.runs) == 8

    def test_verdicts(self, runs):
        ours = read_runs([runs])
        dil_dmr, _, dmr_res = compare(ours, ours).pairs
        assert (dmr_res.verdict.kind, dmr_res.deviations) == (LOWER, ())
        assert dmr_res.verdict.difference == pytest.approx(-0.2)
        assert "one run against 3: outside the 95% prediction interval" in dil_dmr.verdict.text
        assert dil_dmr.verdict.kind == HIGHER
        back = only(
            compare(
                [run for run in ours if run.setup.network == "cifar_resnet26"],
                [run for run in ours if run.setup.network == "cifar_dmrnet14"],
            ).pairs
        )
        assert back.verdict.kind == HIGHER and back.verdict.p == dmr_res.verdict.p

    def test_without_others_there_are_none(self, runs):
        comparison = compare(read_runs([runs]))
        assert comparison.pairs == () and comparison.tests == 2

    def test_tests_are_counted(self, runs):
        ours = read_runs([runs])
        # Beside the paper both groups of three; beside each other all three pairs.
        assert compare(ours, ours).tests == 5

    def test_runs_on_both_sides_are_not_compared_with_themselves(self, tmp_path):
        paths = [write_run(tmp_path / str(s), 6.5 + s / 100, seed=s) for s in (1, 2, 3)]
        comparison = compare(read_runs(paths[:2]), read_runs(paths[1:]))
        pair = only(comparison.pairs)
        assert (pair.verdict.kind, pair.verdict.text) == (
            NO_VERDICT,
            "1 of the runs are on both sides",
        )
        assert [run.path for run in comparison.runs] == paths

    @pytest.mark.parametrize(
        "choices, words",
        [
            ({"lr": 0.05}, ["lr 0.1 and 0.05"]),
            ({"lr_drops": (0.5,)}, ["lr_drops 0.5, 0.75, 0.875 and 0.5"]),
            ({"epochs": 12}, ["400 and 12 epochs"]),
            ({"steps": 9}, ["steps none and 9", "400 and 1 epochs"]),
            ({"images": (9, 99)}, ["50,000 and 9 train images", "10,000 and 99 test images"]),
            ({"devices": 1}, ["BN over 32 and 64 images"]),
            ({"network": "cifar_dmrnet20"}, []),
        ],
    )
    def test_unlike(self, tmp_path, choices, words):
        if "images" in choices:
            choices["batch_size"] = 8
            words = ["batch_size 64 and 8", *words, "BN over 32 and 4 images"]
        one = read_runs([write_run(tmp_path / "a")])
        other = read_runs([write_run(tmp_path / "b", **choices)])
        assert list(only(compare(one, other).pairs).deviations) == words

    def test_changes_are_unlike_too(self, tmp_path):
        one, other = write_run(tmp_path / "a"), write_run(tmp_path / "b")
        append(other, "resume", epoch=3, step=9, changes={"lr": [0.1, 0.2]})
        pair = only(compare(read_runs([one]), read_runs([other])).pairs)
        assert pair.deviations == (
            "lr 0.1 and 0.2",
            "in the other lr changed from 0.1 to 0.2 after epoch 3",
        )

    def test_ours_and_the_authors(self, tmp_path):
        ours = write_run(tmp_path / "run")
        theirs = write_authors_log(tmp_path / "log.txt", epochs_of(ours), arguments=ARGUMENTS)
        pair = only(compare(read_runs([ours]), read_runs([theirs])).pairs)
        assert pair.deviations == (
            "one shuffled as a whole, the authors' in chunks of 8 MB of records",
            "bn_momentum 0.9 and 0.99",
        )


#: In fifths of a run, which the authors' code rounds down to whole epochs.
_DROPS_OF_500 = "lr_drops 0.5, 0.75, 0.874 instead of 0.5, 0.75, 0.875"
_OTHER_DROPS = ("lr_drops 0.25, 0.5 instead of 0.5, 0.75, 0.875",)
_DROPS = ("lr_drops 0.4, 0.6, 0.8 instead of 0.5, 0.75, 0.875",)


class TestAuthorsLogs:
    @pytest.fixture(scope="class")
    def ours(self, tmp_path_factory):
        folder = tmp_path_factory.mktemp("ours")
        return [
            write_run(folder / str(seed), 6.4 + seed / 20, seed=seed, images=(50_000, 10_000))
            for seed in (1, 2, 3)
        ]

    @pytest.mark.parametrize("head", HEADS)
    def test_the_same_numbers_give_the_same_row(self, tmp_path, ours, head):
        for seed, path in enumerate(ours, start=1):
            arguments = ARGUMENTS.replace("rand_seed=1480041062", f"rand_seed={seed}")
            log = tmp_path / f"seed{seed}.log"
            write_authors_log(log, epochs_of(path), head=head, arguments=arguments)
        mine, theirs = row_of(*ours), row_of(*tmp_path.glob("*.log"))
        assert (mine.sample.count, mine.verdict.kind) == (3, CONSISTENT)
        for name in ("count", "mean", "std", "median", "best"):
            found = getattr(theirs.sample, name)
            assert found == pytest.approx(getattr(mine.sample, name), abs=1e-9)
        assert (theirs.place, theirs.measure, theirs.printed) == (
            *(mine.place, mine.measure, mine.printed),
        )
        assert theirs.verdict.kind == mine.verdict.kind and theirs.verdict.text == mine.verdict.text
        assert theirs.verdict.difference == pytest.approx(mine.verdict.difference, abs=1e-9)
        assert theirs.verdict.interval == pytest.approx(mine.verdict.interval, abs=1e-9)
        assert [run.setup.seed for run in theirs.group.counted] == [1, 2, 3]
        for run, other in zip(mine.group.counted, theirs.group.counted):
            assert other.format == "authors"
            assert sorted(other.epochs) == list(range(1, 401))
            for number, row in run.epochs.items():
                for name in ("train_loss", "train_error", "test_loss", "test_error"):
                    found = getattr(other.epochs[number], name)
                    assert found == pytest.approx(getattr(row, name), abs=1e-9)

    def test_their_tutorials_log(self, tmp_path):
        """Lines as their own code has written them."""
        lines = (
            f"2016-11-25 10:30:02,548 start with arguments Namespace({ARGUMENTS})",
            "2016-11-25 10:31:56,846 Epoch[0] Resetting Data Iterator",
            "2016-11-25 10:31:55,183 Epoch[0] Batch [500]\tSpeed: 1219\tloss: 1.3148(1.5208)"
            "\ttop1: 52.2312(44.1094)",
            "2016-11-25 10:31:55,183 Epoch[0] Batch [750]\tSpeed: 1362\tloss: 1.1172(1.3862)"
            "\ttop1: 59.9125(49.3771)",
            "2016-11-25 10:31:56,848 Epoch[0] Time cost=39.776",
            "2016-11-25 10:31:57,391 Epoch[0] Validation-cross-entropy=1.558810",
            "2016-11-25 10:31:57,392 Epoch[0] Validation-accuracy=0.420000",
        )
        log = tmp_path / "cifar10-cifar_dmrnet14.log"
        log.write_text("\n".join(lines) + "\n")
        run = only(read_runs([str(log)]))
        assert run.state == "stopped" and list(run.epochs) == [1]
        row = run.epochs[1]
        assert (row.train_loss, row.test_loss, row.test_error) == (1.3862, 1.55881, 58.0)
        assert row.train_error == pytest.approx(50.6229)

    def test_what_a_log_says_of_itself(self, tmp_path, ours):
        """Whatever it is called."""
        epochs = epochs_of(ours[0])
        log = tmp_path / "cross_d26w1_exp3.txt"
        write_authors_log(log, epochs, arguments=ARGUMENTS)
        run = only(read_runs([str(log)]))
        assert (run.state, deviations_of(run)) == ("finished", ())
        assert (run.setup.dataset, run.setup.network) == ("cifar10", "cifar_dmrnet14")
        assert (run.setup.seed, run.setup.bn_images) == (1480041062, 32)
        # How many records were shuffled at a time depends on their size, which no log says.
        assert run.setup.recipe == dataclasses.replace(
            RECIPES["authors"]["cifar"], model="cifar_dmrnet14", shuffle_chunk=None
        )
        assert only(rows_of(log).values()).group.remarks == ()
        for old, new, words in (
            ("num_epochs=400", "num_epochs=500", ("500 epochs instead of 400", _DROPS_OF_500)),
            ("lr=0.1", "lr=0.2", ("lr 0.2 instead of 0.1",)),
            ("batch_size=64", "batch_size=128", ("batch_size 128 instead of 64",)),
            ("lr_factor=0.1", "lr_factor=0.2", ("lr_factor 0.2 instead of 0.1",)),
            ("lr_steps=None", "lr_steps='100,200'", _OTHER_DROPS),
            ("aug_type=1", "aug_type=0", ("pad 0 instead of 4", "mirror False instead of True")),
            ("aug_type=1", "aug_type=2", ("augmentation of their kind 2",)),
        ):  # fmt: skip
            assert old in ARGUMENTS
            write_authors_log(log, epochs, arguments=ARGUMENTS.replace(old, new))
            found = deviations_of(only(read_runs([str(log)])))
            assert found == words, new
            assert row_of(log).verdict.kind == NO_VERDICT
        same = ARGUMENTS.replace("lr_steps=None", "lr_steps='200,300,350'")
        write_authors_log(log, epochs, arguments=same)
        assert row_of(log).verdict.kind == CONSISTENT

    @pytest.mark.parametrize(
        "changes, network_, dataset",
        [
            ({}, "cifar_dmrnet14", "cifar10"),
            ({"h=26": "h=110"}, "cifar_dmrnet56", "cifar10"),
            ({"h=26": "h=100"}, "cifar_dmrnet50", "cifar10"),
            ({"h=26": "h=62", "r=1": "r=4"}, "cifar_dmrnet32_w4", "cifar10"),
            ({"'cross'": "'half'"}, "cifar_dilnet14", "cifar10"),
            ({"'cross'": "'resnet'"}, "cifar_resnet26", "cifar10"),
            ({"'cross'": "'plain'"}, "cifar_plain26", "cifar10"),
            ({"'cross'": "'fuse3'"}, "cifar_resnet26_blocks3", "cifar10"),
            ({"r10": "r100", "s=10": "s=100"}, "cifar_dmrnet14", "cifar100"),
        ],
    )  # fmt: skip
    def test_networks_and_sets_that_a_log_names(self, tmp_path, ours, changes, network_, dataset):
        arguments = ARGUMENTS
        for old, new in changes.items():
            assert old in arguments
            arguments = arguments.replace(old, new)
        log = tmp_path / "log.txt"
        epochs = {n: epochs_of(ours[0])[n] for n in range(1, 6)}
        arguments = arguments.replace("num_epochs=400", "num_epochs=5")
        write_authors_log(log, epochs, arguments=arguments)
        run = only(read_runs([str(log)]))
        assert (run.setup.network, run.setup.dataset) == (network_, dataset)
        assert (run.state, run.setup.epochs, run.changes) == ("finished", 5, ())
        assert deviations_of(run) == ("5 epochs instead of 400", *_DROPS)
        classes = PUBLISHED[dataset].classes
        assert run.setup.spec == get_spec(network_, classes=classes)

    def test_what_is_no_log_and_what_is_damaged(self, tmp_path, ours):
        log = tmp_path / "log.txt"
        log.write_text("Epoch[0] Validation-accuracy=0.5\n")
        with pytest.raises(DMRError, match="log.txt is not a log: "):
            read_runs([str(log)])
        lines = authors_lines({1: epochs_of(ours[0])[1]}, arguments=ARGUMENTS)
        for value in ("nan", "-0.5", "0.5x", "1e9"):
            text = "\n".join([*lines, f"Epoch[1] Validation-accuracy={value}", *lines[-1:], ""])
            log.write_text(text)
            with pytest.raises(DMRError, match=f"line {len(lines) + 1} of .*log.txt is damaged"):
                read_runs([str(log)])
        log.write_text("\n".join([*lines, "Epoch[1] Validation-accuracy=0.9"]))  # cut off
        assert only(read_runs([str(log)])).last == 1
        log.write_text("\n".join(lines).replace("depth=26, ", "") + "\n")
        with pytest.raises(DMRError, match="its arguments lack 'depth'"):
            read_runs([str(log)])

    def test_a_network_that_the_paper_does_not_have(self, tmp_path, ours):
        log = tmp_path / "log.txt"
        arguments = ARGUMENTS.replace("'cross'", "'side'")
        write_authors_log(log, epochs_of(ours[0]), arguments=arguments)
        with pytest.raises(DMRError, match="side on cifar10 is not in the paper; only logs"):
            read_runs([str(log)])

    def test_means_within_an_epoch(self, tmp_path, ours):
        log = tmp_path / "log.txt"
        epochs = epochs_of(ours[0])
        write_authors_log(log, epochs, arguments=ARGUMENTS)
        run = only(read_runs([str(log)]))
        assert sorted(run.points)[:4] == [(1, 250), (1, 500), (1, 750), (2, 250)]
        assert len(run.points) == 1200
        row = epochs[2]
        assert run.points[2, 500] == {
            "train_loss": pytest.approx(row["train_loss"] + 0.125),
            "train_error": pytest.approx(row["train_error"] + 0.125),
        }

    def test_a_training_that_was_begun_again_in_the_same_file(self, tmp_path, ours):
        first, second = (epochs_of(path) for path in ours[:2])
        log = tmp_path / "cifar10-cifar_dmrnet14.log"
        lines = authors_lines(first, arguments=ARGUMENTS)
        again = authors_lines({n: second[n] for n in range(1, 11)}, arguments=ARGUMENTS)
        log.write_text("\n".join([*lines, *again, ""]))
        run = only(read_runs([str(log)]))
        assert (run.state, run.last) == ("stopped", 10)
        assert run.epochs[10].test_error == pytest.approx(second[10]["test_error"], abs=1e-9)

    def test_a_training_that_was_continued_in_the_same_file(self, tmp_path, ours):
        first, second = (epochs_of(path) for path in ours[:2])
        log = tmp_path / "cifar10-cifar_dmrnet14.log"
        lines = authors_lines({n: first[n] for n in range(1, 58)}, arguments=ARGUMENTS)
        later = authors_lines(
            {n: second[n] for n in range(51, 401)},
            arguments=ARGUMENTS.replace("load_epoch=None", "load_epoch=50"),
        )
        log.write_text("\n".join([*lines, *later, ""]))
        run = only(read_runs([str(log)]))
        assert run.state == "finished" and deviations_of(run) == ()
        for number, source in ((50, first), (51, second), (57, second), (400, second)):
            for name in ("test_error", "train_loss"):
                found = getattr(run.epochs[number], name)
                assert found == pytest.approx(source[number][name], abs=1e-9)


@pytest.mark.parametrize(
    "known_by, words",
    [
        ("content", None),
        ("archives", "its images are identified by archives, not by content"),
        ("counts", "its images are identified by counts, not by content"),
        (None, "its images are identified by name, not by content"),
    ],
)
def test_how_the_images_are_known_to_be_the_official_ones(tmp_path, known_by, words):
    config, _ = configuration(dataset="svhn")
    config["dataset"]["official"] = known_by and {"known_by": known_by}
    run = write_run(tmp_path / "run", dataset="svhn", config=config, epochs=40)
    remarks = row_of(run).group.remarks
    assert [words in remark for remark in remarks] == ([True] if words else [])
