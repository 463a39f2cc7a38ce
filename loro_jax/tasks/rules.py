"""A game written as two pure functions, for whoever does not want to subclass gymnax."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from loro_jax.errors import UserError
from loro_jax.spaces import Box, Discrete, Space
from loro_jax.tasks.base import Environment


@struct.dataclass
class Limit:
    """The game's only parameter."""

    max_steps_in_episode: int


@struct.dataclass
class Clocked:
    """The game's own state, and the steps of the episode so far, ()."""

    inner: Any
    time: Any


@dataclasses.dataclass(frozen=True)
class Rules:
    """Functions in the form of a gymnax game (see `environment`)."""

    first: Callable[[chex.PRNGKey], tuple[jax.Array, Any]]
    then: Callable[[chex.PRNGKey, Any, jax.Array], tuple[jax.Array, Any, jax.Array, jax.Array]]
    shape: tuple[int, ...]
    actions: Space

    def observation_space(self, params: Limit) -> Rules:
        return self  # of which only the shape is asked for

    def action_space(self, params: Limit) -> Space:
        return self.actions

    def reset_env(self, key: chex.PRNGKey, params: Limit) -> tuple[jax.Array, Clocked]:
        obs, inner = _parts(self.first(key), "reset", ("observation", "state"))
        return obs, Clocked(inner, jnp.int32(0))

    def step_env(
        self, key: chex.PRNGKey, state: Clocked, action: jax.Array, params: Limit
    ) -> tuple[jax.Array, Clocked, jax.Array, jax.Array, dict[Any, Any]]:
        names = ("observation", "state", "reward", "terminated")
        obs, inner, reward, terminated = _parts(self.then(key, state.inner, action), "step", names)
        return obs, Clocked(inner, state.time + 1), reward, terminated, {}

    def is_truncated(self, state: Clocked, params: Limit) -> jax.Array:
        return jnp.asarray(state.time >= params.max_steps_in_episode)


@dataclasses.dataclass(frozen=True)
class Again:
    """How an episode begins after another, of the game's own state, in the form of `Environment.again`."""

    begins: Callable[[chex.PRNGKey, Any], tuple[jax.Array, Any]]

    def __call__(self, key: chex.PRNGKey, state: Clocked) -> tuple[jax.Array, Clocked]:
        obs, inner = _parts(self.begins(key, state.inner), "again", ("observation", "state"))
        return obs, Clocked(inner, jnp.int32(0))


def _parts(given: Any, function: str, names: tuple[str, ...]) -> Any:
    """What a function of the game returned; a `TypeError` where it is not as many things as have names."""
    if not isinstance(given, tuple | list) or len(given) != len(names):
        what = f"{len(given)} values" if isinstance(given, tuple | list) else type(given).__name__
        raise TypeError(f"{function} returns {', '.join(names)}; got {what}")
    return given


def environment(
    reset: Callable[[chex.PRNGKey], tuple[jax.Array, Any]],
    step: Callable[[chex.PRNGKey, Any, jax.Array], tuple[jax.Array, Any, jax.Array, jax.Array]],
    *,
    observation_shape: tuple[int, ...] = (),
    states: int = 0,
    actions: Discrete | Box,
    limit: int,
    threshold: float | None = None,
    best: float | None = None,
    magnitudes: tuple[float, ...] = (),
    legal: Callable[[jax.Array], jax.Array] | None = None,
    again: Callable[[chex.PRNGKey, Any], tuple[jax.Array, Any]] | None = None,
) -> Environment:
    """A game from its two functions; both are traced by JAX.

    Args:
        reset: key -> observation (*observation_shape,), and a state: any pytree of arrays.
        step: key, state, action -> observation, state, reward (), terminated () by the rules. It neither
            resets nor truncates, and the state counts no time: `limit` does both.
        observation_shape: of one observation, numbers.
        states: in its place, for observations that are whole numbers from 0 to `states` - 1, ().
        actions: `Discrete(n)` or `Box(low, high)`.
        limit: steps after which an episode is truncated.
        threshold: the return at which the game counts as solved; None where nobody has said.
        best: the best known return; None where none is known.
        magnitudes: typical sizes of an observation's entries, (obs,), for `normalise_observations`.
        legal: observation (*obs,) -> which actions there are, bool (actions,); None for all of them.
        again: key, the state in which an episode ended -> observation, state of the one after it; None for
            `reset`, which begins the first one and every evaluation episode in any case.

    Raises:
        UserError: neither `observation_shape` nor `states` is given, or both, or `limit` is below 1.

    >>> import jax.numpy as jnp
    >>> coin = environment(
    ...     lambda key: (jnp.zeros(1), jnp.int32(0)),
    ...     lambda key, state, action: (jnp.zeros(1), state, jnp.float32(action), jnp.bool_(False)),
    ...     observation_shape=(1,), actions=Discrete(2), limit=5, best=5.0,
    ... )
    >>> coin.limit, coin.action_space
    (5, Discrete(n=2))
    """
    try:
        shape = tuple(int(n) for n in np.atleast_1d(observation_shape)) if observation_shape else ()
        sizes = tuple(float(size) for size in magnitudes)
    except (TypeError, ValueError):
        raise UserError(
            f"observation_shape and magnitudes are tuples of numbers; got {observation_shape}, {magnitudes}"
        ) from None
    if bool(shape) == bool(states):
        raise UserError("a game has either an observation_shape, such as (4,), or a number of states")
    if not isinstance(actions, Discrete | Box):
        raise UserError(f"actions must be Discrete(n) or Box(low, high), got {actions!r}")
    if isinstance(limit, bool) or not isinstance(limit, int):
        raise UserError(f"limit must be a whole number of steps, got {limit!r}")
    if limit < 1:
        raise UserError(f"limit is {limit}, but an episode needs at least one step")
    rules = Rules(reset, step, shape, actions)
    if legal is not None and not callable(legal):
        raise UserError(f"legal is a function, observation -> a mask of the actions; got {legal!r}")
    if legal is not None and not isinstance(actions, Discrete):
        raise UserError(f"legal masks Discrete(n) actions; this game has {actions!r}")
    if again is not None and not callable(again):
        raise UserError(f"again is a function, key, state -> observation, state; got {again!r}")
    after = None if again is None else Again(again)
    return Environment(rules, Limit(limit), "", threshold, best, states, sizes, legal=legal, again=after)
