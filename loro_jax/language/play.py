"""The game side of a collection: episodes stepped in the simulator, and replayed from a record."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from loro_jax.data.episodes import Episodes
from loro_jax.tasks import Environment
from loro_jax.tasks.rollout import rollouts, uniform
from loro_jax.types import Transition

_PURPOSE = 0x4C4C4D  # "LLM": keeps a collection's keys apart from every other use of the same seed
_RANDOM = 0x52414E44  # "RAND": the random policy's keys, apart from every episode's


@dataclasses.dataclass
class Episode:
    """One episode as it goes: observations so far (steps + 1), transitions so far, the game's state."""

    index: int
    observations: list[np.ndarray]
    rows: list[Transition]
    game: Any

    @property
    def step(self) -> int:
        return len(self.rows)

    @property
    def done(self) -> bool:
        return bool(self.rows) and bool(self.rows[-1].terminated or self.rows[-1].truncated)

    @property
    def total(self) -> float:
        """Undiscounted return so far."""
        return float(sum(row.reward for row in self.rows))


class Simulator:
    """An environment's reset and step, compiled once, with keys folded from (seed, episode, step)."""

    def __init__(self, environment: Environment, seed: int) -> None:
        self.environment = environment
        self._key = jax.random.fold_in(jax.random.key(seed), _PURPOSE)
        self._reset = jax.jit(environment.reset)
        self._step = jax.jit(environment.step)

    def begin(self, index: int) -> Episode:
        """Episode `index` at its start."""
        obs, game = self._reset(self._episode_key(index, 0))
        return Episode(index, [np.asarray(obs, np.float32)], [], game)

    def advance(self, episode: Episode, action: float) -> None:
        """Takes one step, in place."""
        space = self.environment.action_space
        taken = np.asarray(action, space.dtype).reshape(space.shape)
        key = self._episode_key(episode.index, 1 + episode.step)
        obs, episode.game, *rest = self._step(key, episode.game, taken)
        after, (reward, terminated, truncated) = np.asarray(obs, np.float32), map(np.asarray, rest)
        before = episode.observations[-1]
        row = Transition(before, taken, np.float32(reward), after, terminated, truncated)
        episode.rows.append(row)
        episode.observations.append(after)

    def legal(self, obs: np.ndarray) -> tuple[int, ...] | None:
        """The actions that there are in an observation (*obs,); None for all."""
        if self.environment.legal is None:
            return None
        return tuple(np.flatnonzero(np.asarray(self.environment.allowed(jnp.asarray(obs)))).tolist())

    def _episode_key(self, index: int, draw: int) -> jax.Array:
        return jax.random.fold_in(jax.random.fold_in(self._key, index), draw)


def gather(episodes: list[Episode], card: dict[str, Any]) -> Episodes:
    """Finished episodes as a dataset, in the order given."""
    rows = [row for episode in episodes for row in episode.rows]
    columns = (np.stack(column) for column in zip(*rows, strict=True))
    return Episodes(Transition(*columns), np.array([e.step for e in episodes]), card)


def random_policy(environment: Environment, episodes: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns and lengths of a uniformly random policy, (episodes,) each, all played side by side."""
    key = jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), _PURPOSE), _RANDOM)
    keys = jax.vmap(lambda i: jax.random.fold_in(key, i))(jnp.arange(episodes))
    returns, lengths = rollouts(environment, uniform(environment), keys)
    return np.asarray(returns, np.float64), np.asarray(lengths)
