"""Stores of trained networks: published, found, fetched, damaged, hostile."""

import functools
import hashlib
import http.server
import json
import os
import shutil
import threading
from dataclasses import asdict
from pathlib import Path

import pytest
from test_blocks import assert_close, images, randomise

from dmr_gluon import get_model
from dmr_gluon.cli import main as cli
from dmr_gluon.datasets import download
from dmr_gluon.deploy.bundle import write_description
from dmr_gluon.deploy.store import _cached, find, publish
from dmr_gluon.errors import DMRError
from dmr_gluon.models.serialization import save_model
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
def nothing_of_this_machine(monkeypatch, tmp_path):
    monkeypatch.delenv("DMR_MODEL_STORE", raising=False)
    monkeypatch.setenv("DMR_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(download, "_RETRIES", 0)


@pytest.fixture
def url(store):
    """Of the store, served; ``requests`` holds what was asked for."""
    requests = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            requests.append(self.path)

    handler = functools.partial(Handler, directory=store)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield Served(f"http://127.0.0.1:{server.server_port}", requests)
    server.shutdown()
    server.server_close()


class Served(str):
    def __new__(cls, url, requests):
        self = super().__new__(cls, url)
        self.requests = requests
        return self


def damage(path):
    with open(path, "r+b") as file:
        file.seek(-1, os.SEEK_END)
        last = file.read(1)[0]
        file.seek(-1, os.SEEK_END)
        file.write(bytes([last ^ 1]))


def change_index(store, **fields):
    path = os.path.join(store, "index.json")
    with open(path) as file:
        content = json.load(file)
    content["entries"][-1].update(fields)
    with open(path, "w") as file:
        json.dump(content, file)


class TestWithoutAStore:
    def test_it_is_said_that_nothing_is_published_and_what_to_do(self):
        with pytest.raises(DMRError, match="no weights of cifar_dmrnet56 .*dmr publish.*root="):
            get_model("cifar_dmrnet56", pretrained=True)

    @pytest.mark.parametrize(
        "root, words", [("nowhere", "not a store"), ("ftp://host/store", "http, https or file")]
    )
    def test_what_is_no_store_is_refused(self, root, words):
        with pytest.raises(DMRError, match=words):
            get_model("cifar_dmrnet8", pretrained=True, root=root)


class TestLocal:
    @pytest.mark.parametrize("how", ["folder", "file", "environment", "hash", "pathlike"])
    def test_get_model_gives_the_published_network(
        self, published, store, how, monkeypatch, tmp_path
    ):
        arguments = {"pretrained": True, "root": store}
        if how == "file":
            arguments["root"] = f"file://{store}"
        elif how == "environment":
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
        with pytest.raises(DMRError, match="has no cifar_dmrnet8-0000; there is cifar_dmrnet8-"):
            whole(pretrained="0000")
        with pytest.raises(DMRError, match="has no cifar_dmrnet14; there is cifar_dmrnet8-"):
            get_model("cifar_dmrnet14", pretrained=True, root=store)

    @pytest.mark.parametrize("wrong", [1, "", "xyz", "../..", ["a"]])
    def test_what_is_no_beginning_of_a_hash(self, published, store, wrong):
        if not wrong:
            assert not hasattr(get_model("cifar_dmrnet8", pretrained=wrong, root=store), "bundle")
            return
        with pytest.raises(DMRError, match="beginning of a bundle's hash"):
            get_model("cifar_dmrnet8", pretrained=wrong, root=store)

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
        with pytest.raises(DMRError, match="InstanceNorm .*stem_bn_running_mean"):
            loaded(norm_layer=nn.InstanceNorm)

    def test_another_network_of_that_name_is_refused(self, store, tmp_path):
        other = network(name="cifar_dmrnet8", blocks=(1, 1, 2))
        publish(write(other, tmp_path / "custom"), store)
        with pytest.raises(DMRError, match="another network"):
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
        assert (Path(store) / "index.json").read_text().count('"folder"') == 1

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
        write_description(folder, content, ["model-symbol.json", "model-0000.params"])
        publish(folder, store)
        with pytest.raises(DMRError, match="model-0000.params is damaged"):
            get_model("cifar_dmrnet8", pretrained=True, root=store)


class TestPublishing:
    def test_the_index_says_what_is_there(self, published, bundle, store):
        with open(os.path.join(store, "index.json")) as file:
            (entry,) = json.load(file)["entries"]
        with open(os.path.join(published, "bundle.json"), "rb") as file:
            assert entry["sha256"] == hashlib.sha256(file.read()).hexdigest()
        assert entry["folder"] == os.path.basename(published)
        assert entry["folder"] == f"cifar_dmrnet8-{entry['sha256'][:8]}"
        assert set(entry["files"]) == set(os.listdir(published)) == set(os.listdir(bundle))
        facts = (entry["classes"], entry["dataset"], entry["test_error"])
        assert facts == (10, "digits", 3.21)

    @pytest.mark.parametrize("training", [None, [3.21], "3.21", {"test_error": None}])
    def test_an_error_that_is_not_known(self, store, tmp_path, training):
        entry, _ = publish(write(network(), tmp_path / "bundle", training=training), store)
        assert entry["test_error"] is None

    def test_the_same_again_changes_nothing(self, published, bundle, store):
        def state():
            paths = [os.path.join(folder, f) for folder, _, fs in os.walk(store) for f in fs]
            paths = [path for path in paths if not path.endswith(".lock")]
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
            assert lines[0].startswith(said) and "10 classes, digits, test error " in lines[0]
        call = lines[-1].split(" loads it")[0]
        net = eval(call, {"get_model": get_model})
        assert_close(net(mx.nd.array(images(2, 3, 32, 32))), logits(load_run(short_run)))

    def test_what_a_killed_one_left_is_cleared(self, bundle, store):
        entry, _ = publish(bundle, store)
        os.remove(os.path.join(store, "index.json"))  # killed between the folder and the index
        os.makedirs(os.path.join(store, ".new"))
        (Path(store) / ".new" / "half").write_text("")
        assert publish(bundle, store)[1]
        assert sorted(os.listdir(store)) == [".lock", entry["folder"], "index.json"]

    def test_several_at_once_are_all_in_the_index(self, store, tmp_path):
        bundles = [write(network(seed), tmp_path / str(seed)) for seed in range(4)]
        threads = [threading.Thread(target=publish, args=(one, store)) for one in bundles]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        with open(os.path.join(store, "index.json")) as file:
            folders = {entry["folder"] for entry in json.load(file)["entries"]}
        assert len(folders) == 4 and folders < set(os.listdir(store))

    def test_what_cannot_be_published(self, bundle, store, tmp_path):
        for source, target, epoch, words in (
            (str(tmp_path), store, None, "neither a run nor a bundle"),
            (bundle, store, 3, "leave out --epoch"),
            (bundle, "http://host/store", None, "publish into a folder"),
            (bundle, os.path.join(bundle, "bundle.json"), None, "cannot write to"),
        ):
            with pytest.raises(DMRError, match=words):
                publish(source, target, epoch)
        damage(os.path.join(bundle, "model-0000.params"))
        with pytest.raises(DMRError, match="model-0000.params is damaged"):
            publish(bundle, store)
        assert os.listdir(store) == [".lock"]


class TestURL:
    def test_a_bundle_is_fetched_once(self, published, url, tmp_path):
        for count in (4, 5):
            net = get_model("cifar_dmrnet8", pretrained=True, root=url)
            assert (logits(net) == logits(network())).all()
            assert len(url.requests) == count  # index.json and three files, index.json
        folder, _ = find("cifar_dmrnet8", True, url + "/")
        assert folder == str(tmp_path / "cache" / os.path.basename(published))
        assert sorted(os.listdir(folder)) == sorted(os.listdir(published))

    def test_what_is_damaged_in_the_cache_is_fetched_anew(self, published, url):
        folder, _ = find("cifar_dmrnet8", True, url)
        damage(os.path.join(folder, "model-0000.params"))
        os.remove(os.path.join(folder, "bundle.json"))
        del url.requests[:]
        net = get_model("cifar_dmrnet8", pretrained=True, root=url)
        assert (logits(net) == logits(network())).all()
        assert sorted(path.rsplit("/")[-1] for path in url.requests) == [
            *("bundle.json", "index.json", "model-0000.params")
        ]

    def test_another_file_than_the_index_says_is_refused(self, published, url, tmp_path):
        damage(os.path.join(published, "model-0000.params"))
        with pytest.raises(DMRError, match="params is not the published file .sha256:.* root="):
            get_model("cifar_dmrnet8", pretrained=True, root=url)
        cached = os.listdir(tmp_path / "cache" / os.path.basename(published))
        assert not [name for name in cached if name.startswith("model-0000")]

    def test_a_server_without_a_store_or_none_at_all(self, url, store):
        os.makedirs(store)
        with pytest.raises(DMRError, match="index.json cannot be downloaded .404.*root="):
            get_model("cifar_dmrnet8", pretrained=True, root=url)
        with pytest.raises(DMRError, match="index.json cannot be downloaded"):
            get_model("cifar_dmrnet8", pretrained=True, root="http://127.0.0.1:9/store")

    def test_a_cache_that_cannot_be_written(self, published, url, monkeypatch):
        monkeypatch.setenv("DMR_CACHE", os.path.join(published, "bundle.json"))
        with pytest.raises(DMRError, match="cannot write to .*DMR_CACHE"):
            get_model("cifar_dmrnet8", pretrained=True, root=url)


class TestHostile:
    SHA = "0" * 64

    @pytest.mark.parametrize(
        "fields",
        [
            {"folder": "../elsewhere"},
            {"folder": "/etc"},
            {"network": "../cifar_dmrnet8"},
            {"sha256": "../" + SHA[3:]},
            {"sha256": SHA},
            {"files": {"../../evil": {"bytes": 1, "sha256": SHA}}},
            {"files": {}},
            {"files": ["bundle.json"]},
            {"classes": "10"},
            {"classes": None},
            {"dataset": ["digits"]},
            {"test_error": "0%"},
        ],
        ids=str,
    )
    @pytest.mark.parametrize("place", ["folder", "url"])
    def test_an_index_that_leads_elsewhere_is_refused(
        self, published, store, url, place, fields, tmp_path
    ):
        if "files" in fields and isinstance(fields["files"], dict) and fields["files"]:
            with open(os.path.join(store, "index.json")) as file:
                known = json.load(file)["entries"][0]["files"]
            fields = {"files": {**known, **fields["files"]}}
        change_index(store, **fields)
        before = sorted(os.listdir(tmp_path))
        with pytest.raises(DMRError, match="index.json is damaged"):
            get_model("cifar_dmrnet8", pretrained=True, root=url if place == "url" else store)
        assert sorted(os.listdir(tmp_path)) == before

    @pytest.mark.parametrize(
        "text",
        ["", "[]", '{"format": 1}', '{"format": 1, "entries": [3]}', "\xff", "{" * 9, "[" * 99999],
    )
    def test_what_is_no_index(self, store, text):
        os.makedirs(store)
        with open(os.path.join(store, "index.json"), "w", encoding="latin-1") as file:
            file.write(text)
        with pytest.raises(DMRError, match="index.json is damaged"):
            get_model("cifar_dmrnet8", pretrained=True, root=store)

    def test_another_format(self, store):
        os.makedirs(store)
        with open(os.path.join(store, "index.json"), "w") as file:
            file.write('{"format": 2, "entries": []}')
        with pytest.raises(DMRError, match="another version"):
            get_model("cifar_dmrnet8", pretrained=True, root=store)

    @pytest.mark.parametrize("name", ["../outside", "/etc/hostname", ".hidden", "bundle.json", ""])
    def test_a_bundle_whose_files_lie_elsewhere(self, bundle, store, name):
        path = os.path.join(bundle, "bundle.json")
        with open(path) as file:
            content = json.load(file)
        content["files"][name] = content["files"]["model-0000.params"]
        with open(path, "w") as file:
            json.dump(content, file)
        with pytest.raises(DMRError, match="bundle.json is damaged"):
            publish(bundle, store)

    def test_an_index_that_says_other_things_than_the_bundle(self, published, store):
        (entry,) = json.loads((Path(store) / "index.json").read_text())["entries"]
        change_index(store, files={**entry["files"], "more": {"bytes": 1, "sha256": "0" * 64}})
        with pytest.raises(DMRError, match="bundle.json is damaged"):
            get_model("cifar_dmrnet8", pretrained=True, root=store)
        change_index(store, files=entry["files"], classes=100)
        with pytest.raises(DMRError, match="bundle.json is damaged"):
            get_model("cifar_dmrnet8", classes=100, pretrained=True, root=store)


def test_without_a_home_the_cache_must_be_named(monkeypatch):
    monkeypatch.delenv("DMR_CACHE", raising=False)
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)
    with pytest.raises(DMRError, match="name a folder with DMR_CACHE"):
        _cached("http://localhost:9", {"folder": "x-12345678"})


def test_an_incomplete_bundle_is_blamed_and_not_the_store(bundle, tmp_path):
    (Path(bundle) / "model-0000.params").unlink()
    with pytest.raises(DMRError, match="model-0000.params cannot be read"):
        publish(bundle, str(tmp_path / "store"))
