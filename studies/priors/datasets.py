"""Episodes of mixed quality to learn from offline: about three quarters of them succeed."""

from __future__ import annotations

import pathlib
from typing import Any

import numpy as np

from loro_jax.data import episodes
from loro_jax.data.episodes import Episodes
from loro_jax.language import players
from loro_jax.tasks import Environment, Task
from loro_jax.types import Transition

ROWS = 4000
"""Transitions at least, in whole episodes; the study of LLM priors has 4,329 on its salad."""
SUCCEED = 0.75
SIDE_BY_SIDE = 256


def mixed(task: Task, env: Environment, success: float, name: str, seed: int = 0) -> Episodes:
    """Whole episodes of at least `ROWS` steps, of which `SUCCEED` return `success` or more.

    Each is played by the reference with a share of uniform steps of its own, drawn uniformly from [0, 1];
    then failures and successes are taken as they came, so that the shares are met.
    """
    best, uniform = players.reference(task), players.uniform(env)
    chance = np.random.default_rng(seed)
    good: list[Transition] = []
    bad: list[Transition] = []
    for turn in range(200):
        share = chance.random((SIDE_BY_SIDE, 1))[:, 0]

        def act(obs: np.ndarray, chance: np.random.Generator, share: np.ndarray = share) -> np.ndarray:
            return np.where(chance.random(len(obs)) < share, uniform(obs, chance), best(obs, chance))

        for episode in played(env, act, SIDE_BY_SIDE, seed * 1000 + turn, chance):
            (good if episode.reward.sum() >= success - 1e-6 else bad).append(episode)
        chosen = _chosen(good, bad, chance)
        if chosen is not None:
            lengths = np.array([len(e.reward) for e in chosen])
            rows = Transition(*(np.concatenate(x) for x in zip(*chosen, strict=True)))
            card = {"environment": task.name, "name": name, "model": {"name": "reference, less and less"}}
            return Episodes(rows, lengths, card)
    raise RuntimeError(f"{task.name}: {len(good)} of {len(good) + len(bad)} episodes succeed")


def _chosen(
    good: list[Transition], bad: list[Transition], chance: np.random.Generator
) -> list[Transition] | None:
    """The first of each that make `ROWS` steps, in a drawn order; None where there are too few."""
    for n in range(1, len(bad) + 1):
        many = round(n * SUCCEED / (1 - SUCCEED))
        if many > len(good):
            return None
        chosen = good[:many] + bad[:n]
        if sum(len(e.reward) for e in chosen) >= ROWS:
            return [chosen[i] for i in chance.permutation(len(chosen))]
    return None


def played(
    env: Environment, act: players.Act, many: int, seed: int, chance: np.random.Generator
) -> list[Transition]:
    """Episodes of a player, stepped side by side, each with its own rows (steps, ...)."""
    rows: list[list[Any]] = [[] for _ in range(many)]
    for step, going in players.steps(env, act, many, seed, chance):
        for i in np.flatnonzero(going):
            rows[i].append([x[i] for x in step])
    return [Transition(*(np.stack(x) for x in zip(*one, strict=True))) for one in rows]


def written(task: Task, env: Environment, success: float, folder: pathlib.Path) -> Episodes:
    """The episodes, in `folder`, made if they are not there."""
    if not (folder / "card.json").exists():
        episodes.save(mixed(task, env, success, folder.name), folder)
    return episodes.load(folder, task.name, env.observation_shape, env.action_space)
