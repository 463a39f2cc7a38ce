"""What the suite needs of a game: reset and step without auto-reset, with the two ends kept apart."""

from __future__ import annotations

import dataclasses
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np

from loro_jax.spaces import Box, Discrete, Space


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
        best_unlimited: the best known return of an episode that the limit does not cut; None where that is
            `best`.
        magnitudes: typical sizes of an observation's entries, for networks that want them near one, (obs,);
            empty where they are.
        states: number of observations where they are whole numbers, given one-hot, (states,); else 0.
    """

    name: str
    gymnasium_id: str
    game: Any
    params: Any
    solved: float
    best: float
    states: int = 0
    magnitudes: tuple[float, ...] = ()
    best_unlimited: float | None = None

    @property
    def limit(self) -> int:
        """Steps after which an episode is truncated."""
        return int(self.params.max_steps_in_episode)

    def limited(self, steps: int) -> Environment:
        """The same game, its episodes truncated after `steps`; 0 for the limit it has."""
        if not steps:
            return self
        params, best = self.params.replace(max_steps_in_episode=steps), self.best
        if steps > self.limit and self.best_unlimited is not None:
            best = self.best_unlimited
        return dataclasses.replace(self, params=params, best=best)

    @property
    def observation_shape(self) -> tuple[int, ...]:
        return (self.states,) if self.states else tuple(self.game.observation_space(self.params).shape)

    @property
    def action_space(self) -> Space:
        space = self.game.action_space(self.params)
        if hasattr(space, "n"):
            return Discrete(int(space.n))
        low, high = (np.broadcast_to(end, space.shape).ravel() for end in (space.low, space.high))
        return Box(tuple(map(float, low)), tuple(map(float, high)))

    def reset(self, key: chex.PRNGKey) -> tuple[jax.Array, Any]:
        """-> observation, state of a fresh episode."""
        with jax.numpy_dtype_promotion("standard"):  # which gymnax's games rely on
            obs, state = self.game.reset_env(key, self.params)
        return _rounded((self._observed(obs), state))

    def step(
        self, key: chex.PRNGKey, state: Any, action: jax.Array
    ) -> tuple[jax.Array, Any, jax.Array, jax.Array, jax.Array]:
        """-> observation, state, reward, terminated, truncated, all *before* any reset.

        An episode that ends by the rules on the limit's very step is terminated and not truncated,
        so that exactly one flag says why it ended.
        """
        with jax.numpy_dtype_promotion("standard"):
            obs, state, reward, terminated, _ = self.game.step_env(key, state, action, self.params)
        terminated = jnp.asarray(terminated, bool)
        truncated = self.game.is_truncated(state, self.params) & ~terminated
        reward = jnp.asarray(reward, jnp.float32)
        return _rounded((self._observed(obs), state, reward, terminated, truncated))

    def _observed(self, obs: jax.Array) -> jax.Array:
        """The game's observation as agents and datasets see it, float32."""
        if self.states:
            return jax.nn.one_hot(obs, self.states, dtype=jnp.float32)
        return jnp.asarray(obs, jnp.float32)


def _rounded(tree: Any) -> Any:
    """The tree with its floats rounded to their own precision, once.

    XLA may compute one value in two places, with a fused multiply-add in one of them, so that a stored
    observation differs from the one before it in the last bit, and does so by how many members run side
    by side. Rounding on purpose leaves one value.
    """

    def leaf(x: Any) -> Any:
        single = isinstance(x, jax.Array) and x.dtype == jnp.float32
        return jax.lax.reduce_precision(x, exponent_bits=8, mantissa_bits=23) if single else x

    return jax.tree.map(leaf, tree)
