"""ImageNet's augmentation as statistics, and beside MXNet's own ImageRecordIter."""

import tracemalloc
from dataclasses import replace

import cv2
import numpy as np
import pytest
from scipy import stats
from test_data import collect

from dmr_gluon.data import transforms as augmentation
from dmr_gluon.data.loader import training_batches
from dmr_gluon.datasets.folder import prepare_folder
from dmr_gluon.paper.recipes import RECIPES
from dmr_gluon.runtime import mx

HEIGHT, WIDTH, SIZE, COUNT, EPOCHS = 120, 160, 64, 40, 10
#: Of an image whose shorter side is 120: all of them shrink it, as from records of 480.
SHORT_SIDE = (72, 120)


def recipe(name, **changes):
    common = {"image_size": SIZE, "train_short_side": SHORT_SIDE, "eval_short_side": 72}
    return replace(RECIPES[name]["imagenet"], batch_size=40, **common, **changes)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """Images that say where each pixel was: red grows by 2 a row, green by 1.5 a column."""
    folder = tmp_path_factory.mktemp("ramps")
    rows, columns = np.mgrid[0:HEIGHT, 0:WIDTH]
    image = np.stack([2 * rows, 1.5 * columns, np.full((HEIGHT, WIDTH), 128)], axis=2)
    for split, count in (("train", COUNT), ("test", 2)):
        for number in range(count):
            path = folder / "images" / split / "a" / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path), image[:, :, ::-1].astype(np.uint8))
    return prepare_folder(folder / "images", folder / "out", name="ramps")


def pixels(data, prepared):
    mean, std = (np.reshape(part, (3, 1, 1)) for part in (prepared.mean, prepared.std))
    return data * std + mean


def crops(prepared, recipe):
    return np.concatenate(
        [
            pixels(collect(training_batches(prepared, recipe, 1, epoch))[0], prepared)
            for epoch in range(1, EPOCHS + 1)
        ]
    )


def geometry(images):
    """Down and across: how many pixels of the original one pixel of the crop spans; corners."""
    middle = np.s_[12:52]  # away from whatever a stretched image leaves free
    red, green = images[:, 0, middle, SIZE // 2] / 2, images[:, 1, SIZE // 2, middle] / 1.5
    steps = np.arange(12, 52)
    down, across = (
        np.array([np.polyfit(steps, line, 1)[0] for line in part]) for part in (red, green)
    )
    top = red[:, 0] - 12 * down
    left = green[:, 0] - 12 * across
    return down, across, top, left


@pytest.fixture(scope="module")
def papers(prepared):
    return geometry(crops(prepared, recipe("paper", pca_noise=0.0)))


def test_the_shorter_side_is_uniform(papers):
    down, across, _, _ = papers
    np.testing.assert_allclose(down, np.abs(across), rtol=0.02)
    sides = HEIGHT / down
    assert 71 < sides.min() < 75 and 117 < sides.max() < 122
    assert stats.kstest(sides, stats.uniform(*(72, 49)).cdf).pvalue > 1e-4


def test_the_crop_is_anywhere_and_half_are_mirrored(papers):
    down, across, top, left = papers
    mirrored = across < 0
    assert abs(mirrored.mean() - 0.5) < 4 * 0.5 / len(mirrored) ** 0.5
    left = np.where(mirrored, left + SIZE * across, left)
    for corner, room in ((top, HEIGHT - SIZE * down), (left, WIDTH - SIZE * np.abs(across))):
        assert corner.min() > -2.5 and (corner - room).max() < 2.5  # of 120 and 160
        share = corner[room > 10] / room[room > 10]
        assert stats.kstest(share, "uniform").pvalue > 1e-4


def test_colour_noise_has_imagenets_components(prepared):
    noisy = recipe("paper", pca_noise=0.1, mirror=False)
    plain = replace(noisy, pca_noise=0.0)
    noise = (crops(prepared, noisy) - crops(prepared, plain)).mean(axis=(2, 3))
    # As published with AlexNet, and as fb.resnet.torch has them: a column each, for R, G and B.
    components = np.array(
        [[-0.5675, 0.7192, 0.4009], [-0.5808, -0.0045, -0.8140], [-0.5836, -0.6948, 0.4203]]
    )
    along = noise @ components / (0.1 * np.array([55.46, 4.794, 1.148]))
    for column in along.T:
        assert stats.kstest(column, "norm").pvalue > 1e-4
    assert np.abs(np.corrcoef(along.T) - np.eye(3)).max() < 0.2


def test_the_authors_geometry_is_that_of_imagerecorditer(prepared):
    """The same distributions as MXNet's own augmenter with the authors' arguments."""
    ours = geometry(crops(prepared, recipe("authors", colour_shift=(0, 0, 0))))
    iterator = mx.io.ImageRecordIter(
        path_imgrec=prepared.split("train").records,
        data_shape=(3, SIZE, SIZE),
        batch_size=COUNT,
        preprocess_threads=1,
        rand_crop=True,
        rand_mirror=True,
        min_random_scale=SHORT_SIDE[0] / HEIGHT,
        max_random_scale=1.0,
        max_aspect_ratio=0.25,
        inter_method=9,
    )
    theirs = []
    for _ in range(EPOCHS):
        iterator.reset()
        theirs.append(next(iterator).data[0].asnumpy())
    theirs = geometry(np.concatenate(theirs))
    for mine, other in zip(ours, theirs):
        assert stats.ks_2samp(np.abs(mine), np.abs(other)).pvalue > 1e-4
    ratios = [np.abs(part[1] / part[0]) for part in (ours, theirs)]
    assert ratios[0].min() > 0.74 and ratios[0].max() < 1.35
    assert stats.ks_2samp(*ratios).pvalue > 1e-4
    assert ratios[0].std() > 0.1


def test_the_authors_shrink_without_averaging_as_imagerecorditer(tmp_path):
    """White noise: its standard deviation says over how many pixels is averaged."""
    random = np.random.RandomState(0)
    for split in ("train", "test"):
        for number in range(COUNT):
            path = tmp_path / "images" / split / "a" / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path), random.randint(0, 256, (HEIGHT, WIDTH, 3)).astype(np.uint8))
    noise = prepare_folder(tmp_path / "images", tmp_path / "out")
    sides = {"train_short_side": (64, 66), "colour_shift": (0, 0, 0)}
    ours = collect(training_batches(noise, replace(recipe("authors"), **sides), 1, 1))[0]
    iterator = mx.io.ImageRecordIter(
        path_imgrec=noise.split("train").records,
        data_shape=(3, SIZE, SIZE),
        batch_size=COUNT,
        rand_crop=True,
        min_random_scale=64 / HEIGHT,
        max_random_scale=66 / HEIGHT,
        max_aspect_ratio=0.25,
        inter_method=9,
    )
    middle = np.s_[:, :, 20:44, 20:44]  # without what stretching leaves free
    theirs = next(iterator).data[0].asnumpy()[middle].std()
    assert 47 < theirs < 52
    assert abs(pixels(ours, noise)[middle].std() - theirs) < 2


@pytest.mark.parametrize("shape", [(1, 4000, 3), (4000, 2, 3), (1, 40_000, 3)])
def test_thin_images_are_taken_without_much_memory(prepared, shape):
    image = np.random.RandomState(0).randint(0, 256, shape).astype(np.uint8)
    thin, places = [image] * 2, [np.arange(2)]
    for name in ("paper", "authors"):
        draws = augmentation.Draws(2, 1, 1)
        wide = recipe(name)
        train = augmentation.ScaleCropMirrorColour(prepared, wide, draws, places)
        for transform in (train, augmentation.CentreCrop(prepared, wide)):
            out = np.full((2, 3, SIZE, SIZE), np.nan, np.float32)
            tracemalloc.start()
            try:
                transform(thin, 0, slice(0, 2), out)
                assert tracemalloc.get_traced_memory()[1] < 2 << 20
            finally:
                tracemalloc.stop()
            assert np.isfinite(out).all()


def test_hue_saturation_and_lightness_move_as_in_imagerecorditer(prepared):
    """Its loop over pixels, written out: move each channel, clip to 180, 255 and 255."""
    transform = augmentation.ScaleCropMirrorColour.__new__(augmentation.ScaleCropMirrorColour)
    transform.recipe = recipe("authors")
    random = np.random.RandomState(0)
    image = random.randint(0, 256, (9, 7, 3)).astype(np.uint8)
    for _ in range(20):
        draws = random.uniform(size=3)
        found = transform._move_colours(image, draws)
        moves = [int(most * (2 * draw - 1)) for most, draw in zip((36, 50, 50), draws)]
        hls = cv2.cvtColor(image, cv2.COLOR_RGB2HLS).astype(int)
        for channel, move, top in ((0, moves[0], 180), (1, moves[2], 255), (2, moves[1], 255)):
            hls[..., channel] = np.clip(hls[..., channel] + move, 0, top)
        expected = cv2.cvtColor(hls.astype(np.uint8), cv2.COLOR_HLS2RGB)
        assert (found == expected).all()


def test_what_a_stretched_image_leaves_free_is_zero(prepared):
    stretching = recipe("authors", colour_shift=(0, 0, 0), aspect_change=0.9)
    data = collect(training_batches(prepared, replace(stretching, image_size=72), 1, 1))[0]
    free = np.abs(data).max(axis=1) < 0.02
    assert free.any(axis=(1, 2)).mean() > 0.3
