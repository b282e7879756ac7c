"""Stores of trained networks: published, found, damaged."""

import functools
import hashlib
import os
import shutil
from dataclasses import asdict
from pathlib import Path

import pytest
from test_blocks import assert_close, images, randomise

from dmr_gluon import get_model
from dmr_gluon.cli import main as cli
from dmr_gluon.deploy.bundle import write_description
from dmr_gluon.deploy.store import publish
from dmr_gluon.errors import DMRError
from dmr_gluon.models.serialization import save_model
from dmr_gluon.runs import bundles
from dmr_gluon.runs.trained_network import load_run
from dmr_gluon.runtime import mx

nn = mx.gluon.nn


def write(net, folder, **others):
    """A bundle as the exporter writes one."""
    os.makedirs(folder, exist_ok=True)
    save_model(net, os.path.join(folder, "model"), 0)
    content = {
        "network": asdict(net.spec),
        "classes": [f"class {k}" for k in range(net.spec.classes)],
        "input": {"mean": [1, 2, 3], "std": [4, 5, 6]},
        "dataset": "digits",
        "training": {"test_error": 3.21},
        **others,
    }
    write_description(folder, content, ["model-symbol.json", "model-0000.params"])
    return str(folder)


def network(seed=0, name="cifar_dmrnet8", **arguments):
    net = get_model(name, **arguments)
    randomise(net, seed)
    return net


def logits(net):
    return net(mx.nd.array(images(2, 3, 32, 32))).asnumpy()


@pytest.fixture
def store(tmp_path):
    return str(tmp_path / "store")


@pytest.fixture
def bundle(tmp_path):
    return write(network(), tmp_path / "bundle")


@pytest.fixture
def published(bundle, store):
    entry, new = publish(bundle, store)
    assert new
    return os.path.join(store, entry["folder"])


@pytest.fixture(autouse=True)
def nothing_of_this_machine(monkeypatch):
    monkeypatch.delenv("DMR_MODEL_STORE", raising=False)


def damage(path):
    with open(path, "r+b") as file:
        file.seek(-1, os.SEEK_END)
        last = file.read(1)[0]
        file.seek(-1, os.SEEK_END)
        file.write(bytes([last ^ 1]))


class TestWithoutAStore:
    def test_it_is_said_that_nothing_is_published_and_what_to_do(self):
        words = "no bundles match cifar_dmrnet56-...; the package has .*dmr publish.*root="
        with pytest.raises(DMRError, match=words):
            get_model("cifar_dmrnet56", pretrained=True)

    def test_what_is_no_store_is_refused(self):
        with pytest.raises(DMRError, match="nowhere is not a store"):
            get_model("cifar_dmrnet8", pretrained=True, root="nowhere")


class TestLocal:
    @pytest.mark.parametrize("how", ["folder", "environment", "hash", "pathlike"])
    def test_get_model_gives_the_published_network(
        self, published, store, how, monkeypatch, tmp_path
    ):
        arguments = {"pretrained": True, "root": store}
        if how == "environment":
            monkeypatch.setenv("DMR_MODEL_STORE", arguments.pop("root"))
        elif how == "hash":
            arguments["pretrained"] = published[-8:]
        elif how == "pathlike":
            arguments["root"] = tmp_path / "store"
        net = get_model("cifar_dmrnet8", **arguments)
        assert (logits(net) == logits(network())).all()
        assert net.classes[3] == "class 3" and net.bundle["input"]["std"] == [4, 5, 6]

    def test_devices_and_prefix_are_those_asked_for(self, published, store):
        devices = [mx.cpu(0), mx.cpu(1)]
        net = get_model("cifar_dmrnet8", 10, True, devices, store, prefix="a_")
        weight = net.collect_params()["a_stem_conv_weight"]
        assert weight.list_ctx() == devices
        assert_close(net(mx.nd.array(images(2, 3, 32, 32))), logits(network()))

    def test_the_newest_is_taken_and_others_by_hash_or_classes(self, published, store, tmp_path):
        publish(write(network(1), tmp_path / "second"), store)
        publish(write(network(2, classes=100), tmp_path / "third"), store)
        publish(write(network(3, "cifar_resnet8"), tmp_path / "fourth"), store)
        whole = functools.partial(get_model, "cifar_dmrnet8", root=store)
        assert (logits(whole(pretrained=True)) == logits(network(2, classes=100))).all()
        assert (logits(whole(pretrained=True, classes=10)) == logits(network(1))).all()
        assert (logits(whole(pretrained=published[-8:])) == logits(network())).all()
        with pytest.raises(DMRError, match="no bundles match cifar_dmrnet8-0000...; .*store has "):
            whole(pretrained="0000")
        with pytest.raises(DMRError, match="no bundles match cifar_dmrnet14-...; .*store has "):
            get_model("cifar_dmrnet14", pretrained=True, root=store)

    def test_a_beginning_of_several_hashes_is_refused(self, published, store, tmp_path):
        digits = {published[-8]}
        for number in range(1, 18):  # with 17 of 16 digits, two begin with the same
            entry, _ = publish(write(network(number), tmp_path / str(number)), store)
            digit = entry["sha256"][0]
            if digit in digits:
                break
            digits.add(digit)
        with pytest.raises(DMRError, match=f"^2 bundles match cifar_dmrnet8-{digit}...; .*store"):
            get_model("cifar_dmrnet8", pretrained=digit, root=store)

    def test_other_classes_are_refused_with_the_way_that_works(self, published, store):
        with pytest.raises(DMRError, match=r"10 classes, not 100; .*net.replace_output\(100\)"):
            get_model("cifar_dmrnet8", classes=100, pretrained=True, root=store)
        net = get_model("cifar_dmrnet8", pretrained=True, root=store)
        net.replace_output(100)
        assert logits(net).shape == (2, 100)

    def test_norm_layers_take_the_trained_values(self, published, store):
        loaded = functools.partial(get_model, "cifar_dmrnet8", pretrained=True, root=store)
        x = mx.nd.array(images(2, 3, 32, 32))
        assert_close(loaded(norm_layer=nn.BatchNorm)(x), logits(network()))
        assert_close(loaded(norm_kwargs={"use_global_stats": True})(x), logits(network()))
        with pytest.raises(DMRError, match="running_mean is not part of it; use a norm_layer"):
            loaded(norm_layer=nn.InstanceNorm)

    def test_another_network_of_that_name_is_refused(self, store, tmp_path):
        other = network(name="cifar_dmrnet8", blocks=(1, 1, 2))
        publish(write(other, tmp_path / "custom"), store)
        with pytest.raises(DMRError, match="no bundles match cifar_dmrnet8_blocks_2_1_1-"):
            get_model("cifar_dmrnet8", blocks=(2, 1, 1), pretrained=True, root=store)
        net = get_model("cifar_dmrnet8", blocks=(1, 1, 2), pretrained=True, root=store)
        assert (logits(net) == logits(other)).all()

    @pytest.mark.parametrize("name", ["bundle.json", "model-0000.params", "model-symbol.json"])
    def test_damage_is_named_and_publishing_again_mends_it(self, published, bundle, store, name):
        damage(os.path.join(published, name))
        with pytest.raises(DMRError, match=f"{name} is damaged"):
            get_model("cifar_dmrnet8", pretrained=True, root=store)
        assert publish(bundle, store)[1]
        get_model("cifar_dmrnet8", pretrained=True, root=store)
        assert os.listdir(store) == [os.path.basename(published)]

    def test_a_missing_file_is_named(self, published, store):
        os.remove(os.path.join(published, "model-0000.params"))
        with pytest.raises(DMRError, match="model-0000.params cannot be read"):
            get_model("cifar_dmrnet8", pretrained=True, root=store)

    def test_a_sealed_bundle_of_other_parameters_is_refused(self, store, tmp_path):
        folder = write(network(), tmp_path / "bundle")
        shutil.copyfile(
            os.path.join(
                write(network(name="cifar_dmrnet14"), tmp_path / "other"), "model-symbol.json"
            ),
            os.path.join(folder, "model-0000.params"),
        )
        content = {"network": asdict(network().spec), "classes": ["a"] * 10}
        content.update(dataset=None, training=None)
        write_description(folder, content, ["model-symbol.json", "model-0000.params"])
        publish(folder, store)
        with pytest.raises(DMRError, match="model-0000.params is damaged"):
            get_model("cifar_dmrnet8", pretrained=True, root=store)


class TestThePackagesStore:
    """Searched after that of DMR_MODEL_STORE."""

    @pytest.fixture
    def packaged(self, tmp_path, monkeypatch):
        """A network in the package's store."""
        monkeypatch.setattr(bundles, "STORE", str(tmp_path / "packaged"))
        publish(write(network(5), tmp_path / "fifth"), bundles.STORE)
        return network(5)

    def test_no_other_store_is_needed(self, packaged):
        net = get_model("cifar_dmrnet8", pretrained=True)
        assert (logits(net) == logits(packaged)).all()

    def test_ones_own_comes_first_unless_the_classes_differ(
        self, packaged, store, tmp_path, monkeypatch
    ):
        own = network(classes=4)
        publish(write(own, tmp_path / "own"), store)
        monkeypatch.setenv("DMR_MODEL_STORE", store)
        assert (logits(get_model("cifar_dmrnet8", pretrained=True)) == logits(own)).all()
        net = get_model("cifar_dmrnet8", pretrained=True, classes=10)
        assert (logits(net) == logits(packaged)).all()

    def test_the_same_bundle_in_both_is_one(self, packaged, store, tmp_path, monkeypatch):
        entry, _ = publish(tmp_path / "fifth", store)
        monkeypatch.setenv("DMR_MODEL_STORE", store)
        net = get_model("cifar_dmrnet8", pretrained=entry["sha256"][:1])
        assert (logits(net) == logits(packaged)).all()

    def test_root_names_the_only_store(self, packaged, store):
        os.mkdir(store)
        with pytest.raises(DMRError, match="no bundles match cifar_dmrnet8-...; .*store has noth"):
            get_model("cifar_dmrnet8", pretrained=True, root=store)

    def test_both_are_listed_where_neither_has_it(self, packaged, store, monkeypatch):
        os.mkdir(store)
        monkeypatch.setenv("DMR_MODEL_STORE", store)
        words = "store has nothing; the package has cifar_dmrnet8-[0-9a-f]{8}; make a store"
        with pytest.raises(DMRError, match=words):
            get_model("cifar_dmrnet56", pretrained=True)


class TestPublishing:
    def test_the_entry_says_what_is_there(self, bundle, store):
        entry, _ = publish(bundle, store)
        published = os.path.join(store, entry["folder"])
        with open(os.path.join(published, "bundle.json"), "rb") as file:
            assert entry["sha256"] == hashlib.sha256(file.read()).hexdigest()
        assert entry["folder"] == f"cifar_dmrnet8-{entry['sha256'][:8]}"
        assert set(os.listdir(published)) == set(os.listdir(bundle))
        facts = (entry["classes"], entry["dataset"], entry["test_error"])
        assert facts == (10, "digits", 3.21)

    @pytest.mark.parametrize("training", [None, {"test_error": None}])
    def test_an_error_that_is_not_known(self, store, tmp_path, training):
        entry, _ = publish(write(network(), tmp_path / "bundle", training=training), store)
        assert entry["test_error"] is None

    def test_the_same_again_changes_nothing(self, published, bundle, store):
        def state():
            paths = [os.path.join(folder, f) for folder, _, fs in os.walk(store) for f in fs]
            return {path: os.stat(path).st_mtime_ns for path in paths}

        before = state()
        entry, new = publish(bundle, store)
        assert (
            not new and state() == before and os.path.exists(os.path.join(store, entry["folder"]))
        )

    def test_a_run_is_exported(self, short_run, store, monkeypatch, capsys):
        for said in ("published cifar_dmrnet8-", "already there"):
            cli._main(["publish", short_run, store, "--epoch", "2"])
            lines = capsys.readouterr().out.splitlines()
            assert lines[0].startswith(said) and "10 classes" in lines[0]
        call = lines[-1].split(" loads it")[0]
        net = eval(call, {"get_model": get_model})
        assert_close(net(mx.nd.array(images(2, 3, 32, 32))), logits(load_run(short_run)))

    def test_what_cannot_be_published(self, bundle, store, tmp_path):
        for source, target, epoch, words in (
            (str(tmp_path), store, None, "not a run"),
            (bundle, store, 3, "leave out --epoch"),
            (bundle, os.path.join(bundle, "bundle.json"), None, "cannot write to"),
        ):
            with pytest.raises(DMRError, match=words):
                publish(source, target, epoch)
        damage(os.path.join(bundle, "model-0000.params"))
        with pytest.raises(DMRError, match="model-0000.params is damaged"):
            publish(bundle, store)
        assert os.listdir(store) == []


def test_a_bundle_whose_files_lie_elsewhere(bundle, store):
    (Path(bundle).parent / "outside").write_text("mine")
    write_description(bundle, {"network": asdict(network().spec)}, ["../outside"])
    with pytest.raises(DMRError, match="lists files outside of it"):
        publish(bundle, store)


def test_an_incomplete_bundle_is_blamed_and_not_the_store(bundle, tmp_path):
    (Path(bundle) / "model-0000.params").unlink()
    with pytest.raises(DMRError, match="model-0000.params cannot be read"):
        publish(bundle, str(tmp_path / "store"))
