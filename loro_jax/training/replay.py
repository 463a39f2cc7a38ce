"""A first-in-first-out ring of whole transitions, sampled uniformly with replacement."""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp

from loro_jax.types import Replay, Transition


def create(capacity: int, example: Transition) -> Replay:
    """An empty ring for transitions shaped like `example` (unbatched)."""
    storage = jax.tree.map(lambda x: jnp.zeros((capacity, *jnp.shape(x)), jnp.result_type(x)), example)
    return Replay(storage, jnp.int32(0))


def capacity(replay: Replay) -> int:
    return replay.storage.reward.shape[0]


def size(replay: Replay) -> jax.Array:
    """Transitions that can be sampled, ()."""
    return jnp.minimum(replay.insertions, capacity(replay))


def add(replay: Replay, batch: Transition, valid: jax.Array) -> Replay:
    """Writes the rows of `batch` (B, ...) where `valid` (B,); the others leave no gap.

    B must not exceed the capacity, since two writes to one place have no order.
    """
    chex.assert_equal_shape([batch.reward, valid])
    if valid.shape[0] > capacity(replay):
        raise ValueError(f"{valid.shape[0]} rows do not fit a replay of {capacity(replay)}")
    place = (replay.insertions + jnp.cumsum(valid) - 1) % capacity(replay)
    place = jnp.where(valid, place, capacity(replay))  # out of range: dropped
    storage = jax.tree.map(
        lambda s, x: s.at[place].set(x.astype(s.dtype), mode="drop"), replay.storage, batch
    )
    return Replay(storage, replay.insertions + valid.sum(dtype=jnp.int32))


def push(replay: Replay, transition: Transition, valid: jax.Array) -> Replay:
    """Writes one transition if `valid`, ()."""
    place = jnp.where(valid, replay.insertions % capacity(replay), capacity(replay))
    storage = jax.tree.map(
        lambda s, x: s.at[place].set(x.astype(s.dtype), mode="drop"), replay.storage, transition
    )
    return Replay(storage, replay.insertions + valid.astype(jnp.int32))


def sample(replay: Replay, key: chex.PRNGKey, batch_size: int) -> Transition:
    """(batch_size, ...) transitions, uniformly with replacement; meaningless while empty."""
    rows = jax.random.randint(key, (batch_size,), 0, jnp.maximum(size(replay), 1))
    return jax.tree.map(lambda s: s[rows], replay.storage)


def empty(replay: Replay) -> Replay:
    """The same ring without its transitions; what they held is overwritten before it can be sampled."""
    return Replay(replay.storage, jnp.zeros_like(replay.insertions))
