"""A check of ``dmr verify --gpus``: figures, a verdict and advice."""

import math
from dataclasses import dataclass

import numpy as np

#: MEASURED: figures without a bound.
PASSED, MEASURED, FAILED = "ok", "measured", "FAILED"


@dataclass(frozen=True)
class Check:
    """The result of one check.

    Parameters
    ----------
    what, figures : str
    verdict : str
        ``ok``, ``measured`` or ``FAILED``.
    advice : str
        What to do. A failure gets the advice of its section (:data:`.runner.SECTIONS`).
    """

    what: str
    figures: str
    verdict: str
    advice: str = ""


def bounded(what, values, note=""):
    """Check that numbers are within their bounds.

    Parameters
    ----------
    what : str
    values : dict of str to (float, float or None)
        Value and bound by name; a value without a bound is only shown.
    note : str
        Further figures.

    Returns
    -------
    Check
    """
    shown = [
        f"{name} {value:.0e}" + ("" if bound is None else f" <= {bound:.0e}")
        for name, (value, bound) in values.items()
    ]
    # NaN is not within any bound.
    passed = all(bound is None or value <= bound for value, bound in values.values())
    figures = "; ".join(filter(None, [", ".join(shown), note]))
    return Check(what, figures, PASSED if passed else FAILED)


def relative_difference(found, expected):
    """Return the norm of the difference of two arrays, relative to the expected one's norm."""
    found, expected = (np.ravel(array).astype(np.float64) for array in (found, expected))
    scale, difference = np.linalg.norm(expected), np.linalg.norm(found - expected)
    return float(difference / scale) if scale else float(difference and math.inf)
