"""Overcooked, tomato: one tomato chopped, on the plate, delivered (`tasks.kitchen`)."""

from __future__ import annotations

import functools

from loro_jax.protocols import by_name, common
from loro_jax.tasks import cooking
from loro_jax.tasks.base import Environment, Task
from loro_jax.tasks.kitchen import TOMATO


@functools.cache
def overcooked_tomato(
    full: bool = False, by_duration: bool = False, masked: bool = True, limit: int = cooking.LIMIT
) -> Environment:
    """The kitchen; its settings are those of `cooking.environment`."""
    return cooking.environment(TOMATO, full, by_duration, masked, limit)


COMMON = common(budget=10_000, eval_interval=100, eval_episodes=1)

TASK = Task(
    name="overcooked_tomato",
    game=overcooked_tomato,
    protocols=by_name([COMMON]),
    words=cooking.description(TOMATO),
    reference=functools.partial(cooking.reference, TOMATO),
    reference_episodes=1,
    replayed=True,
)
