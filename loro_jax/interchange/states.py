"""Simulator states from stored observations, for checking episodes against the rules.

An environment can be checked if its state follows from its observation and the time. To add one, add
a function to `STATES`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from loro_jax.environments import Environment
from loro_jax.errors import UserError


def _cartpole(obs: jax.Array, time: jax.Array) -> Any:
    from gymnax.environments.classic_control.cartpole import EnvState

    return EnvState(x=obs[0], x_dot=obs[1], theta=obs[2], theta_dot=obs[3], time=time)


STATES: dict[str, Callable[[jax.Array, jax.Array], Any]] = {"cartpole": _cartpole}


def step_from(
    environment: Environment, obs: np.ndarray, time: np.ndarray, actions: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One step from each observation (N, *obs), reached at `time` (N,), with `actions` (N,).

    -> next observations (N, *obs), terminated (N,), truncated (N,). The rules of these environments
    are deterministic; a key is passed because the interface asks for one.
    """
    if environment.name not in STATES:
        raise UserError(
            f"{environment.name}: no way to set the simulator to an observation; there is for: "
            + ", ".join(sorted(STATES))
        )
    state_of = STATES[environment.name]

    def step(obs: jax.Array, time: jax.Array, action: jax.Array) -> Any:
        after, _, _, terminated, truncated = environment.step(jax.random.key(0), state_of(obs, time), action)
        return after, terminated, truncated

    after, terminated, truncated = jax.jit(jax.vmap(step))(
        obs.astype(np.float32), time.astype(np.int32), actions.astype(np.int32)
    )
    return np.asarray(after), np.asarray(terminated), np.asarray(truncated)
