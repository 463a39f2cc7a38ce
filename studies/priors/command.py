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

from loro_jax.errors import arguments
from studies import runs
from studies.priors import page, parts
from studies.priors.worlds import WORLDS, named, opened


@dataclasses.dataclass(frozen=True)
class Options(runs.Options):
    parts: tuple[str, ...] = tuple(parts.PARTS)
    """In this order: inference needs online's policies, which are in --work."""
    out: pathlib.Path = pathlib.Path("results/priors")
    """Folder for WORLD/PART.json and .npz, README.md and figures."""
    work: pathlib.Path = pathlib.Path("build/priors")
    """Folder for runs, their checkpoints and policies; nothing of it is needed once a world is finished."""
    worlds: tuple[str, ...] = tuple(world.task for world in WORLDS)
    """Of the study's."""


def main(argv: list[str] | None = None) -> int:
    """The command; -> its exit status."""
    prog = "python -m studies.priors"
    o = arguments(lambda: tyro.cli(Options, prog=prog, description=__doc__, args=argv))
    o = dataclasses.replace(o, parts=runs.listed(o.parts), worlds=runs.listed(o.worlds))
    runs.check(o, parts)
    worlds = [named(name) for name in o.worlds]
    besides = "play and compiling"
    return runs.carry_out(o, parts, lambda: [opened(world, o.tables) for world in worlds], page, besides)
