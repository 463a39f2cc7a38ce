"""What an LLM tutor's advice is worth to DQN, PPO and A2C, with and without reuse (arXiv 2509.08329), beside
a perfect, a uniform and an adversarial tutor.

Three parts, of each game (`--parts`): *alone*, learners without a tutor and tutors without a learner;
*cells*, all agents beside all tutors, with reuse and without; *variants*, a tutor that falls silent, other
rules of reuse, and other ways in which advice enters a policy. What is finished is not run again; what was
interrupted goes on.
"""

from __future__ import annotations

import dataclasses
import pathlib

import tyro

from loro_jax.errors import arguments
from studies import runs
from studies.tutors import page, parts
from studies.tutors.games import GAMES, named, opened


@dataclasses.dataclass(frozen=True)
class Options(runs.Options):
    parts: tuple[str, ...] = tuple(parts.PARTS)
    """The page compares the others with *alone*."""
    out: pathlib.Path = pathlib.Path("results/tutors")
    """Folder for GAME/PART.json and .npz, README.md and figures."""
    work: pathlib.Path = pathlib.Path("build/tutors")
    """Folder for runs, their checkpoints and policies; nothing of it is needed once a game is finished."""
    games: tuple[str, ...] = tuple(game.task for game in GAMES)
    """Of the study's."""


def main(argv: list[str] | None = None) -> int:
    """The command; -> its exit status."""
    prog = "python -m studies.tutors"
    o = arguments(lambda: tyro.cli(Options, prog=prog, description=__doc__, args=argv))
    o = dataclasses.replace(o, parts=runs.listed(o.parts), games=runs.listed(o.games))
    runs.check(o, parts)
    games = [named(name) for name in o.games]
    besides = "compiling"
    return runs.carry_out(o, parts, lambda: [opened(game, o.tables) for game in games], page, besides)
