"""Statistics against rliable, scipy, hand-worked numbers, and simulation with stated error rates."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from loro_jax.analysis import statistics as s


def draws(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).gamma(2.0, 50.0, shape)


@pytest.mark.parametrize("runs", [1, 2, 3, 4, 5, 7, 16, 30, 255, 256])
@pytest.mark.parametrize("tasks", [1, 3])
def test_iqm_is_rliables(runs: int, tasks: int) -> None:
    metrics = pytest.importorskip("rliable.metrics")
    scores = draws(runs, runs, tasks)
    assert abs(s.iqm(scores) - metrics.aggregate_iqm(scores)) < 1e-12 * s.iqm(scores)


def test_iqm_by_hand() -> None:
    # Eight values: two are cut from each end. Seven: one from each end.
    assert s.iqm([100.0, 1, 2, 3, 4, 5, 6, -50]) == 3.5
    assert s.iqm([0.0, 1, 2, 3, 4, 5, 1000]) == 3.0


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(-5, 5), min_size=1, max_size=40), st.integers(0, 10_000))
def test_resamples_as_counts_equal_resamples_as_copies(values: list[int], seed: int) -> None:
    scores = np.array(values, np.float64)
    index = np.random.default_rng(seed).integers(0, len(scores), (30, len(scores)))
    counts = np.stack([np.bincount(row, minlength=len(scores)) for row in index], axis=1).astype(np.float64)
    copies = scores[index]
    np.testing.assert_allclose(s.weighted_mean(scores, counts), copies.mean(1), atol=1e-12)
    np.testing.assert_allclose(
        s.weighted_iqm(scores, counts), stats.trim_mean(copies, 0.25, axis=1), atol=1e-12
    )
    lower_median = np.sort(copies, axis=1)[:, (len(scores) - 1) // 2]
    np.testing.assert_array_equal(s.weighted_median_time(scores, counts), lower_median)


@pytest.mark.parametrize("tasks", [pytest.param(1, marks=pytest.mark.slow), 4])
def test_interval_is_rliables_within_monte_carlo_error(tasks: int) -> None:
    library = pytest.importorskip("rliable.library")
    metrics = pytest.importorskip("rliable.metrics")
    scores = draws(3, 64, tasks)
    np.random.seed(0)  # noqa: NPY002  rliable ignores its own random_state and draws from here
    _, theirs = library.get_interval_estimates(
        {"a": scores}, lambda x: np.array([metrics.aggregate_iqm(x)]), reps=5_000
    )
    ours = s.interval(scores, seed=1, resamples=20_000)
    # An end of a 95 % interval from 5,000 draws has a standard error of about 2.7 sd / sqrt(5,000).
    spread = (ours[1] - ours[0]) / (2 * 1.96)
    assert np.allclose(ours, theirs["a"][:, 0], atol=4 * 2.7 * spread / np.sqrt(5_000))


def test_stratified_bootstrap_draws_within_each_task() -> None:
    counts = s.resample(10, 3, seed=0, resamples=50)
    assert (counts.reshape(10, 3, 50).sum(axis=0) == 10).all()
    # Tasks on different scales and no spread within a task: nothing to resample.
    scores = np.repeat([[1.0, 10.0, 100.0]], 10, axis=0)
    low, high = s.interval(scores, s.weighted_mean, seed=0)
    assert low == pytest.approx(37.0) and high == pytest.approx(37.0)


def test_interval_covers_at_its_stated_rate() -> None:
    # 400 experiments of 64 normal runs. A percentile interval is a little short at this size: 93 to 95 %.
    # By chance alone (binomial, 0.94) the count leaves 0.90 to 0.975 less than once in 500 times.
    rng = np.random.default_rng(7)
    hits = 0
    for trial in range(400):
        low, high = s.interval(rng.normal(size=64), seed=trial, resamples=500)
        hits += low <= 0.0 <= high
    assert 0.90 <= hits / 400 <= 0.975


def test_band_equals_intervals_at_each_evaluation_and_one_seed_has_none() -> None:
    curves = draws(1, 20, 7)
    for statistic in (s.weighted_iqm, s.weighted_mean):
        centre, low, high = s.band(curves, statistic, seed=5)
        for e in range(7):
            assert (low[e], high[e]) == s.interval(curves[:, e], statistic, seed=5)
            assert low[e] <= centre[e] <= high[e]
    np.testing.assert_allclose(s.band(curves, seed=0)[0], [s.iqm(curves[:, e]) for e in range(7)])
    centre, low, high = s.band(curves[:1], seed=0)
    np.testing.assert_array_equal(centre, curves[0])
    assert np.isnan(low).all() and np.isnan(high).all()


def test_same_seed_same_interval_and_global_generator_untouched() -> None:
    before = np.random.get_state()[1].copy()  # type: ignore[index, union-attr]  # noqa: NPY002
    x = draws(0, 30)
    assert s.interval(x, seed=1) == s.interval(x, seed=1) != s.interval(x, seed=2)
    assert s.sign_flip(x - 90, seed=1) == s.sign_flip(x - 90, seed=1)
    np.testing.assert_array_equal(before, np.random.get_state()[1])  # type: ignore[index]  # noqa: NPY002


def test_steps_to_threshold_by_hand() -> None:
    steps = np.arange(1, 9) * 200
    curves = np.array(
        [
            [9, 200, 9, 200, 200, 200, 9, 9],  # one lucky episode at 400 is not enough
            [200, 200, 200, 200, 200, 200, 200, 200],
            [9, 9, 9, 9, 9, 9, 200, 200],
            [9, 9, 9, 9, 9, 200, 200, 200],
        ]
    )
    np.testing.assert_array_equal(
        s.steps_to_threshold(curves, steps, 195, window=3), [1200, 600, np.inf, 1600]
    )
    np.testing.assert_array_equal(s.steps_to_threshold(curves, steps, 195, window=1), [400, 200, 1400, 1200])
    # The mean of three 0.1s is a rounding error below 0.1, and a window longer than the curve is the curve.
    np.testing.assert_array_equal(s.steps_to_threshold([[0.1, 0.1, 0.1]], [1, 2, 3], 0.1, window=9), [3])


def test_censored_times_by_hand() -> None:
    found = s.censored_times([200.0, 400, np.inf, np.inf], 1000, seed=0)
    assert (found.median, found.restricted_mean, found.reached, found.censored) == (400, 650, 0.5, 2)
    assert found.median_ci == (200, np.inf)
    assert s.censored_times([200.0, np.inf, np.inf], 1000, seed=0).median == np.inf
    never = s.censored_times([np.inf] * 5, 1000, seed=0)
    assert (never.restricted_mean, never.restricted_mean_ci, never.reached) == (1000, (1000, 1000), 0)
    assert never.reached_ci[0] == 0 and 0.3 < never.reached_ci[1] < 0.6  # five failures do not prove "never"


def test_censored_median_is_scipys_kaplan_meier() -> None:
    times = draws(4, 41)
    budget = float(np.quantile(times, 0.7))
    data = stats.CensoredData.right_censored(np.minimum(times, budget), times > budget)
    survival = stats.ecdf(data).sf
    expected = survival.quantiles[np.flatnonzero(survival.probabilities <= 0.5)[0]]
    assert s.censored_times(np.where(times > budget, np.inf, times), budget, seed=0).median == expected


@pytest.mark.parametrize("integers", [True, False])
def test_probability_of_improvement_is_rliables(integers: bool) -> None:
    metrics = pytest.importorskip("rliable.metrics")
    x, y = draws(1, 40), draws(2, 40) * 1.2
    if integers:  # ties
        x, y = x // 40, y // 40
    expected = float(metrics.probability_of_improvement(x[:, None], y[:, None]))
    assert s.probability_of_improvement(x, y) == pytest.approx(expected, abs=1e-12)
    assert s.paired(x, y, seed=0).improvement == pytest.approx(expected, abs=1e-12)
    assert s.paired(x, y, seed=0, lower_is_better=True).improvement == pytest.approx(1 - expected, abs=1e-12)


def test_improvement_interval_resamples_pairs() -> None:
    x, y = draws(1, 12), draws(2, 12)
    index = np.random.default_rng(0).integers(0, 12, (4_000, 12))
    copies = [s.probability_of_improvement(x[i], y[i]) for i in index]
    found = s.paired(x, y, seed=0, resamples=4_000)
    assert np.allclose(found.improvement_ci, np.quantile(copies, [0.025, 0.975]), atol=0.03)


def test_censored_runs_rank_last_and_tie() -> None:
    fast, slow = np.array([100.0, np.inf, np.inf]), np.array([np.inf, np.inf, 300.0])
    found = s.paired(fast, slow, seed=0, lower_is_better=True, budget=1000)
    # 100 beats all three; each inf ties with the two infs and loses to 300: (3 + 1 + 1) / 9.
    assert found.improvement == pytest.approx(5 / 9)
    assert found.difference == pytest.approx((-900 + 0 + 700) / 3)


def test_paired_difference_ignores_what_seeds_share() -> None:
    shared = draws(0, 50) * 100
    gain = np.random.default_rng(1).normal(5, 1, 50)
    found = s.paired(shared + gain, shared, seed=0)
    assert found.difference == pytest.approx(gain.mean())
    assert 4 < found.difference_ci[0] < found.difference < found.difference_ci[1] < 6
    assert found.p_value < 0.001


def test_degenerate_comparisons() -> None:
    same = s.paired([3.0, 3, 3, 3], [3.0, 3, 3, 3], seed=0)
    assert same == s.Contrast(0.0, (0.0, 0.0), 0.5, (0.5, 0.5), 1.0)
    one = s.paired([3.0], [1.0], seed=0)
    assert (one.difference, one.improvement, one.p_value) == (2.0, 1.0, 1.0)
    assert np.isnan(one.difference_ci).all() and np.isnan(one.improvement_ci).all()
    assert s.interval([4.0, 4.0, 4.0], seed=0) == (4.0, 4.0)
    assert np.isnan(s.interval([4.0], seed=0)).all()


def test_sign_flip_is_exact_for_few_pairs() -> None:
    # Of 2^4 sign patterns only the observed one and its mirror have a sum this far from zero.
    assert s.sign_flip([1.0, 2, 3, 4], seed=0) == pytest.approx(2 / 16)
    # |1 + 2 - 3 + 4| = 4 or more: 1+2+3+4, -1+2+3+4, 1-2+3+4, 1+2-3+4, -1-2+3+4 and their mirrors.
    assert s.sign_flip([1.0, 2, -3, 4], seed=0) == pytest.approx(10 / 16)


def test_p_values_are_uniform_under_the_null() -> None:
    # 300 experiments of 16 pairs; the Kolmogorov-Smirnov test errs once in 1,000 times, and the share
    # below 0.05 leaves 0.01 to 0.10 by chance less than once in 1,000 times.
    rng = np.random.default_rng(11)
    p = np.array([s.sign_flip(rng.normal(size=16), seed=i, permutations=499) for i in range(300)])
    assert stats.kstest(p, "uniform").pvalue > 0.001
    assert 0.01 <= (p <= 0.05).mean() <= 0.10


def test_five_seeds_cannot_reach_significance_after_correction() -> None:
    # docs/statistics.md: the smallest two-sided p of five pairs is 2 / 2^5, whatever the effect.
    assert s.sign_flip([1e6] * 5, seed=0) == pytest.approx(0.0625)


@pytest.mark.slow
def test_what_five_seeds_cannot_show() -> None:
    # The table of docs/statistics.md; `pytest -m '' -k what_five_seeds -s` prints it. 300 experiments with a
    # true effect of half a standard deviation. The bounds are four standard errors around the table.
    rng = np.random.default_rng(0)
    table = {}
    for seeds in (5, 20, 64, 256):
        arm, baseline = rng.normal(0.5, 1, (300, seeds)), rng.normal(0, 1, (300, seeds))
        found = [
            s.paired(x, y, seed=0, resamples=300, permutations=499)
            for x, y in zip(arm, baseline, strict=True)
        ]
        covered = [low <= 0.5 <= high for low, high in (s.interval(x, seed=0, resamples=300) for x in arm)]
        table[seeds] = (
            np.mean([f.improvement_ci[1] - f.improvement_ci[0] for f in found]),
            np.mean([f.difference < 0 for f in found]),
            np.mean([f.p_value < 0.05 for f in found]),
            np.mean(covered),
        )
        print(f"| {seeds} |", " | ".join(f"{value:.2f}" for value in table[seeds]), "|")
    width, wrong, power, coverage = np.array(list(table.values())).T
    assert np.allclose(width, [0.64, 0.34, 0.19, 0.09], atol=0.05)
    assert 0.10 < wrong[0] < 0.30 and wrong[3] == 0
    assert power[0] == 0 and 0.18 < power[1] < 0.46 and 0.67 < power[2] < 0.90 and power[3] > 0.98
    assert coverage[0] < 0.95 and coverage[3] > 0.89


def test_holm_by_hand() -> None:
    # Sorted 0.005, 0.01, 0.03, 0.04 times 4, 3, 2, 1 is 0.02, 0.03, 0.06, 0.04; made monotone: 0.06 last.
    np.testing.assert_allclose(s.holm([0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02])
    np.testing.assert_allclose(s.holm([0.9, 0.8]), [1.0, 1.0])
    np.testing.assert_allclose(s.holm([0.02]), [0.02])
    assert s.holm([]).shape == (0,)


def lost(values: list[float], *places: int, worst: float = -np.inf) -> np.ndarray:
    """Ranks of values of which those at `places` diverged."""
    found = s.ranked(np.array(values), np.isin(np.arange(len(values)), places), worst)
    assert found is not None
    return found


def slow_cut(values: np.ndarray, gone: np.ndarray, cut: int) -> float:
    """Mean without `cut` runs at each end, the worst being those that diverged, the best of them first."""
    runs = sorted(zip(gone, values, strict=True), key=lambda run: (not run[0], -run[1] if run[0] else run[1]))
    return float(np.mean([value for _, value in runs[cut : len(runs) - cut]]))


def test_filled_by_hand() -> None:
    curves = [[1.0, 2, 3], [4, np.nan, np.nan], [np.nan] * 3]
    values, diverged = s.filled(curves, -7.0)
    assert values.tolist() == [[1, 2, 3], [4, -7, -7], [-7, -7, -7]]
    assert diverged.tolist() == [False, True, True]
    whole = np.array([[0.1, 0.2]], np.float32)
    for level in (None, 5.0):
        values, diverged = s.filled(whole, level)
        assert (values == whole).all() and values.dtype == np.float64 and not diverged.any()
    for bad in ([[np.nan, 1.0]], [[1.0, np.inf]], [[-np.inf, np.nan]]):
        with pytest.raises(ValueError, match="not finite"):
            s.filled(bad, 0.0)
    for level in (None, np.nan, np.inf):
        with pytest.raises(ValueError, match="2 curves are not finite to their end"):
            s.filled(curves, level)


def test_iqm_and_median_of_runs_that_diverged_by_hand() -> None:
    values = [10.0, 20, 30, 40, 50, 60, 70, 80]
    # From the worst: 80 and 20, which diverged, 10, 30, 40, 50, 60, 70.
    ranks = lost(values, 1, 7)
    assert s.iqm(values, ranks) == (10 + 30 + 40 + 50) / 4
    assert s.median(np.array(values), ranks) == (30 + 40) / 2
    # 80, 70, 20; 10, 30, 40, 50, 60: more than a quarter diverged, and the least of them is not cut.
    ranks = lost(values, 1, 6, 7)
    assert s.iqm(values, ranks) == (20 + 10 + 30 + 40) / 4
    assert s.median(np.array(values), ranks) == (10 + 30) / 2
    # One good run that diverged late is the worst, not the middle: 1000, 2, 1; 3, 4, 5, 6, 7.
    values = [1.0, 2, 3, 4, 5, 6, 7, 1000]
    assert s.iqm(values, lost(values, 0, 1, 7)) == (1 + 3 + 4 + 5) / 4
    # Five runs, one cut from each end: 9; 1, 2, 2, 3. All diverged: as if none had.
    values = [9.0, 2, 1, 2, 3]
    assert s.iqm(values, lost(values, 0)) == pytest.approx(5 / 3)
    assert s.median(np.array(values), lost(values, 0)) == 2
    assert s.iqm(values, lost(values, *range(5))) == pytest.approx((3 + 2 + 2) / 3)
    assert s.iqm([5.0], lost([5.0], 0)) == s.median(np.array([5.0]), lost([5.0], 0)) == 5
    # Where less is better the runs that diverged are at the other end: 1, 2, 3; 9, 4.
    values = [4.0, 1, 2, 9, 3]
    assert s.iqm(values, lost(values, 0, 3, worst=np.inf)) == pytest.approx((2 + 3 + 9) / 3)


RUNS = st.lists(st.tuples(st.booleans(), st.integers(-5, 5)), min_size=1, max_size=20)


@settings(deadline=None, max_examples=100)
@given(RUNS, st.integers(0, 10_000))
def test_runs_that_diverged_in_every_resample(runs: list[tuple[bool, int]], seed: int) -> None:
    gone, values = np.array([g for g, _ in runs]), np.array([v for _, v in runs], np.float64)
    ranks, n = s.ranked(values, gone), len(runs)
    assert s.iqm(values, ranks) == pytest.approx(slow_cut(values, gone, n // 4), abs=1e-12)
    assert s.median(values, ranks) == pytest.approx(slow_cut(values, gone, (n - 1) // 2), abs=1e-12)
    counts = s.resample(n, 1, seed, 40)
    copies = [np.repeat(np.arange(n), column.astype(int)) for column in counts.T]
    expected = [slow_cut(values[i], gone[i], n // 4) for i in copies]
    np.testing.assert_allclose(s.weighted_iqm(values, counts, ranks), expected, atol=1e-12)
    if n > 1:
        ends = s.interval(values, seed=seed, resamples=40, ranks=ranks)
        np.testing.assert_allclose(ends, np.quantile(expected, [0.025, 0.975]), atol=1e-12)


@settings(deadline=None, max_examples=100)
@given(RUNS, st.lists(st.integers(-5, 5), min_size=1, max_size=20))
def test_to_diverge_is_never_better(runs: list[tuple[bool, int]], others: list[int]) -> None:
    gone, values = np.array([g for g, _ in runs]), np.array([v for _, v in runs], np.float64)
    ranks = s.ranked(values, gone)
    assert s.iqm(values, ranks) <= s.iqm(values) + 1e-12
    assert s.median(values, ranks) <= s.median(values)
    by = values if ranks is None else ranks
    assert s.probability_of_improvement(by, others) <= s.probability_of_improvement(values, others)
    late = s.ranked(values, gone, np.inf)  # the same where less is better
    assert s.iqm(values, late) >= s.iqm(values) - 1e-12
    by = values if late is None else late
    assert s.probability_of_improvement(by, others) >= s.probability_of_improvement(values, others)


@settings(deadline=None, max_examples=40)
@given(st.lists(st.integers(-3, 3), min_size=2, max_size=30))
def test_ranks_change_no_bit_where_no_run_diverged(whole: list[int]) -> None:
    values = np.array(whole) / 7  # with ties
    assert s.ranked(values, np.zeros(len(values), bool)) is None
    counts = s.resample(len(values), 1, 0, 50)
    for statistic in (s.weighted_iqm, s.weighted_mean):
        np.testing.assert_array_equal(statistic(values, counts, values), statistic(values, counts))
    assert s.interval(values, seed=0, resamples=50, ranks=values) == s.interval(values, seed=0, resamples=50)
    arms = (values, values[::-1])
    assert s.paired(*arms, seed=0, resamples=50, ranks=arms) == s.paired(*arms, seed=0, resamples=50)
    curves = np.stack([values, values**2], axis=1)
    for ours, plain in zip(s.band(curves, seed=0, ranks=curves), s.band(curves, seed=0), strict=True):
        np.testing.assert_array_equal(ours, plain)


def test_band_of_runs_that_diverge_by_hand() -> None:
    # Of four runs one is cut from each end. The best is the worst from the second evaluation on.
    curves = np.array([[1.0, 1, 1], [2, 2, 2], [3, 3, np.nan], [9, np.nan, np.nan]])
    values, _ = s.filled(curves, 0.5)
    ranks = s.ranked(values, np.isnan(curves))
    centre, low, high = s.band(values, seed=3, ranks=ranks)
    # 1 2 3 9; 0.5, 1 2 3; 0.5 0.5, 1 2.
    assert centre.tolist() == [2.5, 1.5, 0.75]
    counts = s.resample(4, 1, 3)
    for e in range(3):
        drawn = [
            slow_cut(values[i, e], np.isnan(curves[i, e]), 1)
            for i in (np.repeat(np.arange(4), column.astype(int)) for column in counts.T)
        ]
        np.testing.assert_allclose((low[e], high[e]), np.quantile(drawn, [0.025, 0.975]), atol=1e-12)
    # Means take the values as they are.
    assert s.band(values, s.weighted_mean, seed=3, ranks=ranks)[0].tolist() == [15 / 4, 6.5 / 4, 4 / 4]


def test_pairs_that_diverged_by_hand() -> None:
    arm, baseline = [10.0, 20, 30, 25], [12.0, 15, 15, 15]
    found = s.paired(arm, baseline, seed=0, ranks=(lost(arm, 3), None))
    assert found.difference == (-2 + 5 + 15 + 10) / 4
    assert found.improvement == 2 / 4 - 0 / 16  # 20 and 30 beat all four, 10 and what diverged none
    # Sums of -2, 5, 15 and 10 with any signs that are 28 or more from zero: 28, 32 and their mirrors.
    assert found.p_value == pytest.approx(4 / 16)
    # The baseline's 12 diverged: 10 beats it, and what diverged in both ties.
    ranks = lost(arm, 3), lost(baseline, 0)
    found = s.paired(arm, baseline, seed=0, ranks=ranks)
    assert found.improvement == (1 + 4 + 4 + 0.5) / 16
    assert (found.difference, found.p_value) == (7, pytest.approx(4 / 16))
    drawn = [
        s.probability_of_improvement(ranks[0][i], ranks[1][i])
        for i in (np.repeat(np.arange(4), column.astype(int)) for column in s.resample(4, 1, 0).T)
    ]
    assert found.improvement_ci == pytest.approx(tuple(np.quantile(drawn, [0.025, 0.975])))
    # All of both: they tie, whatever they had.
    both = lost(arm, *range(4)), lost(baseline, *range(4))
    assert s.paired(arm, baseline, seed=0, ranks=both).improvement_ci == (0.5, 0.5)
    one = s.paired([3.0], [1.0], seed=0, ranks=(lost([3.0], 0), None))
    assert (one.difference, one.improvement, one.p_value) == (2.0, 0.0, 1.0)


@pytest.mark.parametrize("bad", [[1.0, np.nan], [np.inf, 1.0], []])
def test_what_is_not_finite_is_refused(bad: list[float]) -> None:
    for call in (s.iqm, lambda x: s.interval(x, seed=0), lambda x: s.sign_flip(x, seed=0)):
        with pytest.raises(ValueError, match=r"not finite|no values"):
            call(bad)
    with pytest.raises(ValueError, match="numbers or inf"):
        s.censored_times([np.nan], 10, seed=0)
    with pytest.raises(ValueError, match="equal length"):
        s.paired([1.0, 2.0], [1.0], seed=0)


def test_import_is_light() -> None:
    heavy = "('jax', 'matplotlib', 'pandas')"
    code = f"import sys, loro_jax.analysis.statistics; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_unpaired_by_hand() -> None:
    """Of 10 ways to choose 2 of 1 2 3 10 11, only the observed one has a mean so far above the rest."""
    found = s.unpaired([10.0, 11], [1.0, 2, 3], seed=0)
    assert (found.difference, found.improvement) == (8.5, 1.0)
    assert found.p_value == pytest.approx(2 / 10)
    assert found.difference_ci[0] < 8.5 < found.difference_ci[1] and found.improvement_ci == (1.0, 1.0)
    times = s.unpaired([10.0, np.inf], [np.inf, 20, 30], seed=0, lower_is_better=True, budget=40)
    assert times.difference == 25 - 30 and times.improvement == (3 + 0.5) / 6
    ranks = np.array([-np.inf, 11.0]), None
    assert s.unpaired([10.0, 11], [1.0, 2, 3], seed=0, ranks=ranks).improvement == 0.5
    one = s.unpaired([3.0], [1.0, 2], seed=0)
    assert np.isnan(one.difference_ci).all() and one.p_value == 1.0
    assert s.unpaired([3.0], [1.0], seed=0).p_value == 1.0
    assert s.unpaired([3.0, 3], [3.0, 3, 3], seed=0) == s.Contrast(0.0, (0.0, 0.0), 0.5, (0.5, 0.5), 1.0)
    with pytest.raises(ValueError, match="two lists"):
        s.unpaired([[1.0]], [1.0], seed=0)


def test_unpaired_draws_each_arm_on_its_own() -> None:
    """Equal arms: pairs would cancel, and their interval would have no width."""
    x = draws(1, 40)
    low, high = s.unpaired(x, x, seed=0).difference_ci
    expected = 2 * 1.96 * x.std() * (2 / 40) ** 0.5
    assert high - low == pytest.approx(expected, rel=0.1)
    index = np.random.default_rng(0).integers(0, 40, (2, 4_000, 40))
    copies = [s.probability_of_improvement(x[i], x[j]) for i, j in zip(*index, strict=True)]
    ends = s.unpaired(x, x, seed=0, resamples=4_000).improvement_ci
    assert np.allclose(ends, np.quantile(copies, [0.025, 0.975]), atol=0.02)


def test_unpaired_p_values_are_uniform_under_the_null() -> None:
    rng = np.random.default_rng(12)
    p = [s.regrouping(rng.normal(size=12), rng.normal(size=20), seed=i, permutations=499) for i in range(300)]
    assert stats.kstest(p, "uniform").pvalue > 0.001
    assert 0.01 <= (np.array(p) <= 0.05).mean() <= 0.10


def test_the_smallest_p_is_what_the_tests_give() -> None:
    for runs in (2, 5, 9):
        assert s.smallest_p(runs, None) == pytest.approx(s.sign_flip(np.arange(1.0, runs + 1) + 9, seed=0))
        there = s.regrouping(np.arange(runs) + 99.0, np.arange(4.0), seed=0)
        assert s.smallest_p(runs, 4) == pytest.approx(there)
    assert s.smallest_p(64, None, 999) == pytest.approx(s.sign_flip([1.0] * 64, seed=0, permutations=999))
    assert s.smallest_p(1, None) == s.smallest_p(1, 5) == 1.0


def test_what_is_detectable_by_hand() -> None:
    """64 pairs that scatter by 1: an error of 1/8, times 1.998 + 0.847 (Student's quantiles, 63)."""
    x = np.repeat([-1.0, 1.0], 32) * np.sqrt(63 / 64)
    assert s.detectable(x, 0.05) == pytest.approx((1.998 + 0.847) / 8, abs=1e-3)
    assert s.detectable((x, x), 0.05) == pytest.approx((1.979 + 0.844) / 8 * 2**0.5, abs=1e-3)
    assert s.detectable(x, 0.001) > s.detectable(x, 0.01) and s.detectable(x, 0.05, 0.9) > s.detectable(
        x, 0.05
    )
    assert s.detectable([2.0, 2.0], 0.05) == 0 and s.detectable([2.0], 0.05) == np.inf
    assert s.detectable((x, np.array([1.0])), 0.05) == np.inf
