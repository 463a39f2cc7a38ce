"""Environment steps until a run first holds the task's threshold; a run that never does is censored."""

from __future__ import annotations

from loro_jax.analysis import statistics
from loro_jax.analysis.metrics.base import Metric
from loro_jax.analysis.statistics import Floats

WINDOW = 5  # evaluations over which a run has to hold the threshold


def first_held(curves: Floats, env_steps: Floats, threshold: float | None) -> Floats:
    """Environment steps, (seeds,), inf where never; a `ValueError` without a threshold."""
    if threshold is None:
        raise ValueError("steps to a threshold need one")
    return statistics.steps_to_threshold(curves, env_steps, threshold, WINDOW)


METRIC = Metric(
    "steps_to_threshold",
    "steps to threshold",
    first_held,
    lower_is_better=True,
    censored=True,
    needs_threshold=True,
    definition=f"first evaluation at which the mean of the last {WINDOW} reaches the threshold; runs that"
    " never do are censored at the budget: they count as the budget in mean, iqm and std, and as later than"
    " any other in median and probability of improvement",
    guide=f"Steps to threshold: environment steps at which the mean of the last {WINDOW} evaluations first"
    " reaches {threshold}; runs that never do are censored at the budget, not dropped, and the median exists"
    " where at least half of the runs got there.",
)
