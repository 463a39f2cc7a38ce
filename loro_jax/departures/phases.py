"""The words that only departures need."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from loro_jax.departures.alignment import shifted
from loro_jax.training.phases import Collect, Cost, nothing
from loro_jax.training.world import World
from loro_jax.types import Knowledge, Run, Transition


@dataclasses.dataclass(frozen=True)
class Retarget:
    """Departure 3: changes how many gradient steps lie between copies into the target network."""

    interval: int

    def cost(self, interval: int) -> Cost:
        return Cost()

    def __call__(self, run: Run, world: World, known: Knowledge) -> tuple[Run, jax.Array]:
        return run._replace(agent=run.agent._replace(target_interval=jnp.int32(self.interval))), nothing()


@dataclasses.dataclass(frozen=True, repr=False)
class ShiftedCollect(Collect):
    """Departure 1: `Collect`, its rows stored in the released alignment."""

    def stored(self, rows: Transition) -> tuple[Transition, jax.Array]:
        ends = rows.terminated | rows.truncated
        moved, kept = shifted(rows, ends, jnp)
        return moved, kept & (rows.terminated | (jnp.arange(self.steps) < self.steps - 1))
