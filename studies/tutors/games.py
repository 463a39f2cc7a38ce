"""The games of the study, as data."""

from __future__ import annotations

import dataclasses
import pathlib

from loro_jax.data.answers import Answers
from loro_jax.errors import UserError
from loro_jax.protocols import Protocol
from loro_jax.tasks import Task, load
from studies.blocks import BEST, UNIFORM, WORST, Blocks, together
from studies.models import asked

CONTROLS = (BEST, UNIFORM, WORST)
"""Tutors that are no model's. The uniform one draws an action at each consultation that is not a reuse:
exploration of the same share, in the place of advice."""


@dataclasses.dataclass(frozen=True)
class Game:
    """A task as the study has it.

    Attributes:
        task: its name.
        prompt: by which the models were asked.
        seeds: of each arm.
    """

    task: str
    prompt: str
    seeds: int = 32


GAMES = (Game("blackjack", "hint", seeds=64), Game("snake", "hint"), Game("connect_four", "hint"))


def named(name: str) -> Game:
    """The game of a task.

    Raises:
        UserError: there is none.
    """
    known = {game.task: game for game in GAMES}
    if name not in known:
        raise UserError(f"the study has no game '{name}'; there are: {', '.join(known)}")
    return known[name]


@dataclasses.dataclass(frozen=True)
class Known:
    """A game with its tutors.

    Attributes:
        models: the models' tables, by their tags.
        blocks: these side by side, and the controls.
    """

    game: Game
    task: Task
    protocol: Protocol
    models: dict[str, Answers]
    blocks: Blocks

    @property
    def tutors(self) -> tuple[str, ...]:
        return (*self.models, *CONTROLS)


def opened(game: Game, folder: pathlib.Path | None = None) -> Known:
    """A game's tables, read and put side by side.

    Args:
        folder: where tables are, TASK/NAME; else those of the suite.

    Raises:
        UserError: no model was asked.
    """
    task = load(game.task)
    protocol = task.protocol()
    found = asked(task, game.prompt, folder)
    # A text is the prompt's: by it a model was asked, and its advice is kept.
    coding = next(iter(found.values())).coding
    blocks = together(task, task.under(protocol), found, coding=coding)
    return Known(game, task, protocol, found, blocks)
