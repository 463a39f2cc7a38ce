"""FrozenLake on ice that holds: 4 x 4, 20 steps, as the study of LLM priors has it (arXiv 2410.07927)."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np

from loro_jax.protocols import by_name, common
from loro_jax.tasks import frozen_lake, planning
from loro_jax.tasks.base import Environment, Task
from loro_jax.tasks.planning import Floats

LIMIT = 20


def frozen_lake_nonslippery(layout: str | Sequence[str] = "4x4", limit: int = LIMIT) -> Environment:
    """`frozen_lake.frozen_lake`, where every move goes where it was meant.

    Args:
        layout: as there.
        limit: steps after which an episode is truncated.
    """
    return frozen_lake.frozen_lake(layout, slippery=False, limit=limit)


def reference(observations: Floats) -> np.ndarray:
    """The moves on the shortest ways to the goal; one-hot (N, 16) -> (N, 4)."""
    return planning.best(_values())[observations.argmax(axis=1)]


@functools.cache
def _values() -> Floats:
    return frozen_lake.values(slippery=False)


COMMON = common(budget=4000, eval_interval=40, eval_episodes=1)

TASK = Task(
    name="frozen_lake_nonslippery",
    game=frozen_lake_nonslippery,
    protocols=by_name([COMMON]),
    words=frozen_lake.DESCRIPTION,
    reference=reference,
    reference_episodes=1,
    restore=frozen_lake.restore,
)
