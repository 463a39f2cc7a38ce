"""Converts the reference study's files of LLM episodes into a dataset folder.

    python -m loro_jax.interchange.released PATH.npz --task cartpole --alignment true --out DIR

The study's rows are (s[t+1], a[t], r[t]): the observation *after* the action. Two readings of them:

- `true` pairs each observation with the action that was taken in it, (obs[t], actions[t+1],
  rewards[t+1], obs[t+1]): L - 1 transitions from an episode of L rows. The first action is lost, since
  the observation it was taken in was never stored; the last row's observation is the episode's last
  state. How an episode ended is asked of the simulator, not of the file: terminated by the rules,
  truncated at the time limit, or neither, where it was cut earlier.
- `released` keeps the rows as d3rlpy's `BasicTransitionPicker` reads them, (obs[t], actions[t],
  rewards[t], obs[t+1]): zeros follow the last row of an episode flagged as terminated, and the last row
  of any other episode is dropped. The file's flags are kept.

Both are checked by stepping the simulator from the state behind obs[t] with the action that the reading
gives (`states.py` says how that state is had, and what FrozenLake's chance leaves to check); the shares of
rows that are reproduced are printed and kept in the card. On the study's own files, of six environments,
the `true` reading reproduces every row; a file of which no reading does is refused. The study's limits can be
shorter than ours: an episode that it cut earlier ends in neither way. `departures.alignment.realign` turns it
into `true` in memory, but has only the file's flags.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import pathlib
import re
import sys
from typing import Annotated, Any, Literal

import numpy as np
import tyro
from rich.console import Console

from loro_jax import errors, progress
from loro_jax.data import episodes as dataset
from loro_jax.departures.alignment import following
from loro_jax.errors import EpisodeError, UserError
from loro_jax.interchange.rows import Rows, read
from loro_jax.interchange.states import Check, check
from loro_jax.tasks import Environment, load
from loro_jax.types import Transition

FOREIGN = 0.9  # below this share under both readings the file is not of this environment


def convert(rows: Rows, alignment: str, found: Check, card: dict[str, Any]) -> dataset.Episodes:
    """The rows as a dataset in one of the two readings (see the module's text)."""
    parts: list[Transition] = []
    returns: list[float] = []  # as played, with the first step that the `true` reading has to drop
    for index, span in enumerate(rows.spans):
        obs, action, reward = rows.observations[span], rows.actions[span], rows.rewards[span]
        terminated, truncated = np.zeros(len(action), bool), np.zeros(len(action), bool)
        if alignment == "true":
            terminated[-1], truncated[-1] = found.terminated[index], found.truncated[index]
            part = Transition(obs[:-1], action[1:], reward[1:], obs[1:], terminated[1:], truncated[1:])
        else:
            terminated[-1] = rows.terminated[index]
            after = following(obs, np.arange(len(obs)) == len(obs) - 1)
            part = Transition(obs, action, reward, after, terminated, truncated)
            if not rows.terminated[index]:
                part = Transition(*(array[:-1] for array in part))
        if len(part.action):
            parts.append(part)
            returns.append(float(reward.sum()))
    joined = Transition(*(np.concatenate(field) for field in zip(*parts, strict=True)))
    lengths = np.array([len(part.action) for part in parts])
    return dataset.Episodes(joined, lengths, {**card, "episode_returns": returns})


def convert_file(path: pathlib.Path, name: str, alignment: str, out: pathlib.Path) -> dict[str, Any]:
    """Reads, checks, converts and saves -> the card; a `UserError` leaves `out` as it was."""
    task = load(name)
    environment = task.environment()
    rows = read(path, environment)
    found = check(rows, task, environment)
    if max(found.shares.values()) < FOREIGN:
        shares = " and ".join(f"{share:.1%} ({name})" for name, share in found.shares.items())
        raise EpisodeError(f"{path}: the simulator of {task.name} reproduces only {shares} of its rows")
    if max(found.shares.values()) < 1:
        lost = round((1 - found.shares["true"]) * (len(rows.rewards) - len(rows.spans)))
        raise EpisodeError(
            f"{path}: {lost} of its rows cannot have happened in {task.name}, by its simulator; the file is"
            " damaged"
        )
    model = re.sub(r"_Neps_.*$", "", path.stem.split("_", 1)[-1])
    card = {
        "name": f"{model.lower()}-study",
        "environment": task.name,
        "alignment": alignment,
        "model": model,
        "prompt": "study",
        "source": path.name,
        "source_sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "share_reproduced": found.shares,
        "reproduced_means": found.rule,
        "flags": {
            "rule": "by the simulator's rules" if alignment == "true" else "as in the file",
            "terminated_in_file": int(rows.terminated.sum()),
            "terminated_by_rules": int(found.terminated.sum()),
            "truncated_by_limit": int(found.truncated.sum()),
            "episodes_that_differ": int((rows.terminated != found.terminated).sum()),
        },
    }
    converted = convert(rows, alignment, found, card)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        if not _holds(out, converted, environment):
            raise UserError(f"{out}: exists and holds something else; give --out a new folder")
        return card
    try:
        dataset.save(converted, out)
    except OSError as error:
        raise UserError(f"{out}: cannot be written ({error.strerror})") from None
    return card


def _holds(out: pathlib.Path, converted: dataset.Episodes, environment: Environment) -> bool:
    """`out` is already this very dataset."""
    try:
        card = json.loads((out / "card.json").read_text())
        present = dataset.load(
            out, card["environment"], converted.transitions.obs.shape[1:], environment.action_space
        )
    except (OSError, ValueError, KeyError, TypeError, EpisodeError):
        return False
    wanted = json.loads(json.dumps(converted.card))
    same = dataset.digest(present) == card.get("arrays_sha256")
    return same and all(card.get(key) == value for key, value in wanted.items())


@dataclasses.dataclass(frozen=True)
class Options:
    """Converts the reference study's files of LLM episodes into a dataset folder."""

    path: tyro.conf.Positional[pathlib.Path]
    """The study's file: .npz as released, or a pickled d3rlpy MDPDataset (.pkl)."""
    out: pathlib.Path
    """Folder to write card.json and episodes.npz into; must be new or empty."""
    task: Annotated[str, tyro.conf.arg(aliases=("--environment",))] = "cartpole"
    """What the episodes were played in."""
    alignment: Literal["true", "released"] = "true"
    """How rows are read: as the transitions that happened, or as the released pipeline read them."""


def main() -> int:
    """The command."""
    options = errors.arguments(lambda: tyro.cli(Options, prog="python -m loro_jax.interchange.released"))
    with progress.waiting(Console(stderr=True, highlight=False), f"converting {options.path}"):
        card = convert_file(options.path, options.task, options.alignment, options.out)
    for reading, share in card["share_reproduced"].items():
        print(f"reading '{reading}': the simulator reproduces {share:.2%} of the rows")
    print(f"check: {card['reproduced_means']}")
    flags = card["flags"]
    print(
        f"ends: {flags['terminated_in_file']} flagged terminated in the file, {flags['terminated_by_rules']}"
        f" by the rules, {flags['truncated_by_limit']} cut by the time limit;"
        f" {flags['episodes_that_differ']} episodes differ"
    )
    print(f"wrote {options.out} with alignment '{options.alignment}', flags {flags['rule']}")
    return 0


if __name__ == "__main__":
    sys.exit(errors.command(main))
