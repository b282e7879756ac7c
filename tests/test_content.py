"""Official sets known by their content, whatever their images come in; all else is refused."""

import hashlib
import os
import shutil
from dataclasses import replace
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from test_data import decode, read_all
from test_official import CIFAR10, cifar, images, tar_of

from dmr_gluon.cli import main as cli
from dmr_gluon.compare.comparison import cells_of
from dmr_gluon.compare.groups import deviations, published_name
from dmr_gluon.data import content, datasets
from dmr_gluon.data.check import check
from dmr_gluon.data.datasets import open_prepared, read_manifest
from dmr_gluon.datasets.cifar import CIFAR_CLASSES, prepare_cifar, read_cifar
from dmr_gluon.errors import DMRError
from dmr_gluon.models.names import get_spec
from dmr_gluon.paper import dataset_facts
from dmr_gluon.paper.recipes import CIFAR
from dmr_gluon.runs.reader import Setup


def save_tree(root, truth, name="{split}/{folder}/{number:04d}.png", **folders):
    """The images of an archive as a tree."""
    for split, (pixels, labels) in truth.items():
        for number, (image, label) in enumerate(zip(pixels, labels)):
            folder = folders.get("classes", CIFAR10)[label]
            path = root / name.format(
                split=folders.get(split, split), folder=folder, number=number, coarse=label % 3
            )
            path.parent.mkdir(parents=True, exist_ok=True)
            assert cv2.imwrite(str(path), image[:, :, ::-1])
    return str(root)


def test_a_flat_tree_of_cifar100_has_a_class_called_train(tmp_path):
    pixels = images(4, 0)
    for split in ("train", "test"):
        (tmp_path / split).mkdir()
        for number, name in enumerate(("apple", "train", "sweet_pepper")):
            path = tmp_path / split / f"{number}_{name}.png"
            cv2.imwrite(str(path), pixels[number])
    found = read_cifar("cifar100", str(tmp_path))
    classes = CIFAR_CLASSES["cifar100"]
    for split in ("train", "test"):
        assert [classes[i] for i in found[split][1]] == ["apple", "train", "sweet_pepper"]


def test_an_image_of_another_size_is_none_of_the_set():
    image = images(1, 0)[0]
    flat = image.transpose(2, 0, 1).reshape(3, 16, 64).transpose(1, 2, 0)
    assert content.image_digest(image, 1) != content.image_digest(flat, 1)


@pytest.fixture
def official(monkeypatch):
    """CIFAR-10 as if it were 60 images: an archive's files, and what is in them."""
    files, truth = cifar(10, per_batch=10)
    digests = {
        split: sorted(map(content.image_digest, pixels, labels))
        for split, (pixels, labels) in truth.items()
    }
    found = {split: content.split_digest(each) for split, each in digests.items()}
    facts = replace(dataset_facts.PUBLISHED["cifar10"], train_images=50, test_images=10)
    monkeypatch.setitem(content.DIGESTS, "cifar10", found)
    monkeypatch.setitem(dataset_facts.PUBLISHED, "cifar10", facts)
    return SimpleNamespace(files=files, truth=truth, digests=found)


def test_a_digest_depends_on_images_and_labels_but_not_on_their_order():
    pixels, labels = images(3, 0), [1, 2, 3]
    digests = list(map(content.image_digest, pixels, labels))
    assert content.split_digest(digests) == content.split_digest(digests[::-1])
    assert len(set(digests)) == 3
    others = list(map(content.image_digest, pixels, [1, 2, 4]))
    assert content.split_digest(others) != content.split_digest(digests)
    # As in the official binary files: the label, then red, green and blue.
    plane = pixels[0].transpose(2, 0, 1).tobytes()
    assert digests[0] == hashlib.sha256(b"\x01" + plane).digest()


def test_the_set_is_the_same_whatever_it_comes_in(official, tmp_path):
    """Records and all: so a training with one seed is the same training."""
    archive = tar_of(tmp_path / "cifar-10-python.tar.gz", official.files)
    upper = [name.title() for name in CIFAR10]
    sources = {
        "archive": archive,
        "tree": save_tree(tmp_path / "tree", official.truth),
        "bmp": save_tree(
            tmp_path / "bmp", official.truth, "{split}/{folder}/x{number}.bmp",
            test="val", classes=upper,
        ),
        "in superclasses": save_tree(
            tmp_path / "coarse", official.truth, "{split}/group_{coarse}/{folder}/{number}.png"
        ),
        "flat": save_tree(tmp_path / "flat", official.truth, "{split}/{number}_{folder}.png"),
    }  # fmt: skip
    prepared = {
        kind: prepare_cifar("cifar10", source, tmp_path / "out" / kind)
        for kind, source in sources.items()
    }
    assert len({each.split("train").sha256 for each in prepared.values()}) == 1
    assert len({each.split("test").sha256 for each in prepared.values()}) == 1
    one = prepared["flat"]
    assert one.name == "cifar10" and one.classes == CIFAR_CLASSES["cifar10"]
    assert one.official == {"known_by": "content", "digests": official.digests}
    assert one.mean == datasets.PUBLISHED["cifar10"].mean
    for split, (pixels, labels) in official.truth.items():
        found = sorted((label, decode(data).tobytes()) for label, data in read_all(one, split))
        assert found == sorted((int(y), x.tobytes()) for x, y in zip(pixels, labels))


def test_an_archive_goes_before_a_tree_beside_it(official, tmp_path):
    few = {split: (pixels[:2], labels[:2]) for split, (pixels, labels) in official.truth.items()}
    save_tree(tmp_path / "both", few)
    tar_of(tmp_path / "both" / "cifar-10-python.tar.gz", official.files)
    both, out = str(tmp_path / "both"), tmp_path / "out"
    assert prepare_cifar("cifar10", both, out).split("train").count == 50


def change_a_pixel(root, truth):
    path = root / "train" / CIFAR10[truth["train"][1][7]] / "0007.png"
    image = cv2.imread(str(path))
    image[3, 4, 1] ^= 1
    cv2.imwrite(str(path), image)


def move_to_another_class(root, truth):
    label = truth["test"][1][2]
    other = root / "test" / CIFAR10[(label + 1) % 10]
    other.mkdir(exist_ok=True)
    (root / "test" / CIFAR10[label] / "0002.png").rename(other / "moved.png")


def double_one_for_another(root, truth):
    folder = root / "train" / CIFAR10[truth["train"][1][0]]
    other = root / "train" / CIFAR10[truth["train"][1][1]] / "0001.png"
    other.unlink()
    shutil.copy(folder / "0000.png", folder / "again.png")


def take_one_away(root, truth):
    (root / "train" / CIFAR10[truth["train"][1][5]] / "0005.png").unlink()


def make_jpegs(root, _):
    for path in root.rglob("*.png"):
        cv2.imwrite(str(path.with_suffix(".jpg")), cv2.imread(str(path)))
        path.unlink()


def change_splits(root, truth):
    name = CIFAR10[truth["test"][1][0]]
    other = root / "train" / name
    other.mkdir(exist_ok=True)
    (root / "test" / name / "0000.png").rename(other / "new.png")


@pytest.mark.parametrize(
    "change, words",
    [
        (change_a_pixel, "some images or labels of train are not the official ones; get"),
        (move_to_another_class, "some images or labels of test are not"),
        (double_one_for_another, "some images or labels of train are not"),
        (take_one_away, "tree has 49 images for train, cifar10 has 50; get"),
        (make_jpegs, "of train are not .* or lossless images"),
        (change_splits, "tree has 51 images for train, cifar10 has 50"),
    ],
)
def test_whatever_is_not_the_set_is_refused_in_one_line(official, tmp_path, change, words):
    tree = tmp_path / "tree"
    save_tree(tree, official.truth)
    change(tree, official.truth)
    with pytest.raises(DMRError, match=words) as refused:
        prepare_cifar("cifar10", str(tree), tmp_path / "out")
    assert "\n" not in str(refused.value) and "--partial" in str(refused.value)
    assert str(refused.value).startswith(f"{tree} ")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("number", [10, 100])
def test_noise_in_the_official_layout_is_not_the_set(tmp_path, number):
    files, _ = cifar(number)
    archive = tar_of(tmp_path / f"cifar-{number}-python.tar.gz", files)
    with pytest.raises(DMRError, match=f"images for train, cifar{number} has 50,000"):
        prepare_cifar(f"cifar{number}", archive, tmp_path / "out")


def test_an_image_of_no_class_is_named(official, tmp_path):
    tree = tmp_path / "tree"
    save_tree(tree, official.truth)
    (tree / "train" / "unicorn").mkdir()
    shutil.copy(next(tree.rglob("*.png")), tree / "train" / "unicorn" / "x.png")
    with pytest.raises(DMRError, match="unicorn/x.png' belongs to no class of cifar10"):
        prepare_cifar("cifar10", str(tree), tmp_path / "out")


def test_an_image_of_16_bits_is_refused(official, tmp_path):
    tree = tmp_path / "tree"
    save_tree(tree, official.truth)
    path = next((tree / "train").rglob("*.png"))
    cv2.imwrite(str(path), cv2.imread(str(path)).astype(np.uint16) * 257)
    with pytest.raises(DMRError, match=f"{path.name}' is not 8-bit"):
        prepare_cifar("cifar10", str(tree), tmp_path / "out", partial=True)


def test_what_is_partial_is_taken_for_nothing_else(official, tmp_path, capsys):
    tree, out = tmp_path / "tree", tmp_path / "data" / "cifar10"
    save_tree(tree, official.truth)
    take_one_away(tree, official.truth)
    cli._main(["prepare", "cifar10", "--source", str(tree), "--out", str(out), "--partial"])
    prepared = open_prepared(out)
    assert prepared.name == "partial-cifar10" and prepared.official is None
    assert prepared.split("train").count == 49
    assert prepared.mean != datasets.PUBLISHED["cifar10"].mean
    # A second time there is nothing to do; after a change there is.
    capsys.readouterr()
    cli._main(["prepare", "cifar10", "--source", str(tree), "--out", str(out), "--partial"])
    assert "nothing to do" in capsys.readouterr().out
    # However the source is written.
    again = os.path.join(os.path.relpath(tree), ".")
    cli._main(["prepare", "cifar10", "--source", again, "--out", str(out), "--partial"])
    assert "nothing to do" in capsys.readouterr().out
    # compare:
    assert published_name(prepared.name) is None
    setup = Setup(prepared.name, "cifar_dmrnet14", get_spec("cifar_dmrnet14"), CIFAR, epochs=400)
    assert cells_of(setup) == []
    assert deviations(setup) == ("the paper has no data set partial-cifar10",)


def test_what_an_older_version_prepared_must_be_prepared_again(official, tmp_path):
    archive, out = tar_of(tmp_path / "cifar-10-python.tar.gz", official.files), tmp_path / "out"
    prepare_cifar("cifar10", archive, out)
    manifest = (out / "manifest.json").read_text()
    (out / "manifest.json").write_text(manifest.replace('"official"', '"unofficial"'))
    with pytest.raises(DMRError, match="not verified .* again: dmr prepare .* --overwrite"):
        open_prepared(out)
    with pytest.raises(DMRError, match="not verified"):
        check(out)
    digest = official.digests["test"]
    (out / "manifest.json").write_text(manifest.replace(digest, digest[::-1]))
    with pytest.raises(DMRError, match="as cifar10, but its images were not verified"):
        open_prepared(out)
    # Doing what the refusal says helps.
    cli._main(["prepare", "cifar10", "--source", archive, "--out", str(out), "--overwrite"])
    assert open_prepared(out).name == "cifar10"


def test_jpegs_of_the_set_say_so_in_their_name(official, tmp_path):
    """As MXNet's im2rec would have packed them, with the mean and deviation of the set."""
    tree = save_tree(tmp_path / "tree", official.truth)
    arguments = ["prepare", "cifar10", "--source", tree, "--out", str(tmp_path / "out")]
    cli._main([*arguments, "--jpeg-quality", "90"])
    prepared = open_prepared(tmp_path / "out")
    assert prepared.name == "cifar10-jpeg90"
    assert prepared.mean == datasets.PUBLISHED["cifar10"].mean
    assert prepared.official == {"known_by": "content", "digests": official.digests}
    pixels = {x.tobytes() for x in official.truth["test"][0]}
    for _, data in read_all(prepared, "test"):
        assert data[:2] == b"\xff\xd8" and decode(data).tobytes() not in pixels
    assert read_manifest(tmp_path / "out")["official"]["known_by"] == "content"
    with pytest.raises(DMRError, match="--jpeg-quality: must be from 1 to 100, not 0"):
        cli._main([*arguments, "--jpeg-quality", "0"])


def test_jpegs_of_a_partial_tree_are_not_taken_for_another_format(official, tmp_path, capsys):
    save_tree(tmp_path / "tree", official.truth)
    make_jpegs(tmp_path / "tree", official.truth)
    prepare_cifar("cifar10", str(tmp_path / "tree"), tmp_path / "out", partial=True)
    assert read_manifest(tmp_path / "out")["oddities"] == {}
    assert "named JPEG" not in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.skipif("DMR_CIFAR10" not in os.environ, reason="DMR_CIFAR10 names no tree of CIFAR-10")
def test_cifar10_itself(tmp_path):
    """On the set itself, as a tree of PNGs that DMR_CIFAR10 names."""
    tree = tmp_path / "tree"
    shutil.copytree(os.environ["DMR_CIFAR10"], tree)
    prepared = prepare_cifar("cifar10", str(tree), tmp_path / "out")
    assert prepared.official["digests"] == content.DIGESTS["cifar10"]
    manifest = read_manifest(tmp_path / "out")
    assert {key: manifest[key] for key in ("mean", "std")} == manifest["published"]
    cat = sorted((tree / "train" / "cat").iterdir())
    image = cv2.imread(str(cat[0]))

    def refused(words):
        with pytest.raises(DMRError, match=words) as refusal:
            prepare_cifar("cifar10", str(tree), tmp_path / "other")
        print(refusal.value)

    cv2.imwrite(str(cat[0]), np.where(image < 255, image + 1, image))
    refused("some images or labels of train are not")
    cv2.imwrite(str(cat[0]), image)
    cat[0].rename(tree / "train" / "dog" / "moved.png")
    refused("some images or labels of train are not")
    (tree / "train" / "dog" / "moved.png").unlink()
    shutil.copy(cat[1], tree / "train" / "cat" / "again.png")
    refused("some images or labels of train are not")
