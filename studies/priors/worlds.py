"""The worlds of the study, as data."""

from __future__ import annotations

import dataclasses
import functools
import pathlib
from typing import Any

from loro_jax.data import answers
from loro_jax.data.answers import Answers
from loro_jax.errors import UserError
from loro_jax.language import tables
from loro_jax.language.journal import TRANSCRIPT
from loro_jax.protocols import Protocol
from loro_jax.tasks import Environment, Task, cooking, frozen_lake, household, load
from loro_jax.tasks.actions import Mentions
from loro_jax.tasks.kitchen import SALAD, TOMATO
from studies.blocks import Blocks, Worth, together
from studies.models import MODELS, asked, drawn

RELEASED = "released"
"""Of blocks whose answers are read as the study's scripts read them."""


@dataclasses.dataclass(frozen=True)
class World:
    """A task as the study has it.

    Attributes:
        task: its name.
        prompt: by which the models were asked.
        success: return from which on an episode counts as a success.
        seeds: of each arm.
        fit_steps: gradient steps of learning offline.
        worth: observations (N, *obs) -> what each action is worth, (N, A), by which the adversary takes the
            worst; None where there are two actions.
        unseen: parameters of a game that nothing was trained on; () for none.
        everything: of a game that has its texts as well.
        by_prompt: texts are those of the prompt's fields, where all the task's would tell too many apart.
    """

    task: str
    prompt: str
    success: float
    seeds: int = 32
    fit_steps: int = 3000
    worth: Worth | None = None
    unseen: tuple[tuple[str, Any], ...] = ()
    everything: tuple[tuple[str, Any], ...] = ()
    by_prompt: bool = False


WORLDS = (
    World(
        "frozen_lake_nonslippery", "shots", success=1.0, seeds=64,
        worth=lambda obs: frozen_lake.values(slippery=False)[obs.argmax(axis=1)],
    ),
    World(
        "frozen_lake", "cell", success=1.0, seeds=64,
        worth=lambda obs: frozen_lake.values()[obs.argmax(axis=1)],
    ),
    World("overcooked_tomato", "other", success=1.0, worth=functools.partial(cooking.worth, TOMATO)),
    World("overcooked_salad", "other", success=1.0, worth=functools.partial(cooking.worth, SALAD)),
    World(
        "household", "shots", success=1.0, worth=household.worth, unseen=(("games", "unseen"),),
        everything=(("games", "all"),),
    ),
    World("cartpole", "rate", success=195.0, seeds=64, by_prompt=True),
)  # fmt: skip


def named(name: str) -> World:
    """The world of a task.

    Raises:
        UserError: there is none.
    """
    known = {world.task: world for world in WORLDS}
    if name not in known:
        raise UserError(f"the study has no world '{name}'; there are: {', '.join(known)}")
    return known[name]


@dataclasses.dataclass(frozen=True)
class Known:
    """A world with all that was asked about it.

    Attributes:
        models: the tables, by the models' tags.
        blocks: these side by side, and those that are no model's.
    """

    world: World
    task: Task
    protocol: Protocol
    models: dict[str, Answers]
    blocks: Blocks

    @property
    def env(self) -> Environment:
        return self.task.under(self.protocol)


def opened(world: World, folder: pathlib.Path | None = None) -> Known:
    """A world's tables, read and put side by side.

    Args:
        folder: where tables are, TASK/NAME; else those of the suite.

    Raises:
        UserError: no model was asked.
    """
    task = load(world.task)
    protocol = task.protocol()
    found = asked(task, world.prompt, folder)
    others: dict[str, Answers] = {}
    for tag in found:
        path = (folder or answers.SHIPPED) / world.task / drawn(MODELS[tag], world.prompt)
        if isinstance(task.words and task.words.reader, Mentions) and (path / TRANSCRIPT).exists():
            others[tag] = tables.reread(path, task)
    env, everywhere = task.under(protocol), None
    if world.everything:
        everywhere = task.environment(**dict(protocol.game) | dict(world.everything))
    also = {f"{tag} {RELEASED}": table for tag, table in others.items()}
    coding = next(iter(found.values())).coding if world.by_prompt else None
    blocks = together(task, env, found, also, everywhere, world.worth, coding)
    return Known(world, task, protocol, found, blocks)
