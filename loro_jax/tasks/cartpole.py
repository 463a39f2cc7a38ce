"""CartPole with the 200-step limit of Gym's CartPole-v0 (Barto, Sutton and Anderson, 1983)."""

from __future__ import annotations

import functools
import math
from typing import Any

import jax
import numpy as np

from loro_jax.agents import PPO
from loro_jax.protocols import PAPER, RELEASED, by_name
from loro_jax.tasks.actions import Words
from loro_jax.tasks.base import Environment, Task
from loro_jax.tasks.planning import Floats
from loro_jax.tasks.words import PACES, Description, at, banded, rounded, sided, size


@functools.cache  # the same game is the same object: programs are shared
def cartpole() -> Environment:
    """gymnax's CartPole-v1, truncated after 200 steps; observation (4,), actions 0 left, 1 right."""
    from gymnax.environments.classic_control.cartpole import CartPole  # gymnax takes seconds to import

    game = CartPole()
    return Environment(
        game=game,
        params=game.default_params.replace(max_steps_in_episode=200),
        threshold=195.0,
        best=200.0,
    )


DEGREE = math.pi / 180

DESCRIPTION = Description(
    # Metres, metres and radians a second. Sides come from the exact numbers, so that a size that rounds to 0
    # still has its true side.
    fields=(
        sided("cart_side", at(0)),
        rounded("cart_distance", size(0), 0.01, 2.4, "{:.2f}"),
        sided("cart_direction", at(1)),
        rounded("cart_speed", size(1), 0.01, 4, "{:.2f}"),
        sided("pole_side", at(2)),
        rounded("pole_angle", size(2), 1, 12, "{:.0f}", DEGREE),
        sided("pole_direction", at(3)),
        rounded("pole_speed", size(3), 1, 360, "{:.0f}", DEGREE),
        banded("cart_place", size(0), (0.8, 1.6), ("near", "off", "far from")),
        banded("cart_pace", size(1), (0.3, 1.0), PACES),
        banded("pole_pace", size(3), (15 * DEGREE, 60 * DEGREE), PACES),
        rounded("pole_rate", size(3), 15, 240, "{:.0f}", DEGREE),
    ),
    reader=Words(("left", "right")),
)


def reference(observations: Floats) -> np.ndarray:
    """Pushes to the side of the force that the regulator asks for; (N, 4) -> (N, 2)."""
    right = observations @ _gain() > 0
    return np.stack([~right, right], axis=1)


@functools.cache
def _gain() -> Floats:
    """Gain (4,) of the force, from Gymnasium's constants linearised upright, in steps of 0.02 s."""
    from scipy import linalg

    gravity, cart, pole, half, step = 9.8, 1.0, 0.1, 0.5, 0.02
    total = cart + pole
    inertia = half * (4 / 3 - pole / total)
    turn = np.array([0, 0, gravity / inertia, 0])
    push = -1 / (total * inertia)
    a = np.eye(4) + step * np.array(
        [[0, 1, 0, 0], -pole * half / total * turn, [0, 0, 0, 1], turn], np.float64
    )
    b = step * np.array([[0], [1 / total - pole * half / total * push], [0], [push]])
    value = linalg.solve_discrete_are(a, b, np.diag([1.0, 0.1, 10.0, 0.1]), np.array([[0.01]]))
    return -np.linalg.solve(0.01 + b.T @ value @ b, b.T @ value @ a)[0]


def restore(environment: Environment, obs: jax.Array, time: jax.Array) -> Any:
    """The state that shows `obs` at `time`."""
    from gymnax.environments.classic_control.cartpole import EnvState

    return EnvState(x=obs[0], x_dot=obs[1], theta=obs[2], theta_dot=obs[3], time=time)


# Learning rate, target network frequency, epsilon, discount, batch, hidden and learning starts are a row of
# the search for pure RL by `python -m studies.tune` (results/tuning/cartpole.json). Of the 17 rows on 64
# seeds (seed 102) this one scores 6,938 +- 85 and the best 7,167 +- 85 (batch_size 64, hidden 128); why it
# was not taken is not on record. Nothing was tuned for LORO: tau is the study's, and fit_steps is the study's
# K in the same ratio to the budget.
STANDARD = PAPER.replace(
    name="standard@1",
    budget=10_000,
    eval_episodes=4,
    charge="steps",
    fit_steps=1000,
    hidden=(256,),
    learning_rate=2e-3,
    batch_size=32,
    discount=0.97,
    target_network_frequency=400,
    epsilon=0.2,
    learning_starts=100,
    reset_each_interval=False,
)

# The winner of 61 settings (results/tuning/standard@2); PPO's is of results/tuning/worlds. Pretraining takes
# a tenth of the budget's steps, here as elsewhere, and copies its target 40 times.
STANDARD_2 = STANDARD.replace(
    name="standard@2",
    fit_steps=1000,
    llm="answers",
    hidden=(64, 64),
    learning_rate=0.00145,
    batch_size=128,
    epsilon=0.01,
    epsilon_decay_steps=4000,
    gradient_steps=2,
    n_step=5,
    target_network_frequency=200,
    huber_delta=100.0,
    fit_target_network_frequency=25,
    others=(PPO(games=8, rollout=25, learning_rate=0.00499, discount=0.95, gae_lambda=0.99),),
)

TASK = Task(
    name="cartpole",
    game=cartpole,
    protocols=by_name([STANDARD, STANDARD_2, PAPER, RELEASED]),
    words=DESCRIPTION,
    episodes="qwen2.5-coder-0.5b-instruct-hint",
    answers="qwen2.5-coder-0.5b-instruct-rate",
    reference=reference,
    restore=restore,
    gymnasium_id="CartPole-v1",
    seeds=256,
)
