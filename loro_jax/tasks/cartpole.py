"""CartPole with the 200-step limit of Gym's CartPole-v0 (Barto, Sutton and Anderson, 1983)."""

from __future__ import annotations

from loro_jax.tasks.base import Environment


def cartpole() -> Environment:
    """gymnax's CartPole-v1, truncated after 200 steps; observation (4,), actions 0 left, 1 right."""
    from gymnax.environments.classic_control.cartpole import CartPole  # gymnax takes seconds to import

    game = CartPole()
    return Environment(
        name="cartpole",
        gymnasium_id="CartPole-v1",
        game=game,
        params=game.default_params.replace(max_steps_in_episode=200),
        solved=195.0,
        best=200.0,
    )
