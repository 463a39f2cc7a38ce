"""A benchmark as data: an environment, its protocols, its episodes, and its reference scores."""

from __future__ import annotations

import dataclasses

from loro_jax.protocols import Protocol


@dataclasses.dataclass(frozen=True)
class Benchmark:
    """One module in `benchmarks/` holds one of these and nothing else of substance.

    Attributes:
        name: names the results folder.
        environment: name in `loro_jax.environments.REGISTRY`.
        episodes: the shipped dataset that runs use when none is named.
        protocols: by name; "standard" is the default.
        threshold: return that `steps_to_threshold` waits for, in the reward's unit.
    """

    name: str
    environment: str
    episodes: str
    protocols: dict[str, Protocol]
    threshold: float
