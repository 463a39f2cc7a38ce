"""Grid worlds in words, with the memory of what was seen: cells that proved safe, holes, the cliff."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from loro_jax.types import Transition

FIELDS = ("row", "column", "down", "right", "around", "seen")
Moves = Mapping[str, tuple[int, int]]


def describe(
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
