"""The suite's statistics: pure functions on numpy arrays, explained in docs/statistics.md.

Axes: `scores` is (seeds,), or (seeds, tasks) where several tasks are aggregated; `curves` is
(seeds, evaluations); a time is inf where the threshold was never reached. Every bootstrap takes an
integer `seed` of its own and resamples *whole runs* (stratified by task), so that two calls with equal
arguments give equal numbers. Values that are not finite are a `ValueError`, never a silent NaN.

A run that diverged has NaN on its curve from there on. `filled` puts the random policy's return there for
means and differences; in everything that goes by rank such a run is the worst, whatever it had before. That
is said by `ranks`, which stand beside the values with the same shape: -inf where a run diverged (inf for
times), else the values themselves.

A resample is written as how often it drew each run, `counts` (runs, resamples), instead of as copies
of the runs: the mean is then one matrix product and the interquartile mean one cumulative sum, which
keeps 256 seeds x 150 evaluations x 2,000 resamples under a second and within a few megabytes.

Sources: Agarwal et al., "Deep reinforcement learning at the edge of the statistical precipice"
(NeurIPS 2021) for the interquartile mean, the stratified bootstrap and the probability of improvement;
Holm (1979) for the correction; Wilson (1927) for the interval of a share.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import stats

Floats = npt.NDArray[np.float64]
Statistic = Callable[..., Floats]
"""values (runs,), counts (runs, resamples) and, where some runs diverged, ranks (runs,) -> (resamples,)."""
Interval = tuple[float, float]
NO_INTERVAL: Interval = (float("nan"), float("nan"))

RESAMPLES = 2_000
LEVEL = 0.95
SEED = 0  # of every bootstrap and permutation test behind a table or a figure
TRIM = 0.25  # share cut from each end by the interquartile mean


class Contrast(NamedTuple):
    """One arm against a baseline; intervals are 95 % unless asked otherwise.

    Attributes:
        difference: mean of the arm less that of the baseline, in the metric's unit.
        difference_ci: bootstrap interval over pairs of runs, or over each arm's runs; NaN with a single run.
        improvement: probability that a run of the arm is better than a run of the baseline.
        improvement_ci: bootstrap interval likewise.
        p_value: two-sided permutation test of "the arm makes no difference", by the difference of means.
    """

    difference: float
    difference_ci: Interval
    improvement: float
    improvement_ci: Interval
    p_value: float

    def __str__(self) -> str:
        low, high = self.difference_ci
        below, above = self.improvement_ci
        return (
            f"difference {self.difference:+,.4g} [{low:+,.4g}, {high:+,.4g}]; P(improvement)"
            f" {self.improvement:.2f} [{below:.2f}, {above:.2f}]; p {self.p_value:.4f}, not corrected"
        )


class Times(NamedTuple):
    """Times to a threshold with the runs that never reached it censored at the budget.

    Attributes:
        median: Kaplan-Meier median, inf where fewer than half of the runs reached the threshold.
        median_ci: bootstrap interval; an end is inf where that end lies beyond the budget.
        restricted_mean: mean of min(time, budget): the mean time spent below the threshold.
        restricted_mean_ci: bootstrap interval.
        reached: share of the runs that reached the threshold.
        reached_ci: Wilson interval.
        censored: number of runs that did not.
    """

    median: float
    median_ci: Interval
    restricted_mean: float
    restricted_mean_ci: Interval
    reached: float
    reached_ci: Interval
    censored: int


def filled(curves: npt.ArrayLike, random_return: float | None) -> tuple[Floats, npt.NDArray[np.bool_]]:
    """Curves (seeds, evaluations) with the random policy's return where they are NaN, and which seeds were.

    Raises:
        ValueError: a value is infinite, a curve goes on after it became NaN, or `random_return` is needed
            and is not a finite number.
    """
    values = np.asarray(curves, np.float64)
    lost: npt.NDArray[np.bool_] = np.isnan(values)
    if np.isinf(values).any() or (lost[:, :-1] & ~lost[:, 1:]).any():
        raise ValueError("a curve holds values that are not finite, and goes on after them")
    diverged = np.asarray(lost.any(axis=1))
    if diverged.any() and (random_return is None or not np.isfinite(random_return)):
        raise ValueError(
            f"{diverged.sum()} curves are not finite to their end, and no random return is given"
        )
    return np.where(lost, 0.0 if random_return is None else random_return, values), diverged


def ranked(values: Floats, lost: npt.NDArray[np.bool_], worst: float = -np.inf) -> Floats | None:
    """The values (runs, ...), `worst` where `lost`; None where none is, since they are ranks then."""
    return np.where(lost, worst, values) if lost.any() else None


def iqm(scores: npt.ArrayLike, ranks: Floats | None = None) -> float:
    """Interquartile mean over all runs (and tasks): int(n / 4) values are cut from each end.

    Below four values nothing is cut and it is the mean, as in rliable.
    """
    values = _finite(scores)
    if ranks is not None:
        return float(weighted_iqm(values.ravel(), np.ones((values.size, 1)), ranks.ravel())[0])
    return float(stats.trim_mean(values, TRIM, axis=None))


def median(scores: Floats, ranks: Floats | None = None) -> float:
    """Median of (runs,), by rank where ranks are given."""
    if ranks is None:
        return float(np.median(scores))
    middle = scores[_order(scores, ranks)][(len(scores) - 1) // 2 : len(scores) // 2 + 1]
    return float(middle.mean())


def weighted_mean(values: Floats, counts: Floats, ranks: Floats | None = None) -> Floats:
    """Mean of each resample: values (runs,), counts (runs, resamples) -> (resamples,); without ranks."""
    return values @ counts / counts[:, 0].sum()


def weighted_iqm(values: Floats, counts: Floats, ranks: Floats | None = None) -> Floats:
    """Interquartile mean of each resample: values (runs,), counts (runs, resamples) -> (resamples,)."""
    runs = len(values)
    cut = int(TRIM * runs)
    order = _order(values, ranks)
    ranked = values[order]
    kept = counts[order]
    np.cumsum(kept, axis=0, out=kept)
    np.clip(kept, cut, runs - cut, out=kept)
    # Row i of `kept` less row i - 1 is how often value i survives the cut; summed by parts:
    total = ranked[-1] * (runs - cut) - ranked[0] * cut - np.diff(ranked) @ kept[:-1]
    return total / (runs - 2 * cut)


def weighted_median_time(values: Floats, counts: Floats) -> Floats:
    """Kaplan-Meier median of each resample: the first time by which half of its runs had reached.

    All runs are censored at one time, the budget, where the Kaplan-Meier estimate is one minus the
    share that has reached. values (runs,) may be inf; counts (runs, resamples) -> (resamples,).
    """
    order = np.argsort(values)
    reached = np.cumsum(counts[order], axis=0)
    return values[order][(2 * reached >= len(values)).argmax(axis=0)]


@functools.lru_cache(maxsize=4)  # one summary asks for the same 4 MB more than a hundred times
def resample(runs: int, tasks: int, seed: int, resamples: int = RESAMPLES) -> Floats:
    """How often each run is drawn: (runs * tasks, resamples), each task resampled on its own; read-only."""
    rng = np.random.default_rng(seed)
    draws = rng.multinomial(runs, np.full(runs, 1 / runs), size=(resamples, tasks))
    counts = np.ascontiguousarray(draws.transpose(2, 1, 0).reshape(runs * tasks, resamples), np.float64)
    counts.flags.writeable = False
    return counts


def interval(
    scores: npt.ArrayLike,
    statistic: Statistic = weighted_iqm,
    *,
    seed: int,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
    ranks: Floats | None = None,
) -> Interval:
    """Percentile bootstrap interval of `statistic` over (seeds,) or, stratified, (seeds, tasks).

    One seed has no spread to estimate: its interval is (nan, nan).
    """
    values = _finite(scores)
    values = values.reshape(len(values), -1)
    if len(values) < 2:
        return (float("nan"), float("nan"))
    by = () if ranks is None else (ranks.ravel(),)
    return _ends(statistic(values.ravel(), resample(*values.shape, seed, resamples), *by), level)


def band(
    curves: npt.ArrayLike,
    statistic: Statistic = weighted_iqm,
    *,
    seed: int,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
    ranks: Floats | None = None,
) -> tuple[Floats, Floats, Floats]:
    """Pointwise centre, lower and upper end, each (evaluations,), of curves (seeds, evaluations).

    Whole runs are resampled, the same for every evaluation. With one seed both ends are NaN.
    """
    values = _finite(curves)
    seeds, evaluations = values.shape
    once = np.ones((seeds, 1))

    def at(e: int, counts: Floats) -> Floats:
        return statistic(values[:, e], counts, *(() if ranks is None else (ranks[:, e],)))

    centre = np.array([at(e, once)[0] for e in range(evaluations)])
    if seeds < 2:
        return centre, np.full(evaluations, np.nan), np.full(evaluations, np.nan)
    counts = resample(seeds, 1, seed, resamples)
    tail = (1 - level) / 2
    ends = [np.quantile(at(e, counts), (tail, 1 - tail)) for e in range(evaluations)]
    low, high = np.array(ends).T
    return centre, low, high


def steps_to_threshold(
    curves: npt.ArrayLike, env_steps: npt.ArrayLike, threshold: float, window: int = 5
) -> Floats:
    """Environment steps at which each run first holds the threshold, (seeds,); inf where it never does.

    A run holds the threshold at an evaluation if the mean of that evaluation and the `window` - 1
    before it is at least `threshold`: one greedy episode is too noisy to call a task solved by. The
    time is the *last* evaluation of the window, when an observer would know. `curves` (seeds,
    evaluations), `env_steps` (evaluations,); a curve shorter than the window is one window.
    """
    values, steps = _finite(curves), _finite(env_steps)
    window = max(1, min(window, values.shape[1]))
    # From 15 digits on, a mean of equal values may fall a rounding error below the threshold.
    held = np.lib.stride_tricks.sliding_window_view(values, window, axis=1).mean(-1) >= threshold - 1e-9
    first = held.argmax(axis=1) + window - 1
    return np.where(held.any(axis=1), steps[first], np.inf)


def censored_times(times: npt.ArrayLike, budget: float, *, seed: int, resamples: int = RESAMPLES) -> Times:
    """Summary of times (seeds,), inf where the threshold was not reached within `budget`."""
    values = np.asarray(times, np.float64)
    if np.isnan(values).any() or len(values) == 0:
        raise ValueError("times must be numbers or inf, and at least one")
    restricted = np.minimum(values, budget)
    reached = int(np.isfinite(values).sum())
    share = stats.binomtest(reached, len(values)).proportion_ci(LEVEL, method="wilson")
    median_ci: Interval = (float("nan"), float("nan"))
    if len(values) > 1:
        medians = weighted_median_time(values, resample(len(values), 1, seed, resamples))
        median_ci = _ends(medians, LEVEL, method="inverted_cdf")  # interpolating towards inf gives NaN
    return Times(
        median=float(weighted_median_time(values, np.ones((len(values), 1)))[0]),
        median_ci=median_ci,
        restricted_mean=float(restricted.mean()),
        restricted_mean_ci=interval(restricted, weighted_mean, seed=seed, resamples=resamples),
        reached=reached / len(values),
        reached_ci=(float(share.low), float(share.high)),
        censored=len(values) - reached,
    )


def probability_of_improvement(x: npt.ArrayLike, y: npt.ArrayLike) -> float:
    """P(X > Y) + P(X = Y) / 2 over all pairs of a run of x and a run of y; inf ties with inf."""
    return float(_wins(np.asarray(x, np.float64), np.asarray(y, np.float64)).mean())


def paired(
    arm: npt.ArrayLike,
    baseline: npt.ArrayLike,
    *,
    seed: int,
    lower_is_better: bool = False,
    budget: float = np.inf,
    resamples: int = RESAMPLES,
    permutations: int = 9_999,
    ranks: tuple[Floats | None, Floats | None] = (None, None),
) -> Contrast:
    """Compares arm (seeds,) with baseline (seeds,), entry i of both being seed i.

    The estimate of improvement is rliable's, over all pairs of runs; its interval resamples *seeds*,
    taking both arms' runs of a seed together, because they share their initial weights and starts. In
    differences a time of inf counts as `budget`; in ranks it is the latest, tied with every other inf.
    `ranks` are those of the arm and of the baseline.
    The test is exact up to 13 seeds and drawn with `permutations` sign flips above.
    """
    x, y = np.asarray(arm, np.float64), np.asarray(baseline, np.float64)
    if x.shape != y.shape or x.ndim != 1:
        raise ValueError(f"paired runs must be two lists of equal length, not {x.shape} and {y.shape}")
    difference = _finite(np.minimum(x, budget)) - _finite(np.minimum(y, budget))
    wins = _better(x, y, ranks, lower_is_better)
    difference_ci = improvement_ci = NO_INTERVAL
    if len(x) > 1:
        counts = resample(len(x), 1, seed, resamples)
        difference_ci = _ends(weighted_mean(difference, counts))
        improvement_ci = _ends(np.einsum("ir,ir->r", counts, wins @ counts) / len(x) ** 2)
    return Contrast(
        difference=float(difference.mean()),
        difference_ci=difference_ci,
        improvement=float(wins.mean()),
        improvement_ci=improvement_ci,
        p_value=sign_flip(difference, seed=seed, permutations=permutations),
    )


def unpaired(
    arm: npt.ArrayLike,
    baseline: npt.ArrayLike,
    *,
    seed: int,
    lower_is_better: bool = False,
    budget: float = np.inf,
    resamples: int = RESAMPLES,
    permutations: int = 9_999,
    ranks: tuple[Floats | None, Floats | None] = (None, None),
) -> Contrast:
    """Compares arm (runs,) with baseline (other runs,), which have nothing in common; otherwise as `paired`.

    The bootstrap draws each arm's runs on its own. The test gives the runs to the two arms anew: all ways
    where they are no more than `permutations`, else so many random ones.
    """
    x, y = np.asarray(arm, np.float64), np.asarray(baseline, np.float64)
    if x.ndim != 1 or y.ndim != 1:
        raise ValueError(f"runs must be two lists, not {x.shape} and {y.shape}")
    finite = _finite(np.minimum(x, budget)), _finite(np.minimum(y, budget))
    wins = _better(x, y, ranks, lower_is_better)
    difference_ci = improvement_ci = NO_INTERVAL
    if min(len(x), len(y)) > 1:
        # Of two seeds: with one, equal numbers of runs would be drawn in pairs.
        mine, theirs = resample(len(x), 1, seed, resamples), resample(len(y), 1, seed + 1, resamples)
        difference_ci = _ends(weighted_mean(finite[0], mine) - weighted_mean(finite[1], theirs))
        improvement_ci = _ends(np.einsum("ir,ir->r", mine, wins @ theirs) / wins.size)
    return Contrast(
        difference=float(finite[0].mean() - finite[1].mean()),
        difference_ci=difference_ci,
        improvement=float(wins.mean()),
        improvement_ci=improvement_ci,
        p_value=regrouping(*finite, seed=seed, permutations=permutations),
    )


def sign_flip(differences: npt.ArrayLike, *, seed: int, permutations: int = 9_999) -> float:
    """Two-sided p-value that paired differences (seeds,) have mean zero; 1.0 where all are zero."""
    values = _finite(differences)
    if len(values) < 2 or not values.any():
        return 1.0
    test = stats.permutation_test(
        (values, np.zeros_like(values)),
        lambda a, b, axis: np.mean(a - b, axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=permutations,
        batch=1_000,
        rng=np.random.default_rng(seed),
    )
    return float(test.pvalue)


def regrouping(x: npt.ArrayLike, y: npt.ArrayLike, *, seed: int, permutations: int = 9_999) -> float:
    """Two-sided p-value that runs x (runs,) and y (other runs,) are of one distribution, by their means.

    1.0 where all are equal, or either is a single run.
    """
    first, second = _finite(x), _finite(y)
    pooled = np.concatenate([first, second])
    if min(len(first), len(second)) < 2 or (pooled == pooled[0]).all():
        return 1.0
    test = stats.permutation_test(
        (first, second),
        lambda a, b, axis: np.mean(a, axis=axis) - np.mean(b, axis=axis),
        permutation_type="independent",
        vectorized=True,
        n_resamples=permutations,
        batch=1_000,
        rng=np.random.default_rng(seed),
    )
    return float(test.pvalue)


def smallest_p(runs: int, others: int | None, permutations: int = 9_999) -> float:
    """The smallest p-value that `sign_flip` can give of so many pairs, `regrouping` of `runs` and `others`.

    Of five pairs it is 2 / 32, however large their differences.
    """
    if min(runs, runs if others is None else others) < 2:
        return 1.0
    ways = 2**runs if others is None else math.comb(runs + others, runs)
    return min(1.0, 2 / min(ways, permutations + 1))


def detectable(
    differences: npt.ArrayLike | tuple[Floats, Floats], error_rate: float, power: float = 0.8
) -> float:
    """The smallest true difference of means that a two-sided test at `error_rate` finds with this `power`.

    Of paired differences (seeds,), or of a tuple of two arms' runs, from their spread as it was observed; by
    the normal approximation with Student's quantiles, which a permutation test of means follows but for very
    few runs. 0 where nothing scatters, inf with a single pair or a single run of an arm.
    """
    if isinstance(differences, tuple):
        parts = [_finite(runs) for runs in differences]
    else:
        parts = [_finite(differences)]
    if min(len(part) for part in parts) < 2:
        return float("inf")
    errors = np.array([part.var(ddof=1) / len(part) for part in parts])
    if not (total := errors.sum()):
        return 0.0
    freedom = total**2 / sum(error**2 / (len(part) - 1) for error, part in zip(errors, parts, strict=True))
    return float(np.sqrt(total) * (stats.t.ppf(1 - error_rate / 2, freedom) + stats.t.ppf(power, freedom)))


def holm(p_values: npt.ArrayLike) -> Floats:
    """Holm's step-down adjusted p-values, in the order given; (comparisons,) -> (comparisons,)."""
    p = _finite(p_values) if np.size(p_values) else np.zeros(0)
    order = np.argsort(p)
    stepped = np.maximum.accumulate((len(p) - np.arange(len(p))) * p[order])
    return np.minimum(stepped[np.argsort(order)], 1.0)


def _finite(values: npt.ArrayLike) -> Floats:
    array = np.asarray(values, np.float64)
    if array.size == 0:
        raise ValueError("there are no values to summarise")
    if not np.isfinite(array).all():
        raise ValueError(f"{np.count_nonzero(~np.isfinite(array))} of {array.size} values are not finite")
    return array


def _order(values: Floats, ranks: Floats | None) -> npt.NDArray[np.intp]:
    """The runs by rank; of equal rank, as all are that diverged, those of larger values first.

    A cut from the worst end then takes the best of what diverged, which raises no interquartile mean.
    """
    return np.argsort(values) if ranks is None else np.lexsort((-values, ranks))


def _better(
    x: Floats, y: Floats, ranks: tuple[Floats | None, Floats | None], lower_is_better: bool
) -> Floats:
    """1 where run i of x is better than run j of y, by rank where there are ranks, 1/2 where they tie."""
    first, second = (own if of is None else of for own, of in zip((x, y), ranks, strict=True))
    return _wins(second, first).T if lower_is_better else _wins(first, second)


def _wins(x: Floats, y: Floats) -> Floats:
    """1 where x[i] > y[j], 1/2 where they are equal, else 0: (runs of x, runs of y)."""
    if np.isnan(x).any() or np.isnan(y).any():
        raise ValueError("NaN cannot be ranked")
    return (x[:, None] > y[None]) + 0.5 * (x[:, None] == y[None])


def _ends(draws: Floats, level: float = LEVEL, method: str = "linear") -> Interval:
    tail = (1 - level) / 2
    low, high = np.quantile(draws, (tail, 1 - tail), method=method)  # type: ignore[call-overload]
    return float(low), float(high)
