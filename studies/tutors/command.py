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
from rich.console import Console

from loro_jax import files, progress
from loro_jax.errors import UserError, arguments, within
from loro_jax.running import machine
from studies.tutors import page, parts
from studies.tutors.games import GAMES, Known, named, opened


@dataclasses.dataclass(frozen=True)
class Options:
    games: tuple[str, ...] = tuple(game.task for game in GAMES)
    """Of the study's."""
    parts: tuple[str, ...] = tuple(parts.PARTS)
    """The page compares the others with *alone*."""
    seeds: int = 0
    """Of each arm; 0 for the study's own numbers."""
    budget: int = 0
    """Environment steps; 0 for each protocol's."""
    tables: pathlib.Path | None = None
    """Folder with TASK/NAME of each table of answers; the suite's where none is named."""
    out: pathlib.Path = pathlib.Path("results/tutors")
    """Folder for GAME/PART.json and .npz, README.md and figures."""
    work: pathlib.Path = pathlib.Path("build/tutors")
    """Folder for runs, their checkpoints and policies; nothing of it is needed once a game is finished."""
    dry_run: bool = False
    """Say what would run and how long it takes; train nothing."""
    page_only: bool = False
    """Write the page and the figures of what is finished."""


def main(argv: list[str] | None = None) -> int:
    """The command; -> its exit status."""
    prog = "python -m studies.tutors"
    o = arguments(lambda: tyro.cli(Options, prog=prog, description=__doc__, args=argv))
    within("--seeds", o.seeds, 0, 100_000)
    within("--budget", o.budget, 0, 2**31 - 1)
    if unknown := [part for part in o.parts if part not in parts.PARTS]:
        raise UserError(f"the study has no part '{unknown[0]}'; there are: {', '.join(parts.PARTS)}")
    games = [named(name) for name in o.games]
    console = Console(stderr=True, highlight=False)
    how = parts.How(o.work, o.out, o.seeds, o.budget, o.dry_run)
    if not o.page_only:
        machine.start()
        known = [opened(game, o.tables) for game in games]
        announce(how, known, o.parts, console)
        if o.dry_run:
            return 0
        for one in known:
            with files.claimed(o.out / one.game.task / "study"):
                for part in o.parts:
                    made = parts.keep(how, one, part)
                    console.print(f"{one.game.task}, {part}: {'done' if made else 'there'}", markup=False)
    print(f"{page.write(o.out)}: the page")
    return 0


def announce(how: parts.How, known: list[Known], chosen: tuple[str, ...], console: Console) -> None:
    """Says what will run, and about how long it takes."""
    total = 0.0
    for one in known:
        left = [part for part in chosen if not parts.there(how, one, part)]
        expected = {part: parts.seconds(how, one, part) for part in left}
        total += sum(expected.values())
        said = ", ".join(f"{part} {progress.words(s)}" for part, s in expected.items() if s)
        what = f"left: {', '.join(left) or 'nothing'}; {said}"
        console.print(
            f"{one.game.task}: {how.of(one)} seeds, {how.protocol(one).schedule.budget:,} steps; models"
            f" {', '.join(one.models)}; {what}",
            markup=False, soft_wrap=True,
        )  # fmt: skip
    console.print(
        f"about {progress.words(total)} of training; compiling on top",
        markup=False,
    )
