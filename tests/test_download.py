"""Downloading from servers that behave, break off, ignore, refuse, lie or are down."""

import fcntl
import hashlib
import http.server
import os
import resource
import ssl
import threading
import urllib.error
import urllib.request
from dataclasses import replace

import numpy as np
import pytest
from test_official import cifar, tar_of

from dmr_gluon.cli import main as cli
from dmr_gluon.data.datasets import read_manifest
from dmr_gluon.datasets import download, published_archives
from dmr_gluon.datasets.published_archives import ARCHIVES, Archive
from dmr_gluon.errors import DMRError
from dmr_gluon.system import files, machine

CONTENT = np.random.RandomState(0).bytes(300_000)


class Server(http.server.ThreadingHTTPServer):
    """Serves files from memory; ``faults`` are worked off, one a request."""

    def __init__(self, files):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files, self.faults, self.requests = files, [], []
        self.ranges = True
        self.url = f"http://127.0.0.1:{self.server_port}"
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    def handle_error(self, *_):
        pass


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        server = self.server
        asked = self.headers.get("Range")
        server.requests.append((self.path, asked))
        fault = server.faults.pop(0) if server.faults else None
        content = server.files.get(self.path.rsplit("/", 1)[-1])
        if fault == "loop":
            server.faults.append("loop")
            self.send_response(302)
            self.send_header("Location", self.path)
            self.end_headers()
            return
        if isinstance(fault, int) or content is None:
            self.send_error(fault or 404)
            return
        begin = int(asked[len("bytes=") : -1]) if asked and server.ranges else 0
        if begin >= len(content):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(content)}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(206 if begin else 200)
        if begin:
            where = 0 if fault == "another part" else begin
            self.send_header("Content-Range", f"bytes {where}-{len(content) - 1}/{len(content)}")
        rest = content[begin:]
        if fault == "odd length":
            self.send_header("Content-Length", "\xb2")  # a small 2, which is no number
        elif fault == "endless length":
            self.send_header("Content-Length", "9" * 5000)  # no number for Python
        elif fault != "no length":
            self.send_header("Content-Length", str(len(rest)))
        self.end_headers()
        self.wfile.write(rest[: len(rest) // 2] if fault in ("cut", "no length") else rest)
        self.close_connection = True

    def log_message(self, *_):
        pass


@pytest.fixture
def server(monkeypatch):
    """Serves a.bin, the only archive of the set ``cifar10``."""
    served = Server({"a.bin": CONTENT})
    archive = Archive(
        "a.bin", served.url + "/official/a.bin", hashlib.md5(CONTENT).hexdigest(), None, "here"
    )
    other = Archive("never.bin", served.url + "/never.bin", "0" * 32, None, "here", True)
    monkeypatch.setitem(ARCHIVES, "cifar10", (archive, other))
    monkeypatch.setattr(download, "PAUSES", (0, 0))
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    yield served
    served.shutdown()
    served.server_close()


def get(folder, **options):
    download.download("cifar10", str(folder), **options)
    assert (folder / "a.bin").read_bytes() == CONTENT
    assert not (folder / "a.bin.part").exists()


def test_a_file_is_downloaded_once(server, tmp_path):
    get(tmp_path / "new" / "folder")
    assert server.requests == [("/official/a.bin", None)]
    get(tmp_path / "new" / "folder")
    assert len(server.requests) == 1


def test_a_mirror_is_asked_instead(server, tmp_path):
    get(tmp_path, mirror=server.url + "/pub/")
    assert server.requests == [("/pub/a.bin", None)]


def test_a_proxy_is_asked_for_all(server, tmp_path):
    get(tmp_path, mirror="http://nowhere.invalid/pub", proxy=server.url)
    assert server.requests == [("http://nowhere.invalid/pub/a.bin", None)]


def test_a_connection_that_breaks_off_goes_on_with_the_rest(server, tmp_path, capsys):
    # Each attempt brings something, so there may be more of them than pauses.
    server.faults = ["cut"] * 5
    get(tmp_path)
    ranges = [asked for _, asked in server.requests]
    left, begins = len(CONTENT), [None]
    for _ in range(5):
        left -= left // 2
        begins.append(f"bytes={len(CONTENT) - left}-")
    assert ranges == begins
    assert "the connection ended after 150,000 of 300,000 bytes" in capsys.readouterr().out


def test_a_later_run_goes_on_too(server, tmp_path):
    (tmp_path / "a.bin.part").write_bytes(CONTENT[:1000])
    get(tmp_path)
    assert server.requests == [("/official/a.bin", "bytes=1000-")]


def test_a_part_that_is_whole_is_not_sent_again(server, tmp_path):
    (tmp_path / "a.bin.part").write_bytes(CONTENT)
    get(tmp_path)
    assert len(server.requests) == 1  # which was answered with 416


def test_a_server_that_sends_all_again_is_read_from_the_beginning(server, tmp_path):
    server.ranges, server.faults = False, ["cut"]
    get(tmp_path)
    assert [asked for _, asked in server.requests] == [None, "bytes=150000-"]


def test_a_server_that_only_ever_begins_anew_is_given_up(server, tmp_path):
    server.ranges, server.faults = False, ["cut"] * 9
    with pytest.raises(DMRError, match="ended after 150,000 of 300,000"):
        get(tmp_path)
    assert len(server.requests) == 3  # one that brought something, and one after each pause
    assert not (tmp_path / "a.bin").exists()


def test_another_part_than_asked_for_is_not_taken(server, tmp_path):
    (tmp_path / "a.bin.part").write_bytes(CONTENT[:1000])
    server.faults = ["another part"]
    get(tmp_path)
    assert [asked for _, asked in server.requests] == ["bytes=1000-"] * 2


@pytest.mark.parametrize("code", [500, 503, 429])
def test_trouble_that_may_pass_is_waited_for(server, tmp_path, code, monkeypatch):
    waited = []
    monkeypatch.setattr(download, "PAUSES", (1, 4))
    monkeypatch.setattr(download.time, "sleep", waited.append)
    server.faults = [code, code]
    get(tmp_path)
    assert waited == [1, 4]
    os.remove(tmp_path / "a.bin")
    server.faults = [code] * 3
    with pytest.raises(DMRError, match=f"the server answers {code} .* --mirror or --source"):
        get(tmp_path)


@pytest.mark.parametrize("code", [404, 403])
def test_a_file_that_is_not_there_is_not_asked_for_again(server, tmp_path, code):
    server.faults = [code]
    with pytest.raises(DMRError, match=f"official/a.bin cannot be downloaded: .* {code} .*mirror"):
        get(tmp_path)
    assert len(server.requests) == 1


def test_a_server_that_is_down_is_one_line(server, tmp_path):
    server.shutdown()
    server.server_close()
    with pytest.raises(DMRError, match="Connection refused.*--source") as refused:
        get(tmp_path)
    assert "\n" not in str(refused.value)


def test_wrong_bytes_are_never_taken(server, tmp_path):
    server.files["a.bin"] = CONTENT[:-1] + b"x"
    with pytest.raises(DMRError, match="another file than the published one") as refused:
        get(tmp_path)
    assert "\n" not in str(refused.value)
    assert os.listdir(tmp_path) == []
    # Nor where they were there before, as a part or under the file's own name.
    server.files["a.bin"] = CONTENT
    (tmp_path / "a.bin.part").write_bytes(b"x" * 1000)
    with pytest.raises(DMRError, match="another file than the published one"):
        get(tmp_path)
    get(tmp_path)
    (tmp_path / "a.bin").write_bytes(b"someone's own")
    with pytest.raises(DMRError, match="is there and is not the published file"):
        get(tmp_path)
    assert (tmp_path / "a.bin").read_bytes() == b"someone's own"


def test_a_file_that_is_there_is_hashed_once(server, tmp_path, monkeypatch):
    (tmp_path / "a.bin").write_bytes(CONTENT)
    get(tmp_path)
    monkeypatch.setattr(download, "digests_of", None)
    get(tmp_path)
    assert server.requests == []


def test_a_full_disk_is_one_line_and_keeps_what_has_arrived(server, tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(DMRError, match="cannot write to .*File too large.*goes on") as refused:
            get(tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "\n" not in str(refused.value)
    assert os.listdir(tmp_path) == ["a.bin.part"]
    assert (tmp_path / "a.bin.part").read_bytes() == CONTENT[:100_000]
    get(tmp_path)
    assert server.requests[-1] == ("/official/a.bin", "bytes=100000-")


@pytest.fixture
def known_size(server, monkeypatch):
    archive = replace(ARCHIVES["cifar10"][0], bytes=len(CONTENT))
    monkeypatch.setitem(ARCHIVES, "cifar10", (archive,))


def test_without_a_length_the_files_own_says_whether_it_is_whole(server, known_size, tmp_path):
    server.faults = ["no length"]
    get(tmp_path)
    assert [asked for _, asked in server.requests] == [None, "bytes=150000-"]


@pytest.mark.parametrize("fault", ["odd length", "endless length"])
def test_a_length_that_is_no_number_is_none(server, tmp_path, fault):
    server.faults = [fault]
    get(tmp_path)


def test_an_archive_that_is_there_and_may_not_be_read_is_named(server, tmp_path, monkeypatch):
    (tmp_path / "a.bin").write_bytes(CONTENT)

    def refuse(path, *_):
        raise PermissionError(13, "Permission denied", path)  # root may read everything

    monkeypatch.setattr(files, "open", refuse, raising=False)
    with pytest.raises(DMRError, match="a.bin cannot be read .Permission denied"):
        get(tmp_path)


def test_no_more_is_taken_than_the_file_has(server, known_size, tmp_path, monkeypatch):
    server.files["a.bin"] = CONTENT + bytes(50 << 20)
    taken = []
    digests_of = download.digests_of
    monkeypatch.setattr(
        download,
        "digests_of",
        lambda path, names: taken.append(os.path.getsize(path)) or digests_of(path, names),
    )
    with pytest.raises(DMRError, match="another file than the published one"):
        get(tmp_path)
    assert taken == [len(CONTENT) + 1]


def test_a_refused_rest_does_not_cost_what_has_arrived(server, tmp_path):
    (tmp_path / "a.bin.part").write_bytes(CONTENT[:-1000])
    server.faults = [416]
    with pytest.raises(DMRError, match="nothing after the 299,000 bytes .* remove .*a.bin.part"):
        get(tmp_path)
    assert (tmp_path / "a.bin.part").read_bytes() == CONTENT[:-1000]
    get(tmp_path)


def test_a_redirection_to_itself_is_one_line(server, tmp_path):
    server.faults = ["loop"]
    with pytest.raises(DMRError, match="302 .*infinite loop") as refused:
        get(tmp_path)
    assert "\n" not in str(refused.value)


def test_a_proxy_that_the_environment_excludes_is_refused(server, tmp_path, monkeypatch):
    monkeypatch.setenv("no_proxy", "nowhere.invalid")
    with pytest.raises(DMRError, match="no_proxy excludes http://nowhere.invalid"):
        get(tmp_path, mirror="http://nowhere.invalid", proxy=server.url)
    assert server.requests == []


def test_a_certificate_that_cannot_be_verified_is_not_tried_again(server, tmp_path, monkeypatch):
    calls = []

    def refuse(*_, **__):
        calls.append(1)
        error = ssl.SSLCertVerificationError(1, "certificate verify failed")
        error.verify_message = "self signed certificate"
        raise urllib.error.URLError(error)

    monkeypatch.setattr(urllib.request.OpenerDirector, "open", refuse)
    with pytest.raises(DMRError, match="certificate cannot be verified .self signed"):
        get(tmp_path)
    assert calls == [1]


def test_a_folder_in_a_files_place_is_named(server, tmp_path):
    (tmp_path / "a.bin").mkdir()
    with pytest.raises(DMRError, match="a.bin is a folder; remove it"):
        get(tmp_path)


def test_a_file_system_without_locks_is_taken(server, tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(machine.fcntl, "flock", refuse)
    get(tmp_path)


def test_two_do_not_write_the_same_file(server, tmp_path):
    with open(tmp_path / "a.bin.part", "wb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(DMRError, match="another process is downloading"):
            get(tmp_path)


@pytest.mark.parametrize("url", ["http://", "ftp://x", "x", "file:///etc"])
def test_what_is_no_address_is_refused(server, tmp_path, url):
    for flag in ("mirror", "proxy"):
        with pytest.raises(DMRError, match=f"--{flag} {url}"):
            download.download("cifar10", str(tmp_path), **{flag: url})
    with pytest.raises(DMRError, match="is not an address"):
        download.download("cifar10", str(tmp_path), mirror="http://a b/")


def test_imagenet_comes_only_from_a_mirror(server, tmp_path, monkeypatch):
    with pytest.raises(DMRError, match="ILSVRC2012_devkit_t12.tar.gz from https://image-net.org"):
        download.download("imagenet", str(tmp_path))
    names = [archive.file for archive in ARCHIVES["imagenet"]]
    md5 = hashlib.md5(CONTENT).hexdigest()
    made = tuple(Archive(name, None, md5, None, "here") for name in names)
    monkeypatch.setitem(ARCHIVES, "imagenet", made)
    server.files.update(dict.fromkeys(names, CONTENT))
    download.download("imagenet", str(tmp_path), mirror=server.url)
    assert [path for path, _ in server.requests] == [f"/{name}" for name in names]


def test_a_set_is_prepared_from_what_is_downloaded(server, tmp_path, monkeypatch, capsys):
    """And a second time nothing is sent, unpacked or decoded."""
    files, _ = cifar(10, "python")
    path = tmp_path / "served.tar.gz"
    tar_of(path, files)
    content, name = path.read_bytes(), "cifar-10-python.tar.gz"
    md5 = hashlib.md5(content).hexdigest()
    server.files[name] = content
    monkeypatch.setitem(
        ARCHIVES, "cifar10", (Archive(name, f"{server.url}/{name}", md5, None, "here"),)
    )
    monkeypatch.setitem(published_archives._PUBLISHED_MD5, name, md5)
    monkeypatch.chdir(tmp_path)
    arguments = ["prepare", "cifar10", "--out", "out", "--partial"]
    cli._main(arguments)
    assert "20 train, 4 test" in capsys.readouterr().out
    assert read_manifest("out")["dataset"] == "partial-cifar10"
    monkeypatch.setattr("dmr_gluon.datasets.prepare_official.read_cifar", None)
    cli._main(arguments)
    assert "nothing to do" in capsys.readouterr().out
    assert len(server.requests) == 1
    assert (tmp_path / "data" / "archives" / "cifar10" / name).read_bytes() == content


def test_every_archive_is_named_once_with_a_hash_and_where_it_is_from():
    archives = [archive for entries in ARCHIVES.values() for archive in entries]
    assert len({archive.file for archive in archives}) == len(archives) == 10
    for archive in archives:
        assert len(archive.md5) == 32 and int(archive.md5, 16) and archive.origin
        assert archive.url is None or archive.url.endswith("/" + archive.file)
