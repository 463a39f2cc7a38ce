"""Pendulum: swing a pole up by a torque at its joint, and hold it there (Gymnasium's Pendulum-v1)."""

from __future__ import annotations

from loro_jax.environments.base import Environment


def pendulum() -> Environment:
    """gymnax's Pendulum-v1, truncated after 200 steps, never terminated.

    Observation (3,): cosine and sine of the angle from upright, angular velocity in rad/s. Action (1,):
    torque in [-2, 2], counterclockwise positive.
    """
    from gymnax.environments.classic_control.pendulum import Pendulum  # gymnax takes seconds to import

    game = Pendulum()
    return Environment(
        name="pendulum",
        gymnasium_id="Pendulum-v1",
        game=game,
        params=game.default_params,
        solved=-200.0,
        best=-140.0,
    )
