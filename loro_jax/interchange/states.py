"""What the simulator makes of stored rows: can the action of a row have led to the row after it?

A row is checked by one step from the state that it shows. How that state is had depends on the game:

- where it follows from the observation and the time, it is set (`Task.restore`);
- Pong shows less than it remembers, but every game of it begins the same and nothing in it is random, so
  each episode is replayed from the start with the file's own actions (`Task.replayed`). After one departure
  the rest of the episode departs.

FrozenLake's ice is slippery: a row is reproduced if the next cell is one that the action can lead to. That
rules out less than an exact step does: any two actions share two of their three outcomes.
"""

from __future__ import annotations

import copy
import dataclasses
from typing import Any

import jax
import numpy as np

from loro_jax.errors import UserError
from loro_jax.interchange.rows import Rows
from loro_jax.tasks import Environment, Task

TOLERANCE = 1e-4  # largest error of a float32 observation that one simulator step may leave


@dataclasses.dataclass(frozen=True)
class Check:
    """What the simulator says about the rows.

    Attributes:
        shares: per reading, the share of rows whose next observation one step reproduces; in the `true` one,
            also their reward (but in Pong), which the other pairs with another step.
        terminated: by the simulator's rules, each episode ended in its last row, (E,).
        truncated: it was cut there by the time limit, (E,).
        rule: what "reproduced" means for this environment, a clause.
    """

    shares: dict[str, float]
    terminated: np.ndarray
    truncated: np.ndarray
    rule: str


def check(rows: Rows, task: Task, environment: Environment) -> Check:
    """Steps the simulator from every row that has a row after it, once per reading."""
    # Row t of an episode holds s[t+1]; `t` and `t + 1` index rows that belong to one episode.
    now = np.concatenate([np.arange(span.start, span.stop - 1) for span in rows.spans])
    time = np.concatenate([np.arange(1, span.stop - span.start) for span in rows.spans])
    if task.replayed:
        rule = "each episode is replayed from the game's fixed start with the file's actions"
        states = jax.tree.map(lambda x: x[now], replay(environment, rows))
    else:
        rule = f"one step from the observation gives the next one, to {TOLERANCE}"
        states = states_at(task, environment, rows.observations[now], time)
    sides: tuple[int, ...] = (0,)
    if environment.name == "frozen_lake" and environment.game.is_slippery:
        rule = "the ice is slippery, so a row counts if its action can lead to its next cell"
        environment, sides = _without_slipping(environment), (0, -1, 1)

    shares, flags = {}, np.zeros((2, len(rows.observations)), bool)
    for reading, actions in (("true", rows.actions[now + 1]), ("released", rows.actions[now])):
        reproduced = np.zeros(len(now), bool)
        for side in sides:
            # Directions are numbered around the compass; without sides, an action is left as it is.
            after, reward, *ends = _step(environment, states, (actions + side) % 4 if side else actions)
            error = np.abs(after - rows.observations[now + 1]).reshape(len(now), -1).max(axis=1)
            close = error < TOLERANCE
            if reading == "true":
                if not task.replayed:  # the study's Pong counts its rewards in another way
                    given = np.abs(reward - rows.rewards[now + 1])
                    close &= given < TOLERANCE * np.maximum(1, np.abs(reward))
                chosen = close if side else slice(None)
                flags[:, now[chosen] + 1] = np.stack(ends)[:, chosen]
            reproduced |= close
        shares[reading] = float(reproduced.mean())
    last = np.cumsum(rows.episode_lengths) - 1
    return Check(shares, flags[0, last], flags[1, last], rule)


def states_at(task: Task, environment: Environment, obs: np.ndarray, time: np.ndarray) -> Any:
    """The simulator's states (N,) that show `obs` (N, *obs) at `time` (N,)."""
    if (restore := task.restore) is None:
        raise UserError(f"{task.name}: no way to set the simulator to an observation (Task.restore)")

    def state_of(obs: jax.Array, time: jax.Array) -> Any:
        return restore(environment, obs, time)

    return jax.jit(jax.vmap(state_of))(obs.astype(np.float32), time.astype(np.int32))


def replay(environment: Environment, rows: Rows) -> Any:
    """The simulator's states (N,) after each row's action, every episode played from the start.

    The environment must be without chance: a key is passed because the interface asks for one.
    """
    longest = int(rows.episode_lengths.max())
    actions = np.zeros((len(rows.spans), longest, *rows.actions.shape[1:]), rows.actions.dtype)
    for index, span in enumerate(rows.spans):
        actions[index, : span.stop - span.start] = rows.actions[span]

    def episode(actions: jax.Array) -> Any:
        def move(state: Any, action: jax.Array) -> Any:
            state = environment.step(jax.random.key(0), state, action)[1]
            return state, state

        start = environment.reset(jax.random.key(0))[1]
        return jax.lax.scan(move, start, actions)[1]

    played = np.arange(longest) < rows.episode_lengths[:, None]
    return jax.tree.map(lambda x: np.asarray(x)[played], jax.jit(jax.vmap(episode))(actions))


def step(
    environment: Environment, states: Any, actions: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One step from each state (N,) with `actions` (N, *action), in a game without chance.

    -> next observations (N, *obs), terminated (N,), truncated (N,).
    """
    after, _, *ends = _step(environment, states, actions)
    return after, ends[0], ends[1]


def _step(environment: Environment, states: Any, actions: np.ndarray) -> list[np.ndarray]:
    """As `step`, with the rewards (N,) behind the observations."""

    def move(state: Any, action: jax.Array) -> Any:
        after, _, *rest = environment.step(jax.random.key(0), state, action)
        return after, *rest

    return [np.asarray(array) for array in jax.jit(jax.vmap(move))(states, actions)]


def _without_slipping(environment: Environment) -> Environment:
    """The same lake, where every move goes where it was meant."""
    game = copy.copy(environment.game)
    game.is_slippery = False
    return dataclasses.replace(environment, game=game)
