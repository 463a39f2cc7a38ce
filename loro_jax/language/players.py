"""Who visits the texts that a survey asks about: players, stepped side by side from outside.

Players are functions of NumPy: a reference policy is, and so is a table that still grows. What they visit
decides what is asked, and on episodes of their own how much of what they meet was asked.
"""

from __future__ import annotations

import dataclasses
import functools
import tempfile
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any

import chex
import jax
import numpy as np

from loro_jax.data.answers import Coding, digits_of, unreadable
from loro_jax.spaces import Discrete
from loro_jax.tasks import Environment, Task
from loro_jax.tasks.base import legal_of
from loro_jax.tasks.reference import preferences
from loro_jax.types import Transition

Act = Callable[[np.ndarray, np.random.Generator], np.ndarray]
"""Observations (N, *obs) and where chance comes from -> actions (N, *action)."""

MOST_STEPS = 1000
"""Steps of an episode that are looked at, where its limit is beyond them."""


@dataclasses.dataclass(frozen=True)
class Visits:
    """The texts of some steps: digits (M, F), ascending, and how often each was met, (M,)."""

    digits: np.ndarray
    times: np.ndarray

    def share(self, asked: set[tuple[int, ...]]) -> float:
        """How many of the steps were in texts that were `asked` about."""
        known = [
            times
            for digits, times in zip(self.digits.tolist(), self.times, strict=True)
            if tuple(digits) in asked
        ]
        return float(sum(known) / self.times.sum())


def visit(env: Environment, coding: Coding, act: Act, episodes: int, seed: int) -> Visits:
    """The texts that a player meets in so many episodes."""
    seen = observations(env, act, episodes, seed)
    digits, times = np.unique(np.asarray(digits_of(coding)(seen)), axis=0, return_counts=True)
    return Visits(digits, times)


def observations(env: Environment, act: Act, episodes: int, seed: int) -> np.ndarray:
    """All observations in which a player acts, (N, *obs), of episodes played side by side."""
    chance = np.random.default_rng(seed)
    return np.concatenate([rows.obs[going] for rows, going in steps(env, act, episodes, seed, chance)])


def steps(
    env: Environment, act: Act, episodes: int, seed: int, chance: np.random.Generator
) -> Iterator[tuple[Transition, np.ndarray]]:
    """Step after step of episodes played side by side: transitions (episodes, ...), as NumPy arrays, and
    which of the episodes were still going before, bool (episodes,)."""
    keys = jax.random.split(jax.random.key(seed), episodes)
    obs, state = _begin(env, keys)
    space, going = env.action_space, np.ones(episodes, bool)
    for t in range(min(env.limit, MOST_STEPS)):
        now = np.asarray(obs, np.float32)
        actions = act(now, chance).astype(space.dtype).reshape(episodes, *space.shape)
        obs, state, *told = _advance(env, keys, t, state, actions)
        reward, terminated, truncated = map(np.asarray, told)
        yield Transition(now, actions, reward, np.asarray(obs, np.float32), terminated, truncated), going
        going = going & ~(terminated | truncated)
        if not going.any():
            break


_fold = jax.vmap(jax.random.fold_in, (0, None))


@functools.partial(jax.jit, static_argnums=0)  # of the environment: every player takes the same programs
def _begin(env: Environment, keys: chex.PRNGKey) -> tuple[jax.Array, Any]:
    """Observations and states of episodes that begin side by side, one for each key."""
    return jax.vmap(env.reset)(_fold(keys, 0))


@functools.partial(jax.jit, static_argnums=0)
def _advance(env: Environment, keys: chex.PRNGKey, t: int, state: Any, actions: Any) -> tuple[Any, ...]:
    """Step `t` of each, counted from 0: what `Environment.step` gives."""
    return jax.vmap(env.step)(_fold(keys, 1 + t), state, actions)


def uniform(env: Environment) -> Act:
    """Draws every action uniformly."""
    space = env.action_space
    if env.legal is not None:

        def act(obs: np.ndarray, chance: np.random.Generator) -> np.ndarray:
            mask = legal_of(env, obs)
            return np.asarray((mask * chance.random(mask.shape)).argmax(axis=1))

        return act
    if isinstance(space, Discrete):
        return lambda obs, chance: chance.integers(space.n, size=len(obs))
    low, high = np.asarray(space.low), np.asarray(space.high)
    return lambda obs, chance: chance.uniform(low, high, (len(obs), len(low)))


def reference(task: Task) -> Act:
    """The task's reference policy; among equally good actions any."""
    discrete = isinstance(task.environment().action_space, Discrete)

    def act(obs: np.ndarray, chance: np.random.Generator) -> np.ndarray:
        wanted = preferences(task, obs)
        return (wanted * chance.random(wanted.shape)).argmax(axis=1) if discrete else wanted

    return act


def trained(task: Task, game: Mapping[str, Any] = MappingProxyType({}), seeds: int = 4) -> Act:
    """Agents that pure RL trained under the task's first protocol; each plays its share of the episodes.

    Where the game, by its parameters, tells observations of another shape, they are trained in it."""
    from loro_jax import api

    # Whatever is newest, a table grows by the same players.
    first = next(iter(task.settings().values()))
    if task.environment(**game).observation_shape != task.under(first).observation_shape:
        first = first.replace(game=dict(game))
    with tempfile.TemporaryDirectory(prefix="loro_jax-survey-") as folder:
        api.run(
            task, ("pure_rl",), protocol=first, seeds=seeds, out=f"{folder}/run", save_policies=True,
            progress=False,
        )  # fmt: skip
        policies = [api.load_policy(f"{folder}/run", "pure_rl", seed, task) for seed in range(seeds)]

    def act(obs: np.ndarray, chance: np.random.Generator) -> np.ndarray:
        parts = np.array_split(obs, seeds)
        return np.concatenate([p(part) for p, part in zip(policies, parts, strict=True) if len(part)])

    return act


def answering(env: Environment, coding: Coding, answers: Mapping[tuple[int, ...], np.ndarray]) -> Act:
    """The answers so far, (n, *action) by text, one drawn at each step: of the nearest text where a text was
    not asked about, and uniformly where an answer could not be read or names what there is not."""
    if not answers:
        return uniform(env)
    known, of, draw = np.array(list(answers)), digits_of(coding), uniform(env)
    said = np.stack(list(answers.values())).astype(np.float64)

    def act(obs: np.ndarray, chance: np.random.Generator) -> np.ndarray:
        digits = np.asarray(of(obs))
        rows = abs(digits[:, None] - known[None]).sum(axis=2).argmin(axis=1)
        taken = said[rows, chance.integers(said.shape[1], size=len(rows))]
        read = ~unreadable(taken, env.action_space)
        if env.legal is not None:
            there = legal_of(env, obs)
            read &= there[np.arange(len(obs)), np.where(read, taken, 0).astype(int)]
        instead = draw(obs, chance)
        return np.where(read.reshape(-1, *(1,) * (taken.ndim - 1)), taken, instead)

    return act
