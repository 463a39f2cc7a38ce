"""Every shipped episode, step by step through Gymnasium: what is stored is what the game does."""

from __future__ import annotations

import json
import pathlib
from typing import Any

import gymnasium
import numpy as np
import pytest

from loro_jax.data import episodes
from loro_jax.tasks import load
from loro_jax.types import Transition

SHIPPED = sorted(card.parent for card in episodes.SHIPPED.glob("*/*/card.json"))
LIMITS = {"cartpole": 200, "frozen_lake": 100, "cliff_walking": 200, "mountain_car": 200, "pendulum": 200}


def each(data: episodes.Episodes) -> list[Transition]:
    """The transitions of each episode."""
    starts = data.ends - data.episode_lengths
    return [Transition(*(a[i:j] for a in data.transitions)) for i, j in zip(starts, data.ends, strict=True)]


@pytest.mark.parametrize("folder", SHIPPED, ids=lambda f: f"{f.parent.name}/{f.name}")
def test_shipped_episodes_are_what_gymnasium_does(folder: pathlib.Path) -> None:
    name = folder.parent.name
    env = load(name).environment()
    data = episodes.load(folder, name, env.observation_shape, env.action_space)
    assert len(data.episode_lengths) >= 30
    # The console takes a second for an episode of Pong, so that four of them stand for all.
    for t in each(data)[: 4 if name == "pong" else None]:
        globals()[f"check_{name}"](t)
        # Every episode ends, in one way; the limit cuts it on its very step.
        assert t.terminated[-1] != t.truncated[-1]
        if name != "pong":
            assert t.truncated[-1] == (len(t.reward) == LIMITS[name] and not t.terminated[-1])


@pytest.mark.parametrize("folder", SHIPPED, ids=lambda f: f"{f.parent.name}/{f.name}")
def test_nothing_is_to_be_warned_of(folder: pathlib.Path) -> None:
    assert episodes.warnings(json.loads((folder / "card.json").read_text())) == []


def check_cartpole(t: Transition) -> None:
    game: Any = gymnasium.make("CartPole-v1").unwrapped
    game.reset(seed=0)
    for i in range(len(t.reward)):
        game.state, game.steps_beyond_terminated = t.obs[i].astype(np.float64), None
        obs, reward, terminated, _, _ = game.step(int(t.action[i]))
        np.testing.assert_allclose(t.next_obs[i], obs, atol=1e-5)
        assert (float(t.reward[i]), bool(t.terminated[i])) == (reward, terminated)


def check_mountain_car(t: Transition) -> None:
    game: Any = gymnasium.make("MountainCar-v0").unwrapped
    game.reset(seed=0)
    for i in range(len(t.reward)):
        game.state = tuple(t.obs[i].astype(np.float64))
        obs, reward, terminated, _, _ = game.step(int(t.action[i]))
        np.testing.assert_allclose(t.next_obs[i], obs, atol=1e-6)
        assert (float(t.reward[i]), bool(t.terminated[i])) == (reward, terminated)


def check_pendulum(t: Transition) -> None:
    game: Any = gymnasium.make("Pendulum-v1").unwrapped
    game.reset(seed=0)
    for i in range(len(t.reward)):
        cos, sin, speed = t.obs[i].astype(np.float64)
        game.state = np.array([np.arctan2(sin, cos), speed])
        obs, reward, terminated, _, _ = game.step(t.action[i])
        np.testing.assert_allclose(t.next_obs[i], obs, atol=1e-4)
        assert float(t.reward[i]) == pytest.approx(float(reward), abs=1e-3) and not terminated


def check_frozen_lake(t: Transition) -> None:
    """The ice decides where a move goes: each stored step is one that Gymnasium's table allows."""
    table = gymnasium.make("FrozenLake-v1").unwrapped.P  # type: ignore[attr-defined]
    cells, after = t.obs.argmax(axis=1), t.next_obs.argmax(axis=1)
    assert cells[0] == 0
    for i in range(len(t.reward)):
        allowed = {(cell, r, bool(end)) for _, cell, r, end in table[int(cells[i])][int(t.action[i])]}
        assert (int(after[i]), float(t.reward[i]), bool(t.terminated[i])) in allowed


def check_cliff_walking(t: Transition) -> None:
    game = gymnasium.make("CliffWalking-v1")
    cell, _ = game.reset(seed=0)
    for i in range(len(t.reward)):
        assert t.obs[i].argmax() == cell
        cell, reward, terminated, _, _ = game.step(int(t.action[i]))
        assert (t.next_obs[i].argmax(), float(t.reward[i]), bool(t.terminated[i])) == (
            cell,
            reward,
            terminated,
        )


def check_pong(t: Transition) -> None:
    """From the reset with the stored actions alone, on the console."""
    pytest.importorskip("ale_py", reason="Atari needs ale-py")
    from studies.pong_console import record

    actions = iter(t.action)
    played = record(lambda obs, rng: np.array([next(actions)]), 1, len(t.reward), 0)
    np.testing.assert_array_equal(t.next_obs, played.observations[0])
    np.testing.assert_array_equal(t.reward, played.rewards[0].sum(axis=1))
