"""The kitchen's rules against recordings of the reference program (../shared/overcooked), and by hand."""

from __future__ import annotations

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from loro_jax.tasks import kitchen
from loro_jax.tasks.kitchen import BOARD, HAND, HOME, PLATE, SALAD, TOMATO, Kitchen, State

RECORDINGS = pathlib.Path(__file__).parents[3] / "shared" / "overcooked"
EACH = pytest.mark.parametrize(("name", "map_"), [("tomato", TOMATO), ("tomato_lettuce", SALAD)])


def recorded(name: str) -> dict[str, np.ndarray]:
    path = RECORDINGS / f"{name}.npz"
    if not path.exists():
        pytest.skip(f"{path} is not here")
    with np.load(path) as arrays:
        return dict(arrays)


def states(map_: Kitchen, rows: np.ndarray) -> State:
    """Recorded states (N, 19), cells and all, as places."""
    rows = rows.astype(np.int32)
    kind, which, at = rows[:, 2], rows[:, 4], rows[:, 17:19]
    boards = [np.all(at == board, axis=1) for board in map_.boards]
    cases = [kind == 2, np.all(at == map_.plate, axis=1), np.all(at == map_.delivery, axis=1), *boards]
    codes = [HAND, HOME, PLATE, *range(BOARD, BOARD + len(boards))]
    plate = np.select(cases, codes, -1)
    place = np.full((len(rows), len(map_.foods)), -1)
    for i, home in enumerate(map_.homes):
        cell, chopped = rows[:, 5 + 4 * i : 7 + 4 * i], rows[:, 8 + 4 * i] == 1
        in_hand = (kind == 1) & (which == i + 1)
        cases = [in_hand, chopped & np.all(cell == at, axis=1), np.all(cell == home, axis=1)]
        cases += [np.all(cell == board, axis=1) for board in map_.boards]
        place[:, i] = np.select(cases, [HAND, PLATE, HOME, *range(BOARD, BOARD + len(boards))], -1)
    chops = np.stack([rows[:, 7 + 4 * i] for i in range(len(map_.foods))], axis=1)
    assert (plate >= 0).all() and (place >= 0).all()
    return State(*(jnp.asarray(x, jnp.int32) for x in (rows[:, :2], place, chops, plate)))


@EACH
def test_every_recorded_row_is_reproduced(name: str, map_: Kitchen) -> None:
    rows = recorded(name)
    assert len(rows["actions"]) == len(map_.actions) and len(rows["action"]) == 12_000
    before, after = states(map_, rows["state"]), states(map_, rows["next_state"])
    outcome = jax.jit(jax.vmap(lambda s, a: kitchen.play(map_, s, a)))(
        before, jnp.asarray(rows["action"], jnp.int32)
    )
    for got, wanted in zip(outcome.state, after, strict=True):
        np.testing.assert_array_equal(got, wanted)
    np.testing.assert_array_equal(outcome.duration, rows["macro_steps"])
    np.testing.assert_allclose(outcome.reward, rows["reward"], rtol=0, atol=2e-7)
    # A dish that is delivered on the limit's step is marked as both.
    assert (~rows["done_by_limit"] & rows["done"] <= np.asarray(outcome.terminated)).all()
    assert (np.asarray(outcome.terminated) <= rows["done"]).all()
    see = jax.jit(jax.vmap(lambda s: kitchen.observation(map_, s)))
    np.testing.assert_array_equal(see(before), rows["obs"])
    np.testing.assert_array_equal(see(after), rows["next_obs"])


@EACH
def test_an_episode_begins_where_the_recordings_do(name: str, map_: Kitchen) -> None:
    rows = recorded(name)
    first = np.flatnonzero(np.concatenate([[True], rows["done"][:-1]]))
    for got, wanted in zip(kitchen.begin(map_), states(map_, rows["state"][first]), strict=True):
        np.testing.assert_array_equal(np.broadcast_to(got, wanted.shape), wanted)


def played(map_: Kitchen, *names: str) -> tuple[list[float], list[int], bool]:
    state, rewards, durations, terminated = kitchen.begin(map_), [], [], False
    for name in names:
        kind, _, which = name.partition(" ")
        action = map_.actions.index((kind, int(which or 0)))
        state, reward, over, duration = kitchen.play(map_, state, jnp.int32(action))
        rewards.append(float(reward))
        durations.append(int(duration))
        terminated = bool(over)
    return rewards, durations, terminated


def test_a_tomato_by_hand() -> None:
    """One cell to the tomato and take it, four to the board and put it, three chops, eight cells to the plate
    and take it, eight back and take up the tomato, two to the delivery and hand over."""
    rewards, durations, terminated = played(TOMATO, "get 0", "board 0", "chop", "plate", "board 0", "deliver")
    assert durations == [2, 5, 3, 9, 9, 3] and terminated
    assert rewards[0] == pytest.approx(-0.001 * (1 + 0.99))
    assert rewards[2] == pytest.approx(-0.001 * (1 + 0.99 + 0.99**2) + 0.2 * 0.99**2)
    assert rewards[-1] == pytest.approx(-0.001 * (1 + 0.99 + 0.99**2) + 1.0 * 0.99**2)


def test_half_a_salad_is_wrong_and_everything_is_back() -> None:
    half = ("get 0", "board 0", "chop", "plate", "board 0", "deliver")
    rewards, durations, terminated = played(SALAD, *half)
    assert rewards[-1] == pytest.approx(-0.001 * (1 + 0.99 + 0.99**2) - 0.1 * 0.99**2) and not terminated
    again = played(SALAD, *half, *half)
    assert again[0][-1] == pytest.approx(rewards[-1]) and again[1][7:] == durations[1:]


def test_seeing_everything() -> None:
    whole = kitchen.observation(TOMATO, kitchen.begin(TOMATO), full=True)
    assert whole[:11].tolist() == [0, 5, 0, 6, 5, 1, 0, 3, 0, 1, 4]
    near = kitchen.observation(TOMATO, kitchen.begin(TOMATO))
    assert near[:11].tolist() == [0, 5, 0, 0, 0, 0, 0, 0, 0, 1, 4]
