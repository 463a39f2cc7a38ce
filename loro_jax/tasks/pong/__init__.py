"""Pong from ten numbers of its memory: the study's RepresentedPong-v0. The rules are in `rules.py`."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from loro_jax.protocols import PAPER, RELEASED, by_name
from loro_jax.tasks.actions import Words
from loro_jax.tasks.base import Task
from loro_jax.tasks.planning import Floats
from loro_jax.tasks.pong import rules
from loro_jax.tasks.words import Description, at, banded, sided


def _offset(obs: Any) -> Any:
    """Lines from the middle of the player's paddle down to the ball: whole numbers, hence exact."""
    return obs[5] - (obs[0] + 7)


EIGHTS = [8 * n + (4 if n % 2 == 0 else 3.5) for n in range(27)]
"""Where lines are nearer to the next multiple of 8; those in the middle go to the even one."""

DESCRIPTION = Description(
    # The player's paddle is the right one, and its middle 7 lines below its own number. Lines are counted
    # downwards, so that a smaller number is higher; a ball with y = 0 is not in play.
    fields=(
        sided("ball", at(5), "not in play", "in play"),
        banded("offset", lambda obs: abs(_offset(obs)), EIGHTS, [str(8 * n) for n in range(28)]),
        sided("vertical", _offset, "above", "below"),
        sided("course", at(8), "away from you", "towards you"),
        banded("rise", at(9), (-0.5, 0.5), ("up", "level", "down")),
        banded("distance", at(4), (120, 160), ("far", "half-way", "near")),
    ),
    reader=Words(("stay", "up", "down"), (0, 2, 3)),
)


def reference(observations: Floats) -> np.ndarray:
    """The planner's move, with or without the button; (N, 10) -> (N, 6)."""
    move, plan = np.asarray(rules.UP_OR_DOWN), _pong_planner()
    unique, place = np.unique(observations.astype(np.float32), axis=0, return_inverse=True)
    filled = np.concatenate([unique, np.repeat(unique[:1], -len(unique) % PLANNED, axis=0)])
    parts = [np.asarray(plan(part)) for part in np.split(filled, len(filled) // PLANNED)]
    return (move[None] == move[np.concatenate(parts)[: len(unique)]][:, None])[place.ravel()]


PLANNED = 16
"""Observations that the planner takes at once, so that it is compiled once."""


@functools.cache
def _pong_planner() -> Callable[[np.ndarray], jax.Array]:
    return jax.jit(jax.vmap(rules.reference))


# Tuned for pure RL by `python -m studies.tune --task pong` (results/tuning/). Of the 5 rows on 4
# seeds (seed 101), the one round that was run, this one scores -1,628 +- 52 and the best -1,364 +- 56
# (learning_rate 0.0003, target_network_frequency 25, epsilon 0.2, discount 0.98, batch_size 64, hidden 64
# 64, learning_starts 500); these are the settings that the search began with, and why they were kept is not
# on record. Nothing was tuned for LORO: tau is the study's, and fit_steps is a tenth of the budget, as in
# the study's CartPole.
STANDARD = PAPER.replace(
    name="standard@1",
    budget=40_000,
    eval_episodes=1,  # nothing in the game is random: a greedy policy plays one and the same episode
    fit_steps=4000,
    normalise_observations=True,
    charge="steps",
    hidden=(64,),
    learning_rate=1e-3,
    batch_size=32,
    discount=0.99,
    target_network_frequency=200,
    epsilon=0.1,
    learning_starts=200,
    reset_each_interval=False,
)

# The winner of 61 settings (results/tuning/standard@2), with 50,000 steps, of which results/README.md
# says why. Pretraining takes a tenth of the budget's steps.
STANDARD_2 = STANDARD.replace(
    name="standard@2",
    budget=50_000,
    fit_steps=5000,
    llm="answers",
    hidden=(128, 128),
    learning_rate=0.000674,
    batch_size=128,
    discount=0.97,
    epsilon=0.02,
    epsilon_decay_steps=5000,
    learning_rate_decay_steps=50_000,
    n_step=5,
    layer_norm=True,
    learning_starts=100,
    target_network_frequency=100,
    huber_delta=100.0,
)

# The study's game has no limit: its evaluations go on to 21 points, and only its intervals and its LLM's
# episodes are 200 steps. Some bound is needed, as a player who follows the ball can rally for ever; this is
# Gymnasium's for Pong, 108,000 frames, in steps of 8. Whole games are far shorter: 382 steps of a paddle at
# rest, 382 to 680 of 1,000 uniform players, 1,536 of the reference player.
WHOLE_GAME = 13_500

TASK = Task(
    name="pong",
    game=rules.pong,
    protocols=by_name(
        [
            STANDARD,
            STANDARD_2,
            PAPER.replace(budget=40_000, eval_limit=WHOLE_GAME),
            RELEASED.replace(budget=40_000, eval_limit=WHOLE_GAME, game={"drop_first_half": True}),
        ]
    ),
    words=DESCRIPTION,
    episodes="qwen2.5-coder-0.5b-instruct-hint",
    answers="qwen2.5-coder-0.5b-instruct-hint",
    reference=reference,
    reference_episodes=1,
    replayed=True,
    gymnasium_id="ALE/Pong-v5",
    seeds=64,
)
