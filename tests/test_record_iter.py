"""Prepared sets in MXNet's own loops: Module, and Gluon's DataLoader."""

from dataclasses import replace

import numpy as np
import pytest
from conftest import REPOSITORY

from dmr_gluon import get_model, recipes, symbols
from dmr_gluon.data import ImageDataset, RecordIter
from dmr_gluon.data.datasets import open_prepared
from dmr_gluon.data.loader import evaluation_batches, training_batches
from dmr_gluon.errors import DMRError
from dmr_gluon.runtime import mx
from dmr_gluon.training import network
from dmr_gluon.training.evaluate import evaluate
from dmr_gluon.training.fit import fit
from dmr_gluon.training.options import RunOptions
from dmr_gluon.training.step import HostBuffers

RECIPE = replace(recipes.CIFAR, batch_size=10)


def collected(batches):
    """Data and labels of batches, of a RecordIter or of the loader."""
    found = []
    for batch in batches:
        if hasattr(batch, "pad"):
            assert batch.pad == 0
            found.append((batch.data[0].asnumpy(), batch.label[0].asnumpy()))
        else:
            found.append(batch)
    return found


def assert_same(found, expected):
    found, expected = collected(found), collected(expected)
    assert len(found) == len(expected) > 0
    for (data, label), (other, other_label) in zip(found, expected):
        assert data.dtype == label.dtype == np.float32
        assert (data == other).all() and (label == other_label).all()


class TestRecordIter:
    def test_epochs_are_those_of_fit(self, few):
        prepared = open_prepared(few)
        images = RecordIter(few, recipe=recipes.CIFAR, batch_size=10, seed=3)
        assert images.provide_data == [("data", (10, 3, 32, 32))]
        assert images.provide_label == [("softmax_label", (10,))]
        for epoch in (1, 2):
            epoch_of_fit = training_batches(prepared, RECIPE, seed=3, epoch=epoch)
            assert_same(images, epoch_of_fit)
            with pytest.raises(StopIteration):
                next(images)
            images.reset()
        later = RecordIter(few, 10, seed=3, epoch=3)
        assert_same(later, training_batches(prepared, RECIPE, seed=3, epoch=3))

    def test_a_reset_passes_over_no_epoch(self, few):
        images = RecordIter(few, 10)
        images.reset()  # as Module.score does at its start
        assert images.epoch == 1
        next(images)
        images.reset()
        assert images.epoch == 2
        expected = training_batches(open_prepared(few), RECIPE, seed=1, epoch=2)
        assert_same(images, expected)

    def test_other_splits_come_as_they_lie(self, few):
        prepared = open_prepared(few)
        for split, more in (("test", {}), ("train", {"augment": False})):
            assert_same(
                RecordIter(few, 10, split, **more), evaluation_batches(prepared, RECIPE, split)
            )
        # A training on the other split: every image once, not in that order.
        images = collected(RecordIter(few, 10, "test", augment=True))
        labels = np.concatenate([label for _, label in images])
        expected = np.concatenate([b.label for b in evaluation_batches(prepared, RECIPE, "test")])
        assert sorted(labels) == sorted(expected) and (labels != expected).any()

    def test_the_recipe_is_that_of_the_data_set_and_can_be_changed(self, digits, few):
        assert RecordIter(digits).recipe == recipes.DIGITS
        assert RecordIter(few).recipe == recipes.CIFAR
        changed = replace(RECIPE, pad=0, mirror=False)
        expected = training_batches(open_prepared(few), changed, seed=1, epoch=1)
        assert_same(RecordIter(few, recipe=changed), expected)

    def test_a_small_rest_is_dropped_in_training_only(self, few):
        images = RecordIter(few, 19, devices=2)  # 96 = 5 x 19 + 1
        assert [len(label) for _, label in collected(images)] == [19] * 5
        with pytest.raises(DMRError, match="leaves 1 images of test for 2 devices"):
            RecordIter(few, 7, "test", devices=2)

    @pytest.mark.parametrize(
        "arguments, words",
        [
            ({"split": "validation"}, "name one of train, test"),
            ({"recipe": replace(RECIPE, image_size=28)}, "--image-size 32"),
            ({"batch_size": 0}, "batch_size must be at least 1"),
        ],
    )
    def test_what_does_not_fit_is_refused(self, few, arguments, words):
        with pytest.raises(DMRError, match=words):
            RecordIter(few, **arguments)

    def test_module_scores_every_image_once(self, few):
        net = get_model("cifar_dmrnet8")
        net.initialize()
        prepared = open_prepared(few)
        expected = evaluate(net, prepared, RECIPE, [mx.cpu()])
        module = mx.mod.Module(symbols.get_symbol("cifar_dmrnet8"))
        images = RecordIter(few, 10, "test")  # 36 images
        module.bind(images.provide_data, images.provide_label, for_training=False)
        module.init_params(**arrays_of(net))
        for _ in range(2):
            scores = dict(module.score(images, ["acc", "ce"]))
            assert scores["accuracy"] == pytest.approx(1 - expected.error / 100)
            assert scores["cross-entropy"] == pytest.approx(expected.loss, rel=1e-5)
        assert module.predict(images).shape == (36, 10)


def arrays_of(net):
    """A network's arrays as Module takes them."""
    parameters = net.collect_params().values()
    return {
        "arg_params": {p.name: p.data() for p in parameters if p.grad_req != "null"},
        "aux_params": {p.name: p.data() for p in parameters if p.grad_req == "null"},
    }


class Losses:
    """Collects the losses of steps, of ``fit`` or of ``Module.fit``."""

    def __init__(self):
        self.steps = []

    def on_step(self, state):
        self.steps.append((state.epoch, state.step, state.images, state.lr, state.loss))

    def batch_end(self, parameters):
        batch, module = parameters.locals["data_batch"], parameters.locals["self"]
        labels = batch.label[0].asnumpy().astype(int)
        chosen = module.get_outputs()[0].asnumpy()[np.arange(len(labels)), labels]
        loss, lr = -np.log(chosen).mean(), module._optimizer.learning_rate
        self.steps.append((parameters.epoch + 1, parameters.nbatch + 1, len(labels), lr, loss))


class Doubles(RecordIter):
    """The same images in double precision."""

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        for one in ("provide_data", "provide_label"):
            ((name, shape),) = getattr(self, one)
            setattr(self, one, [mx.io.DataDesc(name, shape, "float64")])

    def getdata(self):
        return [array.astype("float64") for array in super().getdata()]

    def getlabel(self):
        return [array.astype("float64") for array in super().getlabel()]


@pytest.fixture
def module_cifar(monkeypatch):
    """The example as a module."""
    monkeypatch.syspath_prepend(str(REPOSITORY / "examples"))
    import module_cifar

    return module_cifar


@pytest.mark.parametrize(
    "model, contexts",
    [pytest.param("cifar_dmrnet8", 1, marks=pytest.mark.slow), ("cifar_resnet8", 2)],
)
def test_the_example_has_the_losses_of_fit(
    few, model, contexts, module_cifar, tmp_path, monkeypatch
):
    """20 steps with all three drops and two smaller batches.

    In double precision: in single precision the order of a sum occasionally decides whether a ReLU
    passes a gradient, after which the losses differ by 0.1% in 20 steps.
    """

    def prepare(net, devices):
        net.cast("float64")
        net.hybridize()

    monkeypatch.setattr(network, "prepare_to_run", prepare)
    monkeypatch.setattr(HostBuffers, "hold", lambda self, data: mx.nd.array(data, dtype="float64"))
    monkeypatch.setattr(module_cifar, "RecordIter", Doubles)
    recipe, ours, theirs = replace(RECIPE, model=model, epochs=2), Losses(), Losses()
    options = RunOptions(few, tmp_path / "run", seed=5, cpus=contexts)
    run = fit(recipe, options, callbacks=[ours])
    net = get_model(model)
    mx.random.seed(5)
    net.initialize()
    net.cast("float64")
    more = {**arrays_of(net), "batch_end_callback": theirs.batch_end}
    devices = [mx.cpu(i) for i in range(contexts)]
    module = module_cifar.train(few, model, 2, 10, devices, seed=5, **more)
    assert len(ours.steps) == 20 and [step[2] for step in ours.steps].count(6) == 2
    assert len({round(step[3], 9) for step in ours.steps}) == 4
    np.testing.assert_allclose(theirs.steps, ours.steps, rtol=1e-10)
    # Which includes the running statistics.
    images = module_cifar.RecordIter(few, 10, "test")
    loss = dict(module.score(images, "ce"))["cross-entropy"]
    assert loss == pytest.approx(run.epochs[2].test_loss, rel=1e-6)


def test_the_example_as_a_program(few, tmp_path, command):
    program = (REPOSITORY / "examples" / "module_cifar.py", "--data-dir", few, "--epochs", 1)
    done = command(*program, "--model", "cifar_resnet8", "--batch-size", 24, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Validation-accuracy" in done.stderr
    symbol, parameters, _ = mx.model.load_checkpoint(str(tmp_path / "cifar_resnet8"), 1)
    assert set(parameters) < set(symbol.list_arguments())
    done = command(*program, "--model", "cifar_dmrnet57", cwd=tmp_path)
    assert done.stderr.startswith("error: model 'cifar_dmrnet57'") and done.returncode == 1


class TestImageDataset:
    def test_items_are_images_and_labels(self, few):
        images = ImageDataset(few, "test")
        assert len(images) == 36
        image, label = images[35]
        assert (image.shape, image.dtype, image.context) == ((32, 32, 3), np.uint8, mx.cpu())
        assert (images[-1][0] == image).asnumpy().all()
        mean, std = (np.array(values) for values in (images.prepared.mean, images.prepared.std))
        normalised = ((image.asnumpy() - mean) / std).transpose(2, 0, 1)
        *_, (data, labels) = evaluation_batches(images.prepared, RECIPE, "test")
        np.testing.assert_allclose(normalised, data[-1], rtol=1e-5, atol=1e-5)
        assert label == labels[-1] and label.dtype == np.int32
        with pytest.raises(IndexError):
            images[36]
        assert [label for _, label in images].count(0) > 1, "a loop ends"

    @pytest.mark.parametrize("threads", [False, True])
    def test_workers_read_transform_and_batch(self, few, threads):
        images = ImageDataset(few)
        transform = mx.gluon.data.vision.transforms.ToTensor()
        loader = mx.gluon.data.DataLoader(
            images.transform_first(transform), batch_size=10, num_workers=2, thread_pool=threads
        )
        for _ in range(2):
            data, labels = zip(*loader)
            assert [len(label) for label in labels] == [10] * 9 + [6]
        expected = [images[i] for i in range(96)]
        for i, image in enumerate(np.concatenate([part.asnumpy() for part in data])):
            pixels = expected[i][0].asnumpy().transpose(2, 0, 1) / np.float32(255)
            np.testing.assert_allclose(image, pixels, rtol=1e-6)
        found = np.concatenate([part.asnumpy() for part in labels])
        assert found.tolist() == [label for _, label in expected]
