"""How good actions are, by a task's reference policy, and how good that policy is itself."""

from __future__ import annotations

import jax
import numpy as np

from loro_jax.errors import UserError
from loro_jax.spaces import Discrete
from loro_jax.tasks.base import Task, legal_of

TOLERANCE = 1 / 8
"""An action this near to the reference's, in shares of its range, counts as the same (Pendulum: 0.5 N m)."""


def preferences(task: Task, observations: np.ndarray) -> np.ndarray:
    """What the reference would do in each observation (N, *obs).

    Discrete actions: a mask (N, actions) of those that it holds for equally good and for the best, of those
    that there are; all of these where it names none of them. Else its actions, (N, k). A `UserError` where
    the task has no reference.
    """
    if task.reference is None:
        raise UserError(f"{task.name} has no reference policy")
    wanted = np.asarray(task.reference(np.asarray(observations, np.float64)))
    env = task.environment()
    if env.legal is None:
        return wanted
    there = legal_of(env, observations)
    left = wanted & there
    return np.where(left.any(axis=1, keepdims=True), left, there)


def agreement(task: Task, observations: np.ndarray, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Whether the reference would also take the actions (N,) or (N, k), bool (N,); and by what chance (N,)
    a uniform one of the actions that there are would be one that it takes in the same observation."""
    wanted, env = preferences(task, observations), task.environment()
    space = env.action_space
    if isinstance(space, Discrete):
        chance = by_chance(wanted, legal_of(env, observations))
        return wanted[np.arange(len(actions)), actions], chance
    lowest, highest = np.asarray(space.low), np.asarray(space.high)
    tolerance = TOLERANCE * (highest - lowest)
    agrees = (np.abs(wanted - actions) <= tolerance).all(axis=1)
    inside = np.minimum(wanted + tolerance, highest) - np.maximum(wanted - tolerance, lowest)
    return agrees, (inside / (highest - lowest)).prod(axis=1)


def by_chance(wanted: np.ndarray, legal: np.ndarray) -> np.ndarray:
    """How likely a uniform one of the legal actions is a wanted one, (N, A) each -> (N,)."""
    return np.asarray((wanted & legal).sum(axis=1) / legal.sum(axis=1))


def returns(task: Task, episodes: int, seed: int = 0) -> np.ndarray:
    """The reference's own undiscounted returns, (episodes,), ties going to the first action.

    The policy is numpy's, so that the episodes are stepped side by side from outside.
    """
    env = task.environment()
    discrete = isinstance(env.action_space, Discrete)
    keys = jax.random.split(jax.random.key(seed), episodes)
    fold = jax.vmap(jax.random.fold_in, (0, None))
    obs, state = jax.jit(jax.vmap(env.reset))(fold(keys, 0))
    step = jax.jit(jax.vmap(env.step))
    totals, alive = np.zeros(episodes), np.ones(episodes, bool)
    for t in range(env.limit):
        wanted = preferences(task, np.asarray(obs))
        actions = wanted.argmax(axis=1).astype(np.int32) if discrete else wanted.astype(np.float32)
        obs, state, reward, terminated, truncated = step(fold(keys, 1 + t), state, actions)
        totals += np.where(alive, np.asarray(reward), 0.0)
        alive &= ~np.asarray(terminated | truncated)
        if not alive.any():
            break
    return totals
