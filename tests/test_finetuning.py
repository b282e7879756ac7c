"""Training from trained weights, and what a recipe for small sets has besides."""

import math
import os
from dataclasses import replace

import cv2
import numpy as np
import pytest
from made_up_runs import made_up_run
from scipy import stats
from test_resume import result, stop_at  # noqa: F401

from dmr_gluon import get_model
from dmr_gluon.cli import main as cli
from dmr_gluon.cli.training_flags import parse_training_flags
from dmr_gluon.compare.comparison import compare
from dmr_gluon.compare.groups import grouped
from dmr_gluon.compare.tables import as_json, as_text
from dmr_gluon.data.datasets import open_prepared
from dmr_gluon.data.loader import training_batches
from dmr_gluon.data.random_crop import random_part
from dmr_gluon.data.reader import Reading
from dmr_gluon.datasets.encoder import Encoding, Source
from dmr_gluon.datasets.folder import prepare_folder
from dmr_gluon.datasets.writer import write_set
from dmr_gluon.deploy.store import publish
from dmr_gluon.errors import DMRError, Stopped
from dmr_gluon.models.freezing import freeze
from dmr_gluon.models.serialization import digest_of
from dmr_gluon.paper.recipe_choice import recipe_for
from dmr_gluon.paper.recipes import CIFAR, IMAGENET, RECIPES, deviations
from dmr_gluon.runs import log as runlog
from dmr_gluon.runs.bundles import are_labels
from dmr_gluon.runs.directory import RunDirectory
from dmr_gluon.runs.reader import FINISHED, read_run
from dmr_gluon.runs.trained_network import load_run
from dmr_gluon.runs.weights import find_weights
from dmr_gluon.runtime import mx
from dmr_gluon.training.fit import fit
from dmr_gluon.training.network import begin_from
from dmr_gluon.training.optimizer import make_optimizer
from dmr_gluon.training.options import RunOptions
from dmr_gluon.training.small_sets import balanced, mixup_share
from dmr_gluon.training.step import TrainingStep

DIGITS = tuple(map(str, range(10)))
#: Few steps of everything that fine-tuning has: 5 in an epoch, the last one smaller.
TUNED = replace(
    RECIPES["finetune"]["digits"],
    model="cifar_dmrnet8",
    epochs=2,
    batch_size=16,
    mixup=0.4,
    class_weights=True,
    freeze=("stem", "stage1"),
    head_lr_factor=10.0,
)


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """Folder of two of the digits: 50 images of 0 and 25 of 1."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = np.kron(digits.images * 15, np.ones((4, 4))).astype(np.uint8)

    def sources(label, which):
        for i in np.flatnonzero(digits.target == label)[which]:
            yield Source(str(i), label, lambda i=i: np.repeat(images[i][:, :, None], 3, axis=2))

    splits = {
        "train": [*sources(0, slice(50)), *sources(1, slice(25))],
        "test": [*sources(0, slice(60, 75)), *sources(1, slice(60, 75))],
    }
    out = str(tmp_path_factory.mktemp("pair") / "out")
    write_set("pair", "1", lambda: (["nought", "one"], splits, {}), out, Encoding(), False)
    return out


@pytest.fixture(scope="module")
def tuned(pair, short_run, tmp_path_factory):
    """Folder of a run that was not stopped."""
    run = str(tmp_path_factory.mktemp("tuned") / "run")
    fit(TUNED, RunOptions(data_dir=pair, run_dir=run, init_from=short_run))
    return run


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    """Six small photographs of different sizes, prepared."""
    random, folder = np.random.RandomState(0), tmp_path_factory.mktemp("photographs")
    for number in range(6):
        for split in ("train", "test"):
            path = folder / "photos" / split / "a" / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            shape = (20 + number, 40 - number, 3)
            cv2.imwrite(str(path), random.randint(0, 256, shape).astype(np.uint8))
    return prepare_folder(folder / "photos", str(folder / "out"))


def new_network(classes=10, name="cifar_dmrnet8"):
    net = get_model(name, classes=classes)
    mx.random.seed(3)
    net.initialize()
    return net


def arrays_of(net):
    return {name: p.list_data()[0].asnumpy() for name, p in net.collect_params().items()}


class TestWeights:
    @pytest.mark.parametrize("kind", ["run", "bundle", "store", "file", "saved", "by name"])
    def test_every_kind_of_source_has_the_same_weights(
        self, kind, short_run, plain_bundle, tmp_path, monkeypatch
    ):
        named, source = str(tmp_path / "file.params"), load_run(short_run)
        if kind == "store":
            entry, _ = publish(plain_bundle, tmp_path / "store")
            monkeypatch.setenv("DMR_MODEL_STORE", str(tmp_path / "store"))
            assert find_weights("cifar_dmrnet8").path == find_weights(entry["folder"]).path
            named = entry["folder"]
        elif kind == "saved":
            source.save_parameters(named)
        elif kind == "by name":
            source.collect_params().save(named)
        else:
            file = os.path.join(short_run, "model-0002.params")
            named = {"run": short_run, "bundle": plain_bundle, "file": file}[kind]
        weights, net = find_weights(named), new_network()
        began = begin_from(weights, net, DIGITS)
        known = kind in ("run", "bundle", "store")
        assert began["kind"] == (kind if known else "file") and began["sha256"] == digest_of(source)
        assert digest_of(net) == digest_of(source) and not began["left"]
        assert began["why"] == (
            "the same classes" if known else "its classes are unknown, its shape fits"
        )
        assert (weights.network, began["normalised"]) == (known and "cifar_dmrnet8" or None, known)

    @pytest.mark.parametrize("classes", [DIGITS[:2], DIGITS[::-1]], ids=["fewer", "others"])
    def test_the_classifier_is_new_where_the_classes_differ(self, short_run, classes):
        net, source = new_network(len(classes)), arrays_of(load_run(short_run))
        before = arrays_of(net)
        began = begin_from(find_weights(short_run), net, classes)
        assert began["left"] == ["head_fc_weight", "head_fc_bias"]
        assert began["taken"] == len(source) - 2 and began["why"] == "other classes"
        for name, array in arrays_of(net).items():
            assert (array == (before if name in began["left"] else source)[name]).all(), name

    def test_a_file_of_unknown_classes_keeps_a_classifier_that_fits(self, short_run):
        path = os.path.join(short_run, "model-0002.params")
        assert not begin_from(find_weights(path), new_network(), list("abcdefghij"))["left"]
        assert begin_from(find_weights(path), new_network(2), "ab")["left"]

    def test_labels_of_imagenet_may_have_a_word(self):
        labels = ("n01 tench", "n02 goldfish, fish")
        assert are_labels(labels, ["n01", "n02"]) and not are_labels(labels, ["n0", "n02"])
        assert not are_labels(labels, ["n01"])

    def test_another_network_is_refused_with_the_first_difference(self, short_run, tmp_path):
        net = new_network(name="cifar_dmrnet14")
        words = "does not fit cifar_dmrnet14: stage1_block2_branch1_bn1_beta is missing.*--model "
        with pytest.raises(DMRError, match=words + "cifar_dmrnet8"):
            begin_from(find_weights(short_run), net, DIGITS)
        wide = new_network(name="cifar_dmrnet8_w4")
        with pytest.raises(
            DMRError, match=r"head_fc_weight has the shape \(10, 64\), not \(10, 256\)"
        ):
            begin_from(find_weights(short_run), wide, DIGITS)
        mx.nd.save(str(tmp_path / "x.params"), {"arg:conv0_weight": mx.nd.ones(2)})
        with pytest.raises(DMRError, match="conv0_weight is not part of it"):
            begin_from(find_weights(tmp_path / "x.params"), net, DIGITS)
        (tmp_path / "x.params").write_bytes(b"x")
        with pytest.raises(DMRError, match="is damaged; name another file"):
            begin_from(find_weights(tmp_path / "x.params"), net, DIGITS)

    def test_what_is_not_there_is_refused_before_anything_is_made(self, pair, tmp_path):
        run = tmp_path / "run"
        for changes, weights in (({}, "nowhere"), ({"freeze": ("body",)}, None)):
            recipe = replace(TUNED, **changes)
            with pytest.raises(DMRError, match="no run, bundle or file|cannot freeze 'body'"):
                fit(recipe, RunOptions(data_dir=pair, run_dir=str(run), init_from=weights))
        assert not run.exists()


class TestRun:
    def test_frozen_parts_keep_their_bits_and_the_others_are_trained(self, tuned, short_run):
        before, after = (arrays_of(load_run(run)) for run in (short_run, tuned))
        for name, array in after.items():
            frozen = name.startswith(("stem_", "stage1_"))
            if not name.startswith("head"):
                assert (array == before[name]).all() == frozen, name

    def test_the_source_is_recorded_and_its_normalisation_used(self, tuned, pair, short_run):
        config, source = (RunDirectory(run).config() for run in (tuned, short_run))
        began = config["init_from"]
        assert began["named"] == short_run and began["network"] == "cifar_dmrnet8"
        assert began["sha256"] == runlog.epochs(RunDirectory(short_run).log)[-1].parameters_sha256
        assert config["dataset"]["mean"] == source["dataset"]["mean"]
        assert config["dataset"]["mean"] != list(open_prepared(pair).mean)
        assert runlog.read(RunDirectory(tuned).log)[0]["init_from"] == began

    @pytest.mark.parametrize("step", [2, 8])
    def test_stopped_and_resumed_without_its_source_it_has_the_same_bits(
        self, tuned, pair, short_run, tmp_path, stop_at, monkeypatch, step  # noqa: F811
    ):  # fmt: skip
        # The learning rate falls in every step, and the classifier's velocity with it.
        options = RunOptions(data_dir=pair, run_dir=str(tmp_path / "run"), init_from=short_run)
        stop_at(step)
        with pytest.raises(Stopped):
            fit(TUNED, options)
        monkeypatch.undo()
        fit(TUNED, replace(options, init_from=None, resume=True))
        assert result(options.run_dir) == result(tuned)

    def test_killed_and_resumed_it_has_the_same_bits(
        self, tuned, pair, short_run, tmp_path, command
    ):
        run = str(tmp_path / "run")
        code = f"""
import os, sys
sys.path.insert(0, "tests")
from test_finetuning import TUNED, RunOptions, TrainingStep, fit
update, steps = TrainingStep.update, []
def call(self, *arguments):
    steps.append(1)
    if len(steps) == 9:
        os.kill(os.getpid(), 9)
    return update(self, *arguments)
TrainingStep.update = call
fit(TUNED, RunOptions({pair!r}, run_dir={run!r}, init_from={short_run!r}, checkpoint_steps=1))
"""
        assert command("-c", code).returncode == -9
        assert "epoch-0001-step-000003.npz" in os.listdir(f"{run}/checkpoints")
        fit(TUNED, RunOptions(pair, run_dir=run, resume=True))
        assert result(run) == result(tuned)

    def test_three_devices_keep_what_is_frozen_too(self, pair, short_run, tmp_path):
        recipe = replace(TUNED, freeze=("features",), steps=2)
        options = RunOptions(data_dir=pair, run_dir=str(tmp_path / "run"), init_from=short_run)
        fit(recipe, replace(options, cpus=3))
        before, after = (arrays_of(load_run(run)) for run in (short_run, options.run_dir))
        same = {name for name, array in after.items() if np.array_equal(array, before[name])}
        assert set(after) - same == {"head_fc_weight", "head_fc_bias"}

    def test_exported_graphs_do_not_know_that_parts_were_frozen(self, tuned, short_run):
        run, source = RunDirectory(tuned), RunDirectory(short_run)
        symbols = (mx.sym.load(f"{one.model_prefix}-symbol.json") for one in (run, source))
        frozen, free = (symbol.attr_dict()["stem_bn_fwd"] for symbol in symbols)
        assert frozen == free

    def test_early_stopping_ends_a_run_and_resuming_does_nothing(self, pair, tmp_path, capsys):
        # Nothing changes, so no epoch is better than the first.
        recipe = replace(
            TUNED, freeze=("features",), mixup=0.0, lr=1e-12, epochs=5, patience=2, batch_size=75
        )
        options = RunOptions(data_dir=pair, run_dir=str(tmp_path / "run"))
        fit(recipe, options)
        assert "no lower test error than that of epoch 1 " in capsys.readouterr().out
        *_, last = runlog.read(RunDirectory(options.run_dir).log)
        assert last["stopped_early"] and last["epochs"] == 3
        run = read_run(options.run_dir)
        assert run.state == FINISHED and run.final("test_error") == last["test_error"]
        assert "optimistic" in run.remarks[0]
        fit(recipe, replace(options, resume=True))
        assert "has ended already, after epoch 3; nothing to do" in capsys.readouterr().out
        assert runlog.read(RunDirectory(options.run_dir).log)[-1] == last

    def test_a_batch_that_exceeds_the_set_is_one_smaller_batch(self, pair, tmp_path, capsys):
        recipe = replace(TUNED, batch_size=100, steps=1, freeze=())
        fit(recipe, RunOptions(data_dir=pair, run_dir=str(tmp_path / "run")))
        assert "a batch of 100 exceeds the 75 training images" in capsys.readouterr().out
        assert runlog.epochs(str(tmp_path / "run/log.jsonl"))[0].images == 75


class TestFreezing:
    def test_bn_uses_its_running_statistics_in_both_forms(self):
        x = mx.nd.array(np.random.RandomState(0).standard_normal((4, 3, 16, 16)))
        gradients = []
        for fused in (False, True):
            net = new_network()
            for name, parameter in net.collect_params(".*running").items():
                random = np.random.RandomState(len(name))
                parameter.set_data(mx.nd.array(random.uniform(0.5, 1.5, parameter.shape)))
            freeze(net, ["stage2"])
            if fused:
                net.fuse_for_cpu()
            net.hybridize(static_alloc=True)
            before = arrays_of(net)
            with mx.autograd.record():
                loss = net(x).square().sum()
            loss.backward()
            mx.nd.waitall()
            after = arrays_of(net)
            moved = {name for name in after if (after[name] != before[name]).any()}
            assert "stage1_block1_branch1_bn1_running_mean" in moved and not moved & net.frozen
            trained = [p for p in net.collect_params().values() if p.grad_req != "null"]
            assert not {p.name for p in trained} & net.frozen
            gradients.append({p.name: p.grad().asnumpy() for p in trained})
        for name, one in gradients[0].items():
            np.testing.assert_allclose(gradients[1][name], one, rtol=0, atol=1e-4 * abs(one).max())

    def test_a_part_may_be_a_single_block(self):
        net = new_network(name="cifar_dmrnet14")
        freeze(net, ["stage1_block1", "head"])
        assert {name.rsplit("_branch")[0].rsplit("_proj")[0] for name in net.frozen} == {
            "stage1_block1", "head_fc_weight", "head_fc_bias",
        }  # fmt: skip

    def test_parts_that_are_not_there_and_all_of_them_are_refused(self):
        known = "the parts features, stem, stage1, stage2, stage3, head"
        with pytest.raises(DMRError, match=f"'stage4': the network has {known}"):
            freeze(new_network(), ["stem", "stage4"])
        with pytest.raises(DMRError, match="all parts of the network are frozen"):
            freeze(new_network(), ["features", "head"])


def one_step(share=1.0, images=6, before=lambda net: None, weights=None, **changes):
    """Loss of a step on random images, and what it changed."""
    recipe, net = replace(CIFAR, **changes), new_network(3)
    before(net)
    data = np.random.RandomState(0).standard_normal((images, 3, 16, 16)).astype(np.float32)
    labels = np.arange(images) % 3
    step = TrainingStep(net, make_optimizer(recipe), [mx.cpu()], recipe=recipe, weights=weights)
    start = arrays_of(net)
    ((loss, wrong),) = step.update(step.place(data, labels), 0.01, images, None, share)
    mx.nd.waitall()
    moved = {name: array - start[name] for name, array in arrays_of(net).items()}
    return float(loss.asscalar()), moved, (data, labels)


def losses(data, labels):
    """Cross-entropy per image of the network before the step, in NumPy."""
    net = new_network(3)
    with mx.autograd.train_mode():  # BN over these images
        logits = net(mx.nd.array(data)).asnumpy().astype(np.float64)
    shifted = logits - logits.max(axis=1, keepdims=True)
    return np.log(np.exp(shifted).sum(axis=1)) - shifted[np.arange(len(labels)), labels]


class TestLosses:
    @pytest.mark.parametrize("images", [6, 5])
    def test_mixup_mixes_images_and_losses(self, images):
        loss, _, (data, labels) = one_step(0.7, images)
        mixed = 0.7 * data + 0.3 * data[::-1]
        expected = 0.7 * losses(mixed, labels) + 0.3 * losses(mixed, labels[::-1])
        assert loss == pytest.approx(expected.sum(), rel=1e-5)
        assert abs(loss - losses(data, labels).sum()) > 1e-3

    def test_mixup_draws_its_share_from_the_place_in_the_run_alone(self):
        shares = [mixup_share(0.4, 1, 1, step) for step in range(2000)]
        assert shares[7] == mixup_share(0.4, 1, 1, 7)
        assert len({*shares[:50], mixup_share(0.4, 1, 2, 7, 1)}) == 51
        larger = lambda x: stats.beta.cdf(x, 0.4, 0.4) - stats.beta.cdf(1 - x, 0.4, 0.4)  # noqa: E731
        assert stats.kstest(shares, np.vectorize(larger)).pvalue > 0.01
        assert mixup_share(0.0, 1, 1, 1) == 1.0

    def test_class_weights_balance_the_classes(self, pair):
        assert balanced(open_prepared(pair)).tolist() == [0.75, 1.5]
        weights = np.array([0.5, 1.0, 3.0], np.float32)
        loss, _, (data, labels) = one_step(class_weights=True, weights=weights)
        expected = losses(data, labels) * weights[labels]
        assert loss == pytest.approx(expected.sum(), rel=1e-5)
        plain, _, _ = one_step(weights=weights)
        assert plain == pytest.approx(losses(data, labels).sum(), rel=1e-5)

    @pytest.mark.parametrize("nesterov", [True, False])
    def test_the_head_alone_learns_faster(self, nesterov):
        def faster(net):
            for parameter in net.output.collect_params().values():
                parameter.lr_mult = 8  # exact in floating point

        (_, usual, _), (_, found, _) = (
            one_step(nesterov=nesterov, weight_decay=0.0, before=before)
            for before in (lambda net: None, faster)
        )
        for name, change in usual.items():
            factor = 8 if name.startswith("head") else 1
            atol = 1e-6 if factor == 8 else 0
            np.testing.assert_allclose(found[name], factor * change, rtol=0, atol=atol)


class TestCrops:
    recipe = replace(
        RECIPES["finetune"]["imagenet"], image_size=16, eval_short_side=16, crop_area=(0.2, 1.0)
    )

    def parts(self, height, width, count=3000):
        image, random = np.zeros((height, width, 3), np.uint8), np.random.RandomState(1)
        for _ in range(count):
            part = random_part(image, (0.2, 1.0), random.random_sample((10, 2)), *random.rand(2))
            offset = part.__array_interface__["data"][0] - image.__array_interface__["data"][0]
            yield (*divmod(offset // 3, width), *part.shape[:2])

    def test_parts_have_the_distribution_that_torchvision_draws(self):
        height, width, random = 300, 400, np.random.RandomState(0)
        found, expected = np.array(list(self.parts(height, width))), []
        while len(expected) < len(found):  # torchvision.transforms.RandomResizedCrop.get_params
            area = height * width * random.uniform(0.2, 1.0)
            ratio = math.exp(random.uniform(math.log(3 / 4), math.log(4 / 3)))
            w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
            if 0 < w <= width and 0 < h <= height:
                top, left = random.randint(height - h + 1), random.randint(width - w + 1)
                expected.append((top, left, h, w))
        expected = np.array(expected)
        for column in range(4):
            assert stats.ks_2samp(found[:, column], expected[:, column]).pvalue > 0.01, column
        areas = [rows[:, 2] * rows[:, 3] for rows in (found, expected)]
        assert stats.ks_2samp(*areas).pvalue > 0.01

    def test_a_long_image_gives_its_centre_with_an_allowed_shape(self):
        assert set(self.parts(20, 400, 50)) == {(0, 187, 20, 27)}
        assert set(self.parts(400, 20, 50)) == {(187, 0, 27, 20)}

    def test_a_set_of_photographs_is_cropped_by_seed_and_epoch_alone(self, photographs):
        prepared = photographs
        recipe = replace(self.recipe, batch_size=4)
        epochs = [
            np.concatenate(
                [b.data for b in training_batches(prepared, recipe, 1, epoch, reading=Reading(n))]
            )
            for epoch, n in ((1, 1), (1, 3), (2, 1))
        ]
        assert epochs[0].shape == (6, 3, 16, 16) and (epochs[0] == epochs[1]).all()
        assert (epochs[0] != epochs[2]).any(axis=(1, 2, 3)).all()
        (second,) = list(training_batches(prepared, recipe, 1, 1, start=1))
        assert (second.data == epochs[0][4:]).all()

    def test_settings_that_exclude_each_other_are_refused(self):
        with pytest.raises(DMRError, match="set train_short_side to none"):
            replace(IMAGENET, crop_area=(0.2, 1.0))
        with pytest.raises(DMRError, match="crop_area must be two numbers, smaller first"):
            replace(self.recipe, crop_area=(0.9, 0.2))
        with pytest.raises(DMRError, match="too small for a crop of 32"):
            replace(self.recipe, image_size=32)


class TestRecipes:
    @pytest.mark.parametrize(
        "about, name, epochs, size",
        [
            (("cifar10", (32, 32), 50_000, False), "cifar", 400, 32),
            (("cifar10", (32, 32), 50_000, True), "finetune-cifar", 30, 32),
            (("mine", (48, 48), 2000, False), "cifar", 300, 48),
            (("mine", (48, 48), 50_000, False), "cifar", 77, 48),
            (("mine", (48, 48), 200, True), "finetune-cifar", 30, 48),
            (("mine", None, 20_000, False), "imagenet", 192, 224),
            (("mine", (480, 640), 200, True), "finetune-imagenet", 30, 224),
            (("mine", None, 500_000, False), "imagenet", 100, 224),
        ],
    )
    def test_the_recipe_is_chosen_by_what_a_set_contains(self, about, name, epochs, size):
        recipe, why = recipe_for(*about)
        assert (recipe.name, recipe.epochs, recipe.image_size) == (name, epochs, size)
        assert ("trained weights" in why) == about[-1]
        assert recipe.pad == (0 if size == 224 else size // 8)
        if about[0] == "mine" and not about[-1] and about[2] < 300_000:
            assert recipe.batch_size == 64 and recipe.lr == {224: 0.025}.get(size, 0.1)

    def test_fine_tuning_has_recipes_of_its_own(self):
        for kind, recipe in RECIPES["finetune"].items():
            assert not deviations(recipe) and recipe.mirror == RECIPES["paper"][kind].mirror
        changed = replace(RECIPES["finetune"]["cifar"], mixup=0.2)
        assert deviations(changed) == {"mixup": (0.2, 0.0)}

    def test_dmr_train_says_which_recipe_and_takes_the_sources_network(
        self, pair, short_run, tmp_path, capsys
    ):
        flags = ["--steps", "1", "--run-dir", str(tmp_path / "run")]
        cli._main(["train", "--data-dir", pair, "--init-from", short_run, *flags])
        said = capsys.readouterr().out
        assert "recipe finetune-cifar: for 75 images of 32x32 and trained weights" in said
        assert "the classifier is new (other classes); images are normalised as in its" in said
        config = RunDirectory(tmp_path / "run").config()
        assert config["recipe"]["model"] == "cifar_dmrnet8" and config["epochs"] == 1

    def test_photographs_are_scaled_to_the_size_that_the_source_knows(self, short_run, photographs):
        for flags, expected in (
            ([], (32, 37)),
            (["--image-size", "64", "--eval-short-side", "80"], (64, 80)),
        ):
            arguments = ["--data-dir", photographs.directory, "--init-from", short_run, *flags]
            recipe, _ = parse_training_flags(
                "", RECIPES["finetune"]["imagenet"], "", arguments=arguments
            )
            assert (recipe.image_size, recipe.eval_short_side) == expected
            assert recipe.model == "cifar_dmrnet8"

    def test_a_restarted_job_has_begun_already(self, pair, short_run, tuned, monkeypatch):
        monkeypatch.setenv("DMR_ATTEMPT", "1")
        flags = ["--data-dir", pair, "--init-from", short_run, "--run-dir", tuned]
        recipe, options = parse_training_flags("", CIFAR, "cifar10", arguments=flags)
        assert options.resume and options.init_from is None and recipe == TUNED


class TestCompare:
    def test_runs_that_began_from_other_weights_are_other_groups(self):
        runs = []
        for number, sha256 in enumerate((None, None, "a" * 64, "a" * 64, "b" * 64)):
            run = made_up_run(f"/runs/{number}", seed=number % 2 + 1, final=6 + number)
            began = sha256 and {"sha256": sha256, "network": "cifar_dmrnet14", "named": "x"}
            runs.append(replace(run, setup=replace(run.setup, init_from=began)))
        groups = grouped(runs)
        assert sorted(len(group.counted) for group in groups) == [1, 2, 2]
        text = as_text(compare(runs, runs))
        assert "not comparable: began from trained weights aaaaaaaa (cifar_dmrnet14)" in text
        assert "from trained weights aaaaaaaa (cifar_dmrnet14) and from trained" in text
        rows = compare(runs).rows
        assert all(bool(row.printed) != bool(row.group.setup.init_from) for row in rows)
        found = {group["init_from"] for group in as_json(compare(runs))["groups"]}
        assert found == {None, "a" * 64, "b" * 64}
        for group in groups:
            assert bool(group.setup.init_from) == bool(group.deviations)
