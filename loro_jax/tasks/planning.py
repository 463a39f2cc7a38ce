"""What reference policies are solved with: values on grids, and ties among actions."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from scipy import sparse

Floats = npt.NDArray[np.float64]


def best(q: Floats, slack: float = 1e-9) -> np.ndarray:
    """Where values (..., actions) are the best, or `slack` from it."""
    return q >= q.max(axis=-1, keepdims=True) - slack


def interpolate(points: Floats, grid: Sequence[Floats]) -> sparse.csr_array:
    """The matrix (N, cells) that interpolates a function on the grid linearly at points (N, 2)."""
    from scipy import sparse

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


WANDER = 0.1
"""Share of uniform moves in the play by which states that look alike are weighed."""


def reachable(after: np.ndarray, goes_on: np.ndarray, start: np.ndarray) -> np.ndarray:
    """In which of N states one can come to be, bool (N,), from those of `start`, bool (N,).

    Args:
        after: the state that each action leads to, (N, actions).
        goes_on: whether there is such an action, and it does not end the episode, bool (N, actions).
    """
    there = start.copy()
    while not there[(led := np.unique(after[there][goes_on[there]]))].all():
        there[led] = True
    return there


def occupancy(
    after: np.ndarray, ended: np.ndarray, q: Floats, legal: np.ndarray, start: Floats, discount: Any
) -> Floats:
    """How often play that takes the best actions, but for `WANDER`, is in each of N states, discounted, (N,).

    Args:
        after: the state that each action leads to, (N, A); nothing else is random.
        ended: whether it ends the episode there, (N, A).
        q: values of the actions, (N, A).
        legal: which actions there are, (N, A).
        start: chance of beginning in each state, (N,).
        discount: of each action, (N, A), or of all.
    """
    policy = best(q, 1e-6).astype(float)
    policy = (1 - WANDER) * policy / policy.sum(axis=1, keepdims=True)
    policy += WANDER * legal / legal.sum(axis=1, keepdims=True)
    often, now = np.zeros(len(after)), start.astype(np.float64)
    for _ in range(300):
        often += now
        led = np.bincount(after.ravel(), (now[:, None] * policy * ~ended * discount).ravel(), len(after))
        now = led.astype(np.float64)
    return often


class Looks:
    """Actions by what is seen: of states that look alike, values' mean, by how often play is in each."""

    def __init__(self, observations: Sequence[np.ndarray], q: Floats, often: Floats) -> None:
        """Observations (N, *obs) of each state, in one or several forms; values (N, A); weights (N,)."""
        self._places: dict[bytes, int] = {}
        rows: list[Floats] = []
        for seen in observations:
            keys = [np.asarray(row, np.float32).tobytes() for row in seen]
            new = sorted({key for key in keys if key not in self._places})
            numbers = {key: i for i, key in enumerate(new)}
            own = np.array([numbers.get(key, -1) for key in keys])
            at = own >= 0
            weight = np.maximum(often, 1e-12)[at]
            total = np.bincount(own[at], weight, len(new))
            finite = np.where(np.isfinite(q), q, 0.0)[at]
            sums = [
                np.bincount(own[at], weight * column, len(new)) / np.maximum(total, 1e-300)
                for column in finite.T
            ]
            mean = np.stack(sums, axis=1) if len(new) else np.zeros((0, q.shape[1]))
            out = np.zeros(mean.shape, bool)
            np.logical_or.at(out, own[at], ~np.isfinite(q[at]))
            self._places |= {key: len(rows) + i for key, i in numbers.items()}
            rows += list(np.where(out, -np.inf, mean))
        self._q = np.stack(rows)
        self._best = best(self._q, 1e-6)

    def values(self, observations: np.ndarray) -> Floats:
        """Values of the actions in observations (N, *obs), (N, A); minus infinity of one that there is not,
        0 of all in what was never seen."""
        rows = self._rows(observations)
        found = self._q[rows]
        found[rows < 0] = 0.0
        return np.asarray(found)

    def best(self, observations: np.ndarray) -> np.ndarray:
        """The best actions in observations (N, *obs), bool (N, A); all of them in what was never seen."""
        rows = self._rows(observations)
        found = self._best[rows]
        found[rows < 0] = True
        return np.asarray(found)

    def _rows(self, observations: np.ndarray) -> np.ndarray:
        """The place of each observation, (N,); -1 for one that was never seen."""
        keys = [np.asarray(obs, np.float32).tobytes() for obs in observations]
        return np.array([self._places.get(key, -1) for key in keys])
