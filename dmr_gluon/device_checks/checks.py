"""One line of ``dmr verify --gpus``: figures, a verdict, and what a failure probably means."""

import math
from dataclasses import dataclass

#: MEASURED: a figure without a bound.
VERDICTS = PASSED, MEASURED, SKIPPED, FAILED = "ok", "measured", "not run", "FAILED"


@dataclass(frozen=True)
class Check:
    """What was checked, and what came out.

    Parameters
    ----------
    what, figures : str
    verdict : str
        One of ``VERDICTS``.
    advice : str
        Of a failure: what it probably means, and what to set.
    """

    what: str
    figures: str
    verdict: str
    advice: str = ""


def bounded(what, values, advice, note=""):
    """A check that numbers stay within their bounds.

    Parameters
    ----------
    what : str
    values : dict of str to (float, float or None)
        Value and bound by name; without a bound the value is only shown.
    advice : str
    note : str
        More figures.
    """
    shown = [
        f"{name} {value:.0e}" + (f" <= {bound:.0e}" if bound is not None else "")
        for name, (value, bound) in values.items()
    ]
    # "not at most": NaN fails too.
    wrong = any(bound is not None and not value <= bound for value, bound in values.values())
    figures = "; ".join(filter(None, [", ".join(shown), note]))
    return Check(what, figures, FAILED if wrong else PASSED, advice if wrong else "")


def judged(what, fine, figures, advice):
    """A check of anything else that is fine or not."""
    return Check(what, figures, PASSED if fine else FAILED, "" if fine else advice)


def relative_difference(found, expected):
    """The norm of the difference of two arrays, as a part of the expected one's norm."""
    from numpy.linalg import norm

    scale = norm(expected.ravel())
    difference = norm((found - expected).ravel())
    return float(difference / scale) if scale else float(difference and math.inf)
