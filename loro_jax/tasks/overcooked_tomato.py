"""Overcooked, tomato: one tomato chopped, on the plate, delivered (`tasks.kitchen`)."""

from __future__ import annotations

from loro_jax.protocols import by_name, common
from loro_jax.tasks import cooking
from loro_jax.tasks.kitchen import TOMATO

COMMON = common(budget=4000, eval_interval=40, eval_episodes=1)
TASK = cooking.task(TOMATO, by_name([COMMON]))
