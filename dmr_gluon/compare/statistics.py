"""Judge differences between error rates. Needs no MXNet.

Table 2 prints means and standard deviations over 5 runs, rounded to 0.01. The scripts published by
the authors compute them with NumPy's ``std``, which divides by n. The sample standard deviation is
sqrt(5 / 4) times as large.
"""

import math
import statistics
from dataclasses import dataclass
from typing import Optional, Tuple

#: Runs behind each mean in Table 2.
PAPER_RUNS = 5
#: Significance level of every test.
LEVEL = 0.05

NO_VERDICT, CONSISTENT, LOWER, HIGHER = "none", "consistent", "lower", "higher"


@dataclass(frozen=True)
class Sample:
    """Summary statistics of several runs.

    Parameters
    ----------
    count : int
    mean : float
    std : float, optional
        Sample standard deviation (n - 1). None for a single run, or if the paper prints none.
    median, best : float, optional
        ``best`` is the minimum.
    """

    count: int
    mean: float
    std: Optional[float] = None
    median: Optional[float] = None
    best: Optional[float] = None

    @classmethod
    def of(cls, values):
        """Summarize values other than None; return None if there are none."""
        values = [float(value) for value in values if value is not None]
        if not values:
            return None
        std = statistics.stdev(values) if len(values) > 1 else None
        # Rounding gives equal results a spread; one image in a million is 1e-4 %.
        if std and max(values) - min(values) < 1e-9:
            std = 0.0
        mean, median = statistics.fmean(values), statistics.median(values)
        return cls(len(values), mean, std, median, min(values))

    @classmethod
    def published(cls, mean, std=None, count=PAPER_RUNS):
        """Convert printed numbers; ``std`` is the population standard deviation."""
        if not std:
            return cls(1, float(mean))
        return cls(count, float(mean), float(std) * math.sqrt(count / (count - 1)))


@dataclass(frozen=True)
class Verdict:
    """The outcome of a comparison of two samples.

    Parameters
    ----------
    kind : str
        ``consistent``: these runs do not distinguish the two. ``lower`` or ``higher``: the error of
        the first is lower or higher. ``none``: no test is possible.
    text : str
        The test and its outcome, or why there is none.
    difference : float, optional
        First minus second, in percentage points.
    interval : tuple of float, optional
        95% confidence interval of the difference.
    p : float, optional
        Two-sided.
    """

    kind: str
    text: str
    difference: Optional[float] = None
    interval: Optional[Tuple[float, float]] = None
    p: Optional[float] = None


def welch(one, other):
    """Compute Welch's t-test for unequal variances.

    Parameters
    ----------
    one, other : Sample
        At least 2 runs each, not both without spread.

    Returns
    -------
    difference : float
        Difference of the means.
    interval : tuple of float
        Its 95% confidence interval.
    p : float
        Two-sided. Source: Welch, Biometrika 34 (1947), with Satterthwaite's degrees of freedom.
    """
    errors = [sample.std / math.sqrt(sample.count) for sample in (one, other)]
    error = math.hypot(*errors)
    freedom = 1 / sum(
        (part / error) ** 4 / (sample.count - 1) for part, sample in zip(errors, (one, other))
    )
    return _student(one.mean - other.mean, error, freedom)


def _student(difference, error, freedom):
    """Test a difference with this standard error by Student's t; returns as :func:`welch`."""
    half = quantile(freedom) * error
    p = two_sided(difference / error, freedom)
    return difference, (difference - half, difference + half), p


def two_sided(t, freedom):
    """Return the probability that Student's t is at least as far from 0 as ``t``."""
    from scipy.special import stdtr  # scipy.stats takes a second to import

    return 2 * float(stdtr(freedom, -abs(t)))


def quantile(freedom):
    """Return the 97.5% quantile of Student's t distribution, the end of a 95% interval."""
    from scipy.special import stdtrit

    return float(stdtrit(freedom, 1 - LEVEL / 2))


def prediction(sample):
    """Return half the width of the 95% prediction interval for one more run."""
    return quantile(sample.count - 1) * sample.std * math.sqrt(1 + 1 / sample.count)


def beside_paper(ours, published):
    """Compare our runs with a number from the paper.

    Parameters
    ----------
    ours : Sample or None
        None if no run has finished.
    published : Sample
        Its ``std`` is None if the paper prints no spread.

    Returns
    -------
    Verdict
    """
    if ours is None:
        return Verdict(NO_VERDICT, "no finished run")
    difference = ours.mean - published.mean
    if published.std is None:
        if not ours.std:
            which = "one run" if ours.count == 1 else "our runs are all equal"
            return Verdict(NO_VERDICT, f"{which}, and the paper prints no spread", difference)
        test = _student(difference, ours.std / math.sqrt(ours.count), ours.count - 1)
        return judged("one-sample t-test; the paper prints no spread", *test)
    if ours.count == 1 and published.std:
        # Rounded: the printed numbers are decimal, and the limit may be hit exactly.
        within = round(abs(difference), 6) <= round(2 * published.std, 6)
        text = (
            f"one run: {'within' if within else 'outside'} two standard deviations "
            f"({abs(difference) / published.std:.2f})"
        )
        return Verdict(_direction(difference, not within), text, difference)
    return _welch_verdict(ours, published)


def between(one, other):
    """Compare two groups of our own runs.

    Parameters
    ----------
    one, other : Sample or None
        None if no run has finished.

    Returns
    -------
    Verdict
        ``lower`` if the first has the lower error.
    """
    if one is None or other is None:
        return Verdict(NO_VERDICT, "no finished run on one side")
    if 1 not in (one.count, other.count):
        return _welch_verdict(one, other)
    difference = one.mean - other.mean
    many = max(one, other, key=lambda sample: sample.count)
    if many.count == 1:
        return Verdict(NO_VERDICT, "one run each: the spread is unknown", difference)
    text = f"one run against {many.count}"
    if not many.std:
        return Verdict(NO_VERDICT, f"{text}, all equal: the spread is unknown", difference)
    half = prediction(many)
    outside = abs(difference) > half
    text += f": {'outside' if outside else 'within'} the 95% prediction interval of ±{half:.2f}"
    interval = (difference - half, difference + half)
    return Verdict(_direction(difference, outside), text, difference, interval)


def _welch_verdict(one, other):
    if not one.std and not other.std:
        text = "neither side has any spread: no test is possible"
        return Verdict(NO_VERDICT, text, one.mean - other.mean)
    return judged("Welch test", *welch(one, other))


def judged(test, difference, interval, p):
    """Return the verdict of a test.

    Parameters
    ----------
    test : str
        Its name, for the text.
    difference, interval, p : float, tuple of float or None, float
        See :class:`Verdict`.
    """
    digits = 2 if p >= 0.1 else 3
    shown = f"p = {p:.{digits}f}" if p >= 0.001 else "p < 0.001"
    if p < LEVEL and shown == f"p = {LEVEL:.3f}":  # rounding must not cross the level
        shown = f"p < {LEVEL}"
    return Verdict(_direction(difference, p < LEVEL), f"{test}, {shown}", difference, interval, p)


def _direction(difference, significant):
    if not significant:
        return CONSISTENT
    return LOWER if difference < 0 else HIGHER
