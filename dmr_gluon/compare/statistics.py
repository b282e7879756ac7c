"""What a difference between errors says, and how surely. Needs no MXNet.

The paper prints means and standard deviations of 5 runs (Table 2), rounded to 0.01. The scripts
that its authors published take them with NumPy's ``std``, which divides by the number of runs:
a sample standard deviation is sqrt(5 / 4) times that.
"""

import math
import statistics
from dataclasses import dataclass
from typing import Optional, Tuple

#: Runs behind each mean of the paper (Table 2).
PAPER_RUNS = 5
#: A difference that would come up more rarely than this by chance counts as one.
LEVEL = 0.05

NO_VERDICT, CONSISTENT, LOWER, HIGHER = "none", "consistent", "lower", "higher"


@dataclass(frozen=True)
class Sample:
    """Results of several runs, or what is known of them.

    Parameters
    ----------
    count : int
    mean : float
    std : float, optional
        Sample standard deviation (n - 1); None of one run, and where it was not printed.
    median, best : float, optional
    """

    count: int
    mean: float
    std: Optional[float] = None
    median: Optional[float] = None
    best: Optional[float] = None

    @classmethod
    def of(cls, values):
        """From the results themselves; None where there are none."""
        values = list(values)
        if not values:
            return None
        return cls(
            len(values),
            statistics.fmean(values),
            # Equal results have no spread, whatever rounding makes of them.
            None if len(values) < 2 else 0.0 if _are_equal(values) else _stdev(values),
            statistics.median(values),
            min(values),
        )

    @classmethod
    def published(cls, mean, std=None, count=PAPER_RUNS):
        """Of what is printed, as text: ``std`` is the root of the mean squared deviation."""
        if not std:
            return cls(1, float(mean))
        return cls(count, float(mean), float(std) * math.sqrt(count / (count - 1)))


def _are_equal(values):
    """One image more of a million is 1e-4."""
    return max(values) - min(values) < 1e-9


def _stdev(values):
    return statistics.stdev(map(float, values))


@dataclass(frozen=True)
class Verdict:
    """What a difference says.

    Parameters
    ----------
    kind : str
        ``consistent``: these runs do not tell the two apart; ``lower`` or ``higher``: the first
        one's error is; ``none``: nothing can be said.
    text : str
        The reasoning, in a few words.
    difference : float, optional
        First less second, in percentage points.
    interval : tuple of float, optional
        Of the difference, 95%.
    p : float, optional
        Of a two-sided test.
    """

    kind: str
    text: str
    difference: Optional[float] = None
    interval: Optional[Tuple[float, float]] = None
    p: Optional[float] = None


def welch(one, other):
    """Welch's unequal variances t-test of two samples with a spread.

    Parameters
    ----------
    one, other : Sample
        Of at least 2 runs each, not both without any spread.

    Returns
    -------
    difference, (low, high), p : float, tuple of float, float
        The 95% interval of the difference of the means; two-sided p. Source: Welch, Biometrika
        34 (1947), with the degrees of freedom of Satterthwaite.
    """
    errors = [sample.std / math.sqrt(sample.count) for sample in (one, other)]
    error = math.hypot(*errors)
    freedom = 1 / sum(
        (part / error) ** 4 / (sample.count - 1) for part, sample in zip(errors, (one, other))
    )
    difference = one.mean - other.mean
    return (difference, *_student(difference, error, freedom))


def _student(difference, error, freedom):
    """The 95% interval of a difference with this standard error, and p, by Student's t."""
    half = _quantile(freedom) * error
    return (difference - half, difference + half), two_sided(difference / error, freedom)


def two_sided(t, freedom):
    """How likely chance makes a t of Student's at least as far from 0."""
    from scipy.special import stdtr  # scipy.stats takes a second to import

    return 2 * float(stdtr(freedom, -abs(t)))


def _quantile(freedom):
    """Student's t at the upper end of a 95% interval."""
    from scipy.special import stdtrit

    return float(stdtrit(freedom, 1 - LEVEL / 2))


def prediction(sample):
    """Half the width of the 95% interval in which one further run is to be expected."""
    return _quantile(sample.count - 1) * sample.std * math.sqrt(1 + 1 / sample.count)


def beside_paper(ours, published):
    """Our runs beside a number of the paper.

    Parameters
    ----------
    ours : Sample or None
        None: no run has finished.
    published : Sample
        Without ``std``: the paper prints no spread.

    Returns
    -------
    Verdict
    """
    if ours is None:
        return Verdict(NO_VERDICT, "no finished run")
    difference = ours.mean - published.mean
    if published.std is None:
        return _beside_a_number(ours, published, difference)
    if not published.std and not ours.std:
        return Verdict(NO_VERDICT, "neither side has any spread: no test is possible", difference)
    if ours.count == 1:
        apart = abs(difference) / published.std
        # The difference of printed numbers, where the last digit decides.
        within = round(abs(difference), 6) <= round(2 * published.std, 6)
        where = "within" if within else "outside"
        return Verdict(
            CONSISTENT if within else _direction(difference),
            f"one run: {where} two standard deviations ({apart:.2f})",
            difference,
        )
    difference, interval, p = welch(ours, published)
    return Verdict(_kind(difference, p), tested("Welch test", p), difference, interval, p)


def _beside_a_number(ours, published, difference):
    if ours.count == 1:
        text = "one run, and the paper prints no spread"
        return Verdict(NO_VERDICT, text, difference)
    if ours.std == 0:
        text = "our runs are all equal, and the paper prints no spread"
        return Verdict(NO_VERDICT, text, difference)
    error = ours.std / math.sqrt(ours.count)
    interval, p = _student(difference, error, ours.count - 1)
    text = tested("one-sample t-test; the paper prints no spread", p)
    return Verdict(_kind(difference, p), text, difference, interval, p)


def between(one, other):
    """Two sets of our own runs.

    Parameters
    ----------
    one, other : Sample or None

    Returns
    -------
    Verdict
        ``lower``: the first has the lower error.
    """
    if one is None or other is None:
        return Verdict(NO_VERDICT, "no finished run on one side")
    difference = one.mean - other.mean
    if one.count == other.count == 1:
        return Verdict(NO_VERDICT, "one run each: the spread is not known", difference)
    if 1 in (one.count, other.count):
        many = max(one, other, key=lambda sample: sample.count)
        half = prediction(many)
        within = abs(difference) <= half
        text = (
            f"one run against {many.count}: {'within' if within else 'outside'} the 95% "
            f"prediction interval of ±{half:.2f}"
        )
        interval = (difference - half, difference + half)
        if not many.std:
            text = f"one run against {many.count} that are all equal: the spread is not known"
            return Verdict(NO_VERDICT, text, difference)
        return Verdict(CONSISTENT if within else _direction(difference), text, difference, interval)
    if not one.std and not other.std:
        return Verdict(NO_VERDICT, "neither side has any spread: no test is possible", difference)
    difference, interval, p = welch(one, other)
    return Verdict(_kind(difference, p), tested("Welch test", p), difference, interval, p)


def _kind(difference, p):
    return CONSISTENT if p >= LEVEL else _direction(difference)


def _direction(difference):
    return LOWER if difference < 0 else HIGHER


def tested(test, p):
    """A test in words, with its p."""
    shown = f"p = {p:.2f}" if p >= 0.1 else f"p = {p:.3f}" if p >= 0.001 else "p < 0.001"
    # Rounded it would stand on the other side of the level.
    shown = f"p < {LEVEL}" if p < LEVEL and shown == f"p = {LEVEL:.3f}" else shown
    return f"{test}, {shown}"
