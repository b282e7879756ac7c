"""Verdicts on differences: the arithmetic beside SciPy's and NumPy's, on made-up runs."""

import inspect
import math
import random

import numpy as np
import pytest
from scipy import stats

from dmr_gluon.compare.statistics import (
    CONSISTENT,
    HIGHER,
    LOWER,
    NO_VERDICT,
    PAPER_RUNS,
    Sample,
    beside_paper,
    between,
    prediction,
    welch,
)

SEEDS = range(200)
#: Two sample standard deviations of five runs of which np.std is 0.04.
TWO = 2 * 0.04 * math.sqrt(5 / 4)


def for_every_seed(test):
    """One test with all seeds in turn."""

    def all_seeds(*arguments, **values):
        for seed in SEEDS:
            try:
                test(*arguments, seed=seed, **values)
            except AssertionError as error:
                raise AssertionError(f"with seed {seed}: {error}") from error

    signature = inspect.signature(test)
    others = [item for name, item in signature.parameters.items() if name != "seed"]
    all_seeds.__signature__ = signature.replace(parameters=others)
    all_seeds.__name__, all_seeds.__doc__ = test.__name__, test.__doc__
    return all_seeds


def made_up(seed, least=2, most=8):
    """Two sets of runs: of any size and spread, at the same place or far from each other."""
    rng = random.Random(seed)
    middle = rng.uniform(1, 40)
    sets = []
    for _ in range(2):
        spread = 10 ** rng.uniform(-3, 1)
        centre = middle + rng.choice((0, 0, spread, 10 * spread, 50))
        sets.append([rng.gauss(centre, spread) for _ in range(rng.randint(least, most))])
    return sets


def with_exactly(mean, std, count=PAPER_RUNS, seed=0, ddof=0):
    """Runs with exactly this mean and standard deviation, which the authors' np.std prints."""
    values = np.random.RandomState(seed).randn(count)
    values = (values - values.mean()) / values.std(ddof=ddof)
    return mean + std * values


def interval_of(values, others):
    """SciPy's 95% interval of Welch's test, which not every version of it gives."""
    parts = [np.var(sample, ddof=1) / len(sample) for sample in (values, others)]
    freedom = sum(parts) ** 2 / sum(
        part**2 / (len(sample) - 1) for part, sample in zip(parts, (values, others))
    )
    return stats.t.interval(
        0.95, freedom, loc=np.mean(values) - np.mean(others), scale=math.sqrt(sum(parts))
    )


class TestSamples:
    @for_every_seed
    def test_they_are_numpys(self, seed):
        for values in made_up(seed, most=9):
            sample = Sample.of(iter(values))
            assert sample.count == len(values)
            assert sample.mean == pytest.approx(np.mean(values), rel=1e-12)
            assert sample.std == pytest.approx(np.std(values, ddof=1), rel=1e-9)
            assert sample.median == np.median(values)
            assert sample.best == np.min(values)

    def test_of_none_and_of_one(self):
        assert Sample.of([]) is None
        assert Sample.of([5.25]) == Sample(1, 5.25, None, 5.25, 5.25)

    @pytest.mark.parametrize("value", [0, 0.1, 4.99, 100 / 3])
    def test_equal_results_have_no_spread(self, value):
        assert Sample.of([value] * 7).std == 0.0
        # 100 * (1 - 0.912) is not 8.8.
        assert Sample.of([value, value + 2e-15, value]).std == 0.0
        assert Sample.of([value, value + 1e-4]).std == pytest.approx(1e-4 / math.sqrt(2), rel=1e-9)

    def test_what_the_paper_prints(self):
        theirs = with_exactly(6.48, 0.04)
        assert np.std(theirs) == pytest.approx(0.04)  # as the authors' script prints it
        published = Sample.published("6.48", "0.04")
        assert (published.count, published.mean) == (5, 6.48)
        assert published.std == pytest.approx(Sample.of(theirs).std)
        assert Sample.published("3.94") == Sample(1, 3.94, None)
        assert Sample.published("3.94", "0.00") == Sample(5, 3.94, 0.0)


class TestWelch:
    @for_every_seed
    def test_it_is_scipys(self, seed):
        values, others = made_up(seed)
        difference, interval, p = welch(Sample.of(values), Sample.of(others))
        assert difference == pytest.approx(np.mean(values) - np.mean(others), abs=1e-12)
        assert p == pytest.approx(stats.ttest_ind(values, others, equal_var=False).pvalue, rel=1e-7)
        assert interval == pytest.approx(interval_of(values, others), abs=1e-7)

    def test_the_interval_is_that_of_newer_scipys(self):
        values, others = made_up(3)
        found = stats.ttest_ind(values, others, equal_var=False)
        if not hasattr(found, "confidence_interval"):
            pytest.skip("SciPy before 1.11 gives no interval")
        assert welch(Sample.of(values), Sample.of(others))[1] == pytest.approx(
            tuple(found.confidence_interval()), rel=1e-9
        )

    def test_a_side_without_a_spread_leaves_the_others_freedom(self):
        values, others = [5.0, 5.0, 5.0], [4.8, 5.1, 5.2, 4.9]
        _, interval, p = welch(Sample.of(values), Sample.of(others))
        test = stats.ttest_1samp(others, 5.0)
        assert p == pytest.approx(test.pvalue, rel=1e-9)
        assert interval == pytest.approx(interval_of(values, others), rel=1e-9)

    @pytest.mark.parametrize("scale", [1e-200, 1e-9, 1, 1e9, 1e150])
    def test_no_size_of_numbers_is_too_small_or_too_large(self, scale):
        one, other = Sample(3, 1.0 * scale, 0.5 * scale), Sample(4, 2.0 * scale, 0.7 * scale)
        _, (low, high), p = welch(one, other)
        _, usual, expected = welch(Sample(3, 1.0, 0.5), Sample(4, 2.0, 0.7))
        assert p == pytest.approx(expected, rel=1e-9)
        assert (low / scale, high / scale) == pytest.approx(usual, rel=1e-9)


class TestBesideThePaper:
    """The paper's five runs are only known by mean and standard deviation."""

    @pytest.mark.parametrize("printed", [("6.48", "0.04"), ("24.56", "0.69"), ("5.47", "0.46")])
    @for_every_seed
    def test_it_is_welchs_test_against_five_runs(self, seed, printed):
        rng = random.Random(seed)
        mean, std = map(float, printed)
        count, centre = rng.randint(2, 6), mean + rng.choice((0, 0, 1, -1, 5)) * std
        ours = [rng.gauss(centre, std * rng.choice((0.3, 1, 3))) for _ in range(count)]
        verdict = beside_paper(Sample.of(ours), Sample.published(*printed))
        theirs = with_exactly(mean, std, seed=seed)
        p = stats.ttest_ind(ours, theirs, equal_var=False).pvalue
        assert verdict.p == pytest.approx(p, rel=1e-7)
        assert verdict.interval == pytest.approx(interval_of(ours, theirs), abs=1e-7)
        assert verdict.difference == pytest.approx(np.mean(ours) - mean, abs=1e-9)
        side = LOWER if np.mean(ours) < mean else HIGHER
        assert verdict.kind == (CONSISTENT if p >= 0.05 else side)
        assert verdict.text.startswith("Welch test, p ")
        # Whether the interval has 0 in it and whether the test rejects are one question.
        low, high = verdict.interval
        assert (low <= 0 <= high) == (verdict.kind == CONSISTENT)

    @for_every_seed
    def test_without_a_spread_in_the_paper_it_is_the_one_sample_test(self, seed):
        rng = random.Random(seed)
        centre = 3.94 + rng.choice((0, 0.1, -0.5))
        ours = [rng.gauss(centre, 0.1) for _ in range(rng.randint(2, 6))]
        verdict = beside_paper(Sample.of(ours), Sample.published("3.94"))
        test = stats.ttest_1samp(ours, 3.94)
        assert verdict.p == pytest.approx(test.pvalue, rel=1e-7)
        error = np.std(ours, ddof=1) / math.sqrt(len(ours))
        low, high = stats.t.interval(0.95, len(ours) - 1, loc=np.mean(ours) - 3.94, scale=error)
        assert verdict.interval == pytest.approx((low, high), abs=1e-7)
        side = LOWER if np.mean(ours) < 3.94 else HIGHER
        assert verdict.kind == (CONSISTENT if test.pvalue >= 0.05 else side)
        assert "the paper prints no spread" in verdict.text

    @pytest.mark.parametrize(
        "error, kind, words",
        [
            (6.48, CONSISTENT, "within two standard deviations (0.00)"),
            (6.55, CONSISTENT, "within two standard deviations (1.57)"),
            (6.56, CONSISTENT, "within two standard deviations (1.79)"),  # two as printed
            (6.48 + TWO, CONSISTENT, "within two standard deviations (2.00)"),
            (6.48 - TWO, CONSISTENT, "within two standard deviations (2.00)"),
            (6.57, HIGHER, "outside two standard deviations (2.01)"),
            (6.39, LOWER, "outside two standard deviations (2.01)"),
            (80.0, HIGHER, "outside two standard deviations (1643.96)"),
        ],
    )
    def test_one_run(self, error, kind, words):
        verdict = beside_paper(Sample.of([error]), Sample.published("6.48", "0.04"))
        assert (verdict.kind, verdict.text) == (kind, f"one run: {words}")
        assert verdict.difference == pytest.approx(error - 6.48)
        assert verdict.p is None and verdict.interval is None

    def test_a_number_beside_the_limit_never_contradicts_the_verdict(self):
        verdict = beside_paper(
            Sample.of([5.47 + 2.04 * 0.514296]), Sample.published("5.47", "0.46")
        )
        assert (verdict.kind, verdict.text[-6:]) == (HIGHER, "(2.04)")

    @pytest.mark.parametrize(
        "ours, printed, words",
        [
            ([], ("6.48", "0.04"), "no finished run"),
            ([], ("3.94",), "no finished run"),
            ([3.9], ("3.94",), "one run, and the paper prints no spread"),
            ([3.9, 3.9], ("3.94",), "our runs are all equal, and the paper prints no spread"),
            ([3.9], ("3.94", "0.00"), "neither side has any spread: no test is possible"),
            ([3.9, 3.9], ("3.94", "0.00"), "neither side has any spread: no test is possible"),
        ],
    )
    def test_where_nothing_can_be_said(self, ours, printed, words):
        verdict = beside_paper(Sample.of(ours), Sample.published(*printed))
        assert (verdict.kind, verdict.text) == (NO_VERDICT, words)
        assert verdict.p is None and verdict.interval is None
        if ours:
            assert verdict.difference == pytest.approx(-0.04)

    def test_equal_runs_are_tested_with_the_papers_spread_alone(self):
        verdict = beside_paper(Sample.of([6.6] * 3), Sample.published("6.48", "0.04"))
        theirs = with_exactly(6.48, 0.04)
        assert verdict.p == pytest.approx(stats.ttest_1samp(theirs, 6.6).pvalue, rel=1e-9)
        assert verdict.kind == HIGHER


class TestBetween:
    @for_every_seed
    def test_it_is_the_same_from_both_sides(self, seed):
        rng = random.Random(seed)
        sets = made_up(seed, least=0, most=4)
        if rng.random() < 0.3:
            sets[0] = [5.0] * len(sets[0])
        if rng.random() < 0.3:
            sets[1] = [5.0 + rng.choice((0, 1))] * len(sets[1])
        one, other = map(Sample.of, sets)
        there, back = between(one, other), between(other, one)
        assert {there.kind, back.kind} in (
            *({NO_VERDICT}, {CONSISTENT}),
            {LOWER, HIGHER},
        )
        assert there.text == back.text and (there.p is None) == (back.p is None)
        if there.p is not None:
            assert there.p == pytest.approx(back.p, rel=1e-9)
        if there.difference is not None:
            assert there.difference == -back.difference
            assert (there.kind == LOWER) <= (one.mean < other.mean)
            assert (there.kind == HIGHER) <= (one.mean > other.mean)
        if there.interval:
            assert there.interval == pytest.approx((-back.interval[1], -back.interval[0]), rel=1e-9)

    @for_every_seed
    def test_two_runs_or_more_on_both_sides_are_welchs_test(self, seed):
        values, others = made_up(seed)
        verdict = between(Sample.of(values), Sample.of(others))
        p = stats.ttest_ind(values, others, equal_var=False).pvalue
        assert verdict.p == pytest.approx(p, rel=1e-7)
        side = LOWER if np.mean(values) < np.mean(others) else HIGHER
        assert verdict.kind == (CONSISTENT if p >= 0.05 else side)

    @for_every_seed
    def test_one_run_is_set_beside_the_others_prediction_interval(self, seed):
        rng = random.Random(seed)
        others = [rng.gauss(5, 0.1) for _ in range(rng.randint(2, 9))]
        one = 5 + rng.choice((0, 0.1, -0.3, 2))
        verdict = between(Sample.of([one]), Sample.of(others))
        count = len(others)
        scale = np.std(others, ddof=1) * math.sqrt(1 + 1 / count)
        low, high = stats.t.interval(0.95, count - 1, loc=np.mean(others), scale=scale)
        assert prediction(Sample.of(others)) == pytest.approx((high - low) / 2, rel=1e-7)
        side = LOWER if one < np.mean(others) else HIGHER
        assert verdict.kind == (CONSISTENT if low <= one <= high else side)
        assert (verdict.interval[0] <= 0 <= verdict.interval[1]) == (verdict.kind == CONSISTENT)
        assert f"one run against {count}: " in verdict.text
        assert f"interval of ±{(high - low) / 2:.2f}" in verdict.text

    def test_the_prediction_interval_holds_one_further_run_in_95_of_100(self):
        rng, trials = np.random.RandomState(1), 2000
        inside = 0
        for _ in range(trials):
            values = rng.normal(5, 0.1, 4)
            sample = Sample.of(values[:3])
            inside += abs(values[3] - sample.mean) <= prediction(sample)
        assert pytest.approx(inside / trials, abs=4 * math.sqrt(0.05 * 0.95 / trials)) == 0.95

    def test_where_nothing_differs_one_in_twenty_is_a_false_alarm(self):
        """Which of the two it is comes up equally often."""
        rng, trials = np.random.RandomState(2), 1000
        kinds = [
            between(Sample.of(rng.normal(5, 0.1, 4)), Sample.of(rng.normal(5, 0.1, 4))).kind
            for _ in range(trials)
        ]
        wrong = trials - kinds.count(CONSISTENT)
        # Welch's test of so few runs is a little more careful than it says.
        assert 0.03 * trials <= wrong <= 0.07 * trials
        assert abs(kinds.count(LOWER) - kinds.count(HIGHER)) <= 4 * math.sqrt(wrong)

    @pytest.mark.parametrize(
        "values, others, words",
        [
            ([], [5.0, 5.1], "no finished run on one side"),
            ([], [], "no finished run on one side"),
            ([5.0], [6.0], "one run each: the spread is unknown"),
            ([5.0], [6.0, 6.0], "one run against 2, all equal: the spread is unknown"),
            ([5.0, 5.0], [6.0, 6.0, 6.0], "neither side has any spread: no test is possible"),
            ([5.0, 5.0], [5.0, 5.0], "neither side has any spread: no test is possible"),
        ],
    )
    def test_where_nothing_can_be_said(self, values, others, words):
        for one, other in ((values, others), (others, values)):
            verdict = between(Sample.of(one), Sample.of(other))
            assert (verdict.kind, verdict.text) == (NO_VERDICT, words)
            assert verdict.p is None and verdict.interval is None
            if one and other:
                assert verdict.difference == np.mean(one) - np.mean(other)

    def test_values_that_are_close_and_values_that_are_far(self):
        close = between(Sample.of([5.0, 5.0 + 1e-12]), Sample.of([5.0, 5.0 + 2e-12]))
        assert close.kind == NO_VERDICT  # no image makes so small a difference
        far = between(Sample.of([0.0, 1e-4]), Sample.of([100.0, 100.0 - 1e-4]))
        assert (far.kind, far.text) == (LOWER, "Welch test, p < 0.001")
        assert 0 <= far.p < 1e-9 and far.difference == pytest.approx(-100 + 1e-4)
        same = between(Sample.of([5.0, 5.2]), Sample.of([5.0, 5.2]))
        assert (same.kind, same.p, same.text) == (CONSISTENT, 1.0, "Welch test, p = 1.00")


class TestWords:
    @staticmethod
    def ours(p, count=3):
        """Runs that the one-sample test finds so far from 5."""
        distance = stats.t.ppf(1 - p / 2, count - 1) * 0.1 / math.sqrt(count)
        return Sample.of(with_exactly(5 + distance, 0.1, count, ddof=1))

    @pytest.mark.parametrize(
        "p, kind, words",
        [
            (0.9, CONSISTENT, "p = 0.90"),
            (0.1234, CONSISTENT, "p = 0.12"),
            (0.0612, CONSISTENT, "p = 0.061"),
            (0.0501, CONSISTENT, "p = 0.050"),
            (0.0499, HIGHER, "p < 0.05"),  # not 0.050, which would be consistent
            (0.0123, HIGHER, "p = 0.012"),
            (0.00101, HIGHER, "p = 0.001"),
            (0.00099, HIGHER, "p < 0.001"),
        ],
    )
    def test_p(self, p, kind, words):
        verdict = beside_paper(self.ours(p), Sample.published("5"))
        assert verdict.p == pytest.approx(p, rel=1e-6)
        assert verdict.kind == kind and verdict.text.endswith(words)
