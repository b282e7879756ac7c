"""Speeds of several programs, measured in turn, so that a busy moment meets them all."""

import statistics
import time
from dataclasses import dataclass

import numpy as np
from tqdm import tqdm

#: Seconds between two turns, in which the threads of the last one go to sleep.
_PAUSE = 0.05


@dataclass(frozen=True)
class Speed:
    """Of one program on this machine.

    Attributes
    ----------
    seconds : dict of int to list of list of float
        By batch size: of each run, by rounds.
    """

    seconds: dict

    @property
    def images_per_second(self):
        """By batch size, the median over the rounds."""
        return {size: statistics.median(self._rates(size)) for size in self.seconds}

    def by(self, other):
        """How many times as fast as another, by batch size: round by round, the median."""
        return {
            size: statistics.median(a / b for a, b in zip(self._rates(size), other._rates(size)))
            for size in self.seconds
        }

    @property
    def latency(self):
        """Milliseconds that one image takes: median and 95th percentile."""
        p50, p95 = np.percentile(np.concatenate(self.seconds[1]), (50, 95))
        return 1000 * float(p50), 1000 * float(p95)

    def describe(self, plain):
        """For ``bundle.json``; ``ratio`` is to another's speed."""
        p50, p95 = self.latency
        rates, ratio = self.images_per_second, self.by(plain)
        return {"images_per_second": rates, "ratio": ratio, "p50": p50, "p95": p95}

    def _rates(self, size):
        return [size / statistics.median(turn) for turn in self.seconds[size]]


def measure(running, batch_sizes=(1, 32), rounds=5, seconds=0.5):
    """Speed of several programs, in turn.

    Parameters
    ----------
    running : dict of Process
        By name; ready, and of those that need them, with images.
    batch_sizes : tuple of int
        ``latency`` needs 1 among them.
    rounds : int
    seconds : float
        For each program, batch size and round; one run at least.

    Returns
    -------
    dict of Speed
        By name.
    """
    times = {name: {size: [] for size in batch_sizes} for name in running}
    turns = [(name, size) for _ in range(rounds) for name in running for size in batch_sizes]
    for name, size in tqdm(turns, "measure", unit=" turns", disable=None, leave=False):
        time.sleep(_PAUSE)
        times[name][size].append(running[name].seconds(size, seconds))
    return {name: Speed(times[name]) for name in running}
