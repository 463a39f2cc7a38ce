"""Computes the best known return of each environment: `python -m studies.best_returns`.

FrozenLake's is exact (backward induction), and so is CliffWalking's. Pendulum's and MountainCar's are what
plans reach in the simulator itself, averaged over starts that are spread evenly over the starts' range, so
that they are returns that can be had, and a little below the optimum. Takes minutes; `--help` has the
resolution.
"""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from rich.console import Console

from loro_jax import progress
from loro_jax.errors import arguments, run, within
from loro_jax.tasks import Environment, load

TORQUES = 81
PADDED = 1 << 14  # states stepped together, so that one program serves sets of every size


@dataclasses.dataclass(frozen=True)
class Options:
    """Computes the best known return of each environment."""

    angles: int = 361
    """Pendulum: angles on the grid of values."""
    speeds: int = 321
    """Pendulum: angular velocities on the grid of values."""
    pendulum_starts: int = 160
    """Pendulum: starts, this many angles by this many velocities."""
    cells: int = 1000
    """MountainCar: cells along each axis; of all trajectories that enter a cell, the first is followed."""
    car_starts: int = 80
    """MountainCar: starts."""


def even(low: float, high: float, n: int) -> np.ndarray:
    """The middles of `n` equal parts of [low, high], (n,)."""
    return low + (high - low) * (np.arange(n) + 0.5) / n


def swing_ups(env: Environment, o: Options) -> np.ndarray:
    """Pendulum: returns (starts,) of the policy that looks one step ahead into values of a grid.

    Values come from backward induction over the time limit, with bilinear interpolation.
    """
    from gymnax.environments.classic_control.pendulum import EnvState

    key = jax.random.key(0)
    theta = jnp.linspace(-jnp.pi, jnp.pi, o.angles, endpoint=False)
    omega = jnp.linspace(-8, 8, o.speeds)
    torques = jnp.linspace(-2, 2, TORQUES)[:, None]

    def interpolate(value: jax.Array, theta: jax.Array, omega: jax.Array) -> jax.Array:
        x, y = (theta + jnp.pi) / (2 * jnp.pi) * o.angles, (omega + 8) / 16 * (o.speeds - 1)
        i, j = jnp.floor(x), jnp.clip(jnp.floor(y), 0, o.speeds - 2)
        x, y = x - i, y - j
        left, right = (jnp.mod(k, o.angles).astype(jnp.int32) for k in (i, i + 1))
        low, high = j.astype(jnp.int32), j.astype(jnp.int32) + 1
        below = (1 - x) * value[left, low] + x * value[right, low]
        return (1 - y) * below + y * ((1 - x) * value[left, high] + x * value[right, high])

    def move(theta: jax.Array, omega: jax.Array, torque: jax.Array) -> tuple[jax.Array, ...]:
        state = EnvState(theta=theta, theta_dot=omega, last_u=jnp.float32(0), time=jnp.int32(0))
        _, state, reward, _, _ = env.step(key, state, torque)
        return state.theta, state.theta_dot, reward

    everywhere = jax.vmap(jax.vmap(move, (None, 0, None)), (0, None, None))

    def earlier(value: jax.Array, _: None) -> tuple[jax.Array, jax.Array]:
        def worth(torque: jax.Array) -> jax.Array:
            after, speed, reward = everywhere(theta, omega, torque)
            return reward + interpolate(value, after, speed)

        best = jax.lax.fori_loop(
            0, TORQUES, lambda i, best: jnp.maximum(best, worth(torques[i])), jnp.full_like(value, -jnp.inf)
        )
        return best, value

    @jax.jit
    def values() -> jax.Array:
        zero = jnp.zeros((o.angles, o.speeds), jnp.float32)
        return jax.lax.scan(earlier, zero, None, length=env.limit, reverse=True)[1]

    @partial(jax.vmap, in_axes=(None, 0, 0))
    def play(values: jax.Array, theta: jax.Array, omega: jax.Array) -> jax.Array:
        def act(now: tuple[jax.Array, jax.Array], value: jax.Array) -> tuple[Any, jax.Array]:
            after, speed, reward = jax.vmap(move, (None, None, 0))(*now, torques)
            choice = jnp.argmax(reward + interpolate(value, after, speed))
            return (after[choice], speed[choice]), reward[choice]

        return jax.lax.scan(act, (theta, omega), values)[1].sum()

    n = o.pendulum_starts
    starts = np.meshgrid(even(-np.pi, np.pi, n), even(-1, 1, n))
    with progress.waiting(Console(stderr=True, highlight=False), "pendulum"):
        return np.asarray(jax.jit(play)(values(), *(jnp.asarray(x.ravel(), jnp.float32) for x in starts)))


def climbs(env: Environment, o: Options) -> np.ndarray:
    """MountainCar: returns (starts,) of the shortest climbs, found breadth first over true trajectories."""
    from gymnax.environments.classic_control.mountain_car import EnvState

    @jax.jit
    @partial(jax.vmap, in_axes=(0, 0, None))
    @partial(jax.vmap, in_axes=(None, None, 0))
    def move(position: jax.Array, velocity: jax.Array, action: jax.Array) -> tuple[jax.Array, ...]:
        state = EnvState(position=position, velocity=velocity, time=jnp.int32(0))
        _, state, _, reached, _ = env.step(jax.random.key(0), state, action)
        return state.position, state.velocity, reached

    def moved(states: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        parts = []
        for first in range(0, len(states), PADDED):
            part = states[first : first + PADDED]
            padded = np.pad(part, ((0, PADDED - len(part)), (0, 0)), mode="edge")
            parts.append([np.asarray(x)[: len(part)].ravel() for x in move(*padded.T, np.arange(3))])
        position, velocity, reached = (np.concatenate(column) for column in zip(*parts, strict=True))
        return np.stack([position, velocity], axis=1), reached

    low, size = np.array([-1.2, -0.07]), np.array([1.8, 0.14])  # position, velocity

    def climb(start: float) -> int:
        states, entered = np.array([[start, 0]], np.float32), np.zeros(o.cells**2, bool)
        for steps in range(1, env.limit + 1):
            states, reached = moved(states)
            if reached.any():
                return steps
            places = ((states - low) / size * (o.cells - 1)).astype(np.int64)
            cells, firsts = np.unique(places @ [o.cells, 1], return_index=True)
            states = states[firsts[~entered[cells]]]
            entered[cells] = True
        return env.limit

    console = Console(stderr=True, highlight=False)
    starts = progress.track(even(-0.6, -0.4, o.car_starts).tolist(), "mountain_car", console)
    return -np.array([climb(x) for x in starts], np.float64)


def main(argv: list[str] | None = None) -> int:
    """The command; -> its exit status."""
    o = arguments(
        lambda: tyro.cli(Options, prog="python -m studies.best_returns", description=__doc__, args=argv)
    )
    for flag, least, most in (
        ("angles", 2, 100_000), ("speeds", 2, 100_000), ("pendulum_starts", 1, 10_000),
        ("cells", 2, 30_000), ("car_starts", 1, 1_000_000),
    ):  # fmt: skip
        within(f"--{flag.replace('_', '-')}", getattr(o, flag), least, most)
    for name in ("frozen_lake", "cliff_walking"):
        print(f"{name}: {load(name).environment().best:.4f}, exact")
    for name, plan in (("mountain_car", climbs), ("pendulum", swing_ups)):
        returns = plan(load(name).environment(), o)
        print(f"{name}: {returns.mean():.2f} over {len(returns)} starts, {returns.min():.1f} at worst")
    return 0


if __name__ == "__main__":
    run(main)
