"""Download the official archives."""

import sys

import pooch
import requests

from ..errors import DMRError

_TIMEOUT = 30  # seconds without a byte
_RETRIES = 3


def download(name, archives, folder, mirror=None):
    """Download the missing archives of a data set.

    A file gets its name only with the published MD5.

    Parameters
    ----------
    name : str
        The data set's name.
    archives : sequence of Archive
    folder : str
        Where to put them.
    mirror : str, optional
        URL of a folder that has the files. Default: the official place.

    Raises
    ------
    DMRError
        If a file cannot be downloaded, is not the published one, or cannot be written.
    """
    wanted = {archive.file: archive for archive in archives}
    urls = {file: archive.url for file, archive in wanted.items()}
    if mirror is not None:
        urls = {file: f"{mirror.rstrip('/')}/{file}" for file in wanted}
    elif None in urls.values():
        raise DMRError(
            f"{name} is available to registered users only: get {', '.join(wanted)} from "
            f"https://image-net.org/download.php and name their folder with --source, or name a "
            f"place that has them with --mirror"
        )
    registry = {file: f"md5:{archive.md5}" for file, archive in wanted.items()}
    fetcher = pooch.create(folder, "", registry=registry, urls=urls, retry_if_failed=_RETRIES)
    downloader = pooch.HTTPDownloader(progressbar=sys.stderr.isatty(), timeout=_TIMEOUT)
    for file, url in urls.items():
        try:
            fetcher.fetch(file, downloader=downloader)
        except requests.RequestException as error:
            reason = f"cannot be downloaded ({' '.join(str(error).split())})"
        except ValueError:
            reason = f"is not the published file (MD5 {wanted[file].md5})"
        except OSError as error:
            raise DMRError(
                f"cannot write to {folder} ({error.strerror or error}); free some space and give "
                f"the same command again"
            ) from error
        else:
            continue
        raise DMRError(f"{url} {reason}; take it from elsewhere with --mirror or --source")
