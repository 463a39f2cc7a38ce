"""Games against their reference: CartPole step by step against Gymnasium, from copied states."""

from __future__ import annotations

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from environments import SENTINEL_LIMIT, SHORTEST, Sentinel, probe
from gymnax.environments.classic_control.cartpole import EnvState

from loro_jax.tasks import NAMES, Environment, load

X_LIMIT, ANGLE_LIMIT = 2.4, 12 * 2 * np.pi / 360
STEP = 0.02
"""Seconds that one step of CartPole simulates."""


@pytest.fixture(scope="module")
def cartpole() -> Environment:
    return load("cartpole").environment()


def states() -> np.ndarray:
    """Float32 states (N, 4): of play, of wild motion, and a hair to either side of every threshold."""
    rng = np.random.default_rng(0)
    ordinary = rng.uniform(-1, 1, (600, 4)) * [2.3, 3.0, 0.2, 3.0]
    wild = rng.uniform(-1, 1, (200, 4)) * [2.3, 30.0, 0.2, 30.0]
    edges = []
    for column, limit in ((0, X_LIMIT), (2, ANGLE_LIMIT)):
        for side in (-1.0, 1.0):
            for gap in (-1e-2, -1e-3, -1e-4, -1e-5, 1e-5, 1e-4, 1e-3, 1e-2):
                state = rng.uniform(-1, 1, (6, 4)) * [1.0, 2.0, 0.1, 2.0]
                speed = rng.uniform(0.6, 2.0, 6)  # outwards, from within the limit to `gap` past it
                state[:, column] = side * (limit + gap - STEP * speed)
                state[:, column + 1] = side * speed
                edges.append(state)
    starts = rng.uniform(-0.05, 0.05, (100, 4))
    return np.concatenate([ordinary, wild, *edges, starts]).astype(np.float32)


def reference(states: np.ndarray, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Gymnasium's CartPole-v1 stepped once from each state -> observations, rewards, terminated."""
    game = gymnasium.make("CartPole-v1").unwrapped
    game.reset(seed=0)
    rows = []
    for state, action in zip(states, actions, strict=True):
        game.state = state.astype(np.float64)
        game.steps_beyond_terminated = None
        rows.append(game.step(int(action))[:3])
    obs, rewards, terminated = (np.asarray(column) for column in zip(*rows, strict=True))
    return obs, rewards, terminated


def step_all(env: Environment, states: np.ndarray, actions: np.ndarray, times: np.ndarray) -> tuple:
    game = EnvState(time=jnp.asarray(times, jnp.int32), **{
        name: jnp.asarray(states[:, i]) for i, name in enumerate(("x", "x_dot", "theta", "theta_dot"))
    })  # fmt: skip
    keys = jax.random.split(jax.random.key(0), len(states))
    return jax.jit(jax.vmap(env.step))(keys, game, jnp.asarray(actions, jnp.int32))


@pytest.mark.parametrize("action", [0, 1])
def test_cartpole_steps_as_gymnasium_does(cartpole: Environment, action: int) -> None:
    start = states()
    actions = np.full(len(start), action)
    expected_obs, expected_rewards, expected_ends = reference(start, actions)
    obs, game, reward, terminated, truncated = step_all(cartpole, start, actions, np.zeros(len(start)))
    np.testing.assert_allclose(obs, expected_obs, rtol=2e-6, atol=2e-6)
    np.testing.assert_array_equal(reward, expected_rewards)
    np.testing.assert_array_equal(terminated, expected_ends)
    assert not truncated.any()
    assert expected_ends.sum() > 90  # every threshold was crossed, and nearly crossed
    np.testing.assert_array_equal(np.stack([game.x, game.x_dot, game.theta, game.theta_dot], -1), obs)
    np.testing.assert_array_equal(game.time, 1)


def test_cartpole_is_cut_after_exactly_200_steps(cartpole: Environment) -> None:
    assert cartpole.limit == 200
    still, fallen = np.zeros(4, np.float32), np.array([2.39, 3.0, 0.0, 0.0], np.float32)
    start = np.stack([still, still, still, fallen, fallen])
    ends = step_all(cartpole, start, np.zeros(5, int), np.array([198, 199, 200, 198, 199]))[3:]
    terminated, truncated = (np.asarray(flag).tolist() for flag in ends)
    assert terminated == [False, False, False, True, True]
    assert truncated == [False, True, True, False, False]  # never both, also on the limit's very step


def test_a_whole_cartpole_episode_against_gymnasium(cartpole: Environment) -> None:
    """A controller that balances, with Gymnasium's own state copied over after each step."""
    game = gymnasium.make("CartPole-v1", max_episode_steps=200)
    start, _ = game.reset(seed=3)
    obs = np.asarray(start, np.float32)
    step = jax.jit(cartpole.step)
    for time in range(200):
        action = int(obs[2] + 0.5 * obs[3] > 0)
        state = EnvState(jnp.int32(time), *(jnp.float32(v) for v in obs))
        ours = step(jax.random.key(time), state, jnp.int32(action))
        obs, reward, terminated, truncated, _ = game.step(action)
        np.testing.assert_allclose(ours[0], obs, atol=1e-5)
        assert (float(ours[2]), bool(ours[3]), bool(ours[4])) == (reward, terminated, truncated)
        if terminated or truncated:
            break
    assert truncated and time == 199


def test_cartpole_starts_as_gymnasium_does(cartpole: Environment) -> None:
    obs, game = jax.vmap(cartpole.reset)(jax.random.split(jax.random.key(0), 2000))
    obs = np.asarray(obs)
    assert np.abs(obs).max() <= 0.05
    np.testing.assert_allclose(obs.mean(0), 0, atol=5 * 0.05 / np.sqrt(3 * 2000))
    np.testing.assert_allclose(obs.std(0), 0.05 / np.sqrt(3), rtol=0.1)
    assert not np.asarray(game.time).any()


@pytest.mark.parametrize("name", NAMES)
def test_every_game_of_the_suite_keeps_the_contract(name: str) -> None:
    """Shapes, types and flags that the training loop relies on, over 1,000 uniform steps."""
    env = load(name).environment()
    assert env.name == name

    def step(carry: tuple, t: jax.Array) -> tuple:
        obs, state = carry
        key = jax.random.fold_in(jax.random.key(0), t)
        action = env.action_space.sample(jax.random.fold_in(key, 0))
        obs, state, reward, terminated, truncated = env.step(jax.random.fold_in(key, 1), state, action)
        fresh = env.reset(jax.random.fold_in(key, 2))
        carry = jax.tree.map(lambda a, b: jnp.where(terminated | truncated, a, b), fresh, (obs, state))
        return carry, (obs, reward, terminated, truncated)

    start = jax.tree.map(jnp.asarray, env.reset(jax.random.key(1)))
    assert start[0].shape == env.observation_shape and start[0].dtype == jnp.float32
    _, (obs, reward, terminated, truncated) = jax.lax.scan(step, start, jnp.arange(1000))
    assert obs.shape[1:] == env.observation_shape and obs.dtype == jnp.float32
    assert reward.shape == (1000,) and reward.dtype == jnp.float32
    assert terminated.dtype == truncated.dtype == jnp.bool_
    assert not (terminated & truncated).any()
    assert np.isfinite(obs).all() and np.isfinite(reward).all()
    lengths = np.diff(np.flatnonzero(np.concatenate([[True], terminated | truncated])))
    assert len(lengths) > 2 and lengths.max() <= env.limit
    assert env.best >= env.threshold


def test_an_end_by_the_rules_on_the_limits_step_is_not_a_cut() -> None:
    """The wrapper's rule itself, on a game that ends in all three ways."""
    env = probe(Sentinel, SENTINEL_LIMIT)
    seen = set()
    for tag in range(5):
        _, state = env.reset(jax.random.key(0))
        state = state.replace(tag=jnp.int32(tag), time=jnp.int32(min(SHORTEST + tag, SENTINEL_LIMIT) - 1))
        _, _, _, terminated, truncated = env.step(jax.random.key(1), state, jnp.int32(0))
        assert bool(terminated) == (SHORTEST + tag <= SENTINEL_LIMIT)
        assert bool(truncated) == (SHORTEST + tag > SENTINEL_LIMIT)
        seen.add((bool(terminated), bool(truncated)))
    assert seen == {(True, False), (False, True)}
