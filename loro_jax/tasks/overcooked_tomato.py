"""Overcooked, tomato: one tomato chopped, on the plate, delivered (`tasks.kitchen`)."""

from __future__ import annotations

from loro_jax.agents import PPO
from loro_jax.protocols import by_name, common
from loro_jax.tasks import cooking
from loro_jax.tasks.kitchen import TOMATO

COMMON = common(budget=4000, eval_interval=40, eval_episodes=1)

# The winners of 16 settings each (results/tuning/worlds).
STANDARD = COMMON.replace(
    name="standard@1",
    hidden=(64, 64),
    learning_rate=0.00184,
    batch_size=64,
    discount=0.97,
    epsilon=0.2,
    epsilon_decay_steps=400,
    n_step=5,
    learning_starts=100,
    target_network_frequency=1,
    polyak=0.05,
    huber_delta=10.0,
    others=(
        PPO(
            learning_rate=0.000856,
            gae_lambda=0.9,
            games=4,
            rollout=10,
            epochs=8,
            minibatches=2,
            clip=0.1,
            entropy_weight=0.003,
        ),
    ),
)
TASK = cooking.task(TOMATO, by_name([STANDARD, COMMON]))
