"""The workers of one training: this process alone, or several through a parameter server.

MXNet's ``dist_sync`` kvstore sums arrays over all workers. Everything that they have to agree on
goes through such sums: gradients, losses, evaluations, the wish to stop, the hashes of the
weights. Roles and addresses come from the environment (``dmr launch`` sets it).
"""

import contextlib
import os
import re
import zlib

import numpy as np

from ..data.loader import Shard
from ..errors import DMRError
from ..runtime import mx

#: Far above the numbers of the parameters, which the Trainer uses as keys.
_FIRST_KEY = 1_000_000

_WANTED = tuple(
    "DMLC_" + name for name in ("ROLE", "PS_ROOT_URI", "PS_ROOT_PORT", "NUM_WORKER", "NUM_SERVER")
)


class Group:
    """Workers that train one network together.

    Parameters
    ----------
    kv : KVStore, optional
        Of type ``dist_sync``; None for a worker that is alone.

    Attributes
    ----------
    rank : int
        This worker's number, from 0: the launcher's (``DMR_WORKER``) where it says one.
    count : int
    part : Shard
        Which share of every batch is this worker's.
    """

    def __init__(self, kv=None):
        self.kv = kv
        self.count = kv.num_workers if kv is not None else 1
        self.rank = 0
        if kv is not None:
            number = os.environ.get("DMR_WORKER", str(kv.rank))
            if not re.fullmatch("[0-9]{1,9}", number) or int(number) >= self.count:
                raise DMRError(
                    f"DMR_WORKER is {number!r} and must be a number below {self.count}, of which "
                    f"each worker has its own; unset it, or start the job with dmr launch"
                )
            self.rank = int(number)
        self.part = Shard(self.rank, self.count)
        self._buffers = {}  # key and array of everything that is gathered, by name

    @property
    def first(self):
        """Whether this is the worker that writes files and prints."""
        return self.rank == 0

    def gather_later(self, name, array):
        """Every worker's array, without waiting for them.

        The server adds, in the order in which the workers come; here each fills a row of its
        own, so that nothing is rounded.

        Parameters
        ----------
        name : str
            Of what is gathered; always with the same shape.
        array : NDArray
            One axis, float32.

        Returns
        -------
        NDArray
            One row for each worker, in order of rank.
        """
        row = array.reshape((1, -1))
        if self.kv is None:
            return row
        if name not in self._buffers:
            rows = mx.nd.zeros((self.count, row.shape[1]))
            self._buffers[name] = _FIRST_KEY + len(self._buffers), rows
            self.kv.init(self._buffers[name][0], rows)
        # Always the same array: that makes MXNet wait with what is sent until the sum of what
        # was sent before has come back. Else the server takes two from one worker for one
        # from each of two.
        key, rows = self._buffers[name]
        rows[:] = 0
        rows[self.rank] = array
        total = mx.nd.zeros_like(rows)
        self.kv.pushpull(key, rows, out=total)
        return total

    def gather(self, name, values):
        """Every worker's numbers to 48 bits: an array with one row for each, in order of rank."""
        values = np.asarray(values, np.float64).ravel()
        if self.kv is None:
            return values[None]
        # The parameter server knows float32 only.
        high = values.astype(np.float32)
        low = (values - high).astype(np.float32)
        rows = self.gather_later(name, mx.nd.array(np.concatenate([high, low]))).asnumpy()
        high, low = np.split(rows.astype(np.float64), 2, axis=1)
        return high + low

    def sum(self, name, values):
        """The sum over all workers of an array or list of numbers."""
        return self.gather(name, values).sum(axis=0).reshape(np.shape(values))

    def check_equal(self, name, arrays, what):
        """Refuse to go on if the workers' arrays differ in a single bit.

        Parameters
        ----------
        name : str
        arrays : iterable of numpy.ndarray
        what : str
            For the refusal.

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

    @contextlib.contextmanager
    def agreeing(self):
        """What any worker refuses or fails to do, the others give up too, before any goes on."""
        trouble = None
        try:
            yield
        except (DMRError, OSError) as error:
            trouble = error
        kind = 0.0 if trouble is None else 1.0 if isinstance(trouble, DMRError) else 2.0
        worst = self.gather("agreeing", [kind]).max()
        if trouble is not None:
            raise trouble
        if worst:
            # Of the same kind: whether it makes sense to start again, any of them may tell.
            raise (DMRError if worst == 1 else OSError)("another worker cannot start, see there")

    def wait(self):
        """Until all workers are here."""
        if self.kv is not None:
            self.sum("wait", [0.0])


#: A worker that is alone.
ALONE = Group()


def join(kv_store, devices=()):
    """The group that ``--kv-store`` and the environment say.

    Parameters
    ----------
    kv_store : str
    devices : list of Context
        Of this worker. Several GPUs' gradients are summed on them, not on the CPU, before they
        go to the servers.

    Raises
    ------
    DMRError
        For ``dist_sync`` outside a started job.
    """
    if kv_store != "dist_sync":
        if os.environ.get("DMLC_ROLE") == "worker":
            raise DMRError(
                "this is a worker of a started job, which would train by itself; give it "
                "--kv-store dist_sync"
            )
        return ALONE
    missing = [name for name in _WANTED if name not in os.environ]
    if missing:
        raise DMRError(
            f"--kv-store dist_sync needs scheduler and servers, but {missing[0]} is not set; start "
            f"the job with: dmr launch -n 2 -s 1 -- python train_....py ..."
        )
    on_gpus = len(devices) > 1 and devices[0].device_type == "gpu"
    return Group(mx.kv.create("dist_device_sync" if on_gpus else "dist_sync"))
