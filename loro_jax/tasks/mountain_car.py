"""MountainCar: rock an underpowered car out of a valley (Moore, 1990; Gymnasium's MountainCar-v0)."""

from __future__ import annotations

from loro_jax.tasks.base import Environment


def mountain_car() -> Environment:
    """gymnax's MountainCar-v0, truncated after 200 steps; a step costs 1 until the flag at 0.5 is reached.

    Observation (2,): position, velocity per step. Actions 0 push left, 1 none, 2 push right.
    """
    from gymnax.environments.classic_control.mountain_car import MountainCar

    game = MountainCar()
    return Environment(
        name="mountain_car",
        gymnasium_id="MountainCar-v0",
        game=game,
        params=game.default_params,
        solved=-110.0,
        # The shortest climbs found breadth first over 80 starts spread evenly, 83 to 104 steps:
        # `python -m studies.best_returns`.
        best=-97.7,
        magnitudes=(0.6, 0.035),
    )
