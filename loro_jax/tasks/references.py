"""Strong policies, to say how good a language model's actions are. None of them learns from data.

CartPole: a linear-quadratic regulator. FrozenLake and CliffWalking: exact value iteration. MountainCar and
Pendulum: value iteration on a fine grid, linearly interpolated. Pong: the planner of `environments/pong.py`.
How strong each is stands in results/llm_policies.md, measured by `returns`. Solved on demand, with scipy.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from scipy import linalg, sparse

from loro_jax.errors import UserError
from loro_jax.spaces import Discrete
from loro_jax.tasks import make

Floats = npt.NDArray[np.float64]
TORQUE_TOLERANCE = 0.5
"""A torque this near to the reference's (N m, of a range from -2 to 2) counts as the same."""


def preferences(environment: str, observations: np.ndarray) -> np.ndarray:
    """What the reference would do in each observation (N, *obs).

    Discrete games: a mask (N, actions) of the actions that it holds for equally good and for the best.
    Pendulum: its torque, (N, 1). A `UserError` lists the environments there are.
    """
    if environment not in POLICIES:
        raise UserError(f"no reference policy for '{environment}'; there are: {', '.join(POLICIES)}")
    return POLICIES[environment](np.asarray(observations, np.float64))


def agreement(
    environment: str, observations: np.ndarray, actions: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Whether the reference would also take the actions (N,) or (N, 1), bool (N,); and by what chance (N,)
    a uniform action would be one that it takes in the same observation."""
    wanted, space = preferences(environment, observations), make(environment).action_space
    if isinstance(space, Discrete):
        return wanted[np.arange(len(actions)), actions], wanted.mean(axis=1)
    agrees = np.abs(wanted[:, 0] - actions[:, 0]) <= TORQUE_TOLERANCE
    low, high = wanted[:, 0] - TORQUE_TOLERANCE, wanted[:, 0] + TORQUE_TOLERANCE
    inside = np.minimum(high, space.high[0]) - np.maximum(low, space.low[0])
    return agrees, inside / (space.high[0] - space.low[0])


def returns(environment: str, episodes: int, seed: int = 0) -> np.ndarray:
    """The reference's own undiscounted returns, (episodes,), ties going to the first action."""
    env = make(environment)
    discrete = isinstance(env.action_space, Discrete)
    keys = jax.random.split(jax.random.key(seed), episodes)
    fold = jax.vmap(jax.random.fold_in, (0, None))
    obs, state = jax.jit(jax.vmap(env.reset))(fold(keys, 0))
    step = jax.jit(jax.vmap(env.step))
    totals, alive = np.zeros(episodes), np.ones(episodes, bool)
    for t in range(env.limit):
        wanted = preferences(environment, np.asarray(obs))
        actions = wanted.argmax(axis=1).astype(np.int32) if discrete else wanted.astype(np.float32)
        obs, state, reward, terminated, truncated = step(fold(keys, 1 + t), state, actions)
        totals += np.where(alive, np.asarray(reward), 0.0)
        alive &= ~np.asarray(terminated | truncated)
        if not alive.any():
            break
    return totals


def cartpole(observations: Floats) -> np.ndarray:
    """Pushes to the side of the force that the regulator asks for; (N, 4) -> (N, 2)."""
    right = observations @ _cartpole_gain() > 0
    return np.stack([~right, right], axis=1)


@functools.cache
def _cartpole_gain() -> Floats:
    """Gain (4,) of the force, from Gymnasium's constants linearised upright, in steps of 0.02 s."""
    gravity, cart, pole, half, step = 9.8, 1.0, 0.1, 0.5, 0.02
    total = cart + pole
    inertia = half * (4 / 3 - pole / total)
    turn = np.array([0, 0, gravity / inertia, 0])
    push = -1 / (total * inertia)
    a = np.eye(4) + step * np.array(
        [[0, 1, 0, 0], -pole * half / total * turn, [0, 0, 0, 1], turn], np.float64
    )
    b = step * np.array([[0], [1 / total - pole * half / total * push], [0], [push]])
    value = linalg.solve_discrete_are(a, b, np.diag([1.0, 0.1, 10.0, 0.1]), np.array([[0.01]]))
    return -np.linalg.solve(0.01 + b.T @ value @ b, b.T @ value @ a)[0]


def frozen_lake(observations: Floats) -> np.ndarray:
    """The actions that most often reach the goal, and soonest; one-hot (N, 16) -> (N, 4)."""
    return _best(_frozen_lake())[observations.argmax(axis=1)]


@functools.cache
def _frozen_lake() -> Floats:
    """Chance of reaching the goal, (16, 4), slippery; discounted by 0.99, since time is limited.

    Without a discount every move that stays clear of holes would be as good as any other.
    """
    from loro_jax.tasks.frozen_lake import GOAL, HOLE, MOVES

    tiles = np.asarray(make("frozen_lake").game.desc).ravel()
    chance = np.zeros((16, 4, 16))
    for cell, action, slip in itertools.product(range(16), range(4), (-1, 0, 1)):
        down, right = MOVES[(action + slip) % 4]
        row, column = np.clip(cell // 4 + down, 0, 3), np.clip(cell % 4 + right, 0, 3)
        chance[cell, action, row * 4 + column] += 1 / 3
    going, goal = (tiles != HOLE) & (tiles != GOAL), (tiles == GOAL).astype(np.float64)
    value = np.zeros(16)
    for _ in range(5000):
        q = chance @ np.where(going, 0.99 * value, goal)
        value = q.max(axis=1)
    return q


def cliff_walking(observations: Floats) -> np.ndarray:
    """The actions that begin a shortest way; one-hot (N, 48) -> (N, 4)."""
    return _best(_cliff_walking())[observations.argmax(axis=1)]


@functools.cache
def _cliff_walking() -> Floats:
    """Return of each action and a best way after it, (48, 4)."""
    from loro_jax.tasks.cliff_walking import GOAL, step

    each = jax.vmap(jax.vmap(step, (None, 0)), (0, None))
    after, reward = (np.asarray(x) for x in each(jnp.arange(48), jnp.arange(4)))
    value = np.full(48, -1000.0)
    for _ in range(60):
        value[GOAL] = 0.0
        q = reward + value[after]
        value = q.max(axis=1)
    return q


def mountain_car(observations: Floats) -> np.ndarray:
    """The pushes that reach the flag soonest, within a twentieth of a step; (N, 2) -> (N, 3)."""
    grid, value = _mountain_car()
    q = np.stack([_car_value(observations, a, grid, value) for a in range(3)], axis=1)
    return _best(q, 0.05)


@functools.cache
def _mountain_car() -> tuple[list[Floats], Floats]:
    grid = [np.linspace(-1.2, 0.6, 181), np.linspace(-0.07, 0.07, 141)]
    points = np.stack(np.meshgrid(*grid, indexing="ij"), axis=-1).reshape(-1, 2)
    nexts = [_car_step(points, a) for a in range(3)]
    maps = [_interpolate(n, grid) for n in nexts]
    done = [n[:, 0] >= 0.5 for n in nexts]
    value = np.zeros(len(points))
    for _ in range(300):
        value = np.max([-1.0 + np.where(d, 0.0, m @ value) for m, d in zip(maps, done, strict=True)], axis=0)
    return grid, value


def _car_value(states: Floats, action: int, grid: list[Floats], value: Floats) -> Floats:
    after = _car_step(states, action)
    return -1.0 + np.where(after[:, 0] >= 0.5, 0.0, _interpolate(after, grid) @ value)


def _car_step(states: Floats, action: int) -> Floats:
    position, velocity = states[:, 0], states[:, 1]
    velocity = np.clip(velocity + (action - 1) * 0.001 - 0.0025 * np.cos(3 * position), -0.07, 0.07)
    position = np.clip(position + velocity, -1.2, 0.6)
    return np.stack([position, np.where((position == -1.2) & (velocity < 0), 0.0, velocity)], axis=1)


TORQUES = np.linspace(-2.0, 2.0, 17)


def pendulum(observations: Floats) -> np.ndarray:
    """The torque with the best outlook among 17; (N, 3) -> (N, 1), N m."""
    grid, value = _pendulum()
    states = np.stack([np.arctan2(observations[:, 1], observations[:, 0]), observations[:, 2]], axis=1)
    q = np.stack([_pole_value(states, u, grid, value) for u in TORQUES], axis=1)
    return TORQUES[q.argmax(axis=1)][:, None]


@functools.cache
def _pendulum() -> tuple[list[Floats], Floats]:
    """Discounted by 0.99, so that it converges; angles beyond half a turn are wrapped."""
    grid = [np.linspace(-np.pi, np.pi, 121), np.linspace(-8.0, 8.0, 97)]
    points = np.stack(np.meshgrid(*grid, indexing="ij"), axis=-1).reshape(-1, 2)
    steps = [_pole_step(points, u) for u in TORQUES]
    maps = [_interpolate(after, grid) for after, _ in steps]
    value = np.zeros(len(points))
    for _ in range(400):
        value = np.max([r + 0.99 * (m @ value) for m, (_, r) in zip(maps, steps, strict=True)], axis=0)
    return grid, value


def _pole_value(states: Floats, torque: float, grid: list[Floats], value: Floats) -> Floats:
    after, reward = _pole_step(states, torque)
    return reward + 0.99 * (_interpolate(after, grid) @ value)


def _pole_step(states: Floats, torque: float) -> tuple[Floats, Floats]:
    angle, speed = states[:, 0], states[:, 1]
    reward = -(angle**2 + 0.1 * speed**2 + 0.001 * torque**2)
    speed = np.clip(speed + (15.0 * np.sin(angle) + 3.0 * torque) * 0.05, -8.0, 8.0)
    angle = (angle + speed * 0.05 + np.pi) % (2 * np.pi) - np.pi
    return np.stack([angle, speed], axis=1), reward


def pong(observations: Floats) -> np.ndarray:
    """The planner's move, with or without the button; (N, 10) -> (N, 6)."""
    from loro_jax.tasks.pong import UP_OR_DOWN

    move, plan = np.asarray(UP_OR_DOWN), _pong_planner()
    unique, place = np.unique(observations.astype(np.float32), axis=0, return_inverse=True)
    filled = np.concatenate([unique, np.repeat(unique[:1], -len(unique) % PLANNED, axis=0)])
    parts = [np.asarray(plan(part)) for part in np.split(filled, len(filled) // PLANNED)]
    return (move[None] == move[np.concatenate(parts)[: len(unique)]][:, None])[place.ravel()]


PLANNED = 16
"""Observations that the planner takes at once, so that it is compiled once."""


@functools.cache
def _pong_planner() -> Callable[[np.ndarray], jax.Array]:
    from loro_jax.tasks.pong import reference

    return jax.jit(jax.vmap(reference))


POLICIES: dict[str, Callable[[Floats], np.ndarray]] = {
    "cartpole": cartpole,
    "frozen_lake": frozen_lake,
    "cliff_walking": cliff_walking,
    "mountain_car": mountain_car,
    "pendulum": pendulum,
    "pong": pong,
}


def _best(q: Floats, slack: float = 1e-9) -> np.ndarray:
    """Where values (..., actions) are the best, or `slack` from it."""
    return q >= q.max(axis=-1, keepdims=True) - slack


def _interpolate(points: Floats, grid: Sequence[Floats]) -> sparse.csr_array:
    """The matrix (N, cells) that interpolates a function on the grid linearly at points (N, 2)."""
    lower, share = [], []
    for x, axis in zip(points.T, grid, strict=True):
        at = np.clip((x - axis[0]) / (axis[1] - axis[0]), 0, len(axis) - 1)
        low = np.minimum(at.astype(int), len(axis) - 2)
        lower.append(low)
        share.append(at - low)
    rows = np.arange(len(points))
    entries = []
    for i, j in itertools.product((0, 1), (0, 1)):
        weight = (share[0] if i else 1 - share[0]) * (share[1] if j else 1 - share[1])
        entries.append((weight, rows, (lower[0] + i) * len(grid[1]) + lower[1] + j))
    data, row, column = (np.concatenate(parts) for parts in zip(*entries, strict=True))
    return sparse.csr_array((data, (row, column)), shape=(len(points), len(grid[0]) * len(grid[1])))
