"""The workers of one training: a single process, or several with a parameter server.

MXNet's ``dist_sync`` kvstore sums arrays over all workers. Workers agree through such sums: on
gradients, losses, evaluations, stop requests and hashes of the weights. Roles and addresses come
from the environment, which ``dmr launch`` sets.
"""

import os
import zlib

import numpy as np

from ..data.loader import Shard
from ..errors import DMRError
from ..runtime import mx

#: Above the numbers of the parameters, which the Trainer uses as keys.
_FIRST_KEY = 1_000_000

_WANTED = tuple(
    "DMLC_" + name for name in ("ROLE", "PS_ROOT_URI", "PS_ROOT_PORT", "NUM_WORKER", "NUM_SERVER")
)


class WorkerGroup:
    """Workers that train one network together.

    Parameters
    ----------
    kv : KVStore, optional
        Of type ``dist_sync``; None for a single worker.

    Attributes
    ----------
    rank : int
        This worker's number, from 0; ``DMR_WORKER`` if the launcher sets it.
    count : int
    first : bool
        Whether this is the worker that writes files and prints.
    shard : Shard
        This worker's shard of every batch.
    """

    def __init__(self, kv=None):
        self.kv = kv
        self.count = kv.num_workers if kv is not None else 1
        self.rank = 0
        if kv is not None:
            number = os.environ.get("DMR_WORKER", str(kv.rank))
            if number not in map(str, range(self.count)):
                raise DMRError(
                    f"DMR_WORKER is {number!r} and must be a number below {self.count}, one "
                    f"for each worker; unset it, or start the job with dmr launch"
                )
            self.rank = int(number)
        self.first = self.rank == 0
        self.shard = Shard(self.rank, self.count)
        self._buffers = {}  # by name: key and array

    def gather_later(self, name, array):
        """Gather one array per worker, asynchronously.

        The server adds arrays in the order of their arrival. Each worker fills a row of its own,
        so that nothing is rounded.

        Parameters
        ----------
        name : str
            Identifies the array; its shape must not change.
        array : NDArray
            One axis, float32.

        Returns
        -------
        NDArray
            One row per worker, by rank.
        """
        row = array.reshape((1, -1))
        if self.kv is None:
            return row
        if name not in self._buffers:
            rows = mx.nd.zeros((self.count, row.shape[1]))
            self._buffers[name] = _FIRST_KEY + len(self._buffers), rows
            self.kv.init(self._buffers[name][0], rows)
        # Always send the same array: MXNet then waits for the previous sum before it sends the
        # next. Otherwise the server may take two arrays of one worker for one of each of two.
        key, rows = self._buffers[name]
        rows[:] = 0
        rows[self.rank] = array
        total = mx.nd.zeros_like(rows)
        self.kv.pushpull(key, rows, out=total)
        return total

    def gather(self, name, values):
        """Gather numbers to 48 bits: one row per worker, by rank."""
        values = np.asarray(values, np.float64).ravel()
        if self.kv is None:
            return values[None]
        # The parameter server adds float32 only.
        high = values.astype(np.float32)
        low = (values - high).astype(np.float32)
        rows = self.gather_later(name, mx.nd.array(np.concatenate([high, low]))).asnumpy()
        high, low = np.split(rows.astype(np.float64), 2, axis=1)
        return high + low

    def sum(self, name, values):
        """Sum an array or list of numbers over all workers."""
        return self.gather(name, values).sum(axis=0).reshape(np.shape(values))

    def check_equal(self, name, arrays, what):
        """Refuse to continue if the workers' arrays are not bit-identical.

        Parameters
        ----------
        name : str
        arrays : iterable of numpy.ndarray
        what : str
            Their name in the refusal.

        Raises
        ------
        DMRError
        """
        if self.kv is None:
            return
        checksum = 0
        for array in arrays:
            checksum = zlib.crc32(np.ascontiguousarray(array).tobytes(), checksum)
        found = self.gather(name, [checksum])[:, 0]
        if len(set(found)) > 1:
            odd = [rank for rank in range(self.count) if found[rank] != found[0]]
            raise DMRError(
                f"worker {odd[0]} has another {what} than worker 0; start all workers from the "
                f"same files, and on the same version of this package"
            )


#: A single worker.
ALONE = WorkerGroup()


def join(kv_store, devices=()):
    """Join the group that ``--kv-store`` and the environment describe.

    Parameters
    ----------
    kv_store : str
    devices : list of Context
        This worker's devices. Gradients of several GPUs are summed on GPUs before they are sent
        to the servers.

    Raises
    ------
    DMRError
        For ``dist_sync`` outside a started job.
    """
    if kv_store != "dist_sync":
        if os.environ.get("DMLC_ROLE") == "worker":
            raise DMRError(
                "this is a worker of a job, which would train alone; give it --kv-store dist_sync"
            )
        return ALONE
    missing = [name for name in _WANTED if name not in os.environ]
    if missing:
        raise DMRError(
            f"--kv-store dist_sync needs scheduler and servers, but {missing[0]} is not set; start "
            f"the job with: dmr launch -n 2 -s 1 -- python train_....py ..."
        )
    on_gpus = len(devices) > 1 and devices[0].device_type == "gpu"
    return WorkerGroup(mx.kv.create("dist_device_sync" if on_gpus else "dist_sync"))
