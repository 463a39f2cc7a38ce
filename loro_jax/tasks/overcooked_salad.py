"""Overcooked, salad: tomato and lettuce chopped, on one plate, delivered; the onion is in the way."""

from __future__ import annotations

import functools

from loro_jax.protocols import by_name, common
from loro_jax.tasks import cooking
from loro_jax.tasks.base import Environment, Task
from loro_jax.tasks.kitchen import SALAD


@functools.cache
def overcooked_salad(
    full: bool = False, by_duration: bool = False, masked: bool = True, limit: int = cooking.LIMIT
) -> Environment:
    """The kitchen; its settings are those of `cooking.environment`."""
    return cooking.environment(SALAD, full, by_duration, masked, limit)


COMMON = common(budget=40_000, eval_interval=400, eval_episodes=1)

TASK = Task(
    name="overcooked_salad",
    game=overcooked_salad,
    protocols=by_name([COMMON]),
    words=cooking.description(SALAD),
    reference=functools.partial(cooking.reference, SALAD),
    reference_episodes=1,
    replayed=True,
)
