"""What the suite needs of a game: reset and step without auto-reset, with the two ends kept apart."""

from __future__ import annotations

import dataclasses
from typing import Any

import chex
import jax
import jax.numpy as jnp


@dataclasses.dataclass(frozen=True)
class Environment:
    """A gymnax game with its parameters.

    Attributes:
        name: registry name, also the folder of its prompts and episodes.
        gymnasium_id: the Gymnasium environment that it is checked against.
        game: a `gymnax.environments.environment.Environment`.
        params: the game's parameters; `max_steps_in_episode` is the time limit.
        solved: the return at which the field calls the task solved, in the reward's unit.
        best: the best known return.
    """

    name: str
    gymnasium_id: str
    game: Any
    params: Any
    solved: float
    best: float

    @property
    def limit(self) -> int:
        """Steps after which an episode is truncated."""
        return int(self.params.max_steps_in_episode)

    @property
    def observation_shape(self) -> tuple[int, ...]:
        return tuple(self.game.observation_space(self.params).shape)

    @property
    def actions(self) -> int:
        """Number of discrete actions."""
        return int(self.game.num_actions)

    def reset(self, key: chex.PRNGKey) -> tuple[jax.Array, Any]:
        """-> observation, state of a fresh episode."""
        return self.game.reset_env(key, self.params)

    def step(
        self, key: chex.PRNGKey, state: Any, action: jax.Array
    ) -> tuple[jax.Array, Any, jax.Array, jax.Array, jax.Array]:
        """-> observation, state, reward, terminated, truncated, all *before* any reset.

        An episode that ends by the rules on the limit's very step is terminated and not truncated,
        so that exactly one flag says why it ended.
        """
        obs, state, reward, terminated, _ = self.game.step_env(key, state, action, self.params)
        terminated = jnp.asarray(terminated, bool)
        truncated = self.game.is_truncated(state, self.params) & ~terminated
        return obs, state, jnp.asarray(reward, jnp.float32), terminated, truncated
