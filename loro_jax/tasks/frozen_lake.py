"""FrozenLake: cross slippery ice without falling into a hole (Gymnasium's FrozenLake-v1)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from loro_jax.errors import UserError
from loro_jax.tasks.base import Environment

MOVES = ((0, -1), (1, 0), (0, 1), (-1, 0))
"""Rows and columns by which each action moves: 0 left, 1 down, 2 right, 3 up."""
START, HOLE, GOAL = 0, 2, 3
"""gymnax's numbers of the tiles that matter."""


def frozen_lake(
    layout: str | Sequence[str] = "4x4",
    slippery: bool = True,
    success_rate: float = 1 / 3,
    limit: int | None = None,
) -> Environment:
    """gymnax's FrozenLake; reward 1 at the goal, 0 else; a hole or the goal terminates.

    Observation: the cell, row by row, one-hot (cells,). Actions 0 left, 1 down, 2 right, 3 up; a move off
    the map stays where it is.

    Args:
        layout: "4x4", "8x8", or rows of S start, F ice, H hole, G goal, with one start and one goal.
        slippery: whether a move may go to either side of where it was meant, else never.
        success_rate: on slippery ice, the probability that a move goes where it was meant.
        limit: steps after which an episode is truncated; None for Gymnasium's, 200 on 64 cells in a
            square and 100 else.
    """
    from gymnax.environments.misc.frozen_lake import FrozenLake

    if isinstance(layout, str) and layout not in ("4x4", "8x8"):
        raise UserError(f"frozen_lake: no layout is called '{layout}'; give '4x4', '8x8' or a list of rows")
    if limit is not None and limit < 1:
        raise UserError(f"frozen_lake: limit is {limit}, but an episode needs at least one step")
    known, desc = (layout, None) if isinstance(layout, str) else (None, tuple(layout))
    try:
        game = FrozenLake(desc, known, slippery, success_rate)
    except ValueError as error:
        raise UserError(f"frozen_lake: {str(error).replace('desc', 'layout')}") from None
    params = game.default_params
    if limit is not None:
        params = params.replace(max_steps_in_episode=limit)
    best = best_return(game, params.max_steps_in_episode)
    if best == 0:
        raise UserError(f"frozen_lake: no way leads to the goal within {params.max_steps_in_episode} steps")
    return Environment(
        name="frozen_lake",
        gymnasium_id="FrozenLake-v1",
        game=game,
        params=params,
        solved=min(0.7, best),
        best=best,
        states=game.n_states,
    )


def best_return(game: Any, limit: int) -> float:
    """The largest probability of reaching the goal within `limit` steps, by backward induction.

    Exact up to rounding, for policies that may look at the clock. 0.7442 on the standard 4x4 lake.
    """
    desc = np.asarray(game.desc)
    rows, columns = np.indices(desc.shape)
    reached = np.stack(
        [
            np.clip(rows + down, 0, game.nrow - 1) * game.ncol + np.clip(columns + right, 0, game.ncol - 1)
            for down, right in MOVES
        ]
    ).reshape(len(MOVES), -1)  # the cell that each direction leads to, from each cell
    tiles = desc.ravel()
    straight = game.success_rate if game.is_slippery else 1.0
    value = np.zeros(len(tiles))
    for _ in range(limit):
        entered = np.select([tiles == GOAL, tiles == HOLE], [1.0, 0.0], value)[reached]
        beside = np.roll(entered, 1, axis=0) + np.roll(entered, -1, axis=0)  # neighbours in the numbering
        value = (straight * entered + (1 - straight) / 2 * beside).max(axis=0)
    return float(value[np.argmax(tiles == START)])
