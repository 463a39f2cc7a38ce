"""Pendulum and MountainCar against Gymnasium's: dynamics, rewards, ends, starts, what texts rely on.

CartPole's are in test_environments.py, the grid worlds' in test_parity_grids.py.
"""

from __future__ import annotations

from typing import Any

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnax.environments.classic_control import mountain_car as car
from gymnax.environments.classic_control import pendulum as pole
from stepping import ends, step_all

from loro_jax.tasks import Environment, load
from studies import best_returns


def column(values: Any) -> jax.Array:
    return jnp.asarray(values, jnp.float32)


def poles(theta: Any, speed: Any, time: Any = 0) -> Any:
    theta = column(theta)
    time = jnp.broadcast_to(jnp.asarray(time, jnp.int32), theta.shape)
    return pole.EnvState(theta=theta, theta_dot=column(speed), last_u=jnp.zeros_like(theta), time=time)


def cars(position: Any, velocity: Any, time: Any = 0) -> Any:
    position = column(position)
    time = jnp.broadcast_to(jnp.asarray(time, jnp.int32), position.shape)
    return car.EnvState(position=position, velocity=column(velocity), time=time)


def reference(name: str, states: np.ndarray, actions: np.ndarray) -> tuple[np.ndarray, ...]:
    """Gymnasium's game stepped once from each state (N, 2) -> observations, states, rewards, terminated."""
    game = gymnasium.make(name).unwrapped
    game.reset(seed=0)
    rows = []
    for state, action in zip(states, actions, strict=True):
        game.state = state.astype(np.float64)
        obs, reward, terminated, truncated, _ = game.step(action)
        assert not truncated
        rows.append((obs, np.array(game.state), reward, terminated))
    return tuple(np.asarray(part) for part in zip(*rows, strict=True))


# Pendulum


@pytest.fixture(scope="module")
def pendulum() -> Environment:
    return load("pendulum").environment()


def test_pendulum_steps_as_gymnasium_does(pendulum: Environment) -> None:
    """A grid over angles of several turns, speeds up to the limit, and torques in and out of range."""
    angles = np.linspace(-3 * np.pi + 0.01, 3 * np.pi - 0.02, 41)
    speeds, torques = np.linspace(-8, 8, 17), [-5.0, -2.0, -0.7, 0.0, 1.3, 2.0, 3.5]
    grid = np.array(np.meshgrid(angles, speeds, torques), np.float32).reshape(3, -1).T
    states, actions = grid[:, :2], grid[:, 2:]
    expected = reference("Pendulum-v1", states, actions)
    obs, game, reward, terminated, truncated = step_all(pendulum, poles(*states.T), actions)
    np.testing.assert_allclose(obs, expected[0], atol=5e-6)
    np.testing.assert_allclose(np.stack([game.theta, game.theta_dot], -1), expected[1], atol=5e-6)
    np.testing.assert_allclose(reward, expected[2], rtol=1e-5, atol=1e-5)
    assert not (terminated.any() or truncated.any() or expected[3].any())
    clipped = np.abs(expected[1][:, 1]) == 8
    assert clipped.sum() > 200 and (np.abs(obs[clipped, 2]) == 8).all()
    np.testing.assert_array_equal(game.time, 1)


def test_pendulums_torque_turns_it_counterclockwise_and_angles_wrap(pendulum: Environment) -> None:
    still = np.zeros(2)
    obs, _, reward, _, _ = step_all(pendulum, poles(still, still), [[2.0], [-2.0]])
    assert obs[0, 2] > 0 > obs[1, 2] and obs[0, 1] > 0 > obs[1, 1]  # a positive torque raises the angle
    np.testing.assert_allclose(reward, -0.004, rtol=1e-6)  # upright and still, but for the torque's cost
    # Gravity alone: the pole falls to the side it leans to, and hangs still at pi.
    obs = step_all(pendulum, poles([0.3, -0.3, np.pi], [0.0] * 3), np.zeros((3, 1)))[0]
    assert obs[0, 2] > 0 > obs[1, 2] and abs(obs[2, 2]) < 1e-5
    # The cost is of the angle from upright by the shorter way, before the step; a whole turn costs nothing.
    angles = [np.pi - 0.01, np.pi + 0.01, 2 * np.pi, -4 * np.pi + 0.5]
    reward = step_all(pendulum, poles(angles, [0.0] * 4), np.zeros((4, 1)))[2]
    np.testing.assert_allclose(reward, [-((np.pi - 0.01) ** 2)] * 2 + [0, -0.25], rtol=1e-4, atol=1e-6)
    worst = step_all(pendulum, poles([np.pi], [8.0]), [[2.0]])[2]
    np.testing.assert_allclose(worst, -16.2736044, rtol=1e-6)


def test_a_pendulum_never_ends_but_is_cut_after_200_steps(pendulum: Environment) -> None:
    assert pendulum.limit == 200 == gymnasium.spec("Pendulum-v1").max_episode_steps
    state = poles(np.zeros(4), np.zeros(4), [0, 198, 199, 200])
    assert ends(pendulum, state, np.zeros((4, 1))) == [(False, x) for x in (False, False, True, True)]


def test_pendulum_starts_as_gymnasium_does(pendulum: Environment) -> None:
    """Uniform angles and speeds: with five standard errors about each of four means, errors are 2e-6."""
    n = 4000
    obs, game = jax.vmap(pendulum.reset)(jax.random.split(jax.random.key(0), n))
    theta, speed = np.asarray(game.theta), np.asarray(game.theta_dot)
    assert np.pi * 0.99 < np.abs(theta).max() <= np.pi * 1.000001 and 0.99 < np.abs(speed).max() <= 1
    for unit in (theta / np.pi, speed):
        assert abs(unit.mean()) < 5 / np.sqrt(3 * n)
        assert abs((unit**2).mean() - 1 / 3) < 5 * np.sqrt(4 / 45 / n)
    assert abs(np.corrcoef(theta, speed)[0, 1]) < 5 / np.sqrt(n)
    np.testing.assert_allclose(obs, np.stack([np.cos(theta), np.sin(theta), speed], -1), atol=1e-6)
    assert not np.asarray(game.time).any()


def pump(obs: np.ndarray) -> float:
    """Gathers the energy of standing upright, then holds: far from optimal, but it swings up."""
    angle = np.arctan2(obs[1], obs[0])
    if abs(angle) < 0.6:
        return float(np.clip(-10 * angle - 2 * obs[2], -2, 2))
    missing = 30 * (1 - obs[0]) - obs[2] ** 2  # upright and still has none
    return 2.0 if missing * (obs[2] + 1e-3) > 0 else -2.0


def test_a_pendulum_swings_up_in_both(pendulum: Environment) -> None:
    """A whole episode, with Gymnasium's state copied over before each step."""
    game = gymnasium.make("Pendulum-v1")
    game.reset(seed=0)
    game.unwrapped.state = np.array([3.0, 0.2])
    obs, step, total = np.array([np.cos(3.0), np.sin(3.0), 0.2]), jax.jit(pendulum.step), 0.0
    for time in range(200):
        angle, speed = game.unwrapped.state
        state = jax.tree.map(lambda x: x[0], poles([angle], [speed], time))
        action = np.array([pump(obs)], np.float32)
        ours = step(jax.random.key(time), state, jnp.asarray(action))
        obs, reward, *flags, _ = game.step(action)
        np.testing.assert_allclose(ours[0], obs, atol=5e-6)
        np.testing.assert_allclose(ours[2], reward, rtol=1e-5, atol=1e-5)
        assert [bool(ours[3]), bool(ours[4])] == flags == [False, time == 199]
        total += float(ours[2])
    assert obs[0] > 0.999 and -1000 < total < pendulum.best


# MountainCar


@pytest.fixture(scope="module")
def mountain_car() -> Environment:
    return load("mountain_car").environment()


def test_mountain_car_steps_as_gymnasium_does(mountain_car: Environment) -> None:
    """A grid with both walls, the flag crossed and nearly crossed, and speeds at the limit."""
    positions = np.concatenate([np.linspace(-1.2, 0.6, 61), 0.5 + np.array([-1, 1]) * 1e-4])
    velocities = np.append(np.linspace(-0.07, 0.07, 29), [-1e-3, 1e-3])
    grid = np.array(np.meshgrid(positions, velocities, np.arange(3)), np.float32).reshape(3, -1).T
    states, actions = grid[:, :2], grid[:, 2].astype(np.int64)
    expected = reference("MountainCar-v0", states, actions)
    obs, game, reward, terminated, truncated = step_all(mountain_car, cars(*states.T), actions)
    np.testing.assert_allclose(obs, expected[0], atol=2e-7)
    np.testing.assert_allclose(np.stack([game.position, game.velocity], -1), expected[1], atol=2e-7)
    np.testing.assert_array_equal(reward, expected[2])
    clear = np.abs(expected[1][:, 0] - 0.5) > 1e-6  # float32 may see the flag a hair earlier or later
    np.testing.assert_array_equal(terminated[clear], expected[3][clear])
    assert clear.mean() > 0.999 and 100 < expected[3].sum() < len(grid) - 100 and not truncated.any()
    wall = expected[1][:, 0] == -1.2
    assert wall.sum() > 50 and (obs[wall, 1] == 0).all()  # the left wall stops the car


def test_mountain_cars_directions_and_flag(mountain_car: Environment) -> None:
    bottom = -np.pi / 6
    obs, _, reward, terminated, _ = step_all(mountain_car, cars([bottom] * 3, [0.0] * 3), [0, 1, 2])
    np.testing.assert_allclose(obs[:, 1], [-0.001, 0, 0.001], atol=1e-7)  # left, nothing, right
    np.testing.assert_array_equal(reward, -1)
    assert not terminated.any()
    # Left of the lowest point the hill pushes to the right, and the other way round.
    obs = step_all(mountain_car, cars([-0.8, -0.2], [0.0, 0.0]), [1, 1])[0]
    assert obs[0, 1] > 0 > obs[1, 1]
    # The flag at 0.5 ends the episode for a car that does not roll back; the last step costs 1 as well.
    state = cars([0.48, 0.48, 0.55, 0.52], [0.03, 0.01, -0.01, 0.0])
    obs, _, reward, terminated, truncated = step_all(mountain_car, state, [2, 2, 2, 2])
    assert terminated.tolist() == [True, False, False, True] and obs[2, 0] > 0.5
    np.testing.assert_array_equal(reward, -1)
    assert not truncated.any()


def test_mountain_car_is_cut_after_exactly_200_steps(mountain_car: Environment) -> None:
    assert mountain_car.limit == 200 == gymnasium.spec("MountainCar-v0").max_episode_steps
    state = cars([-0.5, -0.5, -0.5, 0.49, 0.49], [0.0, 0.0, 0.0, 0.05, 0.05], [198, 199, 200, 198, 199])
    cut = [(False, False), (False, True), (False, True), (True, False), (True, False)]
    assert ends(mountain_car, state, [1] * 5) == cut


def test_mountain_car_starts_as_gymnasium_does(mountain_car: Environment) -> None:
    """Still, at a uniform place: with five standard errors about both moments, errors are 1e-6."""
    n = 4000
    obs, game = jax.vmap(mountain_car.reset)(jax.random.split(jax.random.key(0), n))
    unit = (np.asarray(obs)[:, 0] + 0.5) / 0.1
    assert 0.99 < np.abs(unit).max() <= 1.000001 and not np.asarray(obs)[:, 1].any()
    assert abs(unit.mean()) < 5 / np.sqrt(3 * n) and abs((unit**2).mean() - 1 / 3) < 5 * np.sqrt(4 / 45 / n)
    np.testing.assert_array_equal(obs, np.stack([game.position, game.velocity], -1))
    assert not np.asarray(game.time).any()


@pytest.mark.parametrize("start", [-0.6, -0.5, -0.41])
def test_rocking_reaches_the_flag_in_both(mountain_car: Environment, start: float) -> None:
    """Pushing where the car rolls; whole episodes, with Gymnasium's state copied over after each step."""
    game = gymnasium.make("MountainCar-v0")
    game.reset(seed=0)
    game.unwrapped.state = (start, 0.0)
    obs, step = np.array([start, 0.0], np.float32), jax.jit(mountain_car.step)
    for time in range(200):
        action = 2 if obs[1] > 0 else 0
        state = jax.tree.map(lambda x: x[0], cars(obs[None, 0], obs[None, 1], time))
        ours = step(jax.random.key(time), state, jnp.int32(action))
        obs, reward, terminated, truncated, _ = game.step(action)
        np.testing.assert_allclose(ours[0], obs, atol=2e-7)
        assert (float(ours[2]), bool(ours[3]), bool(ours[4])) == (reward, terminated, truncated)
        if terminated or truncated:
            break
    assert terminated and 80 < time + 1 < 170


@pytest.mark.slow
def test_the_best_known_returns_are_had_by_plans(pendulum: Environment, mountain_car: Environment) -> None:
    """At a coarser resolution than that of the registry's numbers, which no plan may beat by much."""
    coarse = best_returns.Options(angles=61, speeds=51, pendulum_starts=16, cells=200, car_starts=8)
    assert best_returns.climbs(mountain_car, coarse).mean() == pytest.approx(mountain_car.best, abs=3)
    returns = best_returns.swing_ups(pendulum, coarse)
    assert returns.mean() == pytest.approx(pendulum.best, abs=10) and returns.max() > -1
