"""The ring: first in, first out; rows that are masked leave no gap; only what was written is sampled."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loro_jax.training import replay
from loro_jax.types import Replay, Transition

CAPACITY, ROWS = 5, 4
EXAMPLE = Transition(
    jnp.zeros(2), jnp.int32(0), jnp.float32(0), jnp.zeros(2), jnp.bool_(False), jnp.bool_(False)
)


def rows(numbers: np.ndarray) -> Transition:
    """Transitions in which every field is made from the row's number."""
    n = np.asarray(numbers)
    obs = np.stack([n, n + 0.25], -1).astype(np.float32)
    return Transition(
        obs, n.astype(np.int32), (2 * n).astype(np.float32), obs + np.float32(0.5), n % 3 == 0, n % 3 == 1
    )


def numbers(held: Transition) -> list[int]:
    """The rows' numbers, after checking that all fields of a row belong together."""
    n = np.asarray(held.action)
    for field, expected in zip(held, rows(n), strict=True):
        np.testing.assert_array_equal(np.asarray(field), expected)
    return n.tolist()


add = jax.jit(replay.add)
push = jax.jit(replay.push)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.lists(st.booleans(), min_size=ROWS, max_size=ROWS), max_size=8))
def test_add_is_a_queue_of_the_valid_rows(masks: list[list[bool]]) -> None:
    ring, queue, count = replay.create(CAPACITY, EXAMPLE), [], 1
    for mask in masks:
        batch = np.arange(count, count + ROWS)
        ring = add(ring, rows(batch), np.asarray(mask))
        queue += [n for n, valid in zip(batch.tolist(), mask, strict=True) if valid]
        count += ROWS
        held = len(queue[-CAPACITY:])
        assert int(ring.insertions) == len(queue)
        assert int(replay.size(ring)) == held
        assert sorted(numbers(jax.tree.map(lambda x: x[:held], ring.storage))) == queue[-CAPACITY:]  # noqa: B023


@settings(deadline=None, max_examples=30)
@given(st.lists(st.booleans(), max_size=15))
def test_push_is_add_of_one_row(mask: list[bool]) -> None:
    one = many = replay.create(CAPACITY, EXAMPLE)
    for n, valid in enumerate(mask):
        row = rows(np.array([n + 1]))
        one = push(one, jax.tree.map(lambda x: x[0], row), jnp.bool_(valid))
        many = add(many, row, np.array([valid]))
    assert all(jax.tree.leaves(jax.tree.map(np.array_equal, one, many)))


def test_more_rows_than_the_ring_holds_are_refused() -> None:
    ring = replay.create(3, EXAMPLE)
    with pytest.raises(ValueError, match="4 rows do not fit a replay of 3"):
        replay.add(ring, rows(np.arange(4)), np.ones(4, bool))


def test_as_many_rows_as_the_ring_holds_fit_from_any_place() -> None:
    ring = replay.add(replay.create(4, EXAMPLE), rows(np.arange(1, 4)), np.ones(3, bool))
    ring = replay.add(ring, rows(np.arange(4, 8)), np.ones(4, bool))
    assert sorted(numbers(ring.storage)) == [4, 5, 6, 7]


def test_samples_are_whole_rows_drawn_uniformly_from_what_was_written() -> None:
    ring = replay.add(replay.create(CAPACITY, EXAMPLE), rows(np.array([1, 2, 3])), np.ones(3, bool))
    drawn = numbers(replay.sample(ring, jax.random.key(0), 3000))
    assert set(drawn) == {1, 2, 3}  # never one of the two places that hold zeros
    counts = np.bincount(drawn)[1:]
    np.testing.assert_allclose(counts, 1000, atol=5 * np.sqrt(3000 * 2 / 9))  # five standard deviations


def test_an_overwritten_row_is_never_sampled() -> None:
    ring = replay.create(CAPACITY, EXAMPLE)
    for start in (1, 5):
        ring = replay.add(ring, rows(np.arange(start, start + 4)), np.ones(4, bool))
    drawn = numbers(replay.sample(ring, jax.random.key(1), 1000))
    assert set(drawn) == {4, 5, 6, 7, 8}


def test_forgotten_rows_are_never_sampled() -> None:
    ring = replay.add(replay.create(CAPACITY, EXAMPLE), rows(np.arange(1, 5)), np.ones(4, bool))
    ring = replay.empty(ring)
    assert int(replay.size(ring)) == 0
    ring = replay.add(ring, rows(np.array([9])), np.ones(1, bool))
    assert set(numbers(replay.sample(ring, jax.random.key(2), 200))) == {9}


def test_types_of_storage_are_the_examples() -> None:
    ring: Replay = replay.create(CAPACITY, EXAMPLE)
    assert [x.dtype for x in ring.storage] == [x.dtype for x in EXAMPLE]
    ring = replay.push(ring, EXAMPLE._replace(reward=jnp.int32(3)), jnp.bool_(True))
    assert ring.storage.reward.dtype == jnp.float32


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 12), st.integers(1, 7), st.integers(0, 2**31 - 1))
def test_a_draw_is_of_different_rows_that_were_there_in_their_order(put: int, wanted: int, seed: int) -> None:
    ring = replay.create(CAPACITY, EXAMPLE)
    for n in range(put):
        ring = push(ring, jax.tree.map(lambda x: x[0], rows(np.array([n]))), np.bool_(True))
    held = numbers(jax.tree.map(lambda x: x[: int(replay.size(ring))], ring.storage))
    kept = replay.drawn(ring, jax.random.key(seed), wanted)
    size = int(replay.size(kept))
    assert size == int(kept.insertions) == min(wanted, len(held))
    found = numbers(jax.tree.map(lambda x: x[:size], kept.storage))
    assert found == [n for n in held if n in found] and len(set(found)) == size


def test_every_set_of_rows_is_drawn_as_often() -> None:
    """Two of four: six sets, a chi-squared test at 1 in 10,000 with a fixed key."""
    ring = replay.add(replay.create(CAPACITY, EXAMPLE), rows(np.arange(4)), np.ones(4, bool))
    draws = jax.vmap(lambda key: replay.drawn(ring, key, 2).storage.action[:2])
    sets, times = np.unique(
        np.asarray(draws(jax.random.split(jax.random.key(0), 6000))), axis=0, return_counts=True
    )
    assert len(sets) == 6
    assert ((times - 1000) ** 2 / 1000).sum() < 25.7
