"""How many seeds a comparison needs, and what a few of them show by luck."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from scipy import stats

from loro_jax.analysis.statistics import Floats

MOST = 1_000_000
"""Seeds beyond which nobody runs: more are not looked for."""
DRAWS = 100_000


def power(effect: float, seeds: int, *, paired: bool = True, error_rate: float = 0.05) -> float:
    """The chance that a two-sided t-test finds a difference of so many standard deviations.

    Of paired differences' own deviation, or of each arm's where arms are not paired, `seeds` each (Cohen,
    1988, section 2); a permutation test of means follows it but for very few runs.

    >>> round(power(0.5, 34), 2), round(power(0.5, 64, paired=False), 2)
    (0.81, 0.8)
    """
    if seeds < 2:
        return 0.0
    freedom = seeds - 1 if paired else 2 * seeds - 2
    shift = abs(effect) * math.sqrt(seeds if paired else seeds / 2)
    if shift > 30:  # beyond what the distribution's functions can do, and all but certain
        return 1.0
    bound = stats.t.ppf(1 - error_rate / 2, freedom)
    return float(stats.nct.sf(bound, freedom, shift) + stats.nct.cdf(-bound, freedom, shift))


def seeds_needed(
    effect: float, *, wanted: float = 0.8, paired: bool = True, error_rate: float = 0.05
) -> int | None:
    """The fewest seeds, of each arm, with which `power` is as wanted; None where `MOST` are not enough.

    >>> seeds_needed(0.5), seeds_needed(0.5, paired=False), seeds_needed(0.0)
    (34, 64, None)
    """
    if not 0 < wanted < 1 or not 0 < error_rate < 1:
        raise ValueError(f"power and error rate lie between 0 and 1, not {wanted} and {error_rate}")
    if not math.isfinite(effect) or not effect:
        return None if not effect else 2

    def enough(seeds: int) -> bool:
        return power(effect, seeds, paired=paired, error_rate=error_rate) >= wanted

    high = 2
    while not enough(high):
        high *= 2
        if high > MOST:
            return None
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def effect_of(x: npt.ArrayLike, y: npt.ArrayLike, *, paired: bool = True) -> float:
    """The difference of means of two arms (seeds,) in standard deviations, as `power` takes it: infinite if
    nothing scatters.

    >>> effect_of([1, 2, 3], [0, 0, 0])
    2.0
    """
    a, b = np.asarray(x, np.float64), np.asarray(y, np.float64)
    if paired:
        difference, deviation = float((a - b).mean()), float((a - b).std(ddof=1))
    else:
        difference = float(a.mean() - b.mean())
        freedom = len(a) + len(b) - 2
        pooled = ((len(a) - 1) * a.var(ddof=1) + (len(b) - 1) * b.var(ddof=1)) / freedom
        deviation = math.sqrt(pooled)
    if deviation:
        return difference / deviation
    return math.copysign(math.inf, difference) if difference else 0.0


def by_luck(
    x: npt.ArrayLike, y: npt.ArrayLike, size: float, *, runs: int = 5, paired: bool = False, seed: int = 0,
    draws: int = DRAWS,
) -> float:  # fmt: skip
    """The chance that the means of so few runs of each arm differ by at least `size`, in either direction,
    although the arms do not differ.

    Runs are drawn, with replacement, from each arm's own (seeds,) less its mean: their scatter, and no
    difference. Paired, a seed's two runs are drawn together.
    """
    a, b = (np.asarray(v, np.float64) for v in (x, y))
    rng = np.random.default_rng(seed)

    def means(values: Floats, rows: npt.NDArray[np.intp]) -> Floats:
        return np.asarray((values - values.mean())[rows].mean(axis=1))

    rows = rng.integers(len(a), size=(draws, runs))
    others = rows if paired else rng.integers(len(b), size=(draws, runs))
    found = np.abs(means(a, rows) - means(b, others))
    return float((found >= abs(size) * (1 - 1e-12)).mean())
