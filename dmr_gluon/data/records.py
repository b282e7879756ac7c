"""Writing RecordIO so that a half-written file is never taken for a whole one."""

import hashlib
import os

from ..runtime import mx


class RecordWriter:
    """Writes ``NAME.rec`` and ``NAME.idx``; they get these names when the last record is in.

    Use as a context manager. Leaving it with an exception removes what was written.

    Parameters
    ----------
    directory : str
    name : str
        Of the split, such as ``train``.
    classes : int
        Number of classes; labels are 0 to classes - 1.
    """

    def __init__(self, directory, name, classes):
        self.directory = directory
        self.files = {kind: f"{name}.{kind}" for kind in ("rec", "idx")}
        self.per_class = [0] * classes
        self.count = 0

    def __enter__(self):
        self._writer = mx.recordio.MXIndexedRecordIO(
            self._partial("idx"), self._partial("rec"), "w"
        )
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
        self._writer.write_idx(self.count, mx.recordio.pack(header, image))
        self.per_class[label] += 1
        self.count += 1

    def __exit__(self, kind, value, traceback):
        self._writer.close()
        for extension, name in self.files.items():
            if kind is None:
                os.replace(self._partial(extension), os.path.join(self.directory, name))
            else:
                os.remove(self._partial(extension))

    def manifest(self):
        """What the manifest says of this split."""
        return {
            "count": self.count,
            "per_class": self.per_class,
            "records": self._describe("rec"),
            "index": self._describe("idx"),
        }

    def _partial(self, extension):
        return os.path.join(self.directory, self.files[extension] + ".part")

    def _describe(self, extension):
        path = os.path.join(self.directory, self.files[extension])
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
