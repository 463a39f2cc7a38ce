"""One episode of a policy, inside a compiled program."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import chex
import jax
import jax.numpy as jnp

from loro_jax.tasks.base import Environment

PolicyFunction = Callable[[jax.Array, chex.PRNGKey], jax.Array]
"""Observation (*obs,), key -> action (*action,)."""


def rollout(env: Environment, policy: PolicyFunction, key: chex.PRNGKey) -> tuple[jax.Array, jax.Array]:
    """Undiscounted return and number of steps of one episode, both ()."""
    obs, state = env.reset(jax.random.fold_in(key, 0))

    def going(carry: Any) -> jax.Array:
        return ~carry[3]

    def step(carry: Any) -> Any:
        obs, state, total, _, t = carry
        act_key, step_key = (jax.random.fold_in(jax.random.fold_in(key, t), i) for i in (1, 2))
        obs, state, reward, terminated, truncated = env.step(step_key, state, policy(obs, act_key))
        return obs, state, total + reward, terminated | truncated, t + 1

    start = (obs, jax.tree.map(jnp.asarray, state), jnp.float32(0), jnp.bool_(False), jnp.int32(1))
    _, _, total, _, t = jax.lax.while_loop(going, step, start)
    return total, t - 1


def uniform(env: Environment) -> PolicyFunction:
    """The policy that draws every action uniformly."""

    def act(obs: jax.Array, key: chex.PRNGKey) -> jax.Array:
        return env.action_space.sample(key)

    return act


def rollouts(env: Environment, policy: PolicyFunction, keys: chex.PRNGKey) -> tuple[jax.Array, jax.Array]:
    """Returns and lengths of an episode for each of `keys`, (episodes,) each, played side by side."""
    return jax.jit(jax.vmap(lambda key: rollout(env, policy, key)))(keys)
