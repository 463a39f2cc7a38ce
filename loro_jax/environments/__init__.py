"""The registry of environments.

An environment here is a game with gymnax's interface, its parameters, and the few facts that a
benchmark needs beside them. To add one, add a short file next to this one and a line to `REGISTRY`
(docs/add-an-environment.md).
"""

from __future__ import annotations

from collections.abc import Callable

from loro_jax.environments.base import Environment
from loro_jax.environments.cartpole import cartpole
from loro_jax.errors import UserError

REGISTRY: dict[str, Callable[[], Environment]] = {"cartpole": cartpole}


def make(name: str) -> Environment:
    """The environment called `name`; a `UserError` lists the names there are."""
    if name not in REGISTRY:
        raise UserError(f"no environment is called '{name}'; there are: {', '.join(sorted(REGISTRY))}")
    return REGISTRY[name]()


__all__ = ["REGISTRY", "Environment", "make"]
