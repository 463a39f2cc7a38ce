"""The importer on files of the other games: one-hot cells, torques, chance, replays, and time limits."""

from __future__ import annotations

import dataclasses
import pathlib
from typing import Any

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from loro_jax.data import episodes as dataset
from loro_jax.errors import EpisodeError, UserError
from loro_jax.interchange import released, states
from loro_jax.interchange.rows import Rows, checked
from loro_jax.tasks import load

PAPER = pathlib.Path(__file__).parent.parent.parent.parent / "shared" / "paper"
LAKE, PONG = load("frozen_lake"), load("pong")
GAMES = {
    "pendulum": "Pendulum-v1",
    "mountain_car": "MountainCar-v0",
    "frozen_lake": "FrozenLake-v1",
    "cliff_walking": "CliffWalking-v1",
}


def play(name: str, episodes: int, limit: int) -> tuple[dict[str, np.ndarray], list[np.ndarray]]:
    """Uniform episodes of Gymnasium's game, cut at `limit`, as the study stores them.

    -> its arrays, (s[t+1], a[t], r[t]) rows with every episode flagged terminated, and how each ended.
    """
    game = gymnasium.make(GAMES[name], max_episode_steps=limit)
    game.action_space.seed(0)
    columns: dict[str, list[Any]] = {"observations": [], "actions": [], "rewards": []}
    lengths, ends = [], []
    for index in range(episodes):
        game.reset(seed=index)
        length, over = 0, False
        while not over:
            action = game.action_space.sample()
            obs, reward, terminated, truncated, _ = game.step(action)
            columns["observations"].append(np.atleast_1d(obs))
            columns["actions"].append(np.atleast_1d(action))
            columns["rewards"].append(reward)
            length, over = length + 1, terminated or truncated
        lengths.append(length)
        ends.append(np.array([terminated, truncated]))
    arrays = {key: np.array(rows) for key, rows in columns.items()}
    return arrays | {"episode_lengths": np.array(lengths), "terminated": np.ones(episodes, bool)}, ends


@pytest.mark.parametrize(
    ("name", "limit", "ours"),
    [
        ("pendulum", 50, False),  # the study's limits of 50 and 100 are not ours, so nothing ended there
        ("pendulum", 200, True),
        ("mountain_car", 100, False),
        ("mountain_car", 200, True),
        ("frozen_lake", 100, True),
        ("cliff_walking", 200, True),
    ],
)
def test_true_reading_recovers_the_transitions(
    name: str, limit: int, ours: bool, tmp_path: pathlib.Path
) -> None:
    arrays, ends = play(name, 40 if name == "frozen_lake" else 6, limit)
    path, env = tmp_path / f"{name}_Some-Model.npz", load(name).environment()
    np.savez(path, **arrays)
    card = released.convert_file(path, name, "true", tmp_path / "out")
    assert card["share_reproduced"]["true"] == 1.0
    assert card["share_reproduced"]["released"] < (0.05 if name == "pendulum" else 0.9)
    found = dataset.load(tmp_path / "out", name, env.observation_shape, env.action_space)
    t = found.transitions
    # Rows of one episode, each with the row after it; an episode of one row has none.
    lengths = arrays["episode_lengths"]
    firsts = np.cumsum(lengths) - lengths
    lasts = np.cumsum(lengths) - 1
    before, after = np.delete(np.arange(lengths.sum()), lasts), np.delete(np.arange(lengths.sum()), firsts)
    for stored, rows in ((t.obs, before), (t.next_obs, after)):
        if env.states:
            assert (stored.sum(1) == 1).all() and stored.max() == 1
            np.testing.assert_array_equal(stored.argmax(1), arrays["observations"][rows, 0])
        else:
            np.testing.assert_array_equal(stored, arrays["observations"][rows])
    assert (
        t.action.shape == (len(after), *env.action_space.shape) and t.action.dtype == env.action_space.dtype
    )
    np.testing.assert_array_equal(t.action.reshape(len(after), 1), arrays["actions"][after])
    np.testing.assert_array_equal(t.reward, arrays["rewards"].astype(np.float32)[after])
    expected = np.array([end for end, length in zip(ends, lengths, strict=True) if length > 1])
    expected[:, 1] &= ours
    at_end = found.ends - 1
    np.testing.assert_array_equal(np.stack([t.terminated, t.truncated], 1)[at_end], expected)
    assert (t.terminated.sum(), t.truncated.sum()) == tuple(expected.sum(0))


def test_released_reading_of_cells_pads_with_zeros(tmp_path: pathlib.Path) -> None:
    arrays, _ = play("frozen_lake", 10, 100)
    path, env = tmp_path / "FrozenLake_x.npz", load("frozen_lake").environment()
    np.savez(path, **arrays)
    released.convert_file(path, "frozen_lake", "released", tmp_path / "out")
    found = dataset.load(tmp_path / "out", "frozen_lake", env.observation_shape, env.action_space)
    last = found.ends - 1
    assert found.transitions.terminated[last].all() and not found.transitions.next_obs[last].any()
    np.testing.assert_array_equal(found.transitions.obs.argmax(1), arrays["observations"][:, 0])
    np.testing.assert_array_equal(found.transitions.action, arrays["actions"][:, 0])


def test_states_from_observations_step_as_gymnasium_does() -> None:
    """CartPole, Pendulum and MountainCar: set to an observation at time 10, one step."""
    rng = np.random.default_rng(0)
    for name, scale in (
        ("cartpole", [2.3, 2, 0.2, 2]),
        ("pendulum", [np.pi, 8]),
        ("mountain_car", [0.6, 0.07]),
    ):
        env, state = load(name).environment(), rng.uniform(-1, 1, (50, len(scale))) * scale
        game = gymnasium.make(load(name).gymnasium_id).unwrapped
        game.action_space.seed(0)
        game.reset(seed=0)
        shown = state
        if name == "pendulum":
            shown = np.stack([np.cos(state[:, 0]), np.sin(state[:, 0]), state[:, 1]], 1)
        actions = np.array([game.action_space.sample() for _ in state], env.action_space.dtype)
        ours = states.states_at(load(name), env, shown.astype(np.float32), np.full(50, 10))
        after, terminated, truncated = states.step(env, ours, actions)
        for i in range(50):
            game.state, game.steps_beyond_terminated = state[i], None
            expected, _, over, _, _ = game.step(actions[i])
            np.testing.assert_allclose(after[i], expected, atol=1e-5)
            assert terminated[i] == over and not truncated[i]


def pairs(before: np.ndarray, actions: np.ndarray, after: np.ndarray) -> Rows:
    """Episodes of two rows on the lake: the cells `before`, then `after` by `actions`, all (E,)."""
    count = len(before)
    arrays = {
        "observations": np.stack([before, after], 1).reshape(-1, 1),
        "actions": np.stack([np.zeros_like(actions), actions], 1).reshape(-1, 1),
        "rewards": np.stack([np.zeros(count), after == 15], 1).reshape(-1),  # the goal's
        "episode_lengths": np.full(count, 2),
        "terminated": np.ones(count, bool),
    }
    return checked(pathlib.Path("x.npz"), arrays, LAKE.environment())


def test_a_row_on_ice_is_reproduced_if_gymnasium_gives_it_a_probability() -> None:
    """Every cell, action and next cell, against Gymnasium's table."""
    game = gymnasium.make("FrozenLake-v1").unwrapped
    tiles = game.desc.ravel()
    grid = [(s, a, to) for s in range(16) if tiles[s] in b"SF" for a in range(4) for to in range(16)]
    can = np.array([any(p > 0 and s2 == to for p, s2, _, _ in game.P[s][a]) for s, a, to in grid])
    columns = np.array(grid)
    possible = states.check(pairs(*columns[can].T), LAKE, LAKE.environment())
    assert can.sum() > 100 and possible.shares["true"] == 1.0
    np.testing.assert_array_equal(possible.terminated, [tiles[to] in b"HG" for to in columns[can, 2]])
    assert not possible.truncated.any() and "slippery" in possible.rule
    assert states.check(pairs(*columns[~can].T), LAKE, LAKE.environment()).shares["true"] == 0.0


def pong_rows(episodes: int, length: int) -> Rows:
    """Uniform episodes of our own Pong, as the study would store them."""
    env = PONG.environment()
    actions = jax.random.randint(jax.random.key(0), (episodes, length), 0, 6)

    def episode(actions: jax.Array) -> Any:
        def step(state: Any, action: jax.Array) -> Any:
            obs, state, reward, _, _ = env.step(jax.random.key(0), state, action)
            return state, (obs, reward)

        return jax.lax.scan(step, env.reset(jax.random.key(0))[1], actions)[1]

    obs, rewards = jax.tree.map(np.asarray, jax.jit(jax.vmap(episode))(actions))
    return Rows(
        np.array(obs).reshape(-1, 10),
        np.array(actions, np.int32).ravel(),
        rewards.ravel(),
        np.full(episodes, length),
        np.ones(episodes, bool),
    )


@pytest.mark.slow
def test_pong_is_replayed_from_its_start() -> None:
    rows = pong_rows(3, 60)
    found = states.check(rows, PONG, PONG.environment())
    assert found.shares["true"] == 1.0 and found.shares["released"] < 0.9
    assert not found.terminated.any() and not found.truncated.any() and "replayed" in found.rule
    assert states.check(rows, PONG, PONG.environment(limit=60)).truncated.all()
    # One observation that the actions do not lead to is one row less; unlike a departure of the game
    # itself, it leaves the rows after it as they were.
    rows.observations[100, 5] += 1
    assert states.check(rows, PONG, PONG.environment()).shares["true"] == pytest.approx(1 - 1 / (3 * 59))
    # An action that was not the one taken: what came before it stands, what follows is another game.
    rows.observations[100, 5] -= 1
    rows.actions[60:90] = (rows.actions[60:90] + 2) % 6
    share = states.check(rows, PONG, PONG.environment()).shares["true"]
    assert 2 / 3 <= share < 0.9


BAD: dict[str, tuple[str, dict[str, Any], str]] = {
    "a cell too far": ("frozen_lake", {"observations": np.full((5, 1), 16)}, "observations must be whole"),
    "a cell before the first": ("frozen_lake", {"observations": np.full((5, 1), -1)}, "from 0 to 15"),
    "half a cell": ("cliff_walking", {"observations": np.full((5, 1), 0.5)}, "from 0 to 47"),
    "one-hot already": ("frozen_lake", {"observations": np.zeros((5, 16))}, "frozen_lake needs (5, 1)"),
    "another lake": ("frozen_lake", {"observations": np.array([[0], [15]] * 2 + [[0]])}, "reproduces only"),
    "too much torque": ("pendulum", {"actions": np.full((5, 1), 2.5)}, "must lie between"),
    "two torques": ("pendulum", {"actions": np.zeros((5, 2))}, "pendulum needs (5, 1)"),
    "cells of a pendulum": ("pendulum", {"observations": np.zeros((5, 1))}, "pendulum needs (5, 3)"),
    "speed of light": ("mountain_car", {"observations": np.ones((5, 2)) * 3e8}, "reproduces only 0.0%"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_arrays_are_refused_in_one_line(case: str, tmp_path: pathlib.Path) -> None:
    name, changes, why = BAD[case]
    width = {"pendulum": 3, "mountain_car": 2}.get(name, 1)
    fine = {
        "observations": np.zeros((5, width)),
        "actions": np.zeros((5, 1), int),
        "rewards": np.ones(5),
        "episode_lengths": np.array([2, 3]),
        "terminated": np.ones(2, bool),
    }
    path = tmp_path / "x.npz"
    np.savez(path, allow_pickle=True, **fine | changes)
    with pytest.raises(EpisodeError) as caught:
        released.convert_file(path, name, "true", tmp_path / "out")
    assert str(path) in str(caught.value) and why in str(caught.value) and "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_a_game_that_cannot_be_set_says_so() -> None:
    task = dataclasses.replace(load("pendulum"), restore=None)
    with pytest.raises(UserError, match="pendulum: no way to set the simulator"):
        states.states_at(task, task.environment(), np.zeros((1, 3)), np.zeros(1))


# Of each file: rows reproduced in the released reading, episodes that the rules end, and that our limit cuts.
STUDY: dict[str, tuple[str, float, int, int]] = {
    "CartPole_Qwen2.5-32B-Instruct": ("cartpole", 0.3214, 30, 0),
    "CliffWalking_Qwen2.5-7B-Instruct": ("cliff_walking", 0.5649, 4, 26),
    "CliffWalking_Qwen2.5-32B-Instruct": ("cliff_walking", 0.4402, 8, 22),
    "FrozenLake_Qwen2.5-7B-Instruct": ("frozen_lake", 0.8011, 30, 0),
    "FrozenLake_Qwen2.5-32B-Instruct": ("frozen_lake", 0.8377, 30, 0),
    "MountainCar_Qwen2.5-7B-Instruct": ("mountain_car", 0.8635, 0, 30),
    "MountainCar_Qwen2.5-32B-Instruct": ("mountain_car", 0.6724, 0, 0),
    "Pendulum_Qwen2.5-7B-Instruct": ("pendulum", 0.1673, 0, 0),
    "Pendulum_Qwen2.5-32B-Instruct": ("pendulum", 0.3442, 0, 0),
    "RepresentedPong_Qwen2.5-7B-Instruct": ("pong", 0.7236, 0, 30),
    "RepresentedPong_Qwen2.5-32B-Instruct": ("pong", 0.5179, 0, 30),
}


@pytest.mark.skipif(not PAPER.is_dir(), reason="the study's files are not beside this checkout")
@pytest.mark.parametrize("file", STUDY)
def test_the_studys_own_files(file: str, tmp_path: pathlib.Path) -> None:
    name, share, ended, cut = STUDY[file]
    card = released.convert_file(PAPER / "datasets" / f"{file}.npz", name, "true", tmp_path / "npz")
    assert card["share_reproduced"] == {"true": 1.0, "released": pytest.approx(share, abs=1e-4)}
    flags = card["flags"]
    assert (flags["terminated_by_rules"], flags["truncated_by_limit"]) == (ended, cut)
    assert flags["terminated_in_file"] == 30 and flags["episodes_that_differ"] == 30 - ended
    env = load(name).environment()
    found = dataset.load(tmp_path / "npz", name, env.observation_shape, env.action_space)
    for pickled in (PAPER / "pickles").glob(f"{file}_*.pkl"):
        released.convert_file(pickled, name, "true", tmp_path / "pkl")
        also = dataset.load(tmp_path / "pkl", name, env.observation_shape, env.action_space)
        assert dataset.digest(also) == dataset.digest(found)


@pytest.mark.skipif(not PAPER.is_dir(), reason="the study's files are not beside this checkout")
def test_the_studys_pong_is_ours_in_every_reward(tmp_path: pathlib.Path) -> None:
    """The files' rewards are of the second half of each step, which `drop_first_half` stands for."""
    env = PONG.environment(drop_first_half=True)
    path = PAPER / "datasets" / "RepresentedPong_Qwen2.5-7B-Instruct.npz"
    with np.load(path) as arrays:
        rows = checked(path, dict(arrays), env)
    now = np.concatenate([np.arange(span.start, span.stop - 1) for span in rows.spans])
    game = jax.tree.map(lambda x: jnp.asarray(x[now]), states.replay(env, rows))
    reward = jax.jit(jax.vmap(lambda s, a: env.step(jax.random.key(0), s, a)[2]))(game, rows.actions[now + 1])
    np.testing.assert_array_equal(reward, rows.rewards[now + 1])
    assert set(np.unique(reward)) >= {-1.0, 0.0}
