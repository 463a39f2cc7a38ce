"""What is read from learning curves: when they converge, and how steadily they go on."""

from __future__ import annotations

from typing import Any

import numpy as np

from loro_jax.analysis import statistics

WINDOW = 5
"""Evaluations of a rolling mean."""
SHARE = 0.95
"""Of the way from a random policy to where the untutored learner ends."""

Floats = np.ndarray


def rolling(curves: Floats, window: int = WINDOW) -> Floats:
    """Means of so many evaluations, the last of them at each place, (seeds, evaluations) -> the same; of
    fewer at the beginning."""
    sums = np.cumsum(np.asarray(curves, np.float64), axis=1)
    sums[:, window:] = sums[:, window:] - sums[:, :-window]
    return np.asarray(sums / np.minimum(np.arange(1, curves.shape[1] + 1), window))


def wanted(random: float, final: float) -> float:
    """The return at which learning has converged."""
    return random + SHARE * (final - random)


def converged(curves: Floats, steps: Floats, level: float) -> Floats:
    """The first environment steps after which each seed's rolling return stays at a level, (seeds,); infinity
    where it never does.

    Args:
        steps: environment steps at each evaluation, (evaluations,).
    """
    stays = np.logical_and.accumulate((rolling(curves) >= level - 1e-9)[:, ::-1], axis=1)[:, ::-1]
    return np.where(stays.any(axis=1), np.asarray(steps, np.float64)[stays.argmax(axis=1)], np.inf)


def spread(curves: Floats, steps: Floats, times: Floats) -> Floats:
    """The standard deviation over the evaluations from each seed's time on, (seeds,); NaN where it has none,
    or fewer than `WINDOW` of them."""
    found = np.full(len(curves), np.nan)
    for seed, time in enumerate(times):
        rest = curves[seed, np.asarray(steps) >= time]
        if len(rest) >= WINDOW:
            found[seed] = rest.astype(np.float64).std(ddof=1)
    return found


def speed_up(base: Floats, times: Floats, budget: float, seed: int) -> dict[str, Any]:
    """How many times sooner a learner converges than its baseline: the ratio of mean times up to the budget,
    at which what never converged is counted; seeds resampled in pairs.

    Above 1 is sooner. With censored runs both means are too small, and the ratio is nearer to 1 than of times
    without an end, if one of the two is censored more.
    """
    counts = statistics.resample(len(base), 1, seed=seed) / len(base)
    both = np.minimum(np.stack([base, times]), budget)
    whole, drawn = both.mean(axis=1), both @ counts
    test = statistics.paired(times, base, seed=seed, lower_is_better=True, budget=budget)
    return {
        "ratio": float(whole[0] / whole[1]),
        "ci95": [float(end) for end in np.quantile(drawn[0] / drawn[1], (0.025, 0.975))],
        "p": test.p_value,
        "censored": float(np.isinf(times).mean()),
    }
