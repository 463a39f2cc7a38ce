"""FrozenLake: cross slippery ice without falling into a hole (Gymnasium's FrozenLake-v1)."""

from __future__ import annotations

from collections.abc import Sequence

from loro_jax.environments.base import Environment
from loro_jax.errors import UserError


def frozen_lake(
    layout: str | Sequence[str] = "4x4", slippery: bool = True, success_rate: float = 1 / 3, limit: int = 100
) -> Environment:
    """gymnax's FrozenLake; reward 1 at the goal, 0 else; a hole or the goal terminates.

    Observation: the cell, row by row, one-hot (cells,). Actions 0 left, 1 down, 2 right, 3 up.

    Args:
        layout: "4x4", "8x8", or rows of S start, F ice, H hole, G goal.
        slippery: whether a move may go to either side of where it was meant, else never.
        success_rate: on slippery ice, the probability that a move goes where it was meant.
        limit: steps after which an episode is truncated.
    """
    from gymnax.environments.misc.frozen_lake import FrozenLake

    known, desc = (layout, None) if isinstance(layout, str) else (None, tuple(layout))
    try:
        game = FrozenLake(desc, known, slippery, success_rate)
    except ValueError as error:
        raise UserError(f"frozen_lake: {error}") from None
    standard = known == "4x4" and slippery and success_rate == 1 / 3 and limit == 100
    return Environment(
        name="frozen_lake",
        gymnasium_id="FrozenLake-v1",
        game=game,
        params=game.default_params.replace(max_steps_in_episode=limit),
        solved=0.7,
        best=0.74 if standard else 1.0,
        states=game.n_states,
    )
