"""ImageNet's preparation on real photographs, in both official forms.

They are not part of this project. ``DMR_PHOTOGRAPHS=FOLDER pytest tests/test_photographs.py`` takes
those in a folder, named ``<WordNet id>_<anything>.JPEG``, at least one of each of a few classes.
"""

import os
import shutil
from pathlib import Path

import pytest
import test_imagenet
from test_data import read_all

from dmr_gluon.data.check import check
from dmr_gluon.data.datasets import read_manifest
from dmr_gluon.datasets.imagenet import prepare_imagenet

FOLDER = os.environ.get("DMR_PHOTOGRAPHS")
pytestmark = pytest.mark.skipif(not FOLDER, reason="DMR_PHOTOGRAPHS names no folder")


@pytest.fixture
def photographs():
    """WordNet id to files, in the order in which they are to be found again."""
    files = {}
    for path in sorted(Path(FOLDER).glob("n*_*.JPEG")):
        files.setdefault(path.name.split("_")[0], []).append(path)
    return files


@pytest.fixture
def archives(photographs, tmp_path, monkeypatch):
    """The three official archives; the validation images are the training images."""
    ids = dict(enumerate(sorted(photographs, reverse=True), start=1))
    monkeypatch.setattr(test_imagenet, "CLASSES", sorted(photographs))
    number_of = {wordnet_id: number for number, wordnet_id in ids.items()}
    train, val, truth = {}, {}, []
    for wordnet_id, paths in photographs.items():
        contents = {path.name: path.read_bytes() for path in paths}
        train[f"{wordnet_id}.tar"] = test_imagenet.tar_bytes(contents)
        for content in contents.values():
            truth.append(number_of[wordnet_id])
            val[f"ILSVRC2012_val_{len(truth):08d}.JPEG"] = content
    folder = tmp_path / "archives"
    test_imagenet.write(folder, train, val, test_imagenet.devkit(ids, truth))
    return folder


@pytest.fixture
def tree(photographs, tmp_path):
    for split in ("train", "val"):
        for wordnet_id, paths in photographs.items():
            folder = tmp_path / "tree" / split / wordnet_id
            folder.mkdir(parents=True)
            for path in paths:
                shutil.copy(path, folder)
    return tmp_path / "tree"


@pytest.mark.parametrize("short_side", [None, 480])
def test_both_forms_give_the_same_records(photographs, archives, tree, tmp_path, short_side):
    sets = [
        prepare_imagenet(source, tmp_path / source.name[:2], short_side, partial=True)
        for source in (archives, tree)
    ]
    labels = {wordnet_id: label for label, wordnet_id in enumerate(sorted(photographs))}
    expected = sorted(
        (labels[wordnet_id], path.read_bytes())
        for wordnet_id, paths in photographs.items()
        for path in paths
    )
    for split in ("train", "test"):
        records = [read_all(prepared, split) for prepared in sets]
        assert records[0] == records[1]
        if short_side is None:  # to the byte, but for what not every decoder knows
            odd = sum(read_manifest(sets[0].directory)["oddities"].values())
            kept = set(map(tuple, records[0])) & set(expected)
            assert len(expected) - len(kept) <= odd and len(records[0]) == len(expected)
    assert all(check(prepared.directory).ok for prepared in sets)
    print(f"{len(expected)} photographs, {read_manifest(sets[0].directory)['oddities']}")
