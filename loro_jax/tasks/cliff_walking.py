"""CliffWalking (Sutton and Barto, 2018, example 6.6; Gymnasium's CliffWalking-v1)."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import chex
import jax
import jax.numpy as jnp
import numpy as np

from loro_jax.errors import UserError
from loro_jax.protocols import PAPER, RELEASED, by_name
from loro_jax.spaces import Discrete
from loro_jax.tasks import grids
from loro_jax.tasks.actions import Words
from loro_jax.tasks.base import Environment, Task
from loro_jax.tasks.planning import Floats, best
from loro_jax.tasks.rules import Clocked, environment
from loro_jax.tasks.words import Description, Fields
from loro_jax.types import Transition

ROWS, COLUMNS = 4, 12
START, GOAL = 36, 47
MOVES = ((-1, 0), (0, 1), (1, 0), (0, -1))
"""Rows and columns by which each action moves: 0 up, 1 right, 2 down, 3 left."""


def cliff_walking(limit: int = 200) -> Environment:
    """A grid of 4 x 12 cells from the bottom left corner to the bottom right one.

    A step costs 1. Stepping on the cliff between the two corners costs 100 and puts the player back at
    the start; only the goal terminates. Gymnasium's game has no limit; here an episode is truncated after
    `limit` steps. Observation: the cell, row by row, one-hot (48,). Actions 0 up, 1 right, 2 down, 3 left.
    """
    if limit < 1:
        raise UserError(f"cliff_walking: limit is {limit}, but an episode needs at least one step")
    return environment(
        first,
        then,
        states=ROWS * COLUMNS,
        actions=Discrete(len(MOVES)),
        limit=limit,
        threshold=-13.0,
        best=-float(min(limit, 13)),  # up, eleven steps to the right, down
    )


def first(key: chex.PRNGKey) -> tuple[jax.Array, jax.Array]:
    """The observation of a fresh episode, and its state: both are the cell, int32 ()."""
    del key  # nothing is random
    return jnp.int32(START), jnp.int32(START)


def then(
    key: chex.PRNGKey, position: jax.Array, action: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """-> observation, state, reward, terminated, each ()."""
    del key
    position, reward = step(position, action)
    return position, position, reward, position == GOAL


def step(position: jax.Array, action: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The cell after `action` in the cell `position`, and the reward, both ()."""
    row, column = jnp.divmod(position, COLUMNS)
    down, right = jnp.asarray(MOVES, jnp.int32)[action]
    row, column = jnp.clip(row + down, 0, ROWS - 1), jnp.clip(column + right, 0, COLUMNS - 1)
    fell = (row == ROWS - 1) & (column > 0) & (column < COLUMNS - 1)
    position = jnp.where(fell, START, row * COLUMNS + column)
    return position.astype(jnp.int32), jnp.where(fell, -100.0, -1.0)


WORDS: grids.Moves = {"up": (-1, 0), "right": (0, 1), "down": (1, 0), "left": (0, -1)}
"""What each move is called, and where it leads."""


def history(obs: np.ndarray, life: Sequence[Transition]) -> Fields:
    """A cell of the cliff is known once this life has stepped on it."""
    moves = tuple(WORDS.values())

    def entered(t: Transition) -> tuple[int, str]:
        if float(t.reward) > -100:
            return int(np.argmax(t.next_obs)), "safe"
        row, column = divmod(int(np.argmax(t.obs)), COLUMNS)  # a fall ends at the start: reckon where it was
        down, right = moves[int(t.action)]
        return (row + down) * COLUMNS + column + right, "the cliff"

    return grids.remembered(obs, (ROWS, COLUMNS), WORDS, life, entered, "the cliff")


CELLS = ["safe"] * (START + 1) + ["the cliff"] * (GOAL - START - 1) + ["the goal"]
DESCRIPTION = Description(
    fields=grids.fields((ROWS, COLUMNS), WORDS, CELLS),
    reader=Words(("up", "right", "down", "left")),
    history=history,
    history_names=grids.HISTORY,
    remembers=True,
    samples=4,
)


def reference(observations: Floats) -> np.ndarray:
    """The actions that begin a shortest way; one-hot (N, 48) -> (N, 4)."""
    return best(_values())[observations.argmax(axis=1)]


@functools.cache
def _values() -> Floats:
    """Return of each action and a best way after it, (48, 4)."""
    each = jax.vmap(jax.vmap(step, (None, 0)), (0, None))
    after, reward = (np.asarray(x) for x in each(jnp.arange(48), jnp.arange(4)))
    value = np.full(48, -1000.0)
    for _ in range(60):
        value[GOAL] = 0.0
        q = reward + value[after]
        value = q.max(axis=1)
    return q


def restore(environment: Environment, obs: jax.Array, time: jax.Array) -> Clocked:
    """The state that shows the cell `obs` at `time`."""
    return Clocked(jnp.argmax(obs).astype(jnp.int32), time)


# Tuned for pure RL by `python -m studies.tune --task cliff_walking` (results/tuning/). Of the 3
# rows on 16 seeds (seed 102) this one is the best: -17,318 +- 2,227. Nothing was tuned for LORO: tau is the
# study's, and fit_steps is a tenth of the budget, as in the study's CartPole.
STANDARD = PAPER.replace(
    name="standard@1",
    budget=20_000,
    fit_steps=2000,
    charge="steps",
    hidden=(32, 32),
    learning_rate=0.004,
    batch_size=64,
    discount=0.99,
    target_network_frequency=100,
    epsilon=0.05,
    learning_starts=100,
    reset_each_interval=False,
)

# The winner of 67 settings (results/tuning/standard@2). Pretraining takes a tenth of the budget's steps.
STANDARD_2 = STANDARD.replace(
    name="standard@2",
    fit_steps=2000,
    llm="answers",
    hidden=(64, 64),
    learning_rate=0.000843,
    discount=0.995,
    epsilon_decay_steps=4000,
    gradient_steps=2,
    layer_norm=True,
    target_network_frequency=50,
)

TASK = Task(
    name="cliff_walking",
    game=cliff_walking,
    protocols=by_name(
        [
            STANDARD,
            STANDARD_2,
            PAPER.replace(budget=40_000, eval_episodes=10),
            RELEASED.replace(budget=40_000, eval_episodes=10),
        ]
    ),
    words=DESCRIPTION,
    episodes="qwen2.5-coder-0.5b-instruct-cot",
    answers="qwen2.5-coder-0.5b-instruct-map",
    reference=reference,
    reference_episodes=1,
    restore=restore,
    gymnasium_id="CliffWalking-v1",
    seeds=256,
)
