"""Any game of gymnax as a task: `gymnax:Catch-bsuite`. Without words, so no language model plays it."""

from __future__ import annotations

import difflib
import functools
import re

from loro_jax.errors import UserError
from loro_jax.tasks.base import Environment, Task, of_gymnax


@functools.cache  # the same game is the same object, so that tasks compare
def task_of(name: str) -> Task:
    """The task of gymnax's game `name`, under its default parameters.

    A game of n enumerated observations gives them one-hot. Neither a threshold nor a best return is known.

    Raises:
        UserError: gymnax has no such game, or one whose observations or actions this suite does not take.
    """
    import gymnax

    if name not in gymnax.registered_envs:
        near = difflib.get_close_matches(name, gymnax.registered_envs, 3, 0.3) or gymnax.registered_envs
        raise UserError(f"gymnax has no game '{name}'; it has for instance {', '.join(near)}")

    def game() -> Environment:
        return of_gymnax(*gymnax.make(name))

    try:
        game()
    except UserError:
        raise
    except Exception as error:  # a game may ask for a package of its own
        why = " ".join(str(error).split())[:200]
        raise UserError(f"gymnax's {name} cannot be made ({type(error).__name__}: {why})") from None
    slug = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")
    return Task(name=f"gymnax_{slug}"[:64], game=game, source=f"gymnax:{name}")
