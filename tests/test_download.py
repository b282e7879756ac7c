"""Downloading from servers that behave, break off, refuse, lie or are down."""

import hashlib
import http.server
import os
import resource
import threading
from dataclasses import replace

import numpy as np
import pytest
from test_official import cifar, tar_of

from dmr_gluon.cli import main as cli
from dmr_gluon.data.datasets import read_manifest
from dmr_gluon.datasets import cifar as cifar_sets
from dmr_gluon.datasets import download as downloading
from dmr_gluon.datasets.archives import Archive
from dmr_gluon.datasets.download import download
from dmr_gluon.datasets.registry import DATASETS
from dmr_gluon.errors import DMRError

CONTENT = np.random.RandomState(0).bytes(300_000)


class Server(http.server.ThreadingHTTPServer):
    """Serves files from memory; ``faults`` are worked off, one a request."""

    def __init__(self, files):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files, self.faults, self.requests = files, [], []
        self.url = f"http://127.0.0.1:{self.server_port}"
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    def handle_error(self, *_):
        pass


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        server = self.server
        server.requests.append(self.path)
        fault = server.faults.pop(0) if server.faults else None
        content = server.files.get(self.path.rsplit("/", 1)[-1])
        if isinstance(fault, int) or content is None:
            self.send_error(fault or 404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[: len(content) // 2] if fault == "cut" else content)
        self.close_connection = True

    def log_message(self, *_):
        pass


@pytest.fixture
def server(monkeypatch):
    served = Server({"a.bin": CONTENT})
    monkeypatch.setattr(downloading, "_RETRIES", 1)  # each waits a second more
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    yield served
    served.shutdown()
    served.server_close()


def get(server, folder, **options):
    """Download a.bin, the only archive of a set."""
    md5 = hashlib.md5(CONTENT).hexdigest()
    archives = [
        Archive("a.bin", server.url + "/official/a.bin", md5),
    ]
    download("mine", archives, str(folder), **options)
    assert (folder / "a.bin").read_bytes() == CONTENT
    assert os.listdir(folder) == ["a.bin"]


def test_a_file_is_downloaded_once(server, tmp_path):
    get(server, tmp_path / "new" / "folder")
    get(server, tmp_path / "new" / "folder")
    assert server.requests == ["/official/a.bin"]


def test_a_mirror_is_asked_instead(server, tmp_path):
    get(server, tmp_path, mirror=server.url + "/pub/")
    assert server.requests == ["/pub/a.bin"]


def test_the_environments_proxy_is_asked(server, tmp_path, monkeypatch):
    monkeypatch.setenv("http_proxy", server.url)
    get(server, tmp_path, mirror="http://nowhere.invalid/pub")
    assert server.requests == ["http://nowhere.invalid/pub/a.bin"]


@pytest.mark.parametrize("fault", ["cut", 503])
def test_what_fails_once_is_tried_again(server, tmp_path, fault):
    server.faults = [fault]
    get(server, tmp_path)
    assert len(server.requests) == 2


@pytest.mark.parametrize("code", [404, 500])
def test_a_file_that_cannot_be_had_is_one_line(server, tmp_path, code):
    server.faults = [code] * 2
    with pytest.raises(DMRError, match=f"a.bin cannot be downloaded .{code} .*source") as refused:
        get(server, tmp_path)
    assert "\n" not in str(refused.value) and os.listdir(tmp_path) == []


def test_a_server_that_is_down_is_one_line(server, tmp_path):
    server.shutdown()
    server.server_close()
    with pytest.raises(DMRError, match="Connection refused.*--source") as refused:
        get(server, tmp_path)
    assert "\n" not in str(refused.value)


def test_wrong_bytes_are_never_taken(server, tmp_path):
    server.files["a.bin"] = CONTENT[:-1] + b"x"
    with pytest.raises(DMRError, match="a.bin is not the published file .MD5 "):
        get(server, tmp_path)
    assert os.listdir(tmp_path) == []
    server.files["a.bin"] = CONTENT
    (tmp_path / "a.bin").write_bytes(b"half")
    get(server, tmp_path)


def test_a_full_disk_is_one_line(server, tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(DMRError, match="cannot write to .*File too large") as refused:
            get(server, tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "\n" not in str(refused.value)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("url", ["http://", "ftp://x", "x", "file:///etc"])
def test_what_is_no_address_is_refused(server, tmp_path, url):
    with pytest.raises(DMRError, match="cannot be downloaded .*with --mirror or --source"):
        get(server, tmp_path, mirror=url)


def test_imagenet_comes_only_from_a_mirror(server, tmp_path):
    archives = DATASETS["imagenet"].archives
    with pytest.raises(DMRError, match="ILSVRC2012_devkit_t12.tar.gz from https://image-net.org"):
        download("imagenet", archives, str(tmp_path))
    md5 = hashlib.md5(CONTENT).hexdigest()
    server.files.update(dict.fromkeys([one.file for one in archives], CONTENT))
    made = [replace(archive, md5=md5) for archive in archives]
    download("imagenet", made, str(tmp_path), mirror=server.url)
    assert server.requests == [f"/{archive.file}" for archive in archives]


def test_a_set_is_prepared_from_what_is_downloaded(server, tmp_path, monkeypatch, capsys):
    """And a second time nothing is sent, unpacked or decoded."""
    files, _ = cifar(10)
    path = tmp_path / "served.tar.gz"
    tar_of(path, files)
    content, name = path.read_bytes(), "cifar-10-python.tar.gz"
    md5 = hashlib.md5(content).hexdigest()
    server.files[name] = content
    archives = (Archive(name, f"{server.url}/{name}", md5),)
    entry = replace(DATASETS["cifar10"], archives=archives)
    monkeypatch.setitem(DATASETS, "cifar10", entry)
    monkeypatch.chdir(tmp_path)
    arguments = ["prepare", "cifar10", "--out", "out", "--partial"]
    cli._main(arguments)
    assert "20 train, 4 test" in capsys.readouterr().out
    assert read_manifest("out")["dataset"] == "partial-cifar10"
    monkeypatch.setattr(cifar_sets, "read_cifar", None)
    cli._main(arguments)
    assert "nothing to do" in capsys.readouterr().out
    assert len(server.requests) == 1
    assert (tmp_path / "data" / "archives" / "cifar10" / name).read_bytes() == content


def test_every_archive_is_named_once_with_a_hash():
    archives = [archive for entry in DATASETS.values() for archive in entry.archives]
    assert len({archive.file for archive in archives}) == len(archives) == 8
    for archive in archives:
        assert len(archive.md5) == 32 and int(archive.md5, 16)
        assert archive.url is None or archive.url.endswith("/" + archive.file)
