"""Action spaces as plain data: Gymnasium's two kinds, hashable, so that programs can be keyed on them."""

from __future__ import annotations

import dataclasses

import chex
import jax
import jax.numpy as jnp
import numpy as np


@dataclasses.dataclass(frozen=True)
class Discrete:
    """The actions 0 to n - 1, each an int32 ()."""

    n: int

    @property
    def shape(self) -> tuple[int, ...]:
        return ()

    @property
    def dtype(self) -> type[np.generic]:
        return np.int32

    def sample(self, key: chex.PRNGKey) -> jax.Array:
        """A uniform action, ()."""
        return jax.random.randint(key, (), 0, self.n)

    def refuses(self, actions: np.ndarray) -> str:
        """Why `actions` (N,) cannot be actions of this space; empty if they can."""
        allowed = bool(np.isin(actions, np.arange(self.n)).all())
        return "" if allowed else f"actions must be whole numbers from 0 to {self.n - 1}"


@dataclasses.dataclass(frozen=True)
class Box:
    """Vectors between `low` and `high` (k,), each a float32 (k,)."""

    low: tuple[float, ...]
    high: tuple[float, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self.low),)

    @property
    def dtype(self) -> type[np.generic]:
        return np.float32

    def sample(self, key: chex.PRNGKey) -> jax.Array:
        """A uniform action, (k,)."""
        low, high = jnp.asarray(self.low, jnp.float32), jnp.asarray(self.high, jnp.float32)
        return jax.random.uniform(key, self.shape, jnp.float32, low, high)

    def refuses(self, actions: np.ndarray) -> str:
        """Why `actions` (N, k) cannot be actions of this space; empty if they can."""
        low, high = np.asarray(self.low, np.float32), np.asarray(self.high, np.float32)
        allowed = bool(((low <= actions) & (actions <= high)).all())
        return "" if allowed else f"actions must lie between {self.low} and {self.high}"


Space = Discrete | Box
