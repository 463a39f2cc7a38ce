"""Probe environments: tiny games whose observations or action values are known beforehand.

Each is a gymnax game in `loro_jax.tasks.Environment`, as a game of the suite is.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from gymnax.environments import spaces
from gymnax.environments.environment import Environment as Game
from gymnax.environments.environment import EnvParams, EnvState

from loro_jax.tasks import Environment


@struct.dataclass
class State(EnvState):
    """`time` counts the episode's steps; `tag` is drawn anew by every reset."""

    time: jax.Array
    tag: jax.Array


class Probe(Game):
    """A game with two actions and a fixed observation width; subclasses give rules and observation."""

    width = 1

    @property
    def num_actions(self) -> int:
        return 2

    def action_space(self, params: EnvParams | None = None) -> spaces.Discrete:
        return spaces.Discrete(2)

    def observation_space(self, params: EnvParams) -> spaces.Box:
        return spaces.Box(0.0, 1.0, (self.width,), jnp.float32)

    def observation(self, state: State) -> jax.Array:
        raise NotImplementedError

    def rules(self, state: State, action: jax.Array) -> tuple[jax.Array, jax.Array]:
        """The state before a step, and the action -> reward, terminated."""
        raise NotImplementedError

    def reset_env(self, key: jax.Array, params: EnvParams) -> tuple[jax.Array, State]:
        state = State(time=jnp.int32(0), tag=jax.random.randint(key, (), 0, 2**20))
        return self.observation(state), state

    def step_env(
        self, key: jax.Array, state: State, action: jax.Array, params: EnvParams
    ) -> tuple[jax.Array, State, jax.Array, jax.Array, dict[str, Any]]:
        reward, terminated = self.rules(state, action)
        state = State(time=state.time + 1, tag=state.tag)
        return self.observation(state), state, reward, terminated, {}


class Sentinel(Probe):
    """Every field says which episode and step it belongs to.

    The observation is (tag, time), the reward 10 time + action. An episode terminates after
    `SHORTEST + tag % 5` steps: before the limit of 6, on its very step, or it is truncated there.
    """

    width = 2

    def observation(self, state: State) -> jax.Array:
        return jnp.stack([state.tag, state.time]).astype(jnp.float32)

    def rules(self, state: State, action: jax.Array) -> tuple[jax.Array, jax.Array]:
        reward = (10 * state.time + action).astype(jnp.float32)
        return reward, state.time + 1 >= SHORTEST + state.tag % 5


SHORTEST, SENTINEL_LIMIT = 3, 6


class OneStep(Probe):
    """One state, one step: action a pays a. The values are 0 and 1 at any discount."""

    def observation(self, state: State) -> jax.Array:
        return jnp.ones(1)

    def rules(self, state: State, action: jax.Array) -> tuple[jax.Array, jax.Array]:
        return action.astype(jnp.float32), jnp.bool_(True)


class TwoSteps(Probe):
    """Nothing is paid before the second step, where action a pays 1 - 2 a.

    The values are 1 and -1 in the second state, and the discount in the first, for both actions.
    """

    width = 2

    def observation(self, state: State) -> jax.Array:
        return jax.nn.one_hot(state.time, 2)

    def rules(self, state: State, action: jax.Array) -> tuple[jax.Array, jax.Array]:
        second = state.time == 1
        return jnp.where(second, 1.0 - 2.0 * action.astype(jnp.float32), 0.0), second


class Endless(Probe):
    """One state that a limit cuts every second step and no rule ever ends; action a pays a.

    With a discount of 0.5 the best value is 2, and the values are 1 and 2. Where the limit is taken for
    an end, half of all targets lack their bootstrap: the best value is then 1 / (1 - 0.5 / 2) = 4/3.
    """

    def observation(self, state: State) -> jax.Array:
        return jnp.ones(1)

    def rules(self, state: State, action: jax.Array) -> tuple[jax.Array, jax.Array]:
        return action.astype(jnp.float32), jnp.bool_(False)


def probe(game: type[Probe], limit: int) -> Environment:
    """`game` with a time limit, as a task of the suite would make it."""
    return Environment(
        name=game.__name__.lower(),
        game=game(),
        params=EnvParams(limit),
        threshold=1.0,
        best=1.0,
    )
