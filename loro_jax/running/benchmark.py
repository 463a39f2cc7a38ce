"""A benchmark as data: an environment, its protocols, its episodes, and its reference scores."""

from __future__ import annotations

import dataclasses

from loro_jax.tasks import Environment, make
from loro_jax.training.protocols import Protocol

MOST_SEEDS, MOST_DEVICES = 1_000_000, 1024  # more than fit anywhere; far larger numbers overflow in JAX


@dataclasses.dataclass(frozen=True)
class Benchmark:
    """One module in `benchmarks/` holds one of these and nothing else of substance.

    Attributes:
        name: names the results folder.
        environment: name in `loro_jax.tasks.REGISTRY`.
        episodes: the shipped dataset that runs use when none is named.
        protocols: by name; "standard" is the default.
        threshold: return that `steps_to_threshold` waits for, in the reward's unit.
        seeds: members of each arm when the command names no number.
        parameters: fields of the protocol that the environment is made with.
    """

    name: str
    environment: str
    episodes: str
    protocols: dict[str, Protocol]
    threshold: float
    seeds: int = 256
    parameters: tuple[str, ...] = ()

    def make(self, protocol: Protocol) -> Environment:
        """The environment as `protocol` plays it."""
        return make(self.environment, **{name: getattr(protocol, name) for name in self.parameters})
