"""Action spaces as plain data: Gymnasium's two kinds, hashable, so that programs can be keyed on them."""

from __future__ import annotations

import dataclasses
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np

from loro_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class Discrete:
    """The actions 0 to n - 1, each an int32 ()."""

    n: int

    def __post_init__(self) -> None:
        if isinstance(self.n, bool) or not isinstance(self.n, int | np.integer) or not 1 <= self.n < 2**31:
            raise UserError(f"Discrete takes a number of actions, such as Discrete(2); got {self.n!r}")
        object.__setattr__(self, "n", int(self.n))

    @property
    def shape(self) -> tuple[int, ...]:
        return ()

    @property
    def dtype(self) -> type[np.generic]:
        return np.int32

    def sample(self, key: chex.PRNGKey, legal: jax.Array | None = None) -> jax.Array:
        """A uniform action, (), of those that are `legal`, bool (n,), if that is given."""
        if legal is None:
            return jax.random.randint(key, (), 0, self.n)
        upto = jnp.cumsum(legal.astype(jnp.int32))
        return jnp.searchsorted(upto, jax.random.randint(key, (), 0, upto[-1]), side="right").astype(
            jnp.int32
        )

    def refuses(self, actions: np.ndarray) -> str:
        """Why `actions` (N,) cannot be actions of this space; empty if they can."""
        allowed = bool(np.isin(actions, np.arange(self.n)).all())
        return "" if allowed else f"actions must be whole numbers from 0 to {self.n - 1}"


@dataclasses.dataclass(frozen=True)
class Box:
    """Vectors between `low` and `high` (k,), each a float32 (k,)."""

    low: tuple[float, ...]
    high: tuple[float, ...]

    def __post_init__(self) -> None:
        try:
            low, high = (np.atleast_1d(np.asarray(end, np.float64)) for end in (self.low, self.high))
        except (TypeError, ValueError):
            raise UserError(
                f"Box takes numbers, such as Box((-1.0,), (1.0,)); got {self.low}, {self.high}"
            ) from None
        if low.ndim != 1 or low.shape != high.shape:
            raise UserError(f"Box takes a low and a high for each entry; got {self.low}, {self.high}")
        if not (np.isfinite(low) & np.isfinite(high) & (low < high)).all():
            raise UserError(f"Box needs finite bounds, low below high; got {self.low}, {self.high}")
        object.__setattr__(self, "low", tuple(low.tolist()))
        object.__setattr__(self, "high", tuple(high.tolist()))

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self.low),)

    @property
    def dtype(self) -> type[np.generic]:
        return np.float32

    def sample(self, key: chex.PRNGKey, legal: Any = None) -> jax.Array:
        """A uniform action, (k,)."""
        del legal  # which moves are legal is said of discrete actions
        low, high = jnp.asarray(self.low, jnp.float32), jnp.asarray(self.high, jnp.float32)
        return jax.random.uniform(key, self.shape, jnp.float32, low, high)

    def refuses(self, actions: np.ndarray) -> str:
        """Why `actions` (N, k) cannot be actions of this space; empty if they can."""
        low, high = np.asarray(self.low, np.float32), np.asarray(self.high, np.float32)
        allowed = bool(((low <= actions) & (actions <= high)).all())
        return "" if allowed else f"actions must lie between {self.low} and {self.high}"


Space = Discrete | Box
