"""Read images in processes of their own. Needs no MXNet.

Python's lock bounds what threads read to some 1,400 photographs per second, whatever the number
of cores. Here a server, a fresh process without MXNet, forks the readers of an epoch. Tasks and
results are messages of fixed size in two pipes, which the kernel reads and writes as a whole;
pixels are in memory that all share and that has no name, so nothing is left behind when a process
is killed. Readers end when the task pipe is closed, as the kernel does when this process ends.
"""

import mmap
import os
import pickle
import select
import signal
import struct
import subprocess
import sys
from collections import namedtuple

import cv2
import numpy as np

from ..errors import DMRError, Failed
from ..system.program import command
from ..system.signals import ending
from .reader import AHEAD, Batch, RecordFile

#: A task: batch, first and last row, slot; a result: batch, first row, status, slot or signal.
_MESSAGE = struct.Struct("<4q")
_READ, _REFUSED, _DIED = range(3)
#: Most tasks of a batch: those of all batches that are being read fit into a pipe (64 KB).
_MOST_TASKS = 2**16 // _MESSAGE.size // (AHEAD + 1) - 1
#: Linux's MAP_POPULATE, which Python knows from 3.10.
_POPULATE = 0x8000
#: Characters of a refusal, in place of an image.
_MOST_TEXT = 1000

#: One epoch: ``numbers`` are the records of each batch; for ``transform`` see :func:`batches`.
Request = namedtuple("Request", "split numbers shape transform workers")

_idle: list = []  # servers without an epoch


def batches_by_processes(split, numbers, shape, transform, workers):
    """Yield batches as :func:`dmr_gluon.data.reader.batches` does, bit-identical.

    A batch's data is valid until the next batch is asked for: its memory is used again. It takes
    four batches of memory, and some 60 MB for the first reader.

    Parameters
    ----------
    split, numbers, shape, transform
        As for :func:`dmr_gluon.data.reader.batches`.
    workers : int
        Number of processes.

    Yields
    ------
    Batch

    Raises
    ------
    DMRError
        As :func:`dmr_gluon.data.reader.batches`.
    Failed
        If a process was ended.
    """
    request = Request(split, numbers, shape, transform, workers)
    server = _idle.pop() if _idle else _Server()
    try:
        yield from server.read(request)
    finally:
        if server.idle:
            _idle.append(server)
        else:  # an epoch that failed or was left early
            server.kill()


class _Slots:
    """The shared memory of an epoch: data and labels of a batch in each slot."""

    def __init__(self, memory, request):
        self._memory, self._shape = memory, request.shape
        self._rows = max(map(len, request.numbers), default=0)
        self._pixels = int(np.prod(request.shape)) * 4
        self.bytes = self._rows * (self._pixels + 8)

    def batch(self, slot, rows):
        start = slot * self.bytes
        data = np.frombuffer(self._memory, np.float32, rows * self._pixels // 4, start)
        labels = np.frombuffer(self._memory, np.int64, rows, start + self._rows * self._pixels)
        return data.reshape(rows, *self._shape), labels

    def text(self, slot, row):
        """Return the place of a refusal."""
        start = slot * self.bytes + row * self._pixels
        return slice(start, start + min(_MOST_TEXT, self._pixels))


class _Server:
    """The process that forks readers, and what this process shares with it.

    Attributes
    ----------
    idle : bool
        No epoch is being read, and no reader is left of an earlier one.
    """

    def __init__(self):
        self.idle = True
        self._file = os.memfd_create("batches")
        tasks, self._tasks = os.pipe()
        self._results, results = os.pipe()
        ends = (self._file, tasks, results)
        # In a session of its own: Ctrl-C is for this process alone.
        self._process = subprocess.Popen(
            command(__name__, *map(str, ends)),
            stdin=subprocess.PIPE,
            pass_fds=ends,
            start_new_session=True,
        )
        os.close(tasks)
        os.close(results)

    def read(self, request):
        """Yield the batches of one epoch."""
        counts = list(map(len, request.numbers))
        if not counts:
            return
        # It never shrinks: the last batch of an earlier epoch may still be in use.
        size = (AHEAD + 1) * _Slots(None, request).bytes
        os.ftruncate(self._file, max(size, os.fstat(self._file).st_size))
        slots = _Slots(mmap.mmap(self._file, 0), request)
        self.idle = False
        pickle.dump(request, self._process.stdin)
        self._process.stdin.flush()
        try:
            yield from self._batches(slots, counts)
        except GeneratorExit:  # often after the last batch, beyond which nobody asks
            if self._unread:
                raise
        os.write(self._tasks, _MESSAGE.pack(-1, 0, 0, 0) * request.workers)
        while -1 not in self._finished(slots):
            pass  # until all readers have ended
        self.idle = True

    def _batches(self, slots, counts):
        left = [0] * len(counts)
        self._unread = len(counts)
        for batch in range(len(counts) + AHEAD):
            if batch < len(counts):
                step = -(-counts[batch] // min(_MOST_TASKS, counts[batch]))
                tasks = [
                    _MESSAGE.pack(
                        batch, start, min(start + step, counts[batch]), batch % (AHEAD + 1)
                    )
                    for start in range(0, counts[batch], step)
                ]
                left[batch] = len(tasks)
                os.write(self._tasks, b"".join(tasks))
            ready = batch - AHEAD
            if ready >= 0:
                while left[ready]:
                    for done in self._finished(slots):
                        left[done] -= 1
                self._unread -= 1
                data, labels = slots.batch(ready % (AHEAD + 1), counts[ready])
                yield Batch(data, labels.copy())

    def _finished(self, slots):
        """Wait for results; return the batch of each."""
        messages = None
        while messages is None:
            if select.select([self._results], [], [], 1)[0]:
                messages = os.read(self._results, 2**16)
            if messages == b"" or (messages is None and self._process.poll() is not None):
                raise Failed("the process that reads images was ended; continue with --resume")
        batches = []
        for batch, row, status, value in _MESSAGE.iter_unpack(messages):
            if status == _REFUSED:
                text = slots._memory[slots.text(value, row)].partition(b"\0")[0]
                raise DMRError(text.decode(errors="replace"))
            if status == _DIED:
                raise Failed(
                    f"a process that reads images was ended by {ending(-value)}; if memory was "
                    f"short, continue with --resume and fewer --reading-processes"
                )
            batches.append(batch)
        return batches

    def kill(self):
        """End the server and its readers."""
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._process.stdin.close()
        for end in (self._file, self._tasks, self._results):
            os.close(end)


def _serve(file, tasks, results):
    """Fork readers for one epoch after another, until this process's parent has ended."""
    cv2.setNumThreads(1)
    while True:
        try:
            request = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        try:
            records = RecordFile(request.split)
        except DMRError as error:
            records = error
        for _ in range(request.workers):
            if os.fork() == 0:
                _read(records, request, file, tasks, results)
        for _ in range(request.workers):
            _, status = os.wait()
            if status:
                os.write(results, _MESSAGE.pack(0, 0, _DIED, os.WTERMSIG(status) or signal.SIGABRT))
        os.write(results, _MESSAGE.pack(-1, 0, _READ, 0))


def _read(records, request, file, tasks, results):
    """Work on tasks until there are no more."""
    # All pages at once: otherwise each costs a page fault in each process.
    slots = _Slots(mmap.mmap(file, 0, mmap.MAP_SHARED | _POPULATE), request)
    while True:
        message = os.read(tasks, _MESSAGE.size)
        batch, start, stop, slot = _MESSAGE.unpack(message) if message else (-1, 0, 0, 0)
        if batch < 0:
            os._exit(0)
        data, labels = slots.batch(slot, len(request.numbers[batch]))
        rows, status = slice(start, stop), _READ
        try:
            if isinstance(records, DMRError):
                raise records
            images, labels[rows] = records.images(request.numbers[batch][rows].tolist())
            request.transform(images, batch, rows, data[rows])
        except DMRError as error:
            place, status = slots.text(slot, start), _REFUSED
            text = str(error).encode()[: place.stop - place.start - 1] + b"\0"
            slots._memory[place.start : place.start + len(text)] = text
        os.write(results, _MESSAGE.pack(batch, start, status, slot))


if __name__ == "__main__":
    _serve(*map(int, sys.argv[1:]))
