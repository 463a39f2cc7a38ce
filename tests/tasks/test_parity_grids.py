"""FrozenLake and CliffWalking against Gymnasium's tables: moves, slips, rewards, ends, starts, best."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from stepping import ends, step_all

from loro_jax.errors import UserError
from loro_jax.tasks import Environment, load
from loro_jax.tasks.rules import Clocked

START, GOAL = 36, 47
"""Cells of CliffWalking."""
LEFT, DOWN, RIGHT, UP = range(4)
"""FrozenLake's actions."""


def cells(env: Environment, position: Any, time: Any = 0) -> Any:
    """States of a grid world in the cells `position` (N,)."""
    _, state = env.reset(jax.random.key(0))
    position = jnp.asarray(position, jnp.int32)
    where = "inner" if isinstance(state, Clocked) else "position"
    return state.replace(
        **{where: position}, time=jnp.broadcast_to(jnp.asarray(time, jnp.int32), position.shape)
    )


# FrozenLake

CUSTOM = ("SFH", "FFF", "HFF", "FFG")
LAKES: dict[str, dict[str, Any]] = {
    "4x4": {},
    "8x8": {"layout": "8x8"},
    "custom": {"layout": CUSTOM},
    "sure-footed": {"slippery": False},
    "surer": {"success_rate": 0.8},
    "custom, never straight": {"layout": list(CUSTOM), "success_rate": 0.0},
}


def lake(name: str) -> tuple[Environment, Any]:
    """A lake of ours, and Gymnasium's table for it: P[cell][action] = [(probability, cell, reward, end)]."""
    options = dict(LAKES[name])
    env = load("frozen_lake").environment(**options)
    layout = options.get("layout", "4x4")
    where = {"map_name": layout} if isinstance(layout, str) else {"desc": list(layout)}
    rate = options.get("success_rate", 1 / 3)
    game = gymnasium.make(
        "FrozenLake-v1", is_slippery=options.get("slippery", True), success_rate=rate, **where
    )
    return env, game.unwrapped


@pytest.mark.parametrize("name", sorted(LAKES))
def test_frozen_lake_slips_as_gymnasium_does(name: str) -> None:
    """Every cell and action, 600 draws each, against `P`: no impossible outcome in any, and frequencies.

    Rewards and ends are compared in every draw. All frequencies of a lake are tested together, by the
    largest deviation in standard errors: with at most 3 * 256 of them, one is beyond 5.5 with probability
    below 1e-4 (a normal tail, allowing for the binomial's heavier one).
    """
    env, game = lake(name)
    draws = 600
    open_cells = [s for s in range(env.states) if game.desc.ravel()[s] in b"SF"]
    grid = np.array(np.meshgrid(open_cells, np.arange(4))).reshape(2, -1).T
    state, actions = cells(env, np.repeat(grid[:, 0], draws)), np.repeat(grid[:, 1], draws)
    obs, after, reward, terminated, truncated = step_all(env, state, actions, seed=1)
    assert obs.shape == (len(actions), env.states) and (obs.sum(1) == 1).all()
    np.testing.assert_array_equal(obs.argmax(1), after.position)
    assert not truncated.any()
    worst = 0.0
    for row, (cell, action) in enumerate(grid):
        mine = slice(row * draws, (row + 1) * draws)
        expected: dict[int, float] = {}
        facts = {}
        for probability, to, worth, end in game.P[cell][action]:
            expected[to] = expected.get(to, 0.0) + probability
            facts[to] = (worth, end)
        counts = np.bincount(after.position[mine], minlength=env.states)
        assert {int(c) for c in np.flatnonzero(counts)} <= {c for c, p in expected.items() if p > 0}
        for to, worth, end in zip(after.position[mine], reward[mine], terminated[mine], strict=True):
            assert (worth, end) == facts[int(to)]
        for to, p in expected.items():
            if 0 < p < 1:
                worst = max(worst, abs(counts[to] - draws * p) / np.sqrt(draws * p * (1 - p)))
            else:
                assert counts[to] == round(draws * p)
    assert worst < 5.5


def test_frozen_lakes_directions() -> None:
    env = load("frozen_lake").environment(slippery=False)
    inner = cells(env, [9] * 4)  # row 2, column 1, counted from 0
    after = step_all(env, inner, [LEFT, DOWN, RIGHT, UP])[1]
    assert after.position.tolist() == [8, 13, 10, 5]
    corner = step_all(env, cells(env, [0] * 4), [LEFT, DOWN, RIGHT, UP])[1]
    assert corner.position.tolist() == [0, 4, 1, 0]  # the edge cannot be crossed


def test_frozen_lake_starts_and_ends() -> None:
    for name, limit in (("4x4", 100), ("8x8", 200)):
        env = load("frozen_lake").environment(layout=name)
        spec = gymnasium.spec("FrozenLake-v1" if name == "4x4" else "FrozenLake8x8-v1")
        assert env.limit == limit == spec.max_episode_steps
        obs, game = env.reset(jax.random.key(0))
        assert obs.shape == (env.states,) and np.flatnonzero(obs).tolist() == [0] and not int(game.time)
    env = load("frozen_lake").environment(slippery=False)
    state = cells(env, [0, 0, 0, 4, 4, 14], [98, 99, 100, 98, 99, 99])
    kinds = ends(env, state, [LEFT, LEFT, LEFT, RIGHT, RIGHT, RIGHT])  # an edge, a hole, the goal
    cut = [(False, False), (False, True), (False, True), (True, False), (True, False), (True, False)]
    assert kinds == cut
    short = load("frozen_lake").environment(limit=7)
    assert ends(short, cells(short, [0, 0], [5, 6]), [UP, UP]) == [(False, False), (False, True)]


def test_a_start_in_the_middle_of_the_map() -> None:
    env = load("frozen_lake").environment(layout=("FFF", "FSF", "FFG"))
    obs, _ = env.reset(jax.random.key(0))
    assert np.flatnonzero(obs).tolist() == [4]


@pytest.mark.parametrize("name", ["4x4", "sure-footed"])
def test_whole_episodes_on_the_lake_are_possible_in_gymnasium(name: str) -> None:
    """200 episodes of uniform actions, step by step against `P`, cut at the limit and not before."""
    env, game = lake(name)

    def step(carry: tuple[Any, Any], key: Any) -> tuple[Any, Any]:
        state, over = carry
        action = env.action_space.sample(jax.random.fold_in(key, 0))
        _, after, reward, terminated, truncated = env.step(jax.random.fold_in(key, 1), state, action)
        row = (state.position, action, after.position, reward, terminated, truncated, ~over)
        return (after, over | terminated | truncated), row

    def episode(key: Any) -> Any:
        start = jax.tree.map(lambda x: jnp.asarray(x, jnp.int32), env.reset(key)[1])
        return jax.lax.scan(step, (start, jnp.bool_(False)), jax.random.split(key, 101))[1]

    rows = jax.jit(jax.vmap(episode))(jax.random.split(jax.random.key(2), 200))
    lengths = np.asarray(rows[-1]).sum(1)
    assert lengths.max() <= 100 and len(set(lengths)) > 5
    before, action, after, reward, terminated, _, live = (np.asarray(x).ravel() for x in rows)
    for i in np.flatnonzero(live):
        possible = {(to, worth, end) for p, to, worth, end in game.P[before[i]][action[i]] if p > 0}
        assert (after[i], reward[i], terminated[i]) in possible
    assert terminated[live].sum() > 150  # holes, mostly
    assert (np.asarray(rows[5]) & np.asarray(rows[6])).any(1).sum() == (lengths == 100).sum()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layout": "5x5"}, "no layout is called '5x5'; give '4x4', '8x8' or a list"),
        ({"layout": ("SF", "FFG")}, "layout must be a non-empty rectangular map"),
        ({"layout": ()}, "non-empty"),
        ({"layout": ("SX", "FG")}, "only contain S, F, H, and G"),
        ({"layout": ("FF", "FG")}, "exactly one start"),
        ({"layout": ("SS", "FG")}, "exactly one start"),
        ({"layout": ("SF", "FF")}, "exactly one goal"),
        ({"layout": ("SH", "HG")}, "no way leads to the goal within 100 steps"),
        ({"limit": 5}, "no way leads to the goal within 5 steps"),
        ({"limit": 0}, "at least one step"),
        ({"success_rate": 1.5}, "success_rate must be between 0 and 1"),
        ({"success_rate": float("nan")}, "success_rate must be between 0 and 1"),
    ],
)
def test_bad_lakes_are_refused_in_one_line(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=r"^frozen_lake: ") as caught:
        load("frozen_lake").environment(**options)
    assert message in str(caught.value) and "\n" not in str(caught.value)


def by_the_table(game: Any, limit: int) -> float:
    """The best probability of reaching the goal, by backward induction over Gymnasium's own table."""
    value = np.zeros(len(game.P))
    for _ in range(limit):
        value = np.array([
            max(sum(p * (worth + value[to] * (not end)) for p, to, worth, end in outcomes)
                for outcomes in actions.values())
            for actions in game.P.values()
        ])  # fmt: skip
    return float(value[game.initial_state_distrib.argmax()])


@pytest.mark.parametrize("name", sorted(LAKES))
def test_the_lakes_best_return_is_gymnasiums(name: str) -> None:
    env, game = lake(name)
    assert env.best == pytest.approx(by_the_table(game, env.limit), abs=1e-12)
    assert env.threshold <= env.best
    if name == "4x4":
        assert env.best == pytest.approx(0.744190287829269, abs=1e-12)


# CliffWalking


@pytest.fixture(scope="module")
def cliff() -> Environment:
    return load("cliff_walking").environment()


def walk(*runs: tuple[int, int]) -> Sequence[int]:
    return [action for action, times in runs for _ in range(times)]


def test_cliff_walking_is_gymnasiums_table_in_every_cell_and_action(cliff: Environment) -> None:
    table = gymnasium.make("CliffWalking-v1").unwrapped.P
    grid = np.array(np.meshgrid(np.arange(48), np.arange(4))).reshape(2, -1).T
    obs, after, reward, terminated, truncated = step_all(cliff, cells(cliff, grid[:, 0]), grid[:, 1])
    assert obs.shape == (192, 48) and (obs.sum(1) == 1).all()
    np.testing.assert_array_equal(obs.argmax(1), after.inner)
    for (cell, action), *ours in zip(grid, after.inner, reward, terminated, strict=True):
        ((probability, to, worth, end),) = table[cell][action]
        assert probability == 1 and tuple(ours) == (to, worth, end)
    # Down from the row above, from the corners inwards, and from the cliff's own cells, where nobody stands.
    assert (reward == -100).sum() == 10 + 2 + (10 + 9 + 9)
    assert not truncated.any()


def test_cliff_walkings_directions_and_cliff(cliff: Environment) -> None:
    after = step_all(cliff, cells(cliff, [14] * 4), [0, 1, 2, 3])[1]
    assert after.inner.tolist() == [2, 15, 26, 13]  # up, right, down, left
    state = cells(cliff, [START, START, START, 25, 34, 35])
    _, after, reward, terminated, _ = step_all(cliff, state, [1, 3, 2, 2, 2, 2])
    assert after.inner.tolist() == [START, START, START, START, START, GOAL]
    assert reward.tolist() == [-100, -1, -1, -100, -100, -1]
    assert terminated.tolist() == [False] * 5 + [True]


def test_cliff_walking_starts_and_ends(cliff: Environment) -> None:
    assert cliff.limit == 200
    assert gymnasium.spec("CliffWalking-v1").max_episode_steps is None  # our limit is our own
    obs, game = cliff.reset(jax.random.key(0))
    assert np.flatnonzero(obs).tolist() == [START] == [int(game.inner)] and not int(game.time)
    state = cells(cliff, [START, START, START, 25, 35, 35], [198, 199, 200, 199, 198, 199])
    cut = [(False, False), (False, True), (False, True), (False, True), (True, False), (True, False)]
    assert ends(cliff, state, [0, 0, 0, 2, 2, 2]) == cut
    short = load("cliff_walking").environment(limit=3)
    assert ends(short, cells(short, [START] * 2, [1, 2]), [3, 3]) == [(False, False), (False, True)]
    with pytest.raises(UserError, match="cliff_walking: limit is 0"):
        load("cliff_walking").environment(limit=0)


@pytest.mark.parametrize(
    ("actions", "worth"),
    [
        (walk((0, 1), (1, 11), (2, 1)), -13),
        (walk((1, 1), (0, 3), (1, 11), (2, 3)), -100 - 17),
        (walk((0, 1), (1, 4), (2, 1), (3, 2), (0, 1), (1, 12), (2, 1)), -5 - 100 - 16),
        (tuple(np.random.default_rng(0).integers(0, 4, 200)), None),
    ],
    ids=["shortest", "a fall, then the long way", "a fall midway", "uniform"],
)
def test_whole_walks_replayed_in_both(
    cliff: Environment, actions: Sequence[int], worth: float | None
) -> None:
    game = gymnasium.make("CliffWalking-v1", max_episode_steps=200)
    cell, _ = game.reset(seed=0)
    obs, state = cliff.reset(jax.random.key(0))
    step, total, over = jax.jit(cliff.step), 0.0, False
    for time, action in enumerate(actions):
        assert not over and int(obs.argmax()) == cell
        obs, state, reward, terminated, truncated = step(jax.random.key(time), state, jnp.int32(action))
        cell, expected, *flags, _ = game.step(int(action))
        assert (int(obs.argmax()), float(reward)) == (cell, expected)
        assert [bool(terminated), bool(truncated)] == flags
        total, over = total + float(reward), any(flags)
    assert over and (worth is None or total == worth)


def test_no_walk_is_better_than_the_best(cliff: Environment) -> None:
    """Backward induction over Gymnasium's table, within our limit."""
    table = gymnasium.make("CliffWalking-v1").unwrapped.P
    value = np.zeros(48)
    for _ in range(cliff.limit):
        outcomes = [[actions[a][0] for a in range(4)] for actions in table.values()]
        value = np.array([max(r + value[to] * (not end) for _, to, r, end in o) for o in outcomes])
    assert value[START] == cliff.best == cliff.threshold == -13
