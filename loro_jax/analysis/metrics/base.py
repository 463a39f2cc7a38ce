"""What a metric is: one number for every run, with what tables have to know of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from loro_jax.analysis import statistics
from loro_jax.analysis.statistics import Floats


@dataclasses.dataclass(frozen=True)
class Metric:
    """One number per run.

    Attributes:
        name: key in `summary.json`.
        title: column heading, with the unit.
        of: curves (seeds, evaluations), env_steps (evaluations,), threshold -> values (seeds,).
        lower_is_better: a smaller value is the better one.
        censored: values are times, inf where the run never got there within the budget.
        of_budget: left out of arms that learn offline, whose data is no part of the budget.
        needs_threshold: left out where the task names none; elsewhere `of` is given None.
        definition: a phrase for the `statistics` entry of `summary.json`; empty where the title says it all.
        guide: a sentence for a table's reader, in which {threshold} stands for it.
    """

    name: str
    title: str
    of: Callable[[Floats, Floats, float | None], Floats]
    lower_is_better: bool = False
    censored: bool = False
    of_budget: bool = False
    needs_threshold: bool = False
    definition: str = ""
    guide: str = ""

    def values(
        self, curves: Floats, lost: npt.NDArray[np.bool_], env_steps: Floats, threshold: float | None
    ) -> Floats:
        """One number per run, (seeds,), from curves as `statistics.filled` gives them.

        `lost` (seeds,) are the runs that diverged: they are never there, whatever they had reached before.
        """
        values = self.of(curves, env_steps, threshold)
        return np.where(lost, np.inf, values) if self.censored else values

    def ranks(self, values: Floats, lost: npt.NDArray[np.bool_]) -> Floats | None:
        """Those of values (seeds,) as `statistics.ranked` has them; what diverged is the worst."""
        return statistics.ranked(values, lost, np.inf if self.lower_is_better else -np.inf)
