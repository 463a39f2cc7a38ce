"""The words that only departures need."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from loro_jax.departures.alignment import shifted
from loro_jax.training.phases import Collect
from loro_jax.types import Transition


@dataclasses.dataclass(frozen=True, repr=False)
class ShiftedCollect(Collect):
    """Departure 1: `Collect`, its rows stored in the released alignment."""

    def stored(self, rows: Transition) -> tuple[Transition, jax.Array]:
        ends = rows.terminated | rows.truncated
        moved, kept = shifted(rows, ends, jnp)
        return moved, kept & (rows.terminated | (jnp.arange(self.steps) < self.steps - 1))
