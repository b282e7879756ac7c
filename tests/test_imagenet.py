"""ImageNet's official archives, in small: a tar of tars, a tar without labels, a devkit."""

import io
import json
import os
import tarfile
from dataclasses import replace

import cv2
import numpy as np
import pytest
from test_data import decode, read_all
from test_official import header

from dmr_gluon.cli import main as cli
from dmr_gluon.data.datasets import open_prepared, read_manifest
from dmr_gluon.datasets import imagenet
from dmr_gluon.datasets.contact_sheet import draw
from dmr_gluon.datasets.imagenet import prepare_imagenet
from dmr_gluon.deploy.bundle import read_bundle
from dmr_gluon.deploy.export import export
from dmr_gluon.errors import DMRError
from dmr_gluon.paper.recipes import IMAGENET
from dmr_gluon.training.fit import fit
from dmr_gluon.training.options import RunOptions

CLASSES = ["n01440764", "n01443537", "n02007558"]
WORDS = dict(zip(CLASSES, ("tench, Tinca tinca", "goldfish", "black stork, Ciconia nigra")))
#: ILSVRC2012_ID of each; not in the order of the WordNet ids, and above them inner nodes.
IDS = {1: "n02007558", 2: "n01440764", 3: "n01443537", 4: "n00001740"}


def photograph(seed, size=(48, 64), extension=".jpg"):
    random = np.random.RandomState(seed)
    image = cv2.resize(random.randint(0, 256, (6, 8, 3)).astype(np.uint8), size[::-1])
    return cv2.imencode(extension, image)[1].tobytes()


def add(archive, name, content):
    member = tarfile.TarInfo(name)
    member.size = len(content)
    archive.addfile(member, io.BytesIO(content))


def tar_bytes(files):
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for name, content in files.items():
            add(archive, name, content)
    return stream.getvalue()


def devkit(ids=IDS, truth=(2, 3, 1, 1)):
    from scipy.io import savemat

    fields = [("ILSVRC2012_ID", object), ("WNID", object), ("words", object)]
    synsets = np.zeros((len(ids), 1), dtype=[*fields, ("num_children", object)])
    for row, (number, wordnet_id) in enumerate(ids.items()):
        synsets[row, 0] = (
            number,
            wordnet_id,
            WORDS.get(wordnet_id, "entity"),
            0 if wordnet_id in CLASSES else 3,
        )
    meta = io.BytesIO()
    savemat(meta, {"synsets": synsets}, do_compression=True)
    return {
        "ILSVRC2012_devkit_t12/readme.txt": b"",
        "ILSVRC2012_devkit_t12/data/meta.mat": meta.getvalue(),
        "ILSVRC2012_devkit_t12/data/ILSVRC2012_validation_ground_truth.txt": "".join(
            f"{label}\n" for label in truth
        ).encode(),
    }


def write(folder, train=None, val=None, kit=None):
    """The three archives; returns the files of each split with their class's label."""
    if train is None:
        train = {
            f"{name}.tar": tar_bytes(
                {f"{name}_{i}.JPEG": photograph(10 * label + i) for i in range(3)}
            )
            for label, name in enumerate(CLASSES)
        }
    if val is None:
        val = {f"ILSVRC2012_val_{i:08d}.JPEG": photograph(100 + i) for i in range(1, 5)}
    os.makedirs(folder, exist_ok=True)
    (folder / imagenet.TRAIN).write_bytes(tar_bytes(train))
    (folder / imagenet.VALIDATION).write_bytes(tar_bytes(val))
    with tarfile.open(folder / imagenet.DEVKIT, "w:gz") as archive:
        for name, content in (kit or devkit()).items():
            add(archive, name, content)
    truth = {"train": [(label, photograph(10 * label + i)) for label in range(3) for i in range(3)]}
    # Line 1 says 2, which is n01440764, which is the first in sorted order, and so on.
    truth["test"] = [(label, photograph(101 + i)) for i, label in enumerate((0, 1, 2, 2))]
    return truth


def test_the_archives_give_every_image_byte_for_byte(tmp_path):
    truth = write(tmp_path / "source")
    prepared = prepare_imagenet(str(tmp_path / "source"), tmp_path / "out", partial=True)
    assert prepared.classes == tuple(CLASSES) and prepared.name == "partial-imagenet"
    for split, expected in truth.items():
        assert sorted(read_all(prepared, split)) == sorted(expected)
    assert read_manifest(tmp_path / "out")["partial"]


def test_classes_have_their_words_beside_their_numbers(tmp_path):
    write(tmp_path / "source")
    prepare_imagenet(str(tmp_path / "source"), tmp_path / "set", partial=True)
    manifest = read_manifest(tmp_path / "set")
    assert manifest["classes"] == CLASSES and manifest["words"] == list(WORDS.values())
    recipe = replace(
        IMAGENET, model="cifar_dmrnet8", steps=1, image_size=32, train_short_side=(32, 40),
        eval_short_side=32, batch_size=9,
    )  # fmt: skip
    run, bundle = str(tmp_path / "run"), str(tmp_path / "bundle")
    fit(recipe, RunOptions(data_dir=str(tmp_path / "set"), run_dir=run))
    export(run, bundle)
    labels = ["n01440764 tench", "n01443537 goldfish", "n02007558 black stork"]
    assert read_bundle(bundle)["classes"] == labels
    # A set that was prepared before there were words is the same set.
    del manifest["words"]
    (tmp_path / "set" / "manifest.json").write_text(json.dumps(manifest))
    fit(recipe, RunOptions(data_dir=str(tmp_path / "set"), run_dir=run, resume=True))
    manifest["words"] = ["tench"]
    (tmp_path / "set" / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(DMRError, match="words for 3 classes"):
        open_prepared(tmp_path / "set")


def test_the_devkit_is_read_once_and_the_picture_shows_words(tmp_path, monkeypatch):
    write(tmp_path / "source")
    read, calls = imagenet._read_devkit, []
    monkeypatch.setattr(imagenet, "_read_devkit", lambda path: calls.append(path) or read(path))
    prepared = prepare_imagenet(str(tmp_path / "source"), tmp_path / "set", partial=True)
    assert len(calls) == 1
    figure = draw(prepared)
    shown = {text.get_text() for axes in figure.get_axes() for text in axes.texts}
    assert shown == {"tench, Tinca …", "goldfish", "black stork, …"}


def test_a_tree_of_folders_gives_the_same_set(tmp_path):
    truth = write(tmp_path / "archives")
    for split, folder in (("train", "train"), ("test", "val")):
        for i, (label, content) in enumerate(truth[split]):
            path = tmp_path / "tree" / folder / CLASSES[label] / f"{i}.JPEG"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
    one = prepare_imagenet(str(tmp_path / "archives"), tmp_path / "one", partial=True)
    other = prepare_imagenet(str(tmp_path / "tree"), tmp_path / "other", partial=True)
    for split in truth:
        assert sorted(read_all(one, split)) == sorted(read_all(other, split))
    assert one.mean == other.mean and one.classes == other.classes


def test_images_are_resized_to_a_shorter_side(tmp_path):
    write(tmp_path / "source")
    prepared = prepare_imagenet(
        str(tmp_path / "source"), tmp_path / "out", short_side=24, partial=True
    )
    for split in ("train", "test"):
        for _, data in read_all(prepared, split):
            assert data[:2] == b"\xff\xd8" and decode(data).shape == (24, 32, 3)


def test_a_png_named_jpeg_is_encoded_anew_and_counted(tmp_path, capsys):
    train = {f"{name}.tar": tar_bytes({"a.JPEG": photograph(1)}) for name in CLASSES[1:]}
    train["n01440764.tar"] = tar_bytes({"n01440764_1.JPEG": photograph(1, extension=".png")})
    write(tmp_path / "source", train=train)
    prepared = prepare_imagenet(str(tmp_path / "source"), tmp_path / "out", partial=True)
    assert all(data[:2] == b"\xff\xd8" for _, data in read_all(prepared, "train"))
    oddities = {"named JPEG, but of another format": 1}
    assert read_manifest(tmp_path / "out")["oddities"] == oddities
    assert "1 images: named JPEG" in capsys.readouterr().out


def test_the_manifest_names_the_archives_and_a_second_time_they_are_not_indexed(
    tmp_path, capsys, monkeypatch
):
    write(tmp_path / "source")
    arguments = ["--source", str(tmp_path / "source"), "--out", str(tmp_path / "out"), "--partial"]
    cli._main(["prepare", "imagenet", *arguments])
    assert read_manifest(tmp_path / "out")["sources"] == {
        path.name: {"bytes": path.stat().st_size} for path in (tmp_path / "source").iterdir()
    }
    monkeypatch.setattr(imagenet, "read_archives", pytest.fail)
    cli._main(["prepare", "imagenet", *arguments])
    assert "nothing to do" in capsys.readouterr().out


def test_a_set_that_is_not_whole_is_refused(tmp_path):
    write(tmp_path / "source")
    with pytest.raises(DMRError, match="has 9 images for train, imagenet has 1,281,167"):
        prepare_imagenet(str(tmp_path / "source"), tmp_path / "out")
    os.remove(tmp_path / "source" / imagenet.VALIDATION)
    with pytest.raises(DMRError, match="img_val.tar cannot be read"):
        prepare_imagenet(str(tmp_path / "source"), tmp_path / "out", partial=True)


def one_class(files):
    return {"train": {"n01440764.tar": tar_bytes(files)}}


def link(name, kind):
    def make(archive):
        member = tarfile.TarInfo(name)
        member.type, member.linkname = kind, "/etc/passwd"
        archive.addfile(member)

    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        make(archive)
    return stream.getvalue()


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"train": {"n01440764.tar": link("a.JPEG", tarfile.SYMTYPE)}}, "no images for train"),
        ({"train": {"n01440764.tar": header(20_480)}}, "damaged"),
        ({"train": {"n01440764.tar": header(-512) + bytes(10_240)}}, "damaged"),
        ({"train": {"n01440764.tar": b"no tar"}}, "damaged"),
        ({"train": {"readme.txt": b"x"}}, "no images for train"),
        ({"train": {"n99999999.tar": tar_bytes({"a.JPEG": b"x"})}}, "damaged .*n99999999"),
        ({"val": {"other.JPEG": b"x"}}, "no images for test"),
        (
            {"val": {"ILSVRC2012_val_00000009.JPEG": b"x"}},
            "val.tar is damaged or not the official file",
        ),
        ({"kit": devkit(truth=(7,))}, "devkit_t12.tar.gz is damaged or not the official file"),
        ({"kit": devkit(ids={1: "dog"})}, "devkit_t12.tar.gz is damaged or not the official file"),
        ({"kit": {"x": b""}}, "devkit_t12.tar.gz is damaged .*data/meta.mat"),
        ({"kit": {**devkit(), "ILSVRC2012_devkit_t12/data/meta.mat": b"x"}}, "damaged"),
    ],
)
def test_damaged_and_hostile_archives_are_refused(changes, words, tmp_path):
    write(tmp_path / "source", **changes)
    with pytest.raises(DMRError, match=words):
        prepare_imagenet(str(tmp_path / "source"), tmp_path / "out", partial=True)
    assert not (tmp_path / "out").exists()


def refuse_to_open(monkeypatch, module, name):
    """A module's ``open`` finds no right to read this file; root would have it."""

    def refusing(path, *arguments, **options):
        if os.path.basename(path) == name:
            raise PermissionError(13, "Permission denied", str(path))
        return open(path, *arguments, **options)

    monkeypatch.setattr(module, "open", refusing, raising=False)


@pytest.mark.parametrize("name", [imagenet.TRAIN, imagenet.VALIDATION])
def test_an_archive_that_may_not_be_read_is_named(name, tmp_path, monkeypatch):
    write(tmp_path / "source")
    arguments = (str(tmp_path / "source"), tmp_path / "out")
    with monkeypatch.context() as patch:
        refuse_to_open(patch, imagenet, name)
        with pytest.raises(DMRError, match=f"{name} cannot be read .Permission denied"):
            prepare_imagenet(*arguments, partial=True)
    assert not (tmp_path / "out").exists()


def test_a_table_beyond_all_bounds_is_refused(tmp_path, monkeypatch):
    write(tmp_path)
    monkeypatch.setattr(imagenet, "_MOST_SYNSETS", 1)
    with pytest.raises(DMRError, match="synsets has over 1 elements"):
        imagenet.read_archives(str(tmp_path))


def test_a_damaged_image_is_named_without_advice_to_remove_it(tmp_path):
    val = {"ILSVRC2012_val_00000001.JPEG": photograph(1)}
    write(tmp_path / "source", **one_class({"a.JPEG": b"no image"}), val=val)
    with pytest.raises(
        DMRError, match="a.JPEG' is not a readable image; get the official archive again"
    ):
        prepare_imagenet(str(tmp_path / "source"), tmp_path / "out", partial=True)


def test_an_archive_that_was_cut_off_is_refused(tmp_path):
    write(tmp_path / "source")
    path = tmp_path / "source" / imagenet.TRAIN
    content = path.read_bytes()
    for kept in (0, 700, len(content) // 2):
        path.write_bytes(content[:kept])
        with pytest.raises(DMRError, match="damaged"):
            prepare_imagenet(str(tmp_path / "source"), tmp_path / "out", partial=True)
