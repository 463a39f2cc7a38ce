"""Overcooked, salad: tomato and lettuce chopped, on one plate, delivered; the onion is in the way."""

from __future__ import annotations

import functools

from loro_jax.tasks import cooking
from loro_jax.tasks.base import Environment, Task
from loro_jax.tasks.kitchen import SALAD


@functools.cache
def overcooked_salad(
    full: bool = False, by_duration: bool = False, masked: bool = True, limit: int = cooking.LIMIT
) -> Environment:
    """The kitchen; its settings are those of `cooking.environment`."""
    return cooking.environment(SALAD, full, by_duration, masked, limit)


TASK = Task(
    name="overcooked_salad",
    game=overcooked_salad,
    words=cooking.description(SALAD),
    reference=functools.partial(cooking.reference, SALAD),
    reference_episodes=1,
    replayed=True,
)
