"""Overcooked, salad: tomato and lettuce chopped, on one plate, delivered; the onion is in the way."""

from __future__ import annotations

from loro_jax.protocols import by_name, common
from loro_jax.tasks import cooking
from loro_jax.tasks.kitchen import SALAD

COMMON = common(budget=10_000, eval_interval=100, eval_episodes=1)
TASK = cooking.task(SALAD, by_name([COMMON]))
