"""Time several programs in turn, so that a busy moment affects all of them."""

import statistics
import time
from dataclasses import dataclass

import numpy as np
from tqdm import tqdm

#: Seconds between two turns, in which the threads of the last program go to sleep.
_PAUSE = 0.05


@dataclass(frozen=True)
class Speed:
    """Run times of one program.

    Attributes
    ----------
    seconds : dict of int to list of list of float
        By batch size: for each round, the seconds of each run.
    """

    seconds: dict

    @property
    def images_per_second(self):
        """Images per second by batch size: the median over the rounds."""
        return {size: statistics.median(self._rates(size)) for size in self.seconds}

    def by(self, other):
        """Return the speedup over another program by batch size: the median over the rounds."""
        return {
            size: statistics.median(a / b for a, b in zip(self._rates(size), other._rates(size)))
            for size in self.seconds
        }

    @property
    def latency(self):
        """Milliseconds for one image: median and 95th percentile."""
        p50, p95 = np.percentile(np.concatenate(self.seconds[1]), (50, 95))
        return 1000 * float(p50), 1000 * float(p95)

    def describe(self, plain):
        """Return the entry of ``bundle.json``, with the speedup over the plain network."""
        (p50, p95), rates = self.latency, self.images_per_second
        return {"images_per_second": rates, "ratio": self.by(plain), "p50": p50, "p95": p95}

    def _rates(self, size):
        return [size / statistics.median(turn) for turn in self.seconds[size]]


def measure(running, batch_sizes=(1, 32), rounds=5, seconds=0.5):
    """Time several programs in turn.

    Parameters
    ----------
    running : dict of Process
        Processes by name, ready to run.
    batch_sizes : tuple of int
        :attr:`Speed.latency` needs a batch size of 1.
    rounds : int
    seconds : float
        Duration of each turn; at least one run is timed.

    Returns
    -------
    dict of Speed
    """
    times = {name: {size: [] for size in batch_sizes} for name in running}
    turns = [(name, size) for _ in range(rounds) for name in running for size in batch_sizes]
    for name, size in tqdm(turns, "measure", unit=" turns", disable=None, leave=False):
        time.sleep(_PAUSE)
        times[name][size].append(running[name].seconds(size, seconds))
    return {name: Speed(times[name]) for name in running}
