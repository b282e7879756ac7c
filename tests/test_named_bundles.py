"""Bundles by their network's name in a store, and bundles exported again in other forms."""

import json
import os
import shutil

import numpy as np
import pytest
from test_authors import stand_in, write

from dmr_gluon import export, get_model, load_bundle
from dmr_gluon.cli.main import _main
from dmr_gluon.deploy.bundle import read_bundle
from dmr_gluon.deploy.bundle_writer import ExportOptions
from dmr_gluon.deploy.import_authors import import_checkpoint
from dmr_gluon.deploy.store import publish
from dmr_gluon.errors import DMRError
from dmr_gluon.runs.bundles import named_bundle
from dmr_gluon.runs.weights import find_weights
from dmr_gluon.runtime import mx

FACTS = ("network", "epochs", "classes", "input", "dataset", "training")


@pytest.fixture
def stored(plain_bundle, tmp_path, monkeypatch):
    """The folder of a bundle in the store of DMR_MODEL_STORE."""
    monkeypatch.setenv("DMR_MODEL_STORE", str(tmp_path / "store"))
    return str(tmp_path / "store" / publish(plain_bundle, tmp_path / "store")[0]["folder"])


class TestNames:
    def test_a_network_with_or_without_the_beginning_of_a_hash(self, stored):
        digits = stored[-8:]
        for named in ("cifar_dmrnet8", f"cifar_dmrnet8-{digits[:3]}", f"cifar_dmrnet8-{digits}"):
            assert named_bundle(named) == stored
        assert load_bundle("cifar_dmrnet8").path == stored

    @pytest.mark.parametrize("named", ["cifar_dmrnet56", "cifar_dmrnet8-", "CIFAR_DMRNet8", ""])
    def test_what_the_store_does_not_have(self, stored, named):
        assert named_bundle(named) is None

    def test_a_folder_comes_before_the_store(self, stored, tmp_path, monkeypatch):
        (tmp_path / "cifar_dmrnet8").mkdir()
        monkeypatch.chdir(tmp_path)
        assert named_bundle("cifar_dmrnet8") is None
        assert named_bundle(stored) == stored

    def test_damage_is_told_and_not_taken_for_an_unknown_name(self, stored):
        os.remove(os.path.join(stored, "model-0000.params"))
        for use in (load_bundle, find_weights, lambda name: export(name, stored + "-out")):
            with pytest.raises(DMRError, match="model-0000.params cannot be read"):
                use("cifar_dmrnet8")

    def test_the_beginning_of_several_hashes_is_refused(self, stored):
        shutil.copytree(stored, stored[:-7] + "0000000")
        with pytest.raises(DMRError, match=f"^2 bundles match cifar_dmrnet8-{stored[-8]}...; "):
            named_bundle(f"cifar_dmrnet8-{stored[-8]}")

    def test_evaluation_tells_what_the_training_logged_if_it_differs(
        self, stored, digits, few, capsys
    ):
        logged = read_bundle(stored)["training"]["test_error"]
        _main(["eval", "cifar_dmrnet8", "--data-dir", digits])
        (said,) = capsys.readouterr().out.splitlines()
        assert said.startswith(f"test error {logged:.2f}%")
        _main(["eval", "cifar_dmrnet8", "--data-dir", few])
        _, note = capsys.readouterr().out.splitlines()
        assert note == f"note: its training logged a test error of {logged:.2f}% on digits"
        _main(["eval", "cifar_dmrnet8", "--data-dir", few, "--split", "train"])
        assert "note" not in capsys.readouterr().out

    def test_prediction(self, stored, capsys):
        _main(["predict", "cifar_dmrnet8", os.path.join(stored, "example.png"), "--json"])
        (said,) = map(json.loads, capsys.readouterr().out.splitlines())
        logits = read_bundle(stored)["forms"]["plain"]["logits"]
        assert said["top"][0]["label"] == str(np.argmax(logits))


class TestExportedAgain:
    def test_other_forms_of_the_same_network(self, stored, digits, tmp_path):
        options = ExportOptions(("fused", "int8"), check_images=50, int8_limit=100)
        export("cifar_dmrnet8", tmp_path / "out", options=options, data_dir=digits)
        before, after = read_bundle(stored), read_bundle(tmp_path / "out")
        assert [after[name] for name in FACTS] == [before[name] for name in FACTS]
        assert list(after["forms"]) == ["plain", "fused", "int8"]
        assert after["forms"]["plain"]["logits"] == before["forms"]["plain"]["logits"]
        assert after["forms"]["int8"]["compared"]["images"] == 50
        load_bundle(tmp_path / "out", "fused")

    def test_in_its_own_folder_and_with_pixels_as_input(self, stored):
        plain = load_bundle(stored)
        image = np.arange(32 * 32 * 3, dtype=np.uint8).reshape(32, 32, 3)
        expected = plain.predict(image, 10)
        export(stored, stored, options=ExportOptions(preprocess=True))
        export(stored, stored, options=ExportOptions(preprocess=True))  # from pixels too
        again = load_bundle(stored)
        assert again.description["input"]["values"] == "pixels"
        found = again.predict(image, 10)
        assert [label for label, _ in found] == [label for label, _ in expected]
        shares = ([share for _, share in one] for one in (found, expected))
        np.testing.assert_allclose(*shares, atol=1e-5)

    def test_what_is_refused(self, stored, few, tmp_path):
        with pytest.raises(DMRError, match="a bundle of one epoch; leave out --epoch"):
            export(stored, tmp_path / "out", epoch=2)
        with pytest.raises(DMRError, match="INT8 needs training images .*--data-dir"):
            export(stored, tmp_path / "out", options=ExportOptions(("int8",)))
        other = shutil.copytree(few, tmp_path / "other")
        manifest = (other / "manifest.json").read_text()
        (other / "manifest.json").write_text(manifest.replace('"0"', '"naught"', 1))
        with pytest.raises(DMRError, match="other has other classes than the bundle"):
            export(stored, tmp_path / "out", data_dir=other)
        assert not (tmp_path / "out").exists()

    def test_an_imported_network_keeps_its_mapping(self, tmp_path, capsys):
        prefix = str(tmp_path / "theirs")
        write(prefix, stand_in("dmrnet", (1, 1, 1)))
        import_checkpoint(prefix, 400, tmp_path / "ours", "cifar10")
        _main(["export", str(tmp_path / "ours"), "--out", str(tmp_path / "out")])
        assert "compared on random images (see --data-dir)" in capsys.readouterr().out
        before, after = (read_bundle(tmp_path / name) for name in ("ours", "out"))
        assert [after[name] for name in FACTS] == [before[name] for name in FACTS]
        assert after["imported_from"] == "theirs"
        texts = ((tmp_path / name / "mapping.json").read_text() for name in ("ours", "out"))
        assert len(set(texts)) == 1

    def test_the_parameters_are_the_bundles(self, stored, tmp_path):
        export(stored, tmp_path / "out")
        x = mx.nd.random.normal(shape=(2, 3, 32, 32))
        trained = get_model("cifar_dmrnet8", pretrained=True)(x).asnumpy()
        np.testing.assert_array_equal(load_bundle(tmp_path / "out").net(x).asnumpy(), trained)
