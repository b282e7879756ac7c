"""Starting, checking and timing contestants, as many at the same time as memory holds."""

import contextlib
import statistics

from agreement import Disagreement
from answering import peak_bytes
from contestants import OURS
from tqdm import tqdm

from dmr_gluon.errors import DMRError
from dmr_gluon.system.timing import measure


def take_turns(contestants, sizes, checks, rounds, seconds):
    """Time contestants, in groups if need be.

    Ours take part in every group, so that each ratio is of speeds from the same minutes.

    Parameters
    ----------
    contestants : list of Contestant
    sizes : tuple of int
        Of batches.
    checks : function
        Of a contestant and its process; raises where it is not to be timed.
    rounds : int
        0: each is only started and makes a few runs, for its memory.
    seconds : float
        Of each turn.

    Returns
    -------
    dict
        For JSON. ``contestants``: by name their ``side``, ``dtype``, ``runtime``,
        ``seconds_to_first`` and ``peak_bytes``. ``groups``: for each group by name and batch
        size the median seconds of each turn. ``failed``: by name why one was not started.
    """
    found = {"batches": list(sizes), "contestants": {}, "failed": {}, "groups": []}
    ours = [one for one in contestants if one.side == OURS]
    waiting = [one for one in contestants if one.side != OURS]
    with contextlib.ExitStack() as stack, _bar(contestants) as bar:
        starter = _Starter(checks, found, bar)
        always = {one.name: starter.start(one, stack) for one in ours}
        while waiting:
            with contextlib.ExitStack() as group:
                running = dict(always)
                while waiting and (len(running) == len(always) or starter.memory_is_left()):
                    one = waiting.pop(0)
                    try:
                        running[one.name] = starter.start(one, group)
                    except Disagreement:
                        raise
                    except DMRError as error:
                        found["failed"][one.name] = str(error)
                if rounds:
                    speeds = measure(running, sizes, rounds, seconds)
                    found["groups"].append(
                        {name: _medians(speed.seconds) for name, speed in speeds.items()}
                    )
                for name, process in running.items():
                    if not rounds:
                        process.seconds(sizes[-1], 0)
                    found["contestants"][name]["peak_bytes"] = peak_bytes(process.pid)
    return found


def second_starts(contestants, failed):
    """Seconds to the first step where the first start has left something in a cache."""
    again = [one for one in contestants if one.compiles and one.name not in failed]
    found = {}
    with _bar(again) as bar:
        for one in again:
            bar.set_postfix_str(one.name)
            process = one.start()
            try:
                found[one.name] = process.wait()["seconds_to_first"]
            finally:
                process.close()
            bar.update()
    return found


class _Starter:
    """One after the other: two that compile at the same time would be in each other's way."""

    def __init__(self, checks, found, bar):
        self._checks, self._found, self._bar = checks, found, bar
        self._largest = 0

    def start(self, contestant, stack):
        self._bar.set_postfix_str(contestant.name)
        before = available_bytes()
        process = contestant.start()
        stack.callback(process.close)
        ready = process.wait()
        self._checks(contestant, process)
        self._largest = max(self._largest, peak_bytes(process.pid), before - available_bytes())
        self._found["contestants"][contestant.name] = {
            "side": contestant.side,
            "dtype": contestant.dtype,
            "runtime": contestant.runtime,
            "seconds_to_first": ready.get("seconds_to_first"),
        }
        self._bar.update()
        return process

    def memory_is_left(self):
        """For one more as large as the largest, beside a turn of that size."""
        return available_bytes() > 2 * self._largest


def available_bytes():
    """Return the memory that this machine has left."""
    with open("/proc/meminfo") as file:
        (line,) = (line for line in file if line.startswith("MemAvailable:"))
    return int(line.split()[1]) << 10


def _medians(seconds):
    return {
        str(size): [statistics.median(turn) for turn in turns] for size, turns in seconds.items()
    }


def _bar(contestants):
    return tqdm(total=len(contestants), desc="start", unit=" programs", disable=None, leave=False)
