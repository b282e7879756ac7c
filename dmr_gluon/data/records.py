"""Writing RecordIO so that a half-written file is never taken for a whole one."""

import contextlib
import hashlib
import os

from ..runtime import mx


class RecordWriter:
    """Writes ``NAME.rec`` and ``NAME.idx``, under other names until :meth:`publish`.

    Use as a context manager. Leaving it with an exception removes what was written.

    Parameters
    ----------
    directory : str
    name : str
        Of the split, such as ``train``.
    classes : int
        Number of classes; labels are 0 to classes - 1.

    Raises
    ------
    OSError
        When not everything has reached the disk.
    """

    def __init__(self, directory, name, classes):
        self.directory = directory
        self.files = {kind: f"{name}.{kind}" for kind in ("rec", "idx")}
        self.per_class = [0] * classes
        self.count = self._bytes = 0

    def __enter__(self):
        try:
            self._writer = mx.recordio.MXIndexedRecordIO(
                self._partial("idx"), self._partial("rec"), "w"
            )
        except mx.base.MXNetError as error:
            raise OSError(f"{self._partial('rec')} cannot be opened") from error
        return self

    def write(self, label, image):
        """Append one record.

        Parameters
        ----------
        label : int
        image : bytes
            An encoded image, PNG or JPEG.
        """
        header = mx.recordio.IRHeader(0, float(label), self.count, 0)
        record = mx.recordio.pack(header, image)
        try:
            self._writer.write_idx(self.count, record)
        except mx.base.MXNetError as error:
            raise OSError(f"{self._partial('rec')} cannot be written") from error
        self.per_class[label] += 1
        self.count += 1
        # Counted by MXNet: an image that holds RecordIO's magic word is cut into two records.
        self._bytes = self._writer.tell()

    def __exit__(self, kind, value, traceback):
        self._writer.close()
        if kind is not None:
            self.discard()
            return
        # MXNet does not say when the last bytes could not be written: the disk may be full.
        with open(self._partial("idx"), encoding="ascii") as file:
            entries = sum(1 for _ in file)
        if os.path.getsize(self._partial("rec")) != self._bytes or entries != self.count:
            self.discard()
            raise OSError(f"{self._partial('rec')} did not reach the disk whole")

    def publish(self):
        """Give the files their names."""
        for extension, name in self.files.items():
            os.replace(self._partial(extension), os.path.join(self.directory, name))

    def discard(self):
        """Remove what was written and not published."""
        for extension in self.files:
            with contextlib.suppress(FileNotFoundError):
                os.remove(self._partial(extension))

    def manifest(self):
        """What the manifest says of this split, before :meth:`publish`."""
        return {
            "count": self.count,
            "per_class": self.per_class,
            "records": self._describe("rec"),
            "index": self._describe("idx"),
        }

    def _partial(self, extension):
        return os.path.join(self.directory, self.files[extension] + ".part")

    def _describe(self, extension):
        path = self._partial(extension)
        return {
            "file": self.files[extension],
            "bytes": os.path.getsize(path),
            "sha256": sha256_of(path),
        }


def sha256_of(path):
    """SHA-256 of a file, as hexadecimal digits."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()
