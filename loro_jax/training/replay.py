"""A first-in-first-out ring of whole transitions, sampled uniformly with replacement."""

from __future__ import annotations

from typing import Any

import chex
import jax
import jax.numpy as jnp

from loro_jax.types import Replay, Transition


def create(capacity: int, example: Transition, timed: bool = False) -> Replay:
    """An empty ring for transitions shaped like `example` (unbatched); `timed`: with their durations."""
    storage = jax.tree.map(lambda x: jnp.zeros((capacity, *jnp.shape(x)), jnp.result_type(x)), example)
    return Replay(storage, jnp.int32(0), jnp.zeros(capacity, jnp.int32) if timed else ())


def capacity(replay: Replay) -> int:
    return replay.storage.reward.shape[0]


def size(replay: Replay) -> jax.Array:
    """Transitions that can be sampled, ()."""
    return jnp.minimum(replay.insertions, capacity(replay))


def add(replay: Replay, batch: Transition, valid: jax.Array, durations: Any = ()) -> Replay:
    """Writes the rows of `batch` (B, ...), with their durations (B,) if the ring has them, where `valid`
    (B,); the others leave no gap.

    B must not exceed the capacity, since two writes to one place have no order.
    """
    chex.assert_equal_shape([batch.reward, valid])
    if valid.shape[0] > capacity(replay):
        raise ValueError(f"{valid.shape[0]} rows do not fit a replay of {capacity(replay)}")
    place = (replay.insertions + jnp.cumsum(valid) - 1) % capacity(replay)
    place = jnp.where(valid, place, capacity(replay))  # out of range: dropped
    storage, kept = jax.tree.map(
        lambda s, x: s.at[place].set(x.astype(s.dtype), mode="drop"),
        (replay.storage, replay.durations),
        (batch, durations),
    )
    return Replay(storage, replay.insertions + valid.sum(dtype=jnp.int32), kept)


def push(replay: Replay, transition: Transition, valid: jax.Array, duration: Any = ()) -> Replay:
    """Writes one transition if `valid`, (), and its duration, (), if the ring has them."""
    place = jnp.where(valid, replay.insertions % capacity(replay), capacity(replay))
    storage, kept = jax.tree.map(
        lambda s, x: s.at[place].set(x.astype(s.dtype), mode="drop"),
        (replay.storage, replay.durations),
        (transition, duration),
    )
    return Replay(storage, replay.insertions + valid.astype(jnp.int32), kept)


def rows(replay: Replay, key: chex.PRNGKey, batch_size: int) -> jax.Array:
    """Places of (batch_size,) transitions, uniformly with replacement; meaningless while empty."""
    return jax.random.randint(key, (batch_size,), 0, jnp.maximum(size(replay), 1))


def at(replay: Replay, rows: jax.Array) -> Transition:
    """The transitions at places (B,), (B, ...)."""
    return jax.tree.map(lambda s: s[rows], replay.storage)


def sample(replay: Replay, key: chex.PRNGKey, batch_size: int) -> Transition:
    """(batch_size, ...) transitions, uniformly with replacement; meaningless while empty."""
    return at(replay, rows(replay, key, batch_size))


def several(replay: Replay, rows: jax.Array, steps: int, discount: float) -> tuple[Transition, jax.Array]:
    """Transitions (B, ...) that stand for up to `steps` from places (B,) on, and what each discounts the
    value of its next state by, (B,) (Sutton and Barto, 2018, equation 7.1).

    Their rewards are discounted sums; a step with a duration is discounted so often. Fewer steps are taken
    where the episode ends, where the newest row is reached, and where a row does not begin in the state that
    the one before led to: what was stored in a row may come from several phases, and a cut episode's last row
    may be missing.
    """
    newest = (replay.insertions - 1) % capacity(replay)
    first = last = at(replay, rows)
    each = jnp.full(rows.shape, discount, jnp.float32)

    def factor(rows: jax.Array) -> jax.Array:
        """What these steps discount by, (B,)."""
        timed = isinstance(replay.durations, jax.Array)
        return each ** replay.durations[rows].astype(jnp.float32) if timed else each

    reward, power, going = first.reward, factor(rows), jnp.ones(rows.shape, bool)
    for _ in range(steps - 1):
        after = (rows + 1) % capacity(replay)
        following = at(replay, after)
        same = (following.obs == last.next_obs).reshape(len(rows), -1).all(axis=1)
        going &= same & ~(last.terminated | last.truncated) & (rows != newest)
        reward += jnp.where(going, power * following.reward, 0.0)
        power = jnp.where(going, power * factor(after), power)
        rows = jnp.where(going, after, rows)
        last = at(replay, rows)
    ends = {name: getattr(last, name) for name in ("next_obs", "terminated", "truncated")}
    return first._replace(reward=reward, **ends), power


def drawn(replay: Replay, key: chex.PRNGKey, rows: Any) -> Replay:
    """The ring with `rows`, (), of its transitions, drawn without replacement, in their order."""
    there = jnp.arange(capacity(replay)) < size(replay)
    lot = jnp.where(there, jax.random.uniform(key, there.shape), jnp.inf)
    kept = there & (jnp.argsort(jnp.argsort(lot)) < rows)
    order = jnp.argsort(~kept, stable=True)
    storage, durations = jax.tree.map(lambda x: x[order], (replay.storage, replay.durations))
    return Replay(storage, kept.sum(dtype=jnp.int32), durations)


def empty(replay: Replay) -> Replay:
    """The same ring without its transitions; what they held is overwritten before it can be sampled."""
    return replay._replace(insertions=jnp.zeros_like(replay.insertions))
