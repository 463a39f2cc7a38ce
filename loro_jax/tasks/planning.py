"""What reference policies are solved with: values on grids, and ties among actions."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING

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
