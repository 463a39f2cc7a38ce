"""Episodes of a policy, inside a compiled program."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp

from loro_jax import ahead
from loro_jax.tasks.base import Environment

AHEAD = 1000
"""Steps for which an episode draws ahead; a longer one, which may well end before, draws as it goes."""

PolicyFunction = Callable[[jax.Array, chex.PRNGKey], jax.Array]
"""Observation (*obs,), key -> action (*action,)."""


def rollout(env: Environment, policy: PolicyFunction, key: chex.PRNGKey) -> tuple[jax.Array, jax.Array]:
    """Undiscounted return and number of steps of one episode, both ()."""
    obs, state = jax.tree.map(jnp.asarray, env.reset(jax.random.fold_in(key, 0)))

    def play(game: Any, t: jax.Array) -> Any:
        return _step(env, policy, key, t, *game)[1]

    draw, rest = ahead.split(play, (obs, state), jnp.int32(1))
    short = env.limit <= AHEAD and ahead.fits(draw, jnp.int32(1), env.limit)
    drawn = jax.vmap(draw)(jnp.arange(1, env.limit + 1)) if short else None

    def going(carry: Any) -> jax.Array:
        return ~carry[3]

    def step(carry: Any) -> Any:
        obs, state, total, _, t = carry
        draws = draw(t) if drawn is None else jax.tree.map(lambda x: x[t - 1], drawn)
        obs, state, reward, terminated, truncated = rest((obs, state), draws)
        return obs, state, total + reward, terminated | truncated, t + 1

    start = (obs, state, jnp.float32(0), jnp.bool_(False), jnp.int32(1))
    _, _, total, _, t = jax.lax.while_loop(going, step, start)
    return total, t - 1


class Recorded(NamedTuple):
    """The steps of an episode, T of them, also those after its end, which were not played."""

    obs: chex.Array
    """(T + 1, *obs): before the first step, and after each."""
    actions: chex.Array
    """(T, *action)."""
    rewards: chex.Array
    """(T,)."""
    terminated: chex.Array
    """(T,), bool."""
    truncated: chex.Array
    """(T,), bool."""
    played: chex.Array
    """(T,), bool."""


def recorded(env: Environment, policy: PolicyFunction, key: chex.PRNGKey, steps: int) -> Recorded:
    """The first `steps` steps of the episode that `rollout` plays with the same key."""
    first, state = env.reset(jax.random.fold_in(key, 0))

    def step(carry: Any, t: jax.Array) -> Any:
        obs, state, going = carry
        action, (obs, state, reward, terminated, truncated) = _step(env, policy, key, t, obs, state)
        rows = (obs, action, reward, terminated, truncated, going)
        return (obs, state, going & ~(terminated | truncated)), rows

    start = (first, jax.tree.map(jnp.asarray, state), jnp.bool_(True))
    _, (obs, *rows) = jax.lax.scan(step, start, jnp.arange(1, steps + 1))
    return Recorded(jnp.concatenate([first[None], obs]), *rows)


def _step(
    env: Environment, policy: PolicyFunction, key: chex.PRNGKey, t: jax.Array, obs: jax.Array, state: Any
) -> tuple[jax.Array, Any]:
    """The action of step `t`, counted from 1, and what `env.step` gives for it.

    An action that is NaN earns NaN; a game that clips its actions may make a number of it.
    """
    act_key, step_key = (jax.random.fold_in(jax.random.fold_in(key, t), i) for i in (1, 2))
    action = policy(obs, act_key)
    obs, state, reward, terminated, truncated = env.step(step_key, state, action)
    if jnp.issubdtype(action.dtype, jnp.floating):
        reward = jnp.where(jnp.isnan(action).any(), jnp.nan, reward)
    return action, (obs, state, reward, terminated, truncated)


def uniform(env: Environment) -> PolicyFunction:
    """The policy that draws every action uniformly."""

    def act(obs: jax.Array, key: chex.PRNGKey) -> jax.Array:
        return env.sample(key, obs)

    return act


def rollouts(env: Environment, policy: PolicyFunction, keys: chex.PRNGKey) -> tuple[jax.Array, jax.Array]:
    """Returns and lengths of an episode for each of `keys`, (episodes,) each, played side by side."""
    return jax.jit(jax.vmap(lambda key: rollout(env, policy, key)))(keys)
