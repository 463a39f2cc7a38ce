"""One step of a game from many states at once."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from loro_jax.tasks import Environment


def step_all(env: Environment, state: Any, actions: Any, seed: int = 0) -> tuple[Any, ...]:
    """One step from each state (N,) -> observations, states, rewards, terminated, truncated, as numpy."""
    actions = jnp.asarray(actions, env.action_space.dtype)
    keys = jax.random.split(jax.random.key(seed), len(actions))
    return jax.tree.map(np.asarray, jax.jit(jax.vmap(env.step))(keys, state, actions))


def ends(env: Environment, state: Any, actions: Any) -> list[tuple[bool, bool]]:
    """Of one step from each state: whether it terminated, and whether it was truncated."""
    terminated, truncated = step_all(env, state, actions)[3:]
    return list(zip(terminated.tolist(), truncated.tolist(), strict=True))
