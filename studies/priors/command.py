"""What LLM priors over actions are worth: arXiv 2410.07927's methods, with the prior's quality under control.

Six parts, of each world (`--parts`): *online*, DQN-Prior and PPO with a KL term beside learners without a
prior; *offline*, CQL-Prior beside CQL on shares of a dataset; *coverage*, answers of which a share is
replaced; *sweeps*, temperatures and KL weights; *inference*, a learner that another model proposes to;
*projection*, free answers against scores. What is finished is not run again; what was interrupted goes on.
"""

from __future__ import annotations

import dataclasses
import pathlib

import tyro
from rich.console import Console

from loro_jax import files, progress
from loro_jax.errors import UserError, arguments, within
from loro_jax.running import machine
from studies.priors import page, parts
from studies.priors.worlds import WORLDS, Known, named, opened


@dataclasses.dataclass(frozen=True)
class Options:
    worlds: tuple[str, ...] = tuple(world.task for world in WORLDS)
    """Of the study's."""
    parts: tuple[str, ...] = tuple(parts.PARTS)
    """In this order: inference needs online's policies, which are in --work."""
    seeds: int = 0
    """Of each arm; 0 for the study's own numbers."""
    budget: int = 0
    """Environment steps; 0 for each protocol's."""
    tables: pathlib.Path | None = None
    """Folder with TASK/NAME of each table of answers; the suite's where none is named."""
    out: pathlib.Path = pathlib.Path("results/priors")
    """Folder for WORLD/PART.json and .npz, README.md and figures."""
    work: pathlib.Path = pathlib.Path("build/priors")
    """Folder for runs, their checkpoints and policies; nothing of it is needed once a world is finished."""
    dry_run: bool = False
    """Say what would run and how long it takes; train nothing."""
    page_only: bool = False
    """Write the page and the figures of what is finished."""


def main(argv: list[str] | None = None) -> int:
    """The command; -> its exit status."""
    prog = "python -m studies.priors"
    o = arguments(lambda: tyro.cli(Options, prog=prog, description=__doc__, args=argv))
    within("--seeds", o.seeds, 0, 100_000)
    within("--budget", o.budget, 0, 2**31 - 1)
    if unknown := [part for part in o.parts if part not in parts.PARTS]:
        raise UserError(f"the study has no part '{unknown[0]}'; there are: {', '.join(parts.PARTS)}")
    worlds = [named(name) for name in o.worlds]
    console = Console(stderr=True, highlight=False)
    how = parts.How(o.work, o.out, o.seeds, o.budget, o.dry_run)
    if not o.page_only:
        machine.start()
        known = [opened(world, o.tables) for world in worlds]
        announce(how, known, o.parts, console)
        if o.dry_run:
            return 0
        for one in known:
            with files.claimed(o.out / one.world.task / "study"):
                for part in o.parts:
                    made = parts.keep(how, one, part)
                    console.print(f"{one.world.task}, {part}: {'done' if made else 'there'}", markup=False)
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
        what = f"left: {', '.join(left) or 'nothing'}; {said or 'no training online'}"
        console.print(
            f"{one.world.task}: {how.of(one)} seeds, {how.protocol(one).schedule.budget:,} steps; models"
            f" {', '.join(one.models)}; {what}",
            markup=False, soft_wrap=True,
        )  # fmt: skip
    console.print(
        f"about {progress.words(total)} of training online; LORO, learning offline and compiling on top",
        markup=False,
    )
