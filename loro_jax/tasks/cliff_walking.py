"""CliffWalking (Sutton and Barto, 2018, example 6.6; Gymnasium's CliffWalking-v1), for gymnax."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
from flax import struct

from loro_jax.errors import UserError
from loro_jax.tasks.base import Environment

if TYPE_CHECKING:
    import chex

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
    from gymnax.environments import environment, spaces  # gymnax takes seconds to import

    if limit < 1:
        raise UserError(f"cliff_walking: limit is {limit}, but an episode needs at least one step")

    @struct.dataclass
    class State(environment.EnvState):
        time: Any
        position: Any

    class CliffWalking(environment.Environment[State, environment.EnvParams]):
        @property
        def name(self) -> str:
            return "CliffWalking"

        @property
        def num_actions(self) -> int:
            return len(MOVES)

        def action_space(self, params: Any = None) -> spaces.Discrete:
            return spaces.Discrete(len(MOVES))

        def observation_space(self, params: Any) -> spaces.Discrete:
            return spaces.Discrete(ROWS * COLUMNS)

        def reset_env(self, key: chex.PRNGKey, params: Any) -> tuple[jax.Array, State]:
            return jnp.int32(START), State(time=jnp.int32(0), position=jnp.int32(START))

        def step_env(
            self, key: chex.PRNGKey, state: State, action: Any, params: Any
        ) -> tuple[jax.Array, State, jax.Array, jax.Array, dict[Any, Any]]:
            position, reward = step(state.position, action)
            state = State(time=state.time + 1, position=position)
            return position, state, reward, position == GOAL, {}

        def is_terminated(self, state: State, params: Any) -> jax.Array:
            return state.position == GOAL

    return Environment(
        name="cliff_walking",
        gymnasium_id="CliffWalking-v1",
        game=CliffWalking(),
        params=environment.EnvParams(max_steps_in_episode=limit),
        solved=-13.0,
        best=-float(min(limit, 13)),  # up, eleven steps to the right, down
        states=ROWS * COLUMNS,
    )


def step(position: jax.Array, action: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The cell after `action` in the cell `position`, and the reward, both ()."""
    row, column = jnp.divmod(position, COLUMNS)
    down, right = jnp.asarray(MOVES, jnp.int32)[action]
    row, column = jnp.clip(row + down, 0, ROWS - 1), jnp.clip(column + right, 0, COLUMNS - 1)
    fell = (row == ROWS - 1) & (column > 0) & (column < COLUMNS - 1)
    position = jnp.where(fell, START, row * COLUMNS + column)
    return position.astype(jnp.int32), jnp.where(fell, -100.0, -1.0)
