"""Recipes hold the paper's numbers; flags are made from them."""

import dataclasses
import json
import os
from dataclasses import asdict, replace

import pytest

from dmr_gluon.cli.program import Parser
from dmr_gluon.cli.training_flags import parse_training_flags
from dmr_gluon.errors import DMRError
from dmr_gluon.paper.recipes import CIFAR, DIGITS, IMAGENET, RECIPES, SVHN, Recipe, deviations
from dmr_gluon.training.options import RunOptions


def test_the_papers_numbers():
    # Section 4.2.
    assert (CIFAR.epochs, SVHN.epochs, CIFAR.batch_size) == (400, 40, 64)
    assert (CIFAR.lr, CIFAR.lr_drops, CIFAR.lr_factor) == (0.1, (0.5, 0.75, 0.875), 0.1)
    assert (CIFAR.momentum, CIFAR.nesterov, CIFAR.weight_decay) == (0.9, True, 1e-4)
    # Section 4.1.
    assert (CIFAR.pad, CIFAR.mirror, SVHN.pad, SVHN.mirror) == (4, True, 0, False)
    # Section 4.5 and [7].
    assert (IMAGENET.epochs, IMAGENET.batch_size, IMAGENET.nesterov) == (100, 256, False)
    assert (IMAGENET.train_short_side, IMAGENET.eval_short_side) == ((256, 480), 256)
    assert IMAGENET.image_size == 224


def test_every_field_has_a_meaning_and_a_source():
    for field in dataclasses.fields(Recipe)[1:]:
        if field.name != "train_images":  # no flag
            assert field.metadata["help"] and field.metadata["source"], field.name


@pytest.mark.parametrize("recipe", [CIFAR, SVHN, DIGITS, IMAGENET])
def test_a_recipe_survives_json(recipe):
    assert Recipe.from_json(json.loads(json.dumps(asdict(recipe)))) == recipe


@pytest.mark.parametrize(
    "change",
    [
        *(
            {"lr": "0.1"},
            {"lr": True},
            {"lr": float("inf")},
            {"lr": None},
            {"lr_drops": [0.5, "x"]},
        ),
        *({"epochs": 400.5}, {"steps": 10**400}, {"name": {}}, {"model": 7}, {"mirror": 1}),
        *({"lr_drops": 0.5}, {"train_images": "all"}, {"dtype": None}, {"pad": [4]}),
    ],
)
def test_a_file_with_values_of_wrong_types_is_refused(change):
    with pytest.raises(DMRError, match=next(iter(change)) + "|this version"):
        Recipe.from_json({**json.loads(json.dumps(asdict(CIFAR))), **change})


def test_a_file_may_have_whole_numbers_where_any_are_allowed():
    """As JSON of other programs does, and as Python's own of 1 is not 1.0."""
    values = json.loads(json.dumps(asdict(CIFAR)))
    assert Recipe.from_json({**values, "lr": 1, "lr_drops": [1]}).lr_drops == (1,)


@pytest.mark.parametrize(
    "change",
    [
        {"lr": -0.1},
        {"lr": 0.0},
        {"lr": float("nan")},
        {"epochs": 0},
        {"batch_size": 0},
        {"momentum": 1.0},
        {"weight_decay": -1e-4},
        {"lr_drops": (0.5, 1.5)},
        {"pad": -1},
        {"pca_noise": 0.1},
        {"train_short_side": (256, 480)},
        {"train_short_side": (256, 480), "eval_short_side": 256},
        {"aspect_change": 0.25},
        {"colour_shift": (1, 0)},
        {"colour_shift": (181, 0, 0)},
        {"schedule": "linear"},
        {"dtype": "bfloat16"},
        {"warmup_epochs": 400},
    ],
)
def test_a_value_that_does_not_fit_is_refused(change):
    with pytest.raises(DMRError, match=next(iter(change))):
        replace(CIFAR, **change)


@pytest.mark.parametrize(
    "change, words",
    [
        ({"image_size": 300}, "a shorter side of 256 is too small for a crop of 300 x 300"),
        ({"train_short_side": (480, 256)}, "smaller first"),
        ({"pad": 4}, "pad is for images that are not scaled"),
        ({"eval_short_side": None}, "both train_short_side and eval_short_side"),
    ],
)
def test_imagenet_values_that_contradict_each_other_are_refused(change, words):
    with pytest.raises(DMRError, match=words):
        replace(IMAGENET, **change)


def parse(arguments, recipe=CIFAR, others=None):
    return parse_training_flags("", recipe, "cifar10", others, arguments)


def test_without_flags_the_recipe_is_the_scripts_own(digits):
    recipe, options = parse(["--data-dir", digits])
    assert recipe == CIFAR
    assert options == RunOptions(data_dir=digits)


def test_a_data_set_brings_its_recipe_and_flags_change_it(digits):
    recipe, _ = parse(["--data-dir", digits, "--epochs", "3"], others={"digits": DIGITS})
    assert recipe == replace(DIGITS, epochs=3)


def test_every_field_is_a_flag(digits):
    values = {
        "--model": "cifar_resnet20", "--epochs": "7", "--batch-size": "9", "--lr": "0.2",
        "--lr-drops": "0.25,0.5", "--lr-factor": "0.5", "--momentum": "0.8",
        "--weight-decay": "0.001", "--image-size": "40", "--pad": "2", "--pca-noise": "0",
        "--train-short-side": "none", "--eval-short-side": "none", "--aspect-change": "0",
        "--colour-shift": "0,0,0", "--accumulate": "2", "--schedule": "steps",
        "--warmup-epochs": "1.5", "--label-smoothing": "0.1", "--ema-decay": "0.99",
        "--dtype": "float16", "--steps": "50", "--shuffle-chunk": "3000",
        "--bn-momentum": "0.99", "--crop-area": "none", "--mixup": "0.2",
        "--freeze": "stem,stage1", "--head-lr-factor": "10", "--patience": "5",
    }  # fmt: skip
    flags = [word for pair in values.items() for word in pair]
    flags += ["--no-mirror", "--no-nesterov", "--sync-bn", "--class-weights"]
    recipe, _ = parse(["--data-dir", digits, *flags])
    assert recipe == replace(
        CIFAR, model="cifar_resnet20", epochs=7, batch_size=9, lr=0.2, lr_drops=(0.25, 0.5),
        lr_factor=0.5, momentum=0.8, weight_decay=0.001, image_size=40, pad=2, mirror=False,
        nesterov=False, accumulate=2, warmup_epochs=1.5, label_smoothing=0.1,
        ema_decay=0.99, dtype="float16", steps=50, sync_bn=True,
        shuffle_chunk=3000, bn_momentum=0.99, mixup=0.2, freeze=("stem", "stage1"),
        head_lr_factor=10, patience=5, class_weights=True,
    )  # fmt: skip
    named = {flag[2:].replace("-", "_") for flag in values}
    named |= {"mirror", "nesterov", "sync_bn", "class_weights"}
    assert named == {field.name for field in dataclasses.fields(Recipe)} - {"name", "train_images"}


def test_imagenet_flags(digits):
    recipe, _ = parse(["--data-dir", digits, "--train-short-side", "300,400", "--mirror"], IMAGENET)
    assert recipe == replace(IMAGENET, train_short_side=(300, 400))


def test_resume_needs_nothing_but_the_run(short_run, short_recipe, digits):
    recipe, options = parse(["--run-dir", short_run, "--resume"], others={"digits": DIGITS})
    assert recipe == short_recipe
    assert (options.data_dir, options.seed) == (digits, 1)
    recipe, _ = parse(["--run-dir", short_run, "--resume", "--lr", "0.05"])
    assert recipe.lr == 0.05


@pytest.mark.parametrize(
    "devices, flags, expected",
    [
        (["gpu(0)", "gpu(3)"], [], ("0,3", 1)),
        (["cpu(0)", "cpu(1)"], [], (None, 2)),
        (["gpu(0)", "gpu(3)"], ["--cpus", "1"], (None, 1)),
        (["cpu(0)", "cpu(1)"], ["--gpus", "5"], ("5", 1)),
    ],
)
def test_a_run_goes_on_where_it_was_unless_told_otherwise(
    short_run, tmp_path, devices, flags, expected
):
    with open(os.path.join(short_run, "config.json")) as file:
        config = json.load(file)
    # Where it last went on, not where it began.
    place = {"devices": ["cpu(0)"] * 3, "resumed_on": {"devices": devices, "workers": 1}}
    (tmp_path / "config.json").write_text(json.dumps({**config, **place}))
    _, options = parse(["--run-dir", str(tmp_path), "--resume", *flags], others={"digits": DIGITS})
    assert (options.gpus, options.cpus) == expected


@pytest.mark.parametrize(
    "damage",
    [
        {"seed": "1"},
        {"seed": True},
        {"dataset": {"name": "digits"}},
        {"recipe": []},
    ],
)
def test_a_configuration_that_is_damaged_is_refused(short_run, tmp_path, damage):
    with open(os.path.join(short_run, "config.json")) as file:
        config = json.load(file)
    (tmp_path / "config.json").write_text(json.dumps({**config, **damage}))
    with pytest.raises(DMRError, match="config.json is damaged"):
        parse(["--run-dir", str(tmp_path), "--resume"])


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["--seed", "-1"], "seed must be at least 0"),
        (["--epoch", "3"], "unrecognized arguments: --epoch"),
        (["--epochs", "many"], "--epochs"),
        (["--dataset", "cifar10"], "holds the data set 'digits'"),
        (["--resume"], "--run-dir"),
        (["--lr", "-1"], "lr must be above 0"),
        (["--kv-store", "x"], "--kv-store: invalid choice: 'x'"),
        (["--gpus", "7-0"], "not a list of GPUs"),
        (["--cpus", "0"], "cpus must be at least 1"),
        (["--estimate", "--on-nan", "rollback"], "leave out --on-nan"),
        (["--estimate", "--checkpoint-minutes", "5"], "leave out --checkpoint-minutes"),
    ],
)
def test_a_flag_that_does_not_fit_is_refused(digits, arguments, words):
    with pytest.raises(DMRError, match=words):
        parse(["--data-dir", digits, *arguments])


def test_help_shows_defaults_and_sources(capsys):
    with pytest.raises(SystemExit):
        parse(["--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert "--lr-drops" in text and "section 4.2" in text and "(default: 0.5,0.75,0.875)" in text


def test_the_parser_takes_no_abbreviations():
    parser = Parser(prog="x")
    parser.add_argument("--batch-size")
    with pytest.raises(DMRError, match="x --help"):
        parser.parse_args(["--batch", "3"])


def test_the_authors_recipes_and_how_they_differ():
    assert deviations(RECIPES["authors"]["imagenet"]) == {
        "epochs": (120, 100),
        "lr_drops": ((0.25, 0.5, 0.75), (0.3, 0.6, 0.9)),
        "nesterov": (True, False),
        "pca_noise": (0.0, 0.1),
        "aspect_change": (0.25, 0.0),
        "colour_shift": ((36, 50, 50), (0, 0, 0)),
    }
    assert deviations(RECIPES["authors"]["cifar"]) == {}
    assert deviations(RECIPES["authors"]["svhn"]) == {"train_images": (604_388, 598_388)}
    assert deviations(replace(CIFAR, model="cifar_resnet20", lr=0.05)) == {"lr": (0.05, 0.1)}


class TestAJobThatIsStartedAgain:
    def test_goes_on_by_itself(self, short_run, digits, monkeypatch):
        flags = ["--data-dir", digits, "--run-dir", short_run, "--epochs", "2"]
        assert not parse(flags)[1].resume
        monkeypatch.setenv("DMR_ATTEMPT", "0")
        assert not parse(flags)[1].resume
        monkeypatch.setenv("DMR_ATTEMPT", "1")
        recipe, options = parse(flags)
        assert options.resume and recipe.epochs == 2

    def test_begins_where_nothing_was_begun(self, tmp_path, digits, monkeypatch):
        monkeypatch.setenv("DMR_ATTEMPT", "2")
        assert not parse(["--data-dir", digits, "--run-dir", str(tmp_path / "run")])[1].resume


def test_the_authors_choice_is_no_deviation_where_the_paper_leaves_it_open():
    authors = RECIPES["authors"]["cifar"]
    assert authors.bn_momentum == 0.99 and CIFAR.bn_momentum == 0.9
    assert deviations(replace(CIFAR, bn_momentum=0.99)) == {}
    assert deviations(replace(CIFAR, bn_momentum=0.5)) == {"bn_momentum": (0.5, 0.9)}
    assert deviations(replace(authors, lr=0.2)) == {"lr": (0.2, 0.1)}
