"""That all contestants compute the same, before any is timed."""

from dataclasses import asdict, dataclass

import numpy as np
from answering import batch_of
from contestants import OURS, our_side, twin

from dmr_gluon.errors import DMRError

#: How far a result may be from ours, as a part of its largest value. In double precision both
#: are the same function; what bfloat16 loses is not small. INT8 is only looked at: what it may
#: lose is decided where it is made, on a trained network.
LIMITS = {"float64": 1e-9, "float32": 1e-4, "bfloat16": 0.1, "int8": None}


class Disagreement(DMRError):
    """A contestant computes something else: its speed would say nothing."""


@dataclass(frozen=True)
class Agreement:
    """One result of one contestant beside ours.

    Attributes
    ----------
    who, what, dtype : str
    difference : float
        Largest, as a part of the largest value.
    """

    who: str
    what: str
    dtype: str
    difference: float

    def require(self):
        """Refuse to go on where it is too large."""
        limit = LIMITS[self.dtype]
        if limit is not None and not self.difference <= limit:
            raise Disagreement(
                f"{self.who} does not compute what our network computes: {self.what} differ by "
                f"{self.difference:.1e} of the largest, allowed are {limit:.0e}; nothing is timed"
            )
        return self


def difference(expected, found):
    """The largest, as a part of the largest value expected; infinite for what is no number."""
    expected, found = np.asarray(expected, np.float64), np.asarray(found, np.float64)
    if expected.shape != found.shape:
        return float("inf")
    apart = np.abs(found - expected).max() / np.abs(expected).max()
    return float(apart) if np.isfinite(apart) else float("inf")


class Checks:
    """What our network computes in one case, and the comparison of others with it.

    Our process has ended when this has been made.

    Parameters
    ----------
    case : contestants.Case
    kind : str
        ``train`` or ``infer``.
    sizes : sequence of int
        Of the batches that will be timed.

    Attributes
    ----------
    found : list of Agreement
    """

    def __init__(self, case, kind, sizes):
        self.found, self._kind = [], kind
        self._batches = {size: batch_of(case.network, size) for size in sorted(sizes)}
        process = our_side(case, kind, [1])
        try:
            process.wait()
            self._compare_double(case, process)
            self._expected = {size: self._ask(process, size) for size in self._batches}
        finally:
            process.close()

    def __call__(self, contestant, process):
        """Compare a contestant; the largest batch comes last.

        In training ours is what the others are compared with.

        Raises
        ------
        Disagreement
        """
        if self._kind == "train" and contestant.side == OURS:
            return
        what = "losses" if self._kind == "train" else "logits"
        for size, expected in self._expected.items():
            apart = difference(expected, self._ask(process, size))
            self._add(Agreement(contestant.name, f"{what} of {size}", contestant.dtype, apart))

    def as_json(self):
        return [asdict(one) for one in self.found]

    def _ask(self, process, size):
        images, labels = self._batches[size]
        if self._kind == "infer":
            return process.logits(images)
        return process.compute("step", images=images, labels=labels)["loss"]

    def _compare_double(self, case, ours):
        images, labels = (array[:4] for array in batch_of(case.network, 4))
        if images.shape[-1] > 64:  # these networks take any size
            images = np.ascontiguousarray(images[:2, :, :64, :64])
            labels = labels[:2]
        theirs = twin(case, self._kind)
        try:
            theirs.wait()
            expected, found = (
                one.compute("double", images=images, labels=labels) for one in (ours, theirs)
            )
        finally:
            theirs.close()
        name = "PyTorch's twin"
        for key in ("logits", "loss"):
            apart = difference(expected.pop(key), found.pop(key))
            self._add(Agreement(name, key if key == "logits" else "losses", "float64", apart))
        if set(expected) != set(found):
            raise Disagreement(f"{case.network}: the twin has other parameters than our network")
        apart = max(difference(expected[key], found[key]) for key in expected)
        self._add(Agreement(name, "gradients", "float64", apart))

    def _add(self, one):
        self.found.append(one.require())
