"""What a run ends with: the mean of the last tenth of its curve."""

from __future__ import annotations

import math

from loro_jax.analysis.metrics.base import Metric
from loro_jax.analysis.statistics import Floats

SHARE = 0.1  # of the evaluations


def last_mean(curves: Floats) -> Floats:
    """Mean of each run's last `SHARE` of evaluations, at least one: (seeds, evaluations) -> (seeds,)."""
    last = max(1, math.ceil(SHARE * curves.shape[1]))
    return curves[:, -last:].mean(axis=1)


METRIC = Metric(
    "final_return",
    "final return",
    lambda curves, steps, threshold: last_mean(curves),
    definition=f"mean of the last {SHARE:.0%} of evaluations",
)
