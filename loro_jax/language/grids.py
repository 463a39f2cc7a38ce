"""The grid worlds in words, with the memory of what was seen: cells that proved safe, holes, the cliff."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from loro_jax.types import Transition

FIELDS = ("row", "column", "down", "right", "around", "seen")
Moves = Mapping[str, tuple[int, int]]
LAKE: Moves = {"left": (0, -1), "down": (1, 0), "right": (0, 1), "up": (-1, 0)}
CLIFF: Moves = {"up": (-1, 0), "right": (0, 1), "down": (1, 0), "left": (0, -1)}


def frozen_lake(obs: np.ndarray, life: Sequence[Transition]) -> dict[str, str]:
    """A square lake; holes are known once this life has fallen into them."""
    size = round(len(obs) ** 0.5)

    def entered(t: Transition) -> tuple[int, str]:
        fell = bool(t.terminated) and float(t.reward) == 0
        return int(np.argmax(t.next_obs)), "a hole" if fell else "safe ice"

    return _fields(obs, (size, size), LAKE, life, entered, "a hole")


def cliff_walking(obs: np.ndarray, life: Sequence[Transition]) -> dict[str, str]:
    """Four rows of twelve cells; a cell of the cliff is known once this life has stepped on it."""
    moves = tuple(CLIFF.values())

    def entered(t: Transition) -> tuple[int, str]:
        if float(t.reward) > -100:
            return int(np.argmax(t.next_obs)), "safe"
        row, column = divmod(int(np.argmax(t.obs)), 12)  # a fall ends at the start, so reckon where it was
        down, right = moves[int(t.action)]
        return (row + down) * 12 + column + right, "the cliff"

    return _fields(obs, (4, 12), CLIFF, life, entered, "the cliff")


def _fields(
    obs: np.ndarray,
    shape: tuple[int, int],
    moves: Moves,
    life: Sequence[Transition],
    entered: Callable[[Transition], tuple[int, str]],
    bad: str,
) -> dict[str, str]:
    """Rows and columns from 1; `down` and `right` are the ways left to the bottom right corner."""
    rows, columns = shape
    row, column = divmod(int(np.argmax(obs)), columns)
    known = {row * columns + column: "safe"} | dict(entered(t) for t in life)

    def beside(move: tuple[int, int]) -> str:
        r, c = row + move[0], column + move[1]
        if not (0 <= r < rows and 0 <= c < columns):
            return "the edge"
        if (r, c) == (rows - 1, columns - 1):
            return "the goal"
        return known.get(r * columns + c, "not seen yet")

    found = sorted(cell for cell, what in known.items() if what == bad)
    places = "; ".join(f"row {cell // columns + 1} column {cell % columns + 1}" for cell in found)
    return {
        "row": str(row + 1),
        "column": str(column + 1),
        "down": str(rows - 1 - row),
        "right": str(columns - 1 - column),
        "around": ", ".join(f"{word}: {beside(move)}" for word, move in moves.items()),
        "seen": places or "none yet",
    }
