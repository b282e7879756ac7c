"""Read images from RecordIO files in any order, ahead of their use. Needs no MXNet."""

import contextlib
import os
from collections import deque, namedtuple
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import simplejpeg

from ..errors import DMRError
from ..system.machine import usable_cores
from . import png
from . import recordio as form

#: Who reads: a number of threads (default: one per core) or, if not 0, of processes.
Reading = namedtuple("Reading", "threads processes", defaults=(None, 0))
#: ``data``: array of float32, (n, 3, height, width), normalised.
#: ``label``: array of int64, (n,).
Batch = namedtuple("Batch", "data label")

#: Values that one thread prepares at a time, about: 64 images of 32x32.
_BLOCK = 64 * 3 * 32 * 32
#: What a damaged index or record raises: offsets beyond any file, memory or integer.
_DAMAGE = (IndexError, ValueError, OverflowError, OSError, MemoryError)
#: Batches that are prepared before they are asked for.
AHEAD = 3


class RecordFile:
    """The records of one split, by number; a context manager.

    Parameters
    ----------
    split : Split

    Raises
    ------
    DMRError
        If a file cannot be read or the index is damaged.
    """

    def __init__(self, split):
        self.paths = [part.records for part in split.files]
        self._upright = split.files[0].upright
        self._files, places = [], []
        with contextlib.ExitStack() as opened:
            try:
                for number, part in enumerate(split.files):
                    _, offsets = form.read_index(part.index)
                    file = opened.enter_context(open(part.records, "rb", buffering=0))
                    ends = np.append(offsets[1:], os.fstat(file.fileno()).st_size)[: len(offsets)]
                    places.append(np.stack([np.full_like(offsets, number), offsets, ends], axis=1))
                    self._files.append(file.fileno())
            except (OSError, form.Broken) as error:
                raise DMRError(f"{error}; prepare the data set again with --overwrite") from error
            self._opened = opened.pop_all()
        self._places = np.concatenate(places)  # of each record: its file, offset and end

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._opened.close()

    def images(self, numbers):
        """Return images and their labels. Thread-safe.

        Parameters
        ----------
        numbers : sequence of int

        Returns
        -------
        sequence of numpy.ndarray, list of int
            Images (height, width, 3) of uint8, RGB; a single array if all have one size and the
            format of :mod:`.png`.

        Raises
        ------
        DMRError
            If a record is damaged or missing.
        """
        images, labels, plain, file = [None] * len(numbers), [], {}, 0
        for place, number in enumerate(numbers):
            try:
                file, start, end = self._places[number].tolist()
                record = os.pread(self._files[file], end - start, start)
                label, encoded = form.split_record(record)
                size, rows = png.rows_of(encoded)
                if size is None:
                    images[place] = _decode(encoded, self._upright)
                else:
                    plain.setdefault(size, []).append((place, rows))
            except (form.Broken, *_DAMAGE) as error:
                raise DMRError(
                    f"{self.paths[file]} is damaged: record {number} cannot be read "
                    f"({getattr(error, 'strerror', None) or error}); prepare the data set again "
                    f"with --overwrite ('dmr check' says more)"
                ) from error
            labels.append(label)
        for size, members in plain.items():
            places, rows = zip(*members)
            pixels = png.pixels(rows, size)
            if len(places) == len(numbers):
                return pixels, labels
            for place, image in zip(places, pixels):
                images[place] = image
        return images, labels


def _decode(encoded, upright=False):
    """Return the pixels of any encoded image, RGB."""
    if form.is_jpeg(encoded) and not (upright and form.orientation(encoded) != 1):
        try:
            # The same pixels as OpenCV's; photographs in half of the time.
            return simplejpeg.decode_jpeg(encoded)
        except (ValueError, MemoryError):
            pass  # OpenCV reads some JPEGs that simplejpeg refuses
    return form.decode(encoded, upright)


def batches(split, numbers, shape, transform, reading=Reading()):
    """Yield batches of transformed images, prepared on all cores ahead of their use.

    Any number of threads or processes gives the same bits. If processes read, a batch's data is
    valid until the next batch is asked for.

    Parameters
    ----------
    split : Split
    numbers : sequence of arrays of int
        The records of each batch, in order.
    shape : tuple of int
        Shape of one prepared image.
    transform : function
        Called with images as ``RecordFile.images`` returns them, their place (batch, slice of its
        rows) and the array to fill, float32 of shape (n, \\*shape). Must not depend on the thread
        or on the order of the calls. For processes it must be picklable.
    reading : Reading

    Yields
    ------
    Batch

    Raises
    ------
    DMRError
        As :class:`RecordFile`.
    """
    if reading.processes:
        from .reading_processes import batches_by_processes

        yield from batches_by_processes(split, numbers, shape, transform, reading.processes)
        return
    # The threads here are the parallelism; OpenCV's own would only add to them.
    cv2.setNumThreads(1)
    threads = reading.threads or usable_cores()
    with RecordFile(split) as records, ThreadPoolExecutor(threads) as pool:

        def prepare(batch, rows, data, labels):
            images, labels[rows] = records.images(numbers[batch][rows].tolist())
            transform(images, batch, rows, data[rows])

        block = max(1, _BLOCK // int(np.prod(shape)))
        waiting = deque()
        try:
            for batch in range(len(numbers)):
                data = np.empty((len(numbers[batch]), *shape), np.float32)
                labels = np.empty(len(data), np.int64)
                blocks = [slice(i, i + block) for i in range(0, len(data), block)]
                done = [pool.submit(prepare, batch, rows, data, labels) for rows in blocks]
                waiting.append((data, labels, done))
                if len(waiting) > AHEAD:
                    yield _wait_for(*waiting.popleft())
            while waiting:
                yield _wait_for(*waiting.popleft())
        finally:
            for *_, done in waiting:
                for future in done:
                    future.cancel()


def _wait_for(data, labels, done):
    for future in done:
        future.result()
    return Batch(data, labels)
