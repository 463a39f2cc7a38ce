"""Pendulum: swing a pole up by a torque at its joint, and hold it there (Gymnasium's Pendulum-v1)."""

from __future__ import annotations

from loro_jax.tasks.base import Environment


def pendulum() -> Environment:
    """gymnax's Pendulum-v1, truncated after 200 steps, never terminated.

    Observation (3,): cosine and sine of the angle from upright, angular velocity in rad/s. Action (1,):
    torque in [-2, 2], counterclockwise positive as the angle is; what lies outside is clipped. A step costs
    angle^2 + 0.1 velocity^2 + 0.001 torque^2 of the state before it, the angle in radians within half a turn.
    """
    from gymnax.environments.classic_control.pendulum import Pendulum  # gymnax takes seconds to import

    game = Pendulum()
    return Environment(
        name="pendulum",
        gymnasium_id="Pendulum-v1",
        game=game,
        params=game.default_params,
        solved=-200.0,
        # Value iteration over 361 angles by 321 velocities and the time left, one step of looking ahead,
        # 25,600 starts spread evenly: `python -m studies.best_returns`.
        best=-137.8,
    )
