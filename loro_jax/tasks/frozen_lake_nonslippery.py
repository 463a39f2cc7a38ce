"""FrozenLake on ice that holds: 4 x 4, 20 steps, as the study of LLM priors has it (arXiv 2410.07927)."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np

from loro_jax.agents import PPO
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

# The winners of 16 settings each (results/tuning/worlds).
STANDARD = COMMON.replace(
    name="standard@1",
    learning_rate=0.00089,
    batch_size=128,
    discount=0.98,
    epsilon=0.01,
    epsilon_decay_steps=1600,
    gradient_steps=2,
    n_step=5,
    learning_starts=100,
    target_network_frequency=50,
    huber_delta=10.0,
    others=(
        PPO(
            hidden=(256,),
            learning_rate=0.000924,
            learning_rate_end=0.0000924,
            learning_rate_decay_steps=4000,
            discount=0.95,
            gae_lambda=0.8,
            games=4,
            rollout=10,
            minibatches=2,
            clip=0.1,
            entropy_weight=0.03,
            reward_scale=5.0,
        ),
    ),
)

TASK = Task(
    name="frozen_lake_nonslippery",
    game=frozen_lake_nonslippery,
    protocols=by_name([STANDARD, COMMON]),
    words=frozen_lake.DESCRIPTION,
    answers="qwen2.5-coder-0.5b-instruct-shots",
    reference=reference,
    reference_episodes=1,
    restore=frozen_lake.restore,
)
