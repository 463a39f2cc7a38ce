"""The registry of environments.

An environment here is a game with gymnax's interface, its parameters, and the few facts that a
benchmark needs beside them. To add one, add a short file next to this one and a line to `REGISTRY`
(docs/add-an-environment.md).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from loro_jax.errors import UserError
from loro_jax.tasks.base import Environment
from loro_jax.tasks.cartpole import cartpole
from loro_jax.tasks.cliff_walking import cliff_walking
from loro_jax.tasks.frozen_lake import frozen_lake
from loro_jax.tasks.mountain_car import mountain_car
from loro_jax.tasks.pendulum import pendulum
from loro_jax.tasks.pong import pong

REGISTRY: dict[str, Callable[..., Environment]] = {
    "cartpole": cartpole,
    "cliff_walking": cliff_walking,
    "frozen_lake": frozen_lake,
    "mountain_car": mountain_car,
    "pendulum": pendulum,
    "pong": pong,
}


def make(name: str, **parameters: Any) -> Environment:
    """The environment called `name`, with parameters of its own; a `UserError` lists the names there are."""
    if name not in REGISTRY:
        raise UserError(f"no environment is called '{name}'; there are: {', '.join(sorted(REGISTRY))}")
    return REGISTRY[name](**parameters)


__all__ = ["REGISTRY", "Environment", "make"]
