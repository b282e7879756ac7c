"""Downloading the official archives.

A download that stops goes on where it stopped, now or in a later run, and a file gets its name
only when its MD5 is the published one.
"""

import contextlib
import http.client
import os
import re
import ssl
import time
import urllib.error
import urllib.parse
import urllib.request

from tqdm import tqdm

from ..errors import DMRError
from ..system.files import digests_of, write_atomically
from ..system.machine import lock
from ..version import __version__
from .archives import readable
from .published_archives import ARCHIVES

#: Seconds before each new attempt, counted anew when one has brought something.
PAUSES = (1, 4, 15)
_TIMEOUT = 30  # seconds without a byte
_BLOCK = 1 << 20
_LARGEST = 1 << 30  # of a file whose size is not known
#: Of the answers below 500, those that another attempt may change.
_PASSING = (408, 429)
_INSTEAD = "--mirror or --source take the file from elsewhere"


def download(name, folder, mirror=None, proxy=None):
    """Download what is missing of a data set's official archives.

    Parameters
    ----------
    name : str
        ``cifar10``, ``cifar100``, ``svhn`` or ``imagenet``.
    folder : str
        Where to put them.
    mirror : str, optional
        URL of a folder that has the files, instead of the official place.
    proxy : str, optional
        URL of a proxy; default: what the environment says (``https_proxy``).

    Raises
    ------
    DMRError
        Where a file cannot be had, is not the published one, or cannot be written. What has
        arrived of it is kept, unless it is whole and wrong.
    """
    for flag, url in (("mirror", mirror), ("proxy", proxy)):
        if url is not None and not re.match("https?://.", url):
            raise DMRError(f"--{flag} {url}: begin it with http:// or https://")
    wanted = [archive for archive in ARCHIVES[name] if not archive.alternative]
    if mirror is None and any(archive.url is None for archive in wanted):
        raise DMRError(
            f"{name} is given to registered users only: get {', '.join(a.file for a in wanted)} "
            f"from https://image-net.org/download.php and name their folder with --source, or "
            f"name a place that has them with --mirror"
        )
    proxies = urllib.request.ProxyHandler(proxy and {"http": proxy, "https": proxy})
    opener = urllib.request.build_opener(proxies)
    for archive in wanted:
        url = archive.url if mirror is None else f"{mirror.rstrip('/')}/{archive.file}"
        if proxy and urllib.request.proxy_bypass(urllib.parse.urlsplit(url).netloc):
            raise DMRError(f"--proxy {proxy}: the environment's no_proxy excludes {url}; unset it")
        try:
            os.makedirs(folder, exist_ok=True)
            _get(archive, url, os.path.join(folder, archive.file), opener)
        except OSError as error:  # of the disk; those of the network are dealt with
            raise DMRError(
                f"cannot write to {folder} ({error.strerror or error}); free some space and "
                f"give the same command again: it goes on with what has arrived"
            ) from error


def fetch(url, path, opener, size, algorithm, digest, source, instead):
    """Download a file that is known by its hash, going on with what has arrived of it.

    Parameters
    ----------
    url, path : str
        From where to where; until it is whole, what arrives is in ``path.part``.
    opener : urllib.request.OpenerDirector
    size : int or None
        Bytes, if they are known.
    algorithm, digest : str
        Such as ``md5``, and what it must give.
    source : str
        Who says so, for the refusal.
    instead : str
        Where else the file may come from, for the refusals.

    Raises
    ------
    DMRError
        Where it cannot be had, or another file comes, which is removed.
    OSError
        Of the disk.
    """
    part = path + ".part"
    with open(part, "ab", buffering=0) as file:
        if lock(file) is False:
            raise DMRError(f"another process is downloading {path}; wait for it")
        receive(url, file, opener, size, instead)
        os.fsync(file.fileno())
        found = digests_of(part, [algorithm])[algorithm].hexdigest()
        if found != digest:
            os.remove(part)
            raise DMRError(
                f"{url} gave another file than the published one ({algorithm.upper()} {found} "
                f"instead of {digest}, see {source}); it has been removed, try again"
            )
        os.replace(part, path)


class _Interrupted(Exception):
    """Why an attempt ended that may be repeated."""


def _get(archive, url, path, opener):
    if os.path.isdir(path):
        raise DMRError(f"{path} is a folder; remove it, or download elsewhere with --archives")
    if os.path.exists(path):
        with readable(path):
            whole = _known_whole(path, archive.md5) or _md5(path) == archive.md5
        if not whole:
            raise DMRError(
                f"{path} is there and is not the published file (MD5 {archive.md5}); remove it, "
                f"or take it as it is with --source"
            )
        _note_whole(path, archive.md5)
        return
    fetch(url, path, opener, archive.bytes, "md5", archive.md5, archive.origin, _INSTEAD)
    _note_whole(path, archive.md5)


def receive(url, file, opener, expected, instead, largest=_LARGEST):
    """Receive what is missing of a file, with as many attempts as it takes and makes sense.

    Parameters
    ----------
    url : str
    file : file
        Open for appending, unbuffered, with a name that ends in ``.part``.
    opener, expected, instead
        As ``opener``, ``size`` and ``instead`` of :func:`fetch`.
    largest : int
        Bytes; of a file whose size is not known, one more at most is taken.

    Raises
    ------
    DMRError
        Where it cannot be had.
    """
    most, pauses = os.path.getsize(file.name), iter(PAUSES)
    while True:
        try:
            return _attempt(url, file, opener, expected, instead, largest)
        except _Interrupted as problem:
            if os.path.getsize(file.name) > most:
                most, pauses = os.path.getsize(file.name), iter(PAUSES)
            pause = next(pauses, None)
            if pause is None:
                raise DMRError(
                    f"{url} cannot be downloaded: {problem}; the same command tries again, and "
                    f"{instead}"
                ) from None
            print(f"note: {url}: {problem}; trying again in {pause} s")
            time.sleep(pause)


def _attempt(url, file, opener, expected, instead, largest):
    begin = os.path.getsize(file.name)
    headers = {"User-Agent": f"dmr-gluon/{__version__}"}
    if begin:
        headers["Range"] = f"bytes={begin}-"
    try:
        response = opener.open(urllib.request.Request(url, headers=headers), timeout=_TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code == 416 and begin:
            whole = re.fullmatch(r"bytes \*/(\d{1,18})", error.headers.get("Content-Range", ""))
            if begin >= (int(whole.group(1)) if whole else expected or begin + 1):
                return  # nothing is left to send
            raise DMRError(
                f"{url} cannot be downloaded: the server has nothing after the {begin:,} bytes "
                f"that have arrived; remove {file.name} to begin anew, or else {instead}"
            ) from None
        answer = f"the server answers {error.code} {_said(error)}"
        if error.code < 500 and error.code not in _PASSING:
            raise DMRError(f"{url} cannot be downloaded: {answer}; {instead}") from None
        raise _Interrupted(answer) from None
    except (ValueError, http.client.InvalidURL) as error:
        raise DMRError(f"{url} is not an address: {error}") from None
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", error)
        if isinstance(reason, ssl.SSLCertVerificationError):
            raise DMRError(
                f"{url} cannot be downloaded: its server's certificate cannot be verified "
                f"({reason.verify_message}); {instead}"
            ) from None
        raise _Interrupted(_said(reason)) from None
    with response:
        if response.status == 206:
            place = re.match(r"bytes (\d{1,18})-", response.headers.get("Content-Range", ""))
            if not place or int(place.group(1)) != begin:
                raise _Interrupted("the server sends another part than was asked for")
        else:  # all of it, whatever was asked for
            begin = 0
            file.truncate(0)
        _copy(response, file, begin, expected, largest)


def _copy(response, file, begin, expected, largest):
    length = response.headers.get("Content-Length", "")
    total = begin + int(length) if length.isdecimal() and len(length) < 19 else expected
    most = (expected or largest) + 1  # one more shows that it is not the file
    bar = tqdm(
        total=total, initial=begin, desc=os.path.basename(file.name)[: -len(".part")],
        unit="B", unit_scale=True, disable=None,
    )  # fmt: skip
    with bar:
        received = begin
        while received < most:
            try:
                block = response.read(min(_BLOCK, most - received))
            except (OSError, http.client.HTTPException) as error:
                raise _Interrupted(f"the connection broke off ({_said(error)})") from None
            if not block:
                break
            bar.update(len(block))
            received += len(block)
            while block:
                block = block[file.write(block) :]
    if total is not None and received < min(total, most):
        raise _Interrupted(f"the connection ended after {received:,} of {total:,} bytes")


def _said(error):
    """An error's words on one line."""
    words = getattr(error, "strerror", None) or getattr(error, "reason", None) or error
    return " ".join(str(words).split())


def _md5(path):
    return digests_of(path, ["md5"])["md5"].hexdigest()


def _known_whole(path, md5):
    """Has its MD5 been compared since it changed last? To read 150 GB again takes minutes."""
    with contextlib.suppress(OSError, ValueError), open(path + ".checked") as file:
        return file.read().strip() == _stamp(path, md5)
    return False


def _note_whole(path, md5):
    with contextlib.suppress(OSError):  # a folder that may only be read
        write_atomically(path + ".checked", _stamp(path, md5))


def _stamp(path, md5):
    status = os.stat(path)
    return f"{md5} {status.st_size} {status.st_mtime_ns}"
