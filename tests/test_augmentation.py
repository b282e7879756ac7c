"""The augmentation of 32x32 images as statistics, and evaluation in numbers that do not divide."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import cv2
import numpy as np
import pytest
from test_data import collect

from dmr_gluon.data import reader
from dmr_gluon.data.loader import Shard, evaluation_batches, training_batches
from dmr_gluon.data.reader import Reading
from dmr_gluon.data.transforms import Draws
from dmr_gluon.datasets.folder import prepare_folder
from dmr_gluon.paper.recipes import CIFAR, RECIPES

TRAIN, TEST, EPOCHS = 200, 130, 40

#: ImageNet's augmentation, the authors', on small images.
SCALED = replace(
    RECIPES["authors"]["imagenet"], image_size=24, train_short_side=(28, 40), eval_short_side=28
)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """Images that say where each pixel was: red its row, green its column, blue the image."""
    folder = tmp_path_factory.mktemp("numbered")
    rows, columns = np.mgrid[0:32, 0:32]
    for split, count in (("train", TRAIN), ("test", TEST)):
        for number in range(count):
            image = np.stack([8 * rows, 8 * columns, np.full((32, 32), number)], axis=2)
            path = folder / "images" / split / str(number % 2) / f"{number:03d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path), image[:, :, ::-1].astype(np.uint8))
    return prepare_folder(folder / "images", folder / "out", name="numbered")


def epoch_of(prepared, seed, epoch, batch_size=64):
    recipe = replace(CIFAR, batch_size=batch_size)
    return collect(training_batches(prepared, recipe, seed, epoch))


@pytest.fixture(scope="module")
def epochs(prepared):
    """Of every epoch: image, offset and mirroring of each position, and the padding's values."""
    mean, std = (np.reshape(part, (3, 1, 1)) for part in (prepared.mean, prepared.std))
    found = []
    for epoch in range(1, EPOCHS + 1):
        data, labels = epoch_of(prepared, 1, epoch)
        for image, label in zip(data, labels):
            centre = np.rint((image * std + mean)[:, 8:24, 8:24])
            row, column = (int(centre[i, 0, 0]) // 8 for i in range(2))
            mirrored = centre[1, 0, 1] < centre[1, 0, 0]
            column = column - (31 - 8) if mirrored else column - 8
            number = int(centre[2, 0, 0])
            assert label == number % 2
            # Offset of the crop in the padded image, from 0 to 8.
            top, left = row - 8 + 4, column + 4
            outside = np.ones((32, 32), bool)
            inside = np.s_[max(0, 4 - top) : 36 - top, max(0, 4 - left) : 36 - left]
            outside[inside] = False
            outside = outside[:, ::-1] if mirrored else outside
            found.append(
                (epoch, number, top, left, mirrored, np.abs(image[:, outside]).max(initial=0))
            )
    return [np.array(column) for column in zip(*found)]


def chi_square(counts):
    expected = counts.sum() / len(counts)
    return float(((counts - expected) ** 2 / expected).sum())


def test_every_image_comes_once_in_every_epoch_in_another_order(epochs):
    epoch, number = epochs[:2]
    orders = {tuple(number[epoch == e]) for e in range(1, EPOCHS + 1)}
    assert len(orders) == EPOCHS
    assert all(sorted(order) == list(range(TRAIN)) for order in orders)
    # A full shuffle: each image in each half of the epoch about half of the time.
    position = np.tile(np.arange(TRAIN), EPOCHS)
    early = np.bincount(number[position < TRAIN // 2], minlength=TRAIN)
    # Of a fair coin for each image and epoch: 100 with a deviation of 10.
    assert chi_square(early) < 150


def test_all_81_offsets_come_equally_often_and_half_are_mirrored(epochs):
    _, number, top, left, mirrored, _ = epochs
    assert top.min() == left.min() == 0 and top.max() == left.max() == 8
    # 80 degrees of freedom: above 135 with probability 1e-4.
    assert chi_square(np.bincount(9 * top + left, minlength=81)) < 135
    assert abs(mirrored.mean() - 0.5) < 4 * 0.5 / len(mirrored) ** 0.5
    # Independent of each other and of the image.
    assert chi_square(np.bincount(9 * top + left, weights=mirrored, minlength=81)) < 135
    assert chi_square(np.bincount(number, weights=mirrored, minlength=TRAIN)) < 280


def test_what_is_drawn_for_one_purpose_does_not_follow_another():
    draws = Draws(1000, 1, 1)
    first, second = (draws.columns(lambda random, n: random.random(n)) for _ in range(2))
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.15 and not (first == second).any()
    again = Draws(1000, 1, 1)
    for one in (first, second):
        assert (again.columns(lambda random, n: random.random(n)) == one).all()


def test_the_padding_is_zero_after_normalising(epochs):
    *_, padding = epochs
    assert padding.max() < 0.01 and len(padding) == TRAIN * EPOCHS


def test_the_offsets_of_an_image_change_from_epoch_to_epoch(epochs):
    _, number, top, left, _, _ = epochs
    kinds = [len(set(zip(top[number == i], left[number == i]))) for i in range(TRAIN)]
    assert min(kinds) > 20  # of 40 epochs


def test_an_epoch_does_not_depend_on_the_size_of_its_batches(prepared):
    expected = epoch_of(prepared, 3, 2, batch_size=64)
    for found, one in zip(epoch_of(prepared, 3, 2, batch_size=7), expected):
        assert (found == one).all()


@pytest.mark.parametrize("parts", [1, 2, 3])
def test_evaluation_is_exact_for_every_batch_size_from_1_to_65(prepared, parts):
    blue, std = (part[2] for part in (prepared.mean, prepared.std))
    for batch_size in range(1, 66):
        recipe = replace(CIFAR, batch_size=batch_size)
        shares = [
            collect(evaluation_batches(prepared, recipe, "test", Shard(index, parts)))
            for index in range(parts)
        ]
        data, labels = (np.concatenate(columns) for columns in zip(*shares))
        numbers = np.rint(data[:, 2, 0, 0] * std + blue).astype(int)
        assert sorted(numbers) == list(range(TEST)) and (labels == numbers % 2).all()
        assert max(len(share[1]) for share in shares) - min(len(s[1]) for s in shares) <= 1


@pytest.mark.parametrize("recipe", [CIFAR, SCALED], ids=["whole", "scaled"])
class TestEveryWorkerAndEveryStart:
    def test_workers_share_every_batch(self, prepared, recipe):
        recipe = replace(recipe, batch_size=64)
        whole = list(training_batches(prepared, recipe, 3, 2))
        shards = [Shard(i, 3) for i in range(3)]
        shares = [list(training_batches(prepared, recipe, 3, 2, shard=one)) for one in shards]
        assert {len(share) for share in shares} == {len(whole)} == {4}
        for batch, *parts in zip(whole, *shares):
            for field, fields in zip(batch, zip(*parts)):
                assert (np.concatenate(fields) == field).all()
        assert sorted(len(share[0].label) for share in shares) == [21, 21, 22]

    def test_an_epoch_can_be_entered_in_the_middle(self, prepared, recipe):
        recipe = replace(recipe, batch_size=64)
        whole = list(training_batches(prepared, recipe, 3, 2))
        for start in range(5):
            rest = list(training_batches(prepared, recipe, 3, 2, start=start))
            assert len(rest) == 4 - start
            for found, expected in zip(rest, whole[start:]):
                assert (found.data == expected.data).all()
                assert (found.label == expected.label).all()

    def test_the_rest_of_an_epoch_drawn_anew_has_the_same_images_in_another_order(
        self, prepared, recipe
    ):
        recipe = replace(recipe, batch_size=50)

        def draw(*fresh):
            return collect(training_batches(prepared, recipe, 3, 2, reshuffled_at=fresh))[0]

        (first, again, twice) = (draw(), draw(2), draw(2, 3))
        assert (first[:100] == again[:100]).all() and (again[:150] == twice[:150]).all()
        for one, other, at in ((first, again, 100), (again, twice, 150)):
            assert not (one[at:] == other[at:]).all(axis=(1, 2, 3)).any()
        if recipe.train_short_side is None:  # blue says which image it is, wherever it is cut
            numbers = [sorted(part[100:, 2, 16, 16]) for part in (first, again, twice)]
            np.testing.assert_allclose(numbers[0], numbers[1])
            np.testing.assert_allclose(numbers[0], numbers[2])

    @pytest.mark.parametrize("threads", [1, 2, 4])
    def test_threads_change_nothing(self, prepared, recipe, monkeypatch, threads):
        expected, made = collect(training_batches(prepared, recipe, 3, 2)), []

        def pool(count):
            made.append(count)
            return ThreadPoolExecutor(count)

        monkeypatch.setattr(reader, "ThreadPoolExecutor", pool)
        batches = training_batches(prepared, recipe, 3, 2, reading=Reading(threads))
        for found, one in zip(collect(batches), expected):
            assert (found == one).all()
        assert made == [threads]


def test_chunks_are_shuffled_each_by_itself():
    """As the ImageRecordIter of 2016 did with 8 MB of records at a time."""
    whole, chunked = (Draws(1000, 1, 1, chunk=chunk).order for chunk in (None, 300))
    assert sorted(chunked) == sorted(whole) == list(range(1000))
    for first in range(0, 1000, 300):
        part = chunked[first : first + 300]
        assert sorted(part) == list(range(first, min(first + 300, 1000)))
        assert (part != np.arange(first, first + len(part))).any()
    assert (Draws(1000, 1, 2, chunk=300).order != chunked).any()
    assert (Draws(1000, 1, 1, chunk=300).order == chunked).all()
    assert (Draws(1000, 1, 1, chunk=1000).order == whole).all()
    # After going back only the rest is drawn anew, and stays within its chunks.
    again = Draws(1000, 1, 1, [450], chunk=300).order
    assert (again[:450] == chunked[:450]).all() and (again[450:600] != chunked[450:600]).any()
    assert sorted(again[450:600]) == sorted(chunked[450:600])
