"""Grid worlds in words: where the player is, what the map says, and what a life has seen of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from loro_jax.tasks.words import Field, Fields
from loro_jax.types import Transition

HISTORY = ("around", "seen")
Moves = Mapping[str, tuple[int, int]]


def fields(shape: tuple[int, int], moves: Moves, cells: Sequence[str]) -> tuple[Field, ...]:
    """What the cell alone tells, of a map whose `cells`, row by row, are called so.

    Rows and columns count from 1; `down` and `right` are the ways left to the bottom right corner; `beside`
    names the cell that each move leads to.
    """
    rows, columns = shape

    def neighbours(cell: int) -> str:
        return ", ".join(f"{word}: {_called(cell, move, shape, cells)}" for word, move in moves.items())

    def numbers(most: int) -> tuple[str, ...]:
        return tuple(str(n) for n in range(most))

    def cell(obs: Any) -> Any:
        return obs.argmax()

    return (
        Field("row", numbers(rows + 1)[1:], lambda obs: cell(obs) // columns),
        Field("column", numbers(columns + 1)[1:], lambda obs: cell(obs) % columns),
        Field("down", numbers(rows), lambda obs: rows - 1 - cell(obs) // columns),
        Field("right", numbers(columns), lambda obs: columns - 1 - cell(obs) % columns),
        Field("beside", tuple(neighbours(n) for n in range(rows * columns)), cell),
    )


def _called(cell: int, move: tuple[int, int], shape: tuple[int, int], cells: Sequence[str]) -> str:
    row, column = cell // shape[1] + move[0], cell % shape[1] + move[1]
    inside = 0 <= row < shape[0] and 0 <= column < shape[1]
    return cells[row * shape[1] + column] if inside else "the edge"


def remembered(
    obs: np.ndarray,
    shape: tuple[int, int],
    moves: Moves,
    life: Sequence[Transition],
    entered: Callable[[Transition], tuple[int, str]],
    bad: str,
) -> Fields:
    """What the life has seen: the neighbours as far as they are known, and the bad cells found so far."""
    here = int(np.argmax(obs))
    known = {here: "safe"} | dict(entered(t) for t in life)
    goal = shape[0] * shape[1] - 1
    cells = ["the goal" if n == goal else known.get(n, "not seen yet") for n in range(goal + 1)]
    found = sorted(cell for cell, what in known.items() if what == bad)
    places = "; ".join(f"row {n // shape[1] + 1} column {n % shape[1] + 1}" for n in found)
    return {
        "around": ", ".join(f"{word}: {_called(here, move, shape, cells)}" for word, move in moves.items()),
        "seen": places or "none yet",
    }
