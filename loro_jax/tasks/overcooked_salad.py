"""Overcooked, salad: tomato and lettuce chopped, on one plate, delivered; the onion is in the way."""

from __future__ import annotations

from loro_jax.agents import PPO
from loro_jax.protocols import by_name, common
from loro_jax.tasks import cooking
from loro_jax.tasks.kitchen import SALAD

COMMON = common(budget=10_000, eval_interval=100, eval_episodes=1)

# The winners of 16 settings each (results/tuning/worlds).
STANDARD = COMMON.replace(
    name="standard@1",
    hidden=(64, 64),
    learning_rate=0.000538,
    learning_rate_decay_steps=10_000,
    batch_size=64,
    discount=0.98,
    epsilon=0.05,
    epsilon_decay_steps=2000,
    n_step=5,
    learning_starts=100,
    target_network_frequency=50,
    huber_delta=10.0,
    others=(
        PPO(
            hidden=(256,),
            learning_rate=0.00349,
            discount=0.98,
            gae_lambda=0.8,
            games=5,
            rollout=20,
            clip=0.1,
            entropy_weight=0.03,
            reward_scale=5.0,
        ),
    ),
)
TASK = cooking.task(SALAD, by_name([STANDARD, COMMON]))
