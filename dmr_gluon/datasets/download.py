"""Download the official archives."""

import os
import re
import sys

import pooch
import requests

from ..errors import DMRError

_TIMEOUT = 30  # seconds without a byte
_RETRIES = 3


def download(name, archives, folder, mirror=None):
    """Download the missing ones of a data set's archives.

    Parameters
    ----------
    name : str
        The data set's name.
    archives : sequence of Archive
    folder : str
        Where to put them.
    mirror : str, optional
        URL of a folder that has the files, instead of the official place.

    Raises
    ------
    DMRError
        If a file cannot be downloaded, is not the published one, or cannot be written.
    """
    if mirror is not None and not re.match("https?://.", mirror):
        raise DMRError(f"--mirror {mirror}: begin it with http:// or https://")
    wanted = [archive for archive in archives if not archive.alternative]
    if mirror is None and any(archive.url is None for archive in wanted):
        raise DMRError(
            f"{name} is given to registered users only: get {', '.join(a.file for a in wanted)} "
            f"from https://image-net.org/download.php and name their folder with --source, or "
            f"name a place that has them with --mirror"
        )
    for archive in wanted:
        url = archive.url if mirror is None else f"{mirror.rstrip('/')}/{archive.file}"
        fetch(url, os.path.join(folder, archive.file), f"md5:{archive.md5}", archive.origin)


def fetch(url, path, known_hash, origin, instead="--mirror or --source take it from elsewhere"):
    """Download a file unless it is there already; it gets its name only with the right hash.

    Parameters
    ----------
    url, path : str
    known_hash : str
        Such as ``md5:...``.
    origin : str
        Where the hash is published.
    instead : str
        Where else the file may come from, for the refusal.

    Raises
    ------
    DMRError
        If it cannot be downloaded, has another hash, or cannot be written.
    """
    folder, file = os.path.split(path)
    fetcher = pooch.create(
        folder, base_url="", registry={file: known_hash}, urls={file: url},
        retry_if_failed=_RETRIES,
    )  # fmt: skip
    downloader = pooch.HTTPDownloader(progressbar=sys.stderr.isatty(), timeout=_TIMEOUT)
    try:
        fetcher.fetch(file, downloader=downloader)
    except requests.RequestException as error:
        reason = " ".join(str(error).split())
        raise DMRError(f"{url} cannot be downloaded ({reason}); {instead}") from None
    except ValueError:
        raise DMRError(
            f"{url} is not the published file ({known_hash}, see {origin}); {instead}"
        ) from None
    except OSError as error:
        raise DMRError(
            f"cannot write to {folder} ({error.strerror or error}); free some space and give the "
            f"same command again"
        ) from error
