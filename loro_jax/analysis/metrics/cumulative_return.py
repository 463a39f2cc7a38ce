"""The sum of a run's curve over the whole budget: it rewards learning early as well as learning well."""

from loro_jax.analysis.metrics.base import Metric

METRIC = Metric(
    "cumulative_return",
    "cumulative return",
    lambda curves, steps, threshold: curves.sum(axis=1),
    of_budget=True,
)
