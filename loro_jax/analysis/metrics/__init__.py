"""What is measured of a run. To add a metric, add a file with its `METRIC`, and its line to `METRICS`.

Summaries, tables, comparisons and figures follow; its name is its key in `summary.json`.
"""

from __future__ import annotations

from loro_jax.analysis.metrics import cumulative_return, final_return, steps_to_threshold
from loro_jax.analysis.metrics.base import Metric

METRICS: tuple[Metric, ...] = (
    cumulative_return.METRIC,
    final_return.METRIC,
    steps_to_threshold.METRIC,
)


def applicable(threshold: float | None) -> tuple[Metric, ...]:
    """Those that a task with this threshold has: of a task without one, those that need none."""
    return tuple(metric for metric in METRICS if threshold is not None or not metric.needs_threshold)
